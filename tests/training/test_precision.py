"""Lower precision of matrix products: where it acts, that it is close, and what it leaves alone."""

import numpy as np
import pytest
import torch
from support.networks import RECIPES, chunk_of, deep, make_task, masks_of
from torch import nn

from nets_deap import tasks
from nets_deap.experiments.presets import preset
from nets_deap.experiments.run import build_task
from nets_deap.training.precision import check_precision, products
from nets_deap.training.problem import Plan, at_work

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_bf16_is_close_and_keeps_weights_and_moments_in_float32():
    exact = tasks.lenet(dataset="mnist5k", device="cpu", engine="batched")
    low = tasks.lenet(dataset="mnist5k", device="cpu", precision="bf16")
    mask = np.random.default_rng(0).random(exact.layout.size) < 0.1
    full = exact.train(exact.ticket(mask), steps=60)
    result = low.train(low.ticket(mask), steps=60)
    assert result.test_loss == pytest.approx(full.test_loss, rel=0.02)
    assert result.test_loss != full.test_loss
    chunk = chunk_of(low)
    held = [chunk.weights.trained, *chunk.optimiser.moments()]
    assert {t.dtype for tensors in held for t in tensors.values()} == {torch.float32}
    assert {t.dtype for t in chunk.gradients_held.values()} == {torch.bfloat16}
    assert not chunk.weights.trained["layers.0.weight"].view(-1)[~mask[:235200]].any()


def test_bf16_trains_by_the_batched_engine_whatever_the_density():
    task = make_task("mlp", RECIPES["adam"], torch.float32, model=deep(), precision="bf16")
    plan = Plan(5, 1)
    task.run([task.dense_ticket(), task.ticket(np.arange(task.layout.size) % 9 == 0)], plan)
    assert chunk_of(task).p == 2
    assert masks_of(task)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"precision": "fp16"}, r"precision must be a known name: .*'tf32', 'bf16'"),
        ({"precision": "tf32"}, r"precision must suit the device: .*on the CPU, got tf32"),
        ({"precision": "bf16", "dtype": torch.float64}, r"precision must suit the model"),
        ({"precision": "bf16", "engine": "vmap"}, r"precision must suit the engine"),
        ({"precision": "bf16", "engine": "loop"}, r"precision must suit the engine"),
        ({"precision": "bf16", "engine": "compiled"}, r"precision must suit the engine"),
        ({"precision": "bf16", "model": nn.Sequential(nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 3))},
         r"precision must suit the engine"),
    ],
)  # fmt: skip
def test_what_would_be_ignored_is_refused(more, message):
    with pytest.raises(ValueError, match=message):
        make_task("mlp", RECIPES["adam"], **{"dtype": torch.float32, "model": deep(), **more})


def test_float64_has_no_lower_precision_and_cuda_has_all():
    assert check_precision("float32", torch.float64, CPU) == "float32"
    with pytest.raises(ValueError, match="precision must suit the model"):
        check_precision("tf32", torch.float64, CUDA)
    for precision in ("float32", "tf32", "bf16"):
        assert check_precision(precision, torch.float32, CUDA) == precision


def test_it_is_described_and_counts_in_the_fingerprint_unless_it_is_the_default():
    model = deep()
    plain = make_task("mlp", RECIPES["adam"], torch.float32, model=model)
    same = make_task("mlp", RECIPES["adam"], torch.float32, model=model, precision="float32")
    low = make_task("mlp", RECIPES["adam"], torch.float32, model=model, precision="bf16")
    assert plain.fingerprint == same.fingerprint != low.fingerprint
    assert [task.as_dict()["precision"] for task in (plain, low)] == ["float32", "bf16"]


def test_presets_take_it_as_a_setting():
    config = preset("quickstart").override({"task.precision": "bf16", "task.device": "cpu"})
    assert build_task(config).precision == "bf16"
    with pytest.raises(ValueError, match=r"task.precision must be a known name"):
        config.override({"task.precision": "fp8"})


def settings():
    """All that torch has about these products, read without raising where settings are mixed."""
    cuda, cudnn, mkldnn = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
    sums = "allow_bf16_reduced_precision_reduction"
    found = [getattr(cuda.matmul, name, None) for name in (sums, f"{sums}_split_k")]
    found += [cudnn.deterministic, cudnn.benchmark]
    for owner in (cuda, cudnn, mkldnn):
        for part in ("matmul", "conv", "rnn"):
            found.append(getattr(getattr(owner, part, None), "fp32_precision", None))
    for older in (torch.get_float32_matmul_precision, lambda: cudnn.allow_tf32):
        try:
            found.append(older())
        except RuntimeError as error:
            found.append(str(error)[:40])
    return found


def allowed():
    """Whether products and convolutions may run in tf32."""
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def fail_in_tf32():
    with products("tf32"):
        raise KeyError(*allowed())


@pytest.fixture
def torch_settings():
    """Put back what torch begins with."""
    yield torch.backends.cuda.matmul
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = False
    for part in ("matmul", "conv", "rnn"):
        for owner in (torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn):
            if hasattr(getattr(owner, part, None), "fp32_precision"):
                getattr(owner, part).fp32_precision = "none"


@pytest.mark.parametrize("older", [None, "highest", "high", "medium"])
@pytest.mark.parametrize("newer", [None, "none", "ieee", "tf32"])
def test_settings_are_those_of_the_precision_inside_and_all_are_put_back(
    torch_settings, older, newer
):
    if newer is not None and not hasattr(torch_settings, "fp32_precision"):
        pytest.skip("torch has one setting only")
    if older is not None:
        torch.set_float32_matmul_precision(older)
        torch.backends.cudnn.allow_tf32 = older != "highest"
        torch.backends.cudnn.benchmark = True
    if newer is not None:
        torch_settings.fp32_precision = newer
        torch.backends.cudnn.conv.fp32_precision = newer
    before = settings()
    for precision in ("float32", "bf16"):
        with products(precision):
            assert allowed() == (False, False)
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch_settings.allow_bf16_reduced_precision_reduction
            assert torch.backends.cudnn.deterministic
            assert not torch.backends.cudnn.benchmark
            with torch.backends.cudnn.flags(enabled=False):
                pass  # raises where settings contradict each other
        assert settings() == before
    with pytest.raises(KeyError, match="True, True"):
        fail_in_tf32()
    assert settings() == before


def test_what_stands_further_up_counts_again_afterwards(torch_settings):
    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("torch has one setting only")
    with products("float32"):
        pass
    try:
        torch.backends.fp32_precision = "tf32"
        before = settings()
        with products("float32"):
            assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
            assert torch.backends.cudnn.conv.fp32_precision == "ieee"
        assert settings() == before
    finally:
        torch.backends.fp32_precision = "none"
    assert torch.backends.mkldnn.matmul.fp32_precision == "none"


def test_a_program_that_rounds_products_changes_no_ticket(torch_settings):
    """Whatever computes with a task's networks: training, gradients, the loss on the guard."""
    seen = []

    def note(x):
        seen.append(torch.get_float32_matmul_precision())
        return x

    task = make_task("mlp", RECIPES["adam"], torch.float32, augment=note, guard=0.3)
    torch.set_float32_matmul_precision("medium")
    seen.clear()
    result = task.train(task.dense_ticket(), steps=2)
    with at_work(task.problem):
        note(None)
    assert set(seen) == {"highest"}
    assert np.isfinite(result.val_loss)
    assert torch.get_float32_matmul_precision() == "medium"

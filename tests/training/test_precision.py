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
from nets_deap.training.problem import Plan

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
    matmul, sums = torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction"
    found = [getattr(matmul, name, None) for name in ("fp32_precision", sums, f"{sums}_split_k")]
    try:
        found.append(torch.get_float32_matmul_precision())
    except RuntimeError as error:
        found.append(str(error)[:40])
    return found


def fail_in_tf32():
    with products("tf32"):
        raise KeyError("on" if torch.backends.cuda.matmul.allow_tf32 else "off")


@pytest.mark.parametrize("older", [None, "highest", "high", "medium"])
@pytest.mark.parametrize("newer", [None, "none", "ieee", "tf32"])
def test_tf32_is_switched_on_inside_only_and_all_settings_are_put_back(older, newer):
    matmul = torch.backends.cuda.matmul
    if newer is not None and not hasattr(matmul, "fp32_precision"):
        pytest.skip("torch has one setting only")
    try:
        if older is not None:
            torch.set_float32_matmul_precision(older)
        if newer is not None:
            matmul.fp32_precision = newer
        before = settings()
        with products("float32"):
            assert settings() == before
        with products("bf16"):
            assert not matmul.allow_bf16_reduced_precision_reduction
        assert settings() == before
        with pytest.raises(KeyError, match="on"):
            fail_in_tf32()
        assert settings() == before
    finally:
        torch.set_float32_matmul_precision("highest")
        if hasattr(matmul, "fp32_precision"):
            matmul.fp32_precision = "none"

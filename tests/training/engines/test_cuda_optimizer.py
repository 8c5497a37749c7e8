"""Optimiser and mask in one pass: what torch.optim does, and exact zeros.

The Triton kernels run on the CPU under Triton's interpreter, which must be chosen before Triton is
imported: this file runs itself once more in a process of its own.
"""

import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from support.networks import RECIPES, assert_same, chunk_of, deep, make_task, masks_of, reference

from nets_deap.tickets import bits
from nets_deap.training.engines.batched import train_batched
from nets_deap.training.engines.cuda import optimizer as masked_step
from nets_deap.training.engines.cuda.schedule import Schedule
from nets_deap.training.engines.cuda.weights import Weights
from nets_deap.training.engines.vmap import train_vmap
from nets_deap.training.optimizers import make_optimizer, set_lr
from nets_deap.training.problem import Plan

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
SOME = {**RECIPES, "plain": replace(RECIPES["sgd"], momentum=0.0)}
PLAN = Plan(5, 4, curve_points=2, test=True, keep_states=True)
each_optimizer = pytest.mark.parametrize("optimizer", SOME)
each_kind = pytest.mark.parametrize("kept", [False, True], ids=["dense", "kept"])
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
# NumPy, which interprets, warns of the infinities and NaN that some tests are about.
_WARN = ("-W", "ignore::RuntimeWarning")
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton")


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="is what runs the interpreter")
@pytest.mark.slow
def test_what_stands_here_passes_under_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *_WARN, __file__],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=Path(__file__).parent.parent.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) > 30, done.stdout[-3000:]


@each_dtype
@each_kind
@each_optimizer
def test_steps_are_those_of_torch_optim(monkeypatch, optimizer, kept, dtype):
    """Masks with odd borders, gradients that are not finite where they do not count."""
    if kept:
        monkeypatch.setattr(masked_step, "SMALL", 0)
    task = make_task("mlp", SOME[optimizer], dtype, model=deep(), maskable=["*.weight", "0.bias"])
    problem, p = task.problem, 3
    packed = np.stack(masks_of(task, (0.2, 0.1, 0.15)))
    listed = masked_step.listed_of(problem, dict.fromkeys(problem.layout.names, 0.15), p)
    assert listed == ({*problem.layout.names} if kept else set())
    weights, schedule = Weights(problem, p), Schedule(problem, 8)
    optimiser = masked_step.make(weights, schedule, listed)
    assert type(optimiser).__name__ == ("TritonOptimiser" if INTERPRETED else "TorchOptimiser")
    tail, loss = torch.zeros(p, dtype=torch.float64), torch.zeros(p, dtype=dtype)
    rng = torch.Generator().manual_seed(1)
    for plan in (Plan(2, 2), Plan(5, 1)):  # the second forgets the first
        weights.refill(packed, [None] * p)
        optimiser.reset()
        schedule.begin(plan)
        schedule.fill(0)
        plain = {name: tensor.clone() for name, tensor in weights.trained.items()}
        unpacked = np.stack([bits.unpack(row, problem.layout.size) for row in packed])
        gone = {n: torch.from_numpy(~part) for n, part in problem.layout.split(unpacked).items()}
        reference = make_optimizer(problem.recipe, list(plain.values()), fused=False)
        for step in range(plan.steps):
            gradients = {
                name: torch.randn(tensor.shape, generator=rng, dtype=dtype)
                for name, tensor in plain.items()
            }
            for name, tensor in plain.items():
                tensor.grad = gradients[name].clone()
                if name in gone:
                    tensor.grad[gone[name]] = 0
                    gradients[name][gone[name]] = torch.tensor([torch.nan, torch.inf])[step % 2]
            set_lr(reference, problem.recipe.lr_at(step, plan.steps))
            reference.step()
            optimiser.step(gradients)
            schedule.advance(tail, loss)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    for name, tensor in plain.items():
        np.testing.assert_allclose(weights.trained[name], tensor, tolerance, tolerance)
    moments = optimiser.moments()
    assert len(moments) == masked_step.moments_of(problem.recipe)
    for found in (weights.trained, *moments):
        for name, places in gone.items():
            assert not found[name][places].any()
            assert found[name][~places].all()


@each_kind
@each_optimizer
def test_batched_networks_train_as_the_reference(monkeypatch, optimizer, kept):
    if kept:
        monkeypatch.setattr(masked_step, "SMALL", 0)
    task = make_task("mlp", SOME[optimizer], model=deep())
    for densities in ((0.5, 0.2, 0.1), (0.1, 0.3, 0.4)):
        masks = masks_of(task, densities)
        batch = train_batched(task.problem, masks, PLAN)
        assert_same(batch, reference(task.problem, masks, PLAN), rtol=1e-9)


@each_kind
@pytest.mark.parametrize("limit", [{"clip_norm": 0.3}, {"clip_value": 0.05}], ids=str)
@pytest.mark.parametrize("train", [train_batched, train_vmap])
def test_what_is_clipped_trains_as_the_reference(monkeypatch, train, limit, kept):
    if kept:
        monkeypatch.setattr(masked_step, "SMALL", 0)
    task = make_task("mlp", replace(SOME["adamw"], **limit), model=deep())
    for densities in ((0.5, 0.2, 0.1), (0.1, 0.3, 0.4)):
        masks = masks_of(task, densities)
        batch = train(task.problem, masks, PLAN)
        assert_same(batch, reference(task.problem, masks, PLAN), rtol=1e-9)


def test_bf16_copies_follow_the_weights(monkeypatch):
    for small in (2**20, 0):
        monkeypatch.setattr(masked_step, "SMALL", small)
        task = make_task("mlp", SOME["adam"], torch.float32, model=deep(), precision="bf16")
        train_batched(task.problem, masks_of(task, (0.4, 0.2)), PLAN)
        chunk = chunk_of(task)
        for name, half in chunk.halves_held.items():
            weight = chunk.weights.trained[name]
            assert half.dtype == torch.bfloat16
            assert torch.equal(half, weight.bfloat16())


@pytest.mark.parametrize("module", ["tied", "buffers", "frozen"])
def test_networks_of_any_module_train_as_the_reference(module):
    task = make_task(module, SOME["adamw"])
    masks = masks_of(task)
    batch = train_vmap(task.problem, masks, PLAN, chunk=3)
    assert_same(batch, reference(task.problem, masks, PLAN), rtol=1e-9)


@each_dtype
@pytest.mark.parametrize(("classes", "width", "batch"), [(3, 8, 8), (10, 64, 60), (1, 5, 3)])
def test_cross_entropy_is_that_of_autograd(classes, width, batch, dtype):
    if not INTERPRETED:
        pytest.skip("runs under the interpreter")
    p = 4
    outputs = (20 * torch.randn(p, classes, width, dtype=dtype)).requires_grad_()
    y = torch.randint(0, classes, (width,))
    losses, deltas = torch.full((p,), torch.nan, dtype=dtype), torch.full_like(outputs, torch.nan)
    masked_step.cross_entropy(outputs.detach(), y, batch, losses, deltas)
    each = torch.nn.functional.cross_entropy(
        outputs[..., :batch], y[:batch].expand(p, -1), reduction="none"
    ).mean(1)
    (expected,) = torch.autograd.grad(each.sum(), outputs)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    np.testing.assert_allclose(losses, each.detach(), 10 * tolerance, tolerance)
    np.testing.assert_allclose(deltas.detach(), expected, 10 * tolerance, tolerance)
    with torch.no_grad():
        outputs[1, 0, 1] = torch.nan
        outputs[2, 0, 1] = torch.inf
    masked_step.cross_entropy(outputs.detach(), y, batch, losses, deltas)
    assert torch.isfinite(losses).tolist() == [True, False, False, True]


def test_what_is_too_large_for_one_program_is_left_to_torch():
    assert masked_step.fits(10, 64)
    assert masked_step.fits(128, 64)
    assert not masked_step.fits(129, 64)


def test_a_step_goes_by_lists_where_fewer_bytes_move(monkeypatch):
    task = make_task("mlp", SOME["adam"], torch.float32, model=deep())
    names = task.problem.layout.names
    assert not masked_step.listed_of(task.problem, dict.fromkeys(names, 0.01), 4), "they are small"
    monkeypatch.setattr(masked_step, "SMALL", 4 * 54)
    kept = dict(zip(names, (0.85, 0.5, 0.5), strict=True))
    assert masked_step.listed_of(task.problem, kept, 4) == {"2.weight"}
    kept["0.weight"] /= 2
    assert masked_step.listed_of(task.problem, kept, 4) == {"0.weight", "2.weight"}


def spilled(ptx, folder):
    """Bytes that a kernel's threads put aside for want of registers."""
    import triton

    source = folder / "kernel.ptx"
    source.write_text(ptx)
    assembler = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    command = [assembler, "-v", "--gpu-name", "sm_90a", source, "-o", folder / "kernel.cubin"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return int(re.search(r"(\d+) bytes spill stores", told).group(1))


@needs_triton
def test_where_triton_does_not_run_the_steps_are_those_of_torch(monkeypatch, caplog):
    """As without a C compiler, which Triton needs on CUDA."""

    def fails(*given):
        raise RuntimeError("Failed to find C compiler.")

    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(masked_step, "cross_entropy", fails)
    masked_step._runs.cache_clear()
    try:
        task = make_task("mlp", SOME["adam"], model=deep())
        batch = train_batched(task.problem, masks_of(task), PLAN)
        assert type(chunk_of(task).optimiser).__name__ == "TorchOptimiser"
        train_batched(task.problem, masks_of(task, (0.5,)), PLAN)
    finally:
        masked_step._runs.cache_clear()
    assert caplog.text.count("Failed to find C compiler") == 1
    assert "install gcc, or name one in CC" in caplog.text
    assert_same(batch, reference(task.problem, masks_of(task), PLAN), rtol=1e-9)


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="compiles")
@pytest.mark.parametrize("half", [False, True])
def test_the_kernels_compile_for_a_gpu(half, monkeypatch, tmp_path):
    """Without one: the interpreter takes programs that the compiler does not."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from nets_deap.training.engines.cuda import _triton

    real, low = "*fp32", "*bf16" if half else "*fp32"
    pointers = dict.fromkeys(("weights", "firsts", "seconds", "rates", "hyper", "losses"), real)
    pointers |= dict.fromkeys(("gradients", "halves", "outputs", "deltas"), low)
    pointers |= {"packed": "*u8", "places": "*i32", "count": "*i32"}
    pointers |= {"counter": "*i64", "labels": "*i64"}
    sizes = dict.fromkeys(("size", "start", "n_bytes", "classes", "width", "batch"), "i32")
    constants = {"NESTEROV": True, "MASKED": True, "HALVES": half, "BLOCK": 1024}
    constants |= {"CLASSES": 16, "WIDTH": 64}
    largest = {"CLASSES": 128, "WIDTH": masked_step.GREATEST_TILE // 128}
    for kernel, kind, tile in (
        (_triton.dense_step, 1, {}), (_triton.dense_step, 0, {}),
        (_triton.kept_step, 1, {}), (_triton.kept_step, 0, {}),
        (_triton.cross_entropy, 0, {}), (_triton.cross_entropy, 0, largest),
    ):  # fmt: skip
        names = kernel.arg_names
        fixed = constants | {"KIND": kind, "MOMENTUM": True} | tile
        source = ASTSource(
            fn=kernel,
            signature={n: {**pointers, **sizes}.get(n, "constexpr") for n in names},
            constexprs={(i,): fixed[n] for i, n in enumerate(names) if n in fixed},
            attrs={(i,): [["tt.divisibility", 16]] for i, n in enumerate(names)
                   if n in pointers or n in ("size", "start")},
        )  # fmt: skip
        warps = masked_step.warps_of(fixed["CLASSES"] * fixed["WIDTH"])
        made = triton.compile(
            source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps}
        )
        ptx = made.asm["ptx"]
        if tile:
            assert spilled(ptx, tmp_path) == 0, "outputs stay in registers"
        if kernel is _triton.kept_step:
            assert "sizePerThread = [4]" not in made.asm["ttgir"], "neighbours load neighbours"
        if kernel is _triton.dense_step:
            assert "ld.global.v4.b32" in ptx, "16 bytes at a time"
            assert "st.global.v4.b32" in ptx

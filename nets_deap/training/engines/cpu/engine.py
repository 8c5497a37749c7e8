"""The compiled engine: training on the CPU at a cost that falls with density.

Of fully connected networks, and of convolutions before fully connected layers, in a row or with
residual links, with batch normalisation or not. Compiled with numba (an extra). Each layer of each
network is held as it trains fastest: by its kept weights alone, or where most are kept with all of
them. The threads share the networks of a call between them. Results agree with the other engines to
float rounding, but where rounding itself decides: of a filter without weights, whose bias batch
normalisation takes off again, torch leaves some 1e-17 of either sign, by which ReLU lets its
gradient through or not; here it is exactly 0, and nothing passes. One file: what can be trained, in
what portions, and the training.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import nn

from nets_deap import _checks
from nets_deap._optional import require
from nets_deap.models.stages import Stage, staged_of
from nets_deap.tickets import bits
from nets_deap.training.device import seeded, threads_allowed
from nets_deap.training.engine import Engine
from nets_deap.training.engines.cpu.arguments import (
    BATCH,
    BINARY,
    CROSS_ENTROPY,
    RESTING,
    SQUARED,
    UNTRACKED,
    Array,
    Buffers,
    Data,
    Layers,
    Optimizer,
    Parameters,
    Schedule,
)
from nets_deap.training.engines.cpu.blocks import LANES, aligned_zeros, padded
from nets_deap.training.engines.cpu.convolutions import Norm
from nets_deap.training.engines.cpu.geometry import ACTIVATIONS, Geometry, refusal
from nets_deap.training.engines.cpu.network import Design, Group, Network
from nets_deap.training.problem import (
    EVAL_ROWS,
    METRICS,
    OnPart,
    Outcome,
    Plan,
    Problem,
    Start,
    once,
)
from nets_deap.training.recipe import OPTIMIZERS, Recipe, name_of
from nets_deap.training.threads import Stop, share_out

logger = logging.getLogger("nets_deap")

LOSSES = {"cross_entropy": CROSS_ENTROPY, "binary_cross_entropy": BINARY, "mse": SQUARED}
# Compiled code sees no signals: between calls of so many steps a stop is looked for.
STEPS_AT_ONCE = 250
# The same of convolutions, by what a step of all networks of a group costs at most: about a second.
MULTIPLY_ADDS_AT_ONCE = 10**10
# Of the feature maps that a thread holds of a minibatch, forward and backward.
MOST_BYTES = 2**31
# The share of lanes that examples must fill where convolutions are to be as fast as those of torch:
# minibatches of 60 fill 0.94, of 32 all.
FULL = 0.75
# Networks that share a gathered minibatch: at density 0.05, 8 train 1.5 times as fast as one by
# one, 16 no faster than 8, and they hold more memory.
GROUP = 8
GROUP_BYTES = 256 * 2**20
# Where the states of a group outgrow the cache, each network takes several steps in turn: what one
# step leaves in the cache, the next one reads, for more gathered minibatches at once. It gains 4 %
# for 8 dense networks of 266,610 weights, and loses as much for one, whose state fits.
CACHE_BYTES = 8 * 2**20
SPAN = 8
# Seconds within which threads come to the same kernel, of which one tells that it is compiled.
TOGETHER = 5.0

_telling = threading.Lock()
_told: dict[Any, float] = {}  # when, by the types of arguments


def suits(problem: Problem) -> bool:
    """Return whether the compiled engine can train this problem here; see ``obstacle``."""
    return not obstacle(problem)


def obstacle(problem: Problem) -> str:
    """Return in words why the compiled engine cannot train this problem here; empty if it can.

    It takes linear layers with one kind of activation between (ReLU, tanh or sigmoid), also after
    convolutions with strides of 1 or 2, batch normalisation, sums, activations and pooling side by
    side, in whatever class and ``forward`` they stand, with nothing frozen but normalisation, on
    the CPU, where numba is installed.
    """
    if find_spec("numba") is None:
        return "numba is not installed (the extra 'fast')"
    if problem.device.type != "cpu":
        return f"it trains on the CPU, not on {problem.device}"
    if problem.recipe.training_step is not None:
        return "the training step is one of your own"
    if not problem.is_plain or not problem.train[0].is_floating_point():
        return "examples are not rows of two tensors, or the loss has no name"
    if problem.recipe.loss == "cross_entropy" and problem.train[1].ndim != 1:
        return "targets are not classes, one for each example"
    if problem.hooked:
        return f"{problem.hooked!r} has hooks"
    if problem.recipe.optimizer not in OPTIMIZERS:
        return f"it has no optimiser {name_of(problem.recipe.optimizer)}"
    design = _design(problem)
    if isinstance(design, str):
        return design
    frozen = problem.frozen - {
        f"{stage.norm_name}.{name}" for stage in design.stages for name in ("weight", "bias")
    }
    if frozen:
        return f"{min(frozen)!r} is frozen"
    vectors = {f"{s.norm_name}.{own}" for s in design.stages for own in ("weight", "bias")}
    others = set(problem.layout.names) - {*design.weights, *design.biases} - vectors
    return f"{min(others)!r} is masked, and is of no layer" if others else ""


def slowness(problem: Problem) -> str:
    """Return in words why networks it can train would be slower than with torch; empty if not.

    However dense they are. Convolutions take examples a register at a time, and the lanes of one
    that is not full are lost.
    """
    geometry = _made(problem).geometry
    if geometry is None:
        return ""
    lanes, batch = geometry.lanes, problem.recipe.batch_size
    taken = lanes * -(-batch // lanes)
    if batch >= FULL * taken:
        return ""
    return f"minibatches of {batch} would cost as much as of {taken}"


@once
def _design(problem: Problem) -> Design | str:
    """Return what the networks of a problem have in common; or in words what is of other kinds."""
    image = tuple(problem.train[0].shape[1:])
    with seeded(0, problem.device):  # its forward may draw, which is found and put back
        staged = staged_of(problem.model, image)
    if isinstance(staged, str):
        return staged
    stages, head = staged.stages, staged.head
    if head.activation not in ACTIVATIONS:
        return "activations between linear layers are not all ReLU, all Tanh or all Sigmoid"
    if not stages:
        return Design((), head, None)
    refused = refusal(stages, image)
    if refused:
        return refused
    dtype = _flat(problem.train[0]).dtype
    if staged.in_a_row:
        return Design(stages, head, Geometry.of(stages, image, dtype))
    batch = problem.recipe.batch_size
    # Without running statistics those of all examples that are measured together count.
    untracked = any(stage.norm is not None and not _tracks(stage.norm) for stage in stages)
    splits = [problem.val] + ([] if problem.test is None else [problem.test])
    most = max(_together(len(split[0])) for split in splits) if untracked else 0
    geometry = Geometry.of(stages, image, dtype, together=max(batch, most))
    if geometry.sizes[0] * dtype.itemsize > MOST_BYTES:
        examples = f"{max(batch, most)} examples, which it would hold,"
        return f"feature maps of {examples} take more than {MOST_BYTES / 2**30:g} GiB"
    norms = []
    for stage, layout in zip(stages, geometry.layouts, strict=True):
        found = _norm(problem, stage, batch * layout.z.height * layout.z.width)
        if isinstance(found, str):
            return found
        norms.append(found)
    return Design(stages, head, geometry, tuple(norms))


def _norm(problem: Problem, stage: Stage, count: int) -> Norm | str:
    """Return how a stage is normalised, over so many numbers of a channel; or why it cannot be."""
    norm, name = stage.norm, stage.norm_name
    if norm is None:
        return Norm()
    resting = _tracks(norm) and any(
        name == other or name.startswith(f"{other}.") for other in problem.resting
    )
    if not resting and count == 1:
        return f"{name!r} (BatchNorm2d) sees one number of each channel"
    trains = [norm.affine and f"{name}.{own}" not in problem.frozen for own in ("weight", "bias")]
    return Norm(
        RESTING if resting else BATCH if _tracks(norm) else UNTRACKED,
        norm.eps,
        -1.0 if norm.momentum is None else norm.momentum,
        (trains[0], trains[1]),
    )


def _tracks(norm: nn.BatchNorm2d) -> bool:
    """Return whether a normalisation has running statistics."""
    return norm.running_mean is not None and norm.running_var is not None


def _together(n: int) -> int:
    """Return how many of ``n`` examples are measured at a time, as ``eval_batches`` has it."""
    return -(-n // -(-n // EVAL_ROWS))


def _made(problem: Problem) -> Design:
    """Return what the networks of a problem have in common, where nothing stands against it."""
    design = _design(problem)
    assert isinstance(design, Design)
    return design


def _tell_of_compiling(function: Any, arguments: Sequence[Any]) -> None:
    """Tell that a kernel is compiled first, where there is no code of it yet.

    Networks with and without convolutions or normalisation have code of their own.
    """
    from nets_deap.training.engines.cpu import _compile

    if _compile.is_ready(function, arguments):
        return
    types, now = _compile.types_of(arguments), time.monotonic()
    with _telling:
        new = now - _told.get(types, -math.inf) > TOGETHER
        _told[types] = now
    if new:
        logger.warning(
            "Compiling for this processor, once: up to half a minute for this kind of network."
        )


def train_compiled(
    problem: Problem,
    masks: list[bits.Bytes],
    plan: Plan,
    *,
    starts: list[Start] | None = None,
    chunk: int | None = None,
    on_part: OnPart | None = None,
) -> Outcome:
    """Train one network for each mask; see ``Train``.

    A thread holds at most ``GROUP`` networks at a time, all threads together at most ``chunk``.
    """
    require("numba", "fast", "train networks at a cost that falls with density")
    design = _made(problem)
    batches = plan.batches(problem.n_examples, problem.recipe.batch_size).numpy()
    begin = starts or [None] * len(masks)
    threads = max(1, min(threads_allowed(), len(masks)))
    # Bytes of one network: float32 weights, gradient and two moments, as if all were kept.
    one = 16 * sum(tensor.numel() for tensor in problem.initial.values())
    most = max(1, min(GROUP, GROUP_BYTES // one))
    if chunk is not None:
        threads = min(threads, _checks.whole("chunk", chunk))
        most = min(most, chunk // threads)
    # A multiple of the threads, so that none is idle while the others do the last groups.
    n_groups = threads * -(-len(masks) // (threads * most))
    # Dealt out in the order of their size: networks of like size go to different groups, so that
    # all take about as long. A network's results do not depend on its company.
    order = sorted(range(len(masks)), key=lambda i: -bits.count(masks[i]))
    groups = [order[g::n_groups] for g in range(n_groups)]
    found: dict[int, Outcome] = {}

    def work(places: list[int], stop: Stop) -> list[Outcome]:
        networks = [Network(problem, design, masks[i], begin[i]) for i in places]
        return _train(problem, design, Group(networks, design), plan, batches, stop)

    def done(places: list[int], outcomes: list[Outcome]) -> None:
        found.update(zip(places, outcomes, strict=True))
        if on_part is not None:
            on_part(places, Outcome.concatenate(outcomes))

    for split in ("val", "test") if plan.test and problem.test is not None else ("val",):
        _blocks(problem, split)  # made once, before the threads share it and each made its own
    share_out(work, [group for group in groups if group], threads, done)
    return Outcome.concatenate([found[i] for i in range(len(masks))])


ENGINE = Engine(
    "compiled",
    train_compiled,
    suits,
    lambda problem: GROUP * threads_allowed(),
    "linear layers, the same activation between all (ReLU, tanh or sigmoid), also after 2d "
    "convolutions with strides of 1 or 2, their batch normalisation, sums, activations and pooling "
    "side by side, in any class, without hooks or frozen parameters but those of normalisation, on "
    "the CPU, a loss with a name, the usual training step, and one of the optimisers sgd, adam and "
    "adamw, on data in memory without weights or augmentation",
    extra=("numba", "fast"),
)


def _train(
    problem: Problem, design: Design, group: Group, plan: Plan, batches: Array, stop: Stop
) -> list[Outcome]:
    """Train and measure the networks of a group."""
    from nets_deap.training.engines.cpu import _loops

    recipe = problem.recipe
    biased = np.array([bias is not None for bias in design.biases])
    head, convolutions, together = design.head, group.convolutions, group.together
    assert head.activation is not None
    layers = Layers(
        len(design.stages),
        ACTIVATIONS[head.activation],
        LOSSES[str(recipe.loss)],
        head.sizes,
        biased,
    )
    m = np.zeros_like(group.theta)
    v = np.zeros_like(group.theta) if recipe.optimizer != "sgd" else m
    parameters = Parameters(group.theta, m, v)
    # At most four arrays of that size are at work in a step: theta, m, v and the gradient.
    span = 1 if 4 * group.theta.nbytes < CACHE_BYTES else SPAN
    data = Data(_flat(problem.train[0]), *_answers(problem, "train"))
    work = _buffers(layers, group, span * -(-recipe.batch_size // LANES), data.targets.shape[1])
    optimizer = _optimizer(recipe)
    lrs = np.array([recipe.lr_at(step, plan.steps) for step in range(plan.steps)])
    losses, tail = np.zeros(len(group.networks)), plan.steps - plan.tail
    at_once = STEPS_AT_ONCE
    if design.geometry is not None:
        step = design.geometry.multiply_adds * recipe.batch_size * len(group.networks)
        at_once = max(1, min(at_once, MULTIPLY_ADDS_AT_ONCE // step))
    ends = sorted({*range(at_once, plan.steps, at_once), *plan.curve_steps, plan.steps})
    metrics = [dict.fromkeys(METRICS, np.nan) for _ in group.networks]
    curves: list[list[float]] = [[] for _ in group.networks]

    def measure(split: str, p: int) -> tuple[float, float]:
        examples = Data(_blocks(problem, split), *_answers(problem, split))
        return _loops.measure(
            layers, group.kept, p, group.theta, examples, work.acts, work.deltas, convolutions,
            together, _rows(problem, split),
        )  # fmt: skip

    first = 0
    for end in ends:
        stop.check()
        schedule = Schedule(batches[first:end], lrs[first:end], first, tail, span)
        arguments = (
            layers, group.kept, parameters, data, optimizer, schedule, losses, work, convolutions,
            together,
        )  # fmt: skip
        if not first:
            _tell_of_compiling(_loops.train, arguments)
        _loops.train(*arguments)
        first = end
        if end in plan.curve_steps or end == plan.steps:
            for p in range(len(metrics)):
                loss, accuracy = measure("val", p)
                metrics[p].update(val_loss=loss, val_accuracy=accuracy)
                if end in plan.curve_steps:
                    curves[p].append(loss)
    for p, own in enumerate(metrics):
        own["train_loss"] = losses[p] / plan.tail
        if plan.test and problem.test is not None:
            loss, accuracy = measure("test", p)
            own.update(test_loss=loss, test_accuracy=accuracy)
    group.settle()
    return [
        network.outcome(problem, plan, group.theta_of(p), metrics[p], curves[p])
        for p, network in enumerate(group.networks)
    ]


def _buffers(layers: Layers, group: Group, blocks: int, answers: int) -> Buffers:
    """Allocate what a group works in, for so many blocks and targets an example."""
    n_in, units = int(layers.sizes[0]), int(layers.sizes[1:].sum())
    net = group.convolutions if group.together is None else group.together.net
    if net is not None:  # whose features stand among the units
        n_in, units = int(net.stages.x_size[0]) // net.lanes, n_in + units
    whole = net is None and group.kept.dense[:, 0].any()

    def zeros(n: int) -> Array:
        return aligned_zeros(n, group.theta.dtype)

    return Buffers(
        inputs=zeros(blocks * n_in * LANES),
        # A second copy of the inputs, which only the gradient of a whole first layer reads.
        examples=zeros(blocks * padded(n_in) * LANES if whole else 0),
        labels=np.zeros((blocks, LANES), np.int64),
        targets=np.zeros((blocks, LANES, answers), group.theta.dtype),
        acts=zeros(units * LANES),
        deltas=zeros(units * LANES),
        transposed=zeros(padded(int(layers.sizes.max())) * LANES),
        grad=zeros(group.longest),
        block_grad=zeros(group.longest),
    )


@once
def _blocks(problem: Problem, split: str) -> Array:
    """Return the inputs of a split in blocks (N / LANES, inputs, LANES), flat; made once."""
    data, design = _flat(getattr(problem, split)[0]), _made(problem)
    n, width = data.shape
    if design.geometry is not None:
        rows = _rows(problem, split) or len(data)
        parts = [data[start : start + rows] for start in range(0, len(data), rows)]
        return _maps(parts, design.geometry)
    blocks = aligned_zeros(-(-n // LANES) * LANES * width, data.dtype)
    for b, part in enumerate(blocks.reshape(-1, width, LANES)):
        examples = data[b * LANES : (b + 1) * LANES]
        part[:, : len(examples)] = examples.T
    return blocks


def _rows(problem: Problem, split: str) -> int:
    """Return how many examples of a split are normalised together; 0 where none are."""
    untracked = any(norm.kind == UNTRACKED for norm in _made(problem).norms)
    return _together(len(getattr(problem, split)[0])) if untracked else 0


def _maps(parts: list[Array], geometry: Geometry) -> Array:
    """Return inputs (N, inputs), part by part, as first maps of a convolutional network, flat.

    Each part begins a block of ``LANES``.
    """
    lanes, size, places = geometry.lanes, geometry.layouts[0].x.size, geometry.places
    blocks = [-(-len(part) // LANES) for part in parts]
    maps = aligned_zeros(sum(blocks) * (LANES // lanes) * size, parts[0].dtype)
    groups, first = maps.reshape(-1, size // lanes, lanes), 0
    for part, count in zip(parts, blocks, strict=True):
        for g in range(0, len(part), lanes):
            examples = part[g : g + lanes]
            groups[first + g // lanes, places // lanes, : len(examples)] = examples.T
        first += count * (LANES // lanes)
    return maps


def _answers(problem: Problem, split: str) -> tuple[Array, Array]:
    """Return classes (N,) for the cross entropy, targets (N, units) else; the other one empty."""
    answers = getattr(problem, split)[1]
    if problem.recipe.loss == "cross_entropy":
        return answers.numpy(), np.zeros((0, 1), dtype=_flat(problem.train[0]).dtype)
    return np.zeros(0, np.int64), answers.reshape(len(answers), -1).numpy()


def _flat(inputs: torch.Tensor) -> Array:
    """Return inputs as an array (N, inputs)."""
    return inputs.reshape(len(inputs), -1).numpy()


def _optimizer(recipe: Recipe) -> Optimizer:
    """Return a recipe's optimiser as the kernels take it."""
    adam, decoupled = recipe.optimizer != "sgd", recipe.optimizer == "adamw"
    momentum, beta2 = recipe.betas if adam else (recipe.momentum, 0.0)
    decay = recipe.weight_decay
    l2, apart = (0.0, decay) if decoupled else (decay, 0.0)
    # float() and bool(): a setting given as a whole number would have the kernels compiled again.
    return Optimizer(
        adam, float(momentum), float(beta2), bool(recipe.nesterov), float(l2), float(apart),
        recipe.clip_norm or 0.0, recipe.clip_value or 0.0,
    )  # fmt: skip


def product_to_time(rows: int = 300, steps: int = 256) -> tuple[Callable[[], None], int]:
    """Return a dense product of the kernels, float32, to call, and its number of operations.

    For benchmarks: what the engine's products reach at best. Needs numba.
    """
    from nets_deap.training.engines.cpu._layers import product

    a, b, c = (aligned_zeros(n, np.float32) for n in (rows * steps, steps * LANES, rows * LANES))

    def work() -> None:
        product(a, 0, steps, 1, steps, b, 0, LANES, c, 0, LANES, rows, LANES)

    return work, 2 * rows * steps * LANES

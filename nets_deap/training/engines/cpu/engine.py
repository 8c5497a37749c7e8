"""The compiled engine: fully connected networks on the CPU, at a cost that falls with density.

Compiled with numba (an extra). Each layer of each network is held as it trains fastest: by its
kept weights alone, or where most are kept as a whole matrix. The threads share the networks of a
call between them. Results agree with the other engines to float rounding.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nets_deap import _checks
from nets_deap._optional import require
from nets_deap.models.feedforward import Feedforward, feedforward_of
from nets_deap.tickets import bits
from nets_deap.training.engines.cpu.network import LANES, TILE, Group, Network, room
from nets_deap.training.engines.engine import Engine
from nets_deap.training.engines.threads import Stop, share_out
from nets_deap.training.problem import METRICS, OnPart, Outcome, Plan, Problem, Start, once
from nets_deap.training.recipe import LOSSES, Recipe

# By the number that the kernels know them by.
ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.Sigmoid)
STEPS_AT_ONCE = 250
# Networks that share a gathered minibatch; more gain little and hold more memory.
GROUP = 8
GROUP_BYTES = 256 * 2**20
# Where the states of a group outgrow the cache, each network takes several steps in turn.
CACHE_BYTES = 8 * 2**20
SPAN = 8

Array = NDArray[Any]


def suits(problem: Problem) -> bool:
    """Return whether the compiled engine can train this problem here.

    It takes ``models.MLP`` and ``nn.Sequential`` of ``Flatten``, ``Linear`` and one kind of
    activation (ReLU, tanh or sigmoid) with nothing frozen, on the CPU, where numba is installed.
    """
    stack = feedforward_of(problem.model)
    return (
        find_spec("numba") is not None
        and problem.device.type == "cpu"
        and problem.is_plain
        and problem.train[0].is_floating_point()
        and (problem.recipe.loss != "cross_entropy" or problem.train[1].ndim == 1)
        and not problem.frozen
        and not problem.buffers
        and stack is not None
        and stack.activation in ACTIVATIONS
        and (stack.flattens or problem.train[0].ndim == 2)
        and set(problem.layout.names) <= set(stack.weights)  # biases are never masked here
    )


def train_compiled(
    problem: Problem,
    masks: list[bits.Bytes],
    plan: Plan,
    *,
    starts: list[Start | None] | None = None,
    chunk: int | None = None,
    on_part: OnPart | None = None,
) -> Outcome:
    """Train one network for each mask; see ``Train``.

    A thread holds at most ``GROUP`` networks at a time, all threads together at most ``chunk``.
    """
    require("numba", "fast", "train networks at a cost that falls with density")
    stack = feedforward_of(problem.model)
    assert stack is not None
    batches = plan.batches(len(problem.train[0]), problem.recipe.batch_size).numpy()
    begin = starts or [None] * len(masks)
    threads = max(1, min(torch.get_num_threads(), len(masks)))
    one = 16 * sum(tensor.numel() for tensor in problem.initial.values())
    most = max(1, min(GROUP, GROUP_BYTES // one))
    if chunk is not None:
        threads = min(threads, _checks.whole("chunk", chunk))
        most = min(most, chunk // threads)
    n_groups = threads * -(-len(masks) // (threads * most))
    # Networks of like size go to different groups, so that all take about as long.
    order = sorted(range(len(masks)), key=lambda i: -bits.count(masks[i]))
    groups = [order[g::n_groups] for g in range(n_groups)]
    found: dict[int, Outcome] = {}

    def work(places: list[int], stop: Stop) -> list[Outcome]:
        networks = [Network(problem, stack, masks[i], begin[i]) for i in places]
        return _train(problem, stack, Group(networks), plan, batches, stop)

    def done(places: list[int], outcomes: list[Outcome]) -> None:
        found.update(zip(places, outcomes, strict=True))
        if on_part is not None:
            on_part(places, Outcome.concatenate(outcomes))

    for split in ("val", "test") if plan.test and problem.test is not None else ("val",):
        _blocks(problem, split)  # made once, before the threads share it
    share_out(work, [group for group in groups if group], threads, done)
    return Outcome.concatenate([found[i] for i in range(len(masks))])


ENGINE = Engine(
    "compiled",
    train_compiled,
    suits,
    lambda problem: GROUP * torch.get_num_threads(),
    "nn.Sequential or models.MLP of linear layers, the same activation between all (ReLU, tanh or "
    "sigmoid), without hooks, masked biases or frozen parameters, on the CPU, and a loss with a "
    "name, on data in memory without weights or augmentation",
    extra=("numba", "fast"),
)


def _train(
    problem: Problem, stack: Feedforward, group: Group, plan: Plan, batches: Array, stop: Stop
) -> list[Outcome]:
    """Train and measure the networks of a group."""
    from nets_deap.training.engines.cpu import _loops

    recipe, sizes = problem.recipe, stack.sizes
    biased = np.array([bias is not None for bias in stack.biases])
    dtype = group.theta.dtype
    n_in = int(sizes[0])
    units, stride = int(sizes[1:].sum()), -(-n_in // TILE) * TILE
    widest = max(-(-int(n) // TILE) * TILE for n in sizes)
    span = 1 if 4 * group.theta.nbytes < CACHE_BYTES else SPAN
    blocks = span * -(-recipe.batch_size // LANES)
    x = room(blocks * n_in * LANES, dtype)
    xt = room(blocks * stride * LANES if group.dense[:, 0].any() else 0, dtype)
    acts, deltas = room(units * LANES, dtype), room(units * LANES, dtype)
    turned = room(widest * LANES, dtype)
    grad, more = room(group.longest, dtype), room(group.longest, dtype)
    m = np.zeros_like(group.theta)
    v = np.zeros_like(group.theta) if recipe.optimizer != "sgd" else m
    kinds = np.array([ACTIVATIONS.index(stack.activation), LOSSES.index(str(recipe.loss))])
    data, (labels, targets) = _flat(problem.train[0]), _answers(problem, "train")
    rule = _rule(recipe)
    lrs = np.array([recipe.lr_at(step, plan.steps) for step in range(plan.steps)])
    losses, tail = np.zeros(len(group.networks)), plan.steps - plan.tail
    ends = sorted({*range(STEPS_AT_ONCE, plan.steps, STEPS_AT_ONCE), *plan.curve_steps, plan.steps})
    metrics = [dict.fromkeys(METRICS, np.nan) for _ in group.networks]
    curves: list[list[float]] = [[] for _ in group.networks]
    first = 0
    for end in ends:
        stop.check()
        _loops.train(
            kinds, data, labels, targets, batches[first:end], group.live, sizes, biased,
            group.dense, group.starts, group.col_starts, group.gate_starts, group.rows,
            group.cols, group.gates,
            group.theta, m, v, lrs[first:end], rule, first, losses, tail, span,
            x, xt, acts, deltas, turned, grad, more,
        )  # fmt: skip
        first = end
        if end in plan.curve_steps or end == plan.steps:
            for p in range(len(metrics)):
                loss, accuracy = _measure(
                    problem, "val", kinds, group, p, sizes, biased, acts, deltas
                )
                metrics[p].update(val_loss=loss, val_accuracy=accuracy)
                if end in plan.curve_steps:
                    curves[p].append(loss)
    for p, own in enumerate(metrics):
        own["train_loss"] = losses[p] / plan.tail
        if plan.test and problem.test is not None:
            loss, accuracy = _measure(problem, "test", kinds, group, p, sizes, biased, acts, deltas)
            own.update(test_loss=loss, test_accuracy=accuracy)
    return [
        network.outcome(problem, plan, group.theta_of(p), metrics[p], curves[p])
        for p, network in enumerate(group.networks)
    ]


def _measure(
    problem: Problem, split: str, kinds: Array, group: Group, p: int, sizes: Array,
    biased: Array, acts: Array, deltas: Array,
) -> tuple[float, float]:  # fmt: skip
    """Return loss and accuracy of one network of a group on a whole split."""
    from nets_deap.training.engines.cpu import _loops

    labels, targets = _answers(problem, split)
    loss, accuracy = _loops.measure(
        kinds, _blocks(problem, split), labels, targets, max(len(labels), len(targets)), sizes,
        biased, group.dense[p],
        group.starts[p] - group.starts[p, 0], group.col_starts[p], group.rows[p], group.cols,
        group.theta_of(p), acts, deltas,
    )  # fmt: skip
    return float(loss), float(accuracy)


@once
def _blocks(problem: Problem, split: str) -> Array:
    """Return the inputs of a split in blocks (N / LANES, inputs, LANES), flat; made once."""
    data = _flat(getattr(problem, split)[0])
    n, width = data.shape
    blocks = room(-(-n // LANES) * LANES * width, data.dtype)
    for b, part in enumerate(blocks.reshape(-1, width, LANES)):
        rows = data[b * LANES : (b + 1) * LANES]
        part[:, : len(rows)] = rows.T
    return blocks


def _answers(problem: Problem, split: str) -> tuple[Array, Array]:
    """Return classes (N,) for the cross entropy, targets (N, units) else; the other one empty."""
    answers = getattr(problem, split)[1]
    if problem.recipe.loss == "cross_entropy":
        return answers.numpy(), np.zeros((0, 1), dtype=_flat(problem.train[0]).dtype)
    return np.zeros(0, np.int64), answers.reshape(len(answers), -1).numpy()


def _flat(inputs: torch.Tensor) -> Array:
    """Return inputs as an array (N, inputs)."""
    return inputs.reshape(len(inputs), -1).numpy()


def _rule(recipe: Recipe) -> Array:
    """Return the optimiser as ``_kernels.optimise`` takes it."""
    if recipe.optimizer == "sgd":
        kind, one, two = 1.0, recipe.momentum, float(recipe.nesterov)
    else:
        kind, (one, two) = 0.0, recipe.betas
    decoupled = recipe.optimizer == "adamw"
    decay = recipe.weight_decay
    return np.array([kind, one, two, 0.0 if decoupled else decay, decay if decoupled else 0.0])

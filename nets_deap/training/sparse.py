"""The sparse trainer: fully connected networks on the CPU, at a cost that falls with density.

Compiled with numba (an extra). Each network is stored and trained by its kept weights alone; the
threads share the networks of a call between them. Results agree with the other trainers to float
rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nets_deap import bits
from nets_deap._optional import require
from nets_deap.training.problem import METRICS, Outcome, Plan, Problem, Split, Start
from nets_deap.training.stack import stack_of

STEPS_AT_ONCE = 250
GREATEST_BATCH = 64

Array = NDArray[Any]


@dataclass(frozen=True)
class _Stack:
    """The fully connected layers of a model: parameter names and sizes."""

    weights: tuple[str, ...]
    biases: tuple[str | None, ...]
    sizes: NDArray[np.int64]
    flattens: bool


def suits(problem: Problem) -> bool:
    """Tell whether the sparse trainer can train this problem here.

    It takes ``models.MLP`` and ``nn.Sequential`` of ``Flatten``, ``Linear`` and ``ReLU``, with
    cross entropy, Adam or AdamW, a minibatch of at most 64 and nothing frozen, on the CPU, where
    numba is installed.
    """
    recipe, stack = problem.recipe, _stack_of(problem.model)
    return (
        find_spec("numba") is not None
        and problem.device.type == "cpu"
        and recipe.loss == "cross_entropy"
        and problem.train[1].ndim == 1
        and recipe.optimizer in ("adam", "adamw")
        and recipe.batch_size <= GREATEST_BATCH
        and not problem.frozen
        and not problem.buffers
        and stack is not None
        and (stack.flattens or problem.train[0].ndim == 2)
        and set(problem.layout.names) <= set(stack.weights)  # biases are never masked here
    )


def train_sparse(
    problem: Problem,
    masks: list[bits.Bytes],
    plan: Plan,
    *,
    starts: list[Start | None] | None = None,
    on_chunk: Callable[[int], None] | None = None,
) -> Outcome:
    """Train one network for each mask; the same contract as ``train_stacked``."""
    require("numba", "fast", "train sparse networks at a cost that falls with density")
    batches = plan.batches(len(problem.train[0]), problem.recipe.batch_size).numpy()
    networks = [
        _Network(problem, packed, start)
        for packed, start in zip(masks, starts or [None] * len(masks), strict=True)
    ]
    # Networks of like size go to different threads.
    order = sorted(range(len(networks)), key=lambda i: -len(networks[i].theta))
    threads = max(1, min(torch.get_num_threads(), len(networks)))
    shares = [[networks[i] for i in order[t::threads]] for t in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        for share in pool.map(lambda share: _train(problem, share, plan, batches), shares):
            if on_chunk is not None:
                on_chunk(share)
    return Outcome.concatenate([network.outcome(problem, plan) for network in networks])


class _Network:
    """One network as the kernels take it: a vector of parameters, rows and columns."""

    def __init__(self, problem: Problem, packed: bits.Bytes, start: Start | None) -> None:
        stack = _stack_of(problem.model)
        assert stack is not None
        self.stack = stack
        self.mask = bits.unpack(packed, problem.layout.size)
        gates = problem.layout.split(self.mask)
        values = {name: tensor.numpy() for name, tensor in problem.initial.items()}
        if start is not None:
            begin = start.tensors(problem.layout, self.mask)
            values.update({name: tensor.numpy() for name, tensor in begin.items()})
        theta: list[Array] = []
        cols: list[Array] = []
        rows: list[Array] = []
        at = 0
        for weight, bias in zip(stack.weights, stack.biases, strict=True):
            tensor = values[weight]
            gate = gates.get(weight, np.ones(tensor.shape, dtype=np.bool_))
            counts = np.concatenate([[0], np.cumsum(gate.sum(axis=1))])
            rows.append(at + counts)
            n_out = len(gate)
            theta += [tensor[gate], values[bias] if bias else np.zeros(n_out, tensor.dtype)]
            cols += [np.nonzero(gate)[1], np.zeros(n_out, dtype=np.int64)]
            at += int(counts[-1]) + n_out
        self.theta = np.concatenate(theta)
        self.cols = np.concatenate(cols)
        self.rows = np.concatenate(rows)
        self.metrics: dict[str, float] = dict.fromkeys(METRICS, np.nan)
        self.curve: list[float] = []

    def tensors(self) -> dict[str, Array]:
        """Return all parameters by name, pruned weights zero."""
        found: dict[str, Array] = {}
        row = 0
        for i, (weight, bias) in enumerate(zip(self.stack.weights, self.stack.biases, strict=True)):
            n_in, n_out = self.stack.sizes[i], self.stack.sizes[i + 1]
            ends = self.rows[row : row + n_out + 1]
            tensor = np.zeros((n_out, n_in), self.theta.dtype)
            place = np.repeat(np.arange(n_out), np.diff(ends))
            tensor[place, self.cols[ends[0] : ends[-1]]] = self.theta[ends[0] : ends[-1]]
            found[weight] = tensor
            if bias:
                found[bias] = self.theta[ends[-1] : ends[-1] + n_out].copy()
            row += n_out + 1
        return found

    def outcome(self, problem: Problem, plan: Plan) -> Outcome:
        """Return what training this network gave."""
        tensors = self.tensors()
        flat = np.concatenate([tensors[name].reshape(-1) for name in problem.layout.names])
        named = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
        return Outcome(
            metrics={name: np.array([value]) for name, value in self.metrics.items()},
            curve_steps=plan.curve_steps,
            curve=np.array([self.curve], dtype=np.float64).reshape(1, -1),
            values=[flat[self.mask]],
            others=[problem.others_of(named)],
            states=[named] if plan.keep_states else [],
        )


def _train(problem: Problem, networks: list[_Network], plan: Plan, batches: Array) -> int:
    """Train and measure the networks of one thread; return their number."""
    from nets_deap.training import _kernels

    recipe = problem.recipe
    stack = networks[0].stack
    sizes, n_in = stack.sizes, int(stack.sizes[0])
    biased = np.array([bias is not None for bias in stack.biases])
    # Only inputs that some network reads are gathered; their columns are renumbered for that.
    live = np.unique(np.concatenate([_first_columns(network, sizes) for network in networks]))
    short = sizes.copy()
    short[0] = len(live)
    renumbered = np.zeros(n_in, dtype=np.int64)
    renumbered[live] = np.arange(len(live))
    cols = []
    for network in networks:
        own = network.cols.copy()
        own[: network.rows[sizes[1]]] = renumbered[own[: network.rows[sizes[1]]]]
        cols.append(own)
    theta = np.concatenate([network.theta for network in networks])
    where = np.concatenate([[0], np.cumsum([len(network.theta) for network in networks])])
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    data = problem.train[0].reshape(len(problem.train[0]), -1).numpy()
    labels = problem.train[1].numpy()
    l2, shrink = (0.0, recipe.weight_decay) if recipe.optimizer == "adamw" else (1.0, 0.0)
    hyper = np.array([*recipe.betas, l2 * recipe.weight_decay, shrink])
    lrs = np.array([recipe.lr_at(step, plan.steps) for step in range(plan.steps)])
    losses = np.zeros(len(networks))
    tail = plan.steps - plan.tail
    stops = sorted(
        {*range(STEPS_AT_ONCE, plan.steps, STEPS_AT_ONCE), *plan.curve_steps, plan.steps}
    )
    first = 0
    for stop in stops:
        _kernels.train(
            data, labels, batches[first:stop], live, short, biased, where,
            np.concatenate([network.rows for network in networks]),
            np.concatenate(cols), theta, m, v, lrs[first:stop], hyper, first, losses, tail,
        )  # fmt: skip
        first = stop
        if stop in plan.curve_steps or stop == plan.steps:
            for i, network in enumerate(networks):
                network.theta = theta[where[i] : where[i + 1]].copy()
                loss, accuracy = _measure(network, problem.val, sizes, biased)
                network.metrics.update(val_loss=loss, val_accuracy=accuracy)
                if stop in plan.curve_steps:
                    network.curve.append(loss)
    for i, network in enumerate(networks):
        network.metrics["train_loss"] = losses[i] / plan.tail
        if plan.test and problem.test is not None:
            loss, accuracy = _measure(network, problem.test, sizes, biased)
            network.metrics.update(test_loss=loss, test_accuracy=accuracy)
    return len(networks)


def _measure(
    network: _Network, split: Split, sizes: NDArray[np.int64], biased: Array
) -> tuple[float, float]:
    """Return loss and accuracy of one network on a whole split."""
    from nets_deap.training import _kernels

    inputs = split[0].reshape(len(split[0]), -1).numpy()
    loss, accuracy = _kernels.measure(
        inputs, split[1].numpy(), sizes, biased, network.rows, network.cols, network.theta
    )
    return float(loss), float(accuracy)


def _first_columns(network: _Network, sizes: NDArray[np.int64]) -> Array:
    """Return the inputs that a network's first layer reads."""
    return network.cols[: network.rows[sizes[1]]]


def _stack_of(model: nn.Module) -> _Stack | None:
    """Return the layers of a model that is nothing but linear layers with ReLU between."""
    stack = stack_of(model)
    if stack is None or any(type(activation) is not nn.ReLU for activation in stack.activations):
        return None
    return _Stack(
        weights=tuple(f"{name}.weight" for name in stack.names),
        biases=tuple(
            f"{name}.bias" if linear.bias is not None else None
            for name, linear in zip(stack.names, stack.linears, strict=True)
        ),
        sizes=np.array(
            [stack.linears[0].in_features, *(linear.out_features for linear in stack.linears)]
        ),
        flattens=stack.flattens,
    )

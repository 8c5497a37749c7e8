"""``Chunk``: P networks in memory that stays where it is, trained by a step that stays the same.

A chunk is built once for a number of networks, and filled again for other masks, starts and plans.
On CUDA its step is captured as a graph and replayed; on the CPU the same step is called: what the
tests run there is what a GPU runs. What differs between kinds of networks is how a gradient is
computed and how a split is measured.

One file: how a chunk runs, how large it is made and when it is used again depend on each other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nets_deap.inputs.nested import leaves_of
from nets_deap.tickets import bits
from nets_deap.training.batches import minibatch
from nets_deap.training.device import memory_of, threads_for
from nets_deap.training.engines.cuda import optimizer
from nets_deap.training.engines.cuda.graph import Graph
from nets_deap.training.engines.cuda.limits import Limits, limited
from nets_deap.training.engines.cuda.schedule import Schedule
from nets_deap.training.engines.cuda.weights import Weights, counts_of
from nets_deap.training.engines.memory import Pieces
from nets_deap.training.optimizers import is_known
from nets_deap.training.problem import (
    EVAL_ROWS,
    METRICS,
    OnPart,
    Outcome,
    Plan,
    Problem,
    Split,
    Start,
    State,
)

CUDA_MEMORY_SHARE = 0.4
MOST_SPARE = 2
MOST_NETWORKS = 65535  # what the second axis of a grid of programs takes
CPU_CACHE_BYTES = 512 * 2**20
CPU_CHUNK_BYTES = 64 * 2**20
CPU_CHUNK_MAX = 512


class Chunk(ABC):
    """P networks that train together; see ``train_chunks``.

    Args:
        problem: Model, data and recipe.
        networks: P. Fewer may be trained: the rest have empty masks.
        listed: See ``optimizer.listed_of``.
    """

    _plan: Plan
    _fed: Split

    def __init__(self, problem: Problem, networks: int, listed: frozenset[str]) -> None:
        self.problem, self.p, self.listed = problem, networks, listed
        self.weights = Weights(problem, networks)
        self.schedule = Schedule(problem, self.width(problem))
        self.tail = torch.zeros(networks, dtype=torch.float64, device=problem.device)
        # A function has no loss for a minibatch without labels, which trains nothing: it is no
        # divergence. Weights that are not finite show in the validation loss.
        named = problem.recipe.descends_named
        self.missing = None if named else torch.zeros_like(self.tail)
        # Others than the known optimisers count their steps on the host.
        self.graph = Graph(problem.device, captures=is_known(problem.recipe))
        self._pieces: Pieces | None = None
        self.limits = Limits(self.weights) if limited(problem.recipe) else None
        self.optimiser = optimizer.make(self.weights, self.schedule, listed, self.halves())

    @staticmethod
    @abstractmethod
    def bytes_of_one(problem: Problem) -> int:
        """Return the bytes that one network of a chunk needs."""

    @abstractmethod
    def gradients(self, rows: Tensor) -> tuple[Tensor, State]:
        """Return each network's loss (P,) on some rows of the training data, and its gradient.

        Where the step is captured, everything that it reads and writes stays where it is, and
        nothing waits for the device.
        """

    def feed(self, step: int) -> None:
        """Get the minibatch of a step of the plan ready, where its inputs are made on the host.

        A captured step finds it where the first one was.
        """
        given = minibatch(self.problem, self._plan, step, self.schedule.host_rows(step))
        if self.graph.captured:
            pairs = list(zip(leaves_of(self._fed), leaves_of(given), strict=True))
            if all(held.shape == new.shape for held, new in pairs):
                for held, new in pairs:
                    held.copy_(new, non_blocking=True)
                return
            self.graph.give_up("minibatches change their shape from step to step")
        self._fed = given

    @abstractmethod
    def measure_some(self, some: slice, split: Split, rows: int) -> tuple[Tensor, Tensor]:
        """Return loss and accuracy of some networks on a whole split, float64, in evaluation mode.

        Args:
            some: Which networks.
            split: Inputs and targets.
            rows: Examples at a time.
        """

    def measured_at_once(self) -> int:
        """Return how many networks to measure at once: all, unless that takes much memory."""
        return self.p

    @staticmethod
    def width(problem: Problem) -> int:
        """Return how many rows a minibatch takes."""
        return problem.recipe.batch_size

    def halves(self) -> State | None:
        """Return copies of weights in lower precision, which the optimiser keeps up to date."""
        return None

    @abstractmethod
    def begin(self) -> None:
        """Get ready for steps: called after filling and after measuring."""

    def measure(self, split: Split) -> tuple[Tensor, Tensor]:
        """Return loss (n,) and accuracy (n,) of all networks that were filled in.

        Where memory runs out, in smaller pieces: what has been trained is not lost.
        """
        if self._pieces is None:
            self._pieces = Pieces(self.measured_at_once(), EVAL_ROWS, self.problem.device)
        found = self._pieces.of(
            lambda some, rows: self.measure_some(some, split, rows), self.weights.n
        )
        loss, accuracy = (torch.cat(part) for part in zip(*found, strict=True))
        return loss, accuracy

    def step(self) -> None:
        """Take one step at the schedule's counter; the same work every time."""
        loss, gradients = self.gradients(self.schedule.rows())
        if self.limits is not None:
            gradients = self.limits.of(gradients)
        self.optimiser.step(gradients)
        self.schedule.advance(self.tail, loss, self.missing)

    def run(
        self,
        packed: bits.Bytes,
        plan: Plan,
        starts: list[Start],
        counts: NDArray[np.int64],
    ) -> Outcome:
        """Train, measure and hand everything over as NumPy arrays; see ``Weights.refill``."""
        size = sum(tensor.numel() for tensor in self.weights.trained.values())
        with threads_for(size, self.problem.device):
            self.fill(packed, plan, starts, counts)
            if self.graph.untried and not self.problem.is_resident:
                self.feed(0)
            if self.graph.prepare(self.step):  # by steps that count for nothing
                self.fill(packed, plan, starts, counts)
            curve = self._steps(plan)
            loss, accuracy = curve[-1] if curve else self.measure(self._val)
            counted = plan.tail if self.missing is None else plan.tail - self.missing
            found = [(self.tail / counted)[: self.weights.n], loss, accuracy]
            if plan.test and self.problem.test is not None:
                found += self.measure(self.problem.test)
            return self._outcome(plan, found, [point for point, _ in curve])

    def fill(
        self,
        packed: bits.Bytes,
        plan: Plan,
        starts: list[Start],
        counts: NDArray[np.int64],
    ) -> None:
        """Put everything to where training starts; see ``Weights.refill``."""
        self._plan = plan
        self.schedule.begin(plan)
        self.schedule.fill(0)
        self.weights.refill(packed, starts, counts)
        if self.limits is not None:
            self.limits.reset()
        self.optimiser.reset()
        self.tail.zero_()
        if self.missing is not None:
            self.missing.zero_()
        self.begin()

    def _steps(self, plan: Plan) -> list[tuple[Tensor, Tensor]]:
        """Take all steps; return the points of the curve."""
        curve: list[tuple[Tensor, Tensor]] = []
        feed = None if self.problem.is_resident else self.feed
        for first in range(0, plan.steps, self.schedule.window):
            at, stop = first, first + self.schedule.fill(first)
            for point in (*(p for p in plan.curve_steps if first < p <= stop), stop):
                self.graph(self.step, range(at, point), feed)
                at = point
                if point in plan.curve_steps and len(curve) < plan.curve_steps.index(point) + 1:
                    curve.append(self.measure(self._val))
                    self.begin()
        return curve

    @property
    def _val(self) -> Split:
        """The validation split: the problem's own, or that of the plan's fold."""
        return self.problem.val if self._plan.part is None else self._plan.part.val

    def _outcome(self, plan: Plan, found: list[Tensor], curve: list[Tensor]) -> Outcome:
        """Fetch all numbers at once, and the weights."""
        numbers = torch.stack([*found, *curve], 1).cpu().numpy()
        measured = np.full((self.weights.n, len(METRICS)), np.nan)
        measured[:, : len(found)] = numbers[:, : len(found)]
        return Outcome(
            metrics={name: measured[:, i].copy() for i, name in enumerate(METRICS)},
            curve_steps=plan.curve_steps,
            curve=np.ascontiguousarray(numbers[:, len(found) :]),
            trained=self.weights.trained_states(),
            states=self.weights.states() if plan.keep_states else [],
        )


def train_chunks(
    kind: type[Chunk],
    problem: Problem,
    masks: list[bits.Bytes],
    plan: Plan,
    *,
    starts: list[Start] | None,
    size: int,
    on_part: OnPart | None = None,
) -> Outcome:
    """Train one network for each mask in chunks of a kind, at most ``size`` at once.

    Chunks of the last few shapes are kept on the problem's cache.
    """
    parts, size = [], min(size, MOST_NETWORKS)
    if spare(problem.device) > 1:  # alike, so that one chunk serves them all
        size = -(-len(masks) // -(-len(masks) // size))
    for start in range(0, len(masks), size):
        packed = np.stack(masks[start : start + size])
        own: list[Start] = [None] * len(packed)
        if starts is not None:
            own = starts[start : start + size]
        # Kernels are launched on the current device.
        with torch.cuda.device(problem.device) if problem.device.type == "cuda" else nullcontext():
            counts = counts_of(problem.layout, packed)
            parts.append(_chunk(kind, problem, counts).run(packed, plan, own, counts))
        if on_part is not None:
            on_part(range(start, start + len(packed)), parts[-1])
    return Outcome.concatenate(parts)


def spare(device: torch.device) -> float:
    """Return how many times as many networks as are asked for a chunk may hold.

    Where a step is captured, to build a chunk anew costs more than to train some networks for
    nothing: numbers of children differ from generation to generation.
    """
    return MOST_SPARE if device.type == "cuda" else 1


def fitting(device: torch.device, one: int) -> int:
    """Return how many networks of ``one`` bytes to train at once.

    What memory holds on CUDA. On two CPU cores, pieces that stay near the cache train fastest;
    large ones are several times slower.
    """
    if device.type == "cuda":
        return max(1, memory_limit(device) // one)
    return max(1, min(CPU_CHUNK_MAX, CPU_CHUNK_BYTES // one))


def memory_limit(device: torch.device) -> int:
    """Return how many bytes networks may take: a share of all memory, not of what is free now.

    The number of networks in a chunk must not change within a run.
    """
    if device.type == "cuda":
        return int(CUDA_MEMORY_SHARE * memory_of(device))
    return CPU_CACHE_BYTES


def _chunk(kind: type[Chunk], problem: Problem, counts: NDArray[np.int64]) -> Chunk:
    """Return a chunk for masks with these counts (P, L) from the cache, or build one."""
    n, device = len(counts), problem.device

    def listed(networks: int) -> frozenset[str]:
        if not optimizer.has_triton(device):
            return frozenset()
        sizes = [n * layer.size for layer in problem.layout.layers]
        kept = dict(zip(problem.layout.names, (counts.sum(0) / sizes).tolist(), strict=True))
        return optimizer.listed_of(problem, kept, networks)

    most = spare(device) * n
    fit = (
        key
        for key in problem.cache.keys()  # noqa: SIM118  it is no dictionary
        if key[0] is kind and n <= key[1] <= most and key[2] == listed(key[1])
    )
    _, networks, names = key = min(fit, key=lambda key: key[1], default=(kind, n, listed(n)))
    chunk: Chunk = problem.cache.get(
        key,
        lambda: kind(problem, networks, names),
        n_bytes=kind.bytes_of_one(problem) * networks,
        limit=memory_limit(device),
        device=device,
    )
    return chunk

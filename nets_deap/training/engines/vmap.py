"""The vmap engine: P masked networks of any module as one batch, through ``torch.func``.

Parameters are stacked along a leading axis P. One vectorised gradient, one fused optimiser step and
one pass of the masks serve all networks of a chunk. Because a gradient is masked before
the optimiser sees it, pruned weights, momenta and second moments stay exactly zero. On CUDA the
vectorised gradient is captured with the rest of a step; the patterns of dropout follow from the
networks' keys and the step, which both live on the device.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nets_deap import _checks
from nets_deap.tickets import bits
from nets_deap.training.batches import rows_of, spread_rows
from nets_deap.training.device import memory_of
from nets_deap.training.engine import Engine
from nets_deap.training.engines.chunk import Chunk, fitting, train_chunks
from nets_deap.training.engines.cuda.weights import counts_of
from nets_deap.training.engines.dropout import keys_of
from nets_deap.training.engines.functional import Functional, some_of
from nets_deap.training.engines.memory import with_room
from nets_deap.training.engines.probe import probe
from nets_deap.training.optimizers import stackable
from nets_deap.training.problem import (
    EVAL_ROWS,
    OnPart,
    Outcome,
    Plan,
    Problem,
    Split,
    Start,
    State,
    once,
)
from nets_deap.training.shortage import is_shortage

# Of all memory of a GPU, for what networks take beside their training while they are measured.
MEASURE_SHARE = 1 / 16
_EVERYTHING = 2**62


def suits(problem: Problem) -> bool:
    """Return whether the engine can train this problem.

    Nothing random in it but dropout, no hooks on parameters, and an optimiser that steps each
    weight by itself.
    """
    return not problem.hooked and not probe(problem).draws and stackable(problem)


def train_vmap(
    problem: Problem,
    masks: list[bits.Bytes],
    plan: Plan,
    *,
    starts: list[Start] | None = None,
    chunk: int | None = None,
    on_part: OnPart | None = None,
) -> Outcome:
    """Train one network for each mask; see ``Train``."""
    size = default_chunk(problem) if chunk is None else _checks.whole("chunk", chunk)
    return train_chunks(VmapChunk, problem, masks, plan, starts=starts, size=size, on_part=on_part)


def default_chunk(problem: Problem) -> int:
    """Return how many networks to train at once: what the cache (CPU) or memory (CUDA) holds."""
    return fitting(problem.device, VmapChunk.bytes_of_one(problem))


ENGINE = Engine(
    "vmap",
    train_vmap,
    suits,
    default_chunk,
    "no random numbers in module and loss but dropout's, no hooks on parameters, and an optimiser "
    "that steps each weight by itself",
)


class VmapChunk(Chunk):
    """P networks of any module that works under ``torch.func``."""

    _functional: Functional

    @staticmethod
    def bytes_of_one(problem: Problem) -> int:
        """Return about the bytes that one network of a chunk needs.

        On the CPU, where chunks stay near the cache, a weight, its gradient, its mask and two
        moments for each parameter; on CUDA, where they are as large as memory, what was measured.
        """
        if problem.device.type == "cuda":
            return needs_of(problem).training
        return 5 * problem.dtype.itemsize * sum(t.numel() for t in problem.initial.values())

    def fill(
        self,
        packed: bits.Bytes,
        plan: Plan,
        starts: list[Start],
        counts: NDArray[np.int64],
    ) -> None:
        """Put everything to where training starts; see ``Chunk.fill``."""
        if not self.graph.captured:
            # What a module or loss keeps in Python lasts for one training. A captured step runs
            # no Python any more; it needs the functional whose tensors it has recorded.
            self._functional = Functional(self.problem, self.weights.shared)
            self._keys = torch.zeros((self.p, 2), dtype=torch.int32, device=self.problem.device)
        self._keys[: len(packed)].copy_(keys_of(list(packed), plan.seed, self._keys.device))
        super().fill(packed, plan, starts, counts)

    def begin(self) -> None:
        """Put the module into training mode."""
        self._functional.begin()

    def gradients(self, rows: Tensor) -> tuple[Tensor, State]:
        """Return each network's loss (P,) on some rows of the training data, and its gradient."""
        held = self.weights
        keys = self._functional.keys_at(self._keys, self.schedule.step())
        if self.problem.is_resident:
            inputs, targets = (rows_of(part, rows) for part in self.problem.train)
        else:
            inputs, targets = self._fed
        gradients_of = self._functional.gradients()
        with self._functional.explained():
            found = gradients_of(held.trained, held.fixed, held.buffers, keys, inputs, targets)
            gradients, (loss, buffers) = found
            for name, buffer in held.buffers.items():
                buffer.copy_(buffers[name])
        # Fused optimisers read memory in order, whatever the strides say.
        return loss, {name: gradient.contiguous() for name, gradient in gradients.items()}

    def measured_at_once(self) -> int:
        """Return how many networks to measure at once: all, or what a share of CUDA memory holds.

        Networks are measured by more examples at a time than they are trained by.
        """
        device = self.problem.device
        if device.type != "cuda":
            return self.p
        return max(1, int(MEASURE_SHARE * memory_of(device)) // needs_of(self.problem).measuring)

    def measure_some(self, some: slice, split: Split, rows: int) -> tuple[Tensor, Tensor]:
        """Return loss and accuracy of some networks on a whole split; see ``Chunk``."""
        held = self.weights
        networks = some_of((held.trained, held.fixed, held.buffers, self._keys), some)
        return self._functional.measure(*networks, split, rows)


class Needs(NamedTuple):
    """Bytes of CUDA memory that each network of a chunk takes.

    Attributes:
        training: While it is held, trained and handed over.
        measuring: Beside that, while it is measured ``EVAL_ROWS`` examples at a time.
    """

    training: int
    measuring: int


@once
def needs_of(problem: Problem) -> Needs:
    """Measure on CUDA what a network takes: a module does not say what it holds.

    Two networks take a step, and then four: the difference is what two more of them take. Where
    memory runs out what others keep makes room first: what is found here is remembered.
    """

    def taken() -> list[tuple[int, int]]:
        return [_taken(problem, p) for p in (2, 4)]

    try:
        with torch.cuda.device(problem.device):
            few, more = with_room(problem.device, taken)
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        few, more = (0, 0), (_EVERYTHING, _EVERYTHING)  # one at a time, if at all
    training, measuring = (max(1, (b - a) // 2) for a, b in zip(few, more, strict=True))
    return Needs(training, measuring)


def _taken(problem: Problem, networks: int) -> tuple[int, int]:
    """Return the bytes that networks take in training and, beside that, while they are measured."""
    rows = min(problem.recipe.batch_size, problem.n_examples)
    packed = np.stack([bits.pack(np.ones(problem.layout.size, dtype=np.bool_))] * networks)
    with _peak(problem.device) as trained:
        chunk = VmapChunk(problem, networks, frozenset())
        chunk.fill(packed, Plan(1, 0), [None] * networks, counts_of(problem.layout, packed))
        if not problem.is_resident:
            chunk.feed(0)
        chunk.step()
    places = spread_rows(problem.n_examples, rows).to(problem.device)
    inputs, targets = (rows_of(part, places) for part in problem.train)
    with _peak(problem.device) as measured:
        chunk.measure_some(slice(networks), (inputs, targets), rows)
    with _peak(problem.device) as handed_over:
        chunk.weights.trained_states()
    # A captured step keeps what it takes: what comes after it comes on top.
    return trained[0] + handed_over[0], measured[0] * EVAL_ROWS // rows


@contextmanager
def _peak(device: torch.device) -> Iterator[list[int]]:
    """Put into a list, at the end, the most bytes that were in use beside those before."""
    found: list[int] = []
    gc.collect()  # what is garbage already must not be given back in between
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    yield found
    found.append(torch.cuda.max_memory_allocated(device) - before)

"""The vmap engine: P masked networks of any module as one batch, through ``torch.func``.

Parameters are stacked along a leading axis P. One vectorised gradient, one fused optimiser step and
one pass of the masks serve all networks of a chunk. Because a gradient is masked before
the optimiser sees it, pruned weights, momenta and second moments stay exactly zero. On CUDA the
vectorised gradient is captured with the rest of a step; the patterns of dropout follow from the
networks' keys and the step, which both live on the device.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nets_deap import _checks
from nets_deap.data.streamed import spec_of
from nets_deap.inputs.nested import leaves_of
from nets_deap.tickets import bits
from nets_deap.training.batches import minibatch
from nets_deap.training.engine import Engine
from nets_deap.training.engines.chunk import Chunk, fitting, train_chunks
from nets_deap.training.engines.cuda.optimizer import moments_of
from nets_deap.training.engines.dropout import keys_of
from nets_deap.training.engines.functional import Functional
from nets_deap.training.engines.probe import probe
from nets_deap.training.problem import OnPart, Outcome, Plan, Problem, Split, Start, State


def suits(problem: Problem) -> bool:
    """Return whether the engine can train this problem.

    Nothing random in it but dropout, and no hooks on parameters.
    """
    return not problem.hooked and not probe(problem).draws


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
    "no random numbers in module and loss but dropout's, and no hooks on parameters",
)


class VmapChunk(Chunk):
    """P networks of any module that works under ``torch.func``."""

    _functional: Functional
    _plan: Plan

    @staticmethod
    def bytes_of_one(problem: Problem) -> int:
        """Return about the bytes that one network of a chunk needs.

        A weight, its gradient, its moments and its mask for each parameter. On CUDA, where chunks
        are as large as memory, also activations: guessed at eight times the minibatch, because a
        module does not say what it holds. On the CPU, where chunks stay near the cache, all recipes
        count two moments.
        """
        itemsize = problem.dtype.itemsize
        parameters = sum(tensor.numel() for tensor in problem.initial.values())
        if problem.device.type != "cuda":
            return 5 * itemsize * parameters
        leaves = leaves_of(spec_of(problem.train[0]))
        sample = itemsize * sum(math.prod(map(int, leaf.shape[1:])) for leaf in leaves)
        activations = 8 * sample * max(problem.recipe.batch_size, 64)
        return itemsize * parameters * (3 + moments_of(problem.recipe)) + activations

    def run(
        self,
        packed: bits.Bytes,
        plan: Plan,
        starts: list[Start],
        counts: NDArray[np.int64],
    ) -> Outcome:
        """Train, measure and hand everything over; see ``Chunk.run``."""
        if not self.graph.captured:
            # What a module or loss keeps in Python lasts for one training. A captured step runs
            # no Python any more; it needs the functional whose tensors it has recorded.
            self._functional = Functional(self.problem, self.weights.shared)
            self._keys = torch.zeros((self.p, 2), dtype=torch.int32, device=self.problem.device)
        self._keys.copy_(keys_of(list(packed), plan.seed, self._keys.device))
        self._plan = plan
        return super().run(packed, plan, starts, counts)

    def begin(self) -> None:
        """Put the module into training mode."""
        self._functional.begin()

    def gradients(self, rows: Tensor) -> tuple[Tensor, State]:
        """Return each network's loss (P,) on some rows of the training data, and its gradient."""
        held = self.weights
        keys = self._functional.keys_at(self._keys, self.schedule.step())
        inputs, targets = minibatch(self.problem, self._plan, self.schedule.at, rows)
        gradients_of = self._functional.gradients()
        with self._functional.explained():
            found = gradients_of(held.trained, held.fixed, held.buffers, keys, inputs, targets)
            gradients, (loss, buffers) = found
            for name, buffer in held.buffers.items():
                buffer.copy_(buffers[name])
        # Fused optimisers read memory in order, whatever the strides say.
        return loss, {name: gradient.contiguous() for name, gradient in gradients.items()}

    def measure(self, split: Split) -> tuple[Tensor, Tensor]:
        """Return loss (P,) and accuracy (P,) on a whole split, float64, in evaluation mode."""
        held = self.weights
        return self._functional.measure(held.trained, held.fixed, held.buffers, self._keys, split)

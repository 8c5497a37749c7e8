"""Stacked networks of any module on a machine: what ``train_vmap`` trains with on CUDA.

The vectorised gradient of ``torch.func`` is captured with the rest of a step; the patterns of
dropout follow from the networks' keys and the step, which both live on the device.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nets_deap.tickets import bits
from nets_deap.training.batches import rows_of
from nets_deap.training.engines.cuda.chunk import Machine
from nets_deap.training.engines.cuda.optimizer import moments_of
from nets_deap.training.engines.dropout import keys_of
from nets_deap.training.engines.functional import Functional
from nets_deap.training.problem import Outcome, Plan, Problem, Split, Start, State


class Replayed(Machine):
    """P networks of any module that works under ``torch.func``."""

    def __init__(self, problem: Problem, networks: int, rooms: Mapping[str, int]) -> None:
        super().__init__(problem, networks, rooms)
        self._functional = Functional(problem, self.weights.shared)
        self._keys = torch.zeros((networks, 2), dtype=torch.int32, device=problem.device)

    def run(
        self,
        stack: bits.Bytes,
        plan: Plan,
        starts: list[Start | None],
        counts: NDArray[np.int64],
    ) -> Outcome:
        """Train, measure and hand everything over; see ``Machine.run``."""
        self._keys.copy_(keys_of(list(stack), plan.seed, self._keys.device))
        return super().run(stack, plan, starts, counts)

    @staticmethod
    def bytes_of_one(problem: Problem) -> int:
        """Return about the bytes that one network of a chunk needs.

        A weight, its gradient, its moments and its mask for each parameter; activations are
        guessed at eight times the minibatch, because a module does not say what it holds.
        """
        itemsize = problem.dtype.itemsize
        parameters = sum(tensor.numel() for tensor in problem.initial.values())
        sample: int = problem.train[0][0].numel() * itemsize
        activations = 8 * sample * max(problem.recipe.batch_size, 64)
        return itemsize * parameters * (3 + moments_of(problem.recipe)) + activations

    def begin(self) -> None:
        """Put the module into training mode."""
        self._functional.begin()

    def gradients(self, rows: Tensor) -> tuple[Tensor, State]:
        """Return each network's loss (P,) on some rows of the training data, and its gradient."""
        held, (inputs, targets) = self.weights, self.problem.train
        keys = self._functional.keys_at(self._keys, self.tables.step())
        batch = (keys, inputs.index_select(0, rows), rows_of(targets, rows))
        gradients_of = self._functional.gradients()
        with self._functional.worded():
            found = gradients_of(held.trained, held.fixed, held.buffers, *batch)
        gradients, (loss, buffers) = found
        for name, buffer in held.buffers.items():
            buffer.copy_(buffers[name])
        return loss, {name: gradient.contiguous() for name, gradient in gradients.items()}

    def measure(self, split: Split) -> tuple[Tensor, Tensor]:
        """Return loss (P,) and accuracy (P,) on a whole split, float64, in evaluation mode."""
        held = self.weights
        return self._functional.measure(held.trained, held.fixed, held.buffers, self._keys, split)

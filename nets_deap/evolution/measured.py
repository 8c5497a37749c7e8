"""``Measured``: what objectives are worked out from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap.tickets.ticket import Ticket
from nets_deap.training.folds import folded
from nets_deap.training.problem import Fold, Problem


@dataclass(frozen=True)
class Measured:
    """What was measured of one trained ticket; what an objective is computed from.

    Attributes:
        ticket: The individual.
        metrics: ``train_loss``, ``val_loss``, ``val_accuracy`` (in [0, 1]).
        steps: Optimiser steps it was trained for.
        curve_steps: Steps of the validation curve; empty unless an objective needs it.
        curve: Validation losses at those steps.
        task: The ``nets.Task`` it was trained on.
        state: Returns the trained parameters and buffers by name, pruned weights zero; None unless
            an objective needs them.
        fold: Which examples validated; None for the task's own validation part.
    """

    ticket: Ticket
    metrics: Mapping[str, float]
    steps: int
    curve_steps: tuple[int, ...] = ()
    curve: NDArray[np.float64] | None = None
    task: Any = None
    state: Callable[[], dict[str, Any]] | None = None
    fold: Fold | None = None

    @classmethod
    def untrained(cls, ticket: Ticket, task: Any) -> Measured:
        """Return what there is of a ticket for objectives that need nothing but the mask."""
        return cls(ticket, {}, 0, task=task)

    @property
    def problem(self) -> Problem:
        """What it was trained and measured on: ``task.problem``, or with folds that of its fold.

        An objective that measures on validation data of its own accord takes ``problem.val``.
        """
        return folded(self.task.problem, self.fold)

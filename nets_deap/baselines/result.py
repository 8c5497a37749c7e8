"""``Baseline``: the tickets that a method other than evolution found, and what they cost."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nets_deap import _checks
from nets_deap._table import Brief
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.problem import Start
from nets_deap.training.result import TrainResult
from nets_deap.training.task import Task


@dataclass(frozen=True, eq=False, repr=False)
class Level(Brief):
    """One ticket of a baseline.

    Attributes:
        ticket: The ticket.
        search_steps: Steps x networks spent up to this level, its own and all denser ones included.
        search_dense_steps: The same in multiply-adds: in training steps of the dense network.
        start: Where its final training starts; None for W0.
        rewound_steps: The step of a dense training that ``start`` holds; 0 for W0.
        trained: Its trained network, where the method yields one and nothing is rewound.
    """

    ticket: Ticket
    search_steps: int = 0
    start: Start = None
    rewound_steps: int = 0
    trained: TrainResult | None = None
    search_dense_steps: float = 0.0


@dataclass(frozen=True, eq=False)
class Baseline:
    """The tickets that one method found.

    Attributes:
        name: The method's name, as in ``BASELINES``.
        levels: One or more levels, densest first.
        search_steps: Steps x networks of the whole search, gradients included.
        search_dense_steps: The same in multiply-adds: in training steps of the dense network.
        nested: Whether every ticket is a subset of the one before.
    """

    name: str
    levels: tuple[Level, ...]
    search_steps: int
    nested: bool
    search_dense_steps: float = 0.0

    @classmethod
    def of(cls, name: str, levels: Sequence[Level], *, before: int = 0) -> Baseline:
        """Return a baseline of levels; cost and nesting are read off them.

        Args:
            name: The method's.
            levels: One or more, densest first.
            before: Steps of the dense network that were spent before all of them, on rewinding.

        Raises:
            InvalidValueError: No levels, or not densest first.
        """
        kept = [level.ticket.kept for level in levels]
        if not kept or kept != sorted(kept, reverse=True):
            raise _checks.bad_value("levels", "be ordered", "one or more, densest first", kept)
        masks = [level.ticket.packed for level in levels]
        nested = all(not np.any(sparser & ~denser) for denser, sparser in itertools.pairwise(masks))
        levels = [
            replace(
                one,
                search_steps=one.search_steps + before,
                search_dense_steps=one.search_dense_steps + before,
            )
            for one in levels
        ]
        last = levels[-1]
        return cls(name, tuple(levels), last.search_steps, nested, last.search_dense_steps)

    def __repr__(self) -> str:
        ends = (
            f"density {self.levels[0].ticket.density:.4g} to {self.levels[-1].ticket.density:.4g}"
        )
        many = f"{len(self.levels)} level{'' if len(self.levels) == 1 else 's'}"
        return (
            f"Baseline({self.name!r}, {many}, {ends}; "
            f"{self.search_steps} steps x networks, {self.search_dense_steps:.0f} dense steps, "
            f"nested={self.nested})"
        )

    @property
    def tickets(self) -> list[Ticket]:
        """The tickets, densest first."""
        return [level.ticket for level in self.levels]

    def train(self, task: Task, steps: int, seed: int | None = None) -> list[TrainResult]:
        """Train every level from W0, or from its ``start``, all on the same minibatches.

        A level that is ``trained`` already is not trained again, whatever ``steps`` says.

        Args:
            task: The task that the baseline was found on.
            steps: Optimiser steps of each.
            seed: Seed of the minibatches; None for one that no search uses.

        Returns:
            One result each, in the order of ``levels``.

        Raises:
            InvalidValueError: The tickets belong to another task.
        """
        waiting = [level for level in self.levels if level.trained is None]
        fresh = iter(
            task.train_all(
                [level.ticket for level in waiting],
                steps=steps,
                seed=seed,
                starts=[level.start for level in waiting],
            )
        )
        return [next(fresh) if lv.trained is None else lv.trained for lv in self.levels]

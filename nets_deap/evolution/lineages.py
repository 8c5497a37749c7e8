"""``Lineages``: how tickets that inherit weights mate, mutate and survive."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from nets_deap.evolution.criterion import criterion
from nets_deap.evolution.evaluator import Evaluator
from nets_deap.evolution.operators import cx_average, cx_near, mut_prune, mut_swap, sel_lineages
from nets_deap.evolution.operators._common import generator
from nets_deap.evolution.settings import OperatorSettings
from nets_deap.tickets.choice import Rng
from nets_deap.tickets.ticket import Ticket

# Of the kept weights, swapped at once: at the beginning of a run, and at its end.
FIRST, LAST = 0.3, 0.003
# Generations after which a third of it is left, where nobody has said how many there will be.
FADING = 25.0
# Of the swaps, those that regrow by gradient; the others regrow at random.
BY_GRADIENT = 0.7
# Of the kept weights, pruned where a ticket is too dense for swaps.
ROOM = 0.2
GROW_NOISE = 0.5
NOISE = 0.1


class Lineages:
    """Mating, mutation and selection of tickets that inherit weights, for one evaluator.

    Args:
        evaluator: Knows who lives, how far the run has come, and from which density on lineages
            go on.
        low: Least density of tickets.
        settings: The noise of what weights are pruned by, and whether gradients are known.
        by: What weights are pruned by; see ``mut_prune``.
    """

    def __init__(
        self, evaluator: Evaluator, low: float, settings: OperatorSettings, by: str
    ) -> None:
        self._evaluator, self._low = evaluator, low
        self._noise = NOISE if settings.noise is None else settings.noise
        self._saliency = criterion(evaluator.task, by, objectives=evaluator.objectives)
        self._by_gradient = BY_GRADIENT if getattr(settings, "gradient", None) is not False else 0.0

    def mutate(self, individual: Ticket, *, rng: Rng | None = None) -> tuple[Ticket]:
        """Swap weights; see ``mut_swap``. Where there is no room to, prune a fifth."""
        source = generator(rng)
        fraction = self._fraction() * float(source.uniform(0.5, 1.5))
        least = 1 / max(1, individual.kept)  # a swap of nothing would train the same ticket on
        if individual.kept * (1 + fraction) > individual.n_weights:
            more = {**self._saliency, "noise": self._noise}
            return mut_prune(individual, fraction=ROOM, rng=source, **more)
        grow = "random"
        if source.random() < self._by_gradient:
            self._evaluator.note_gradients(individual)
            state = individual.inherited
            grow = "random" if state is None or state.candidates is None else "gradient"
        return mut_swap(
            individual,
            fraction=min(1.0, max(least, fraction)),
            **self._saliency,
            grow=grow,
            noise=self._noise,
            grow_noise=GROW_NOISE,
            rng=source,
        )

    def mate(self, ind1: Ticket, ind2: Ticket, *, rng: Rng | None = None) -> tuple[Ticket, Ticket]:
        """Average each with a neighbour in density, then swap; see ``cx_near``, ``cx_average``."""
        source = generator(rng)
        if self._by_gradient:
            for one in (ind1, ind2):
                self._evaluator.note_gradients(one)
        cx_near(
            ind1,
            ind2,
            cross=self._cross,
            cross_one=functools.partial(self._cross, both=False),
            pool=self._residents,
            rng=source,
        )
        for child in (ind1, ind2):
            self.mutate(child, rng=source)
        return ind1, ind2

    def _cross(
        self, one: Ticket, other: Ticket, *, rng: Rng, both: bool = True
    ) -> tuple[Ticket, Ticket]:
        """Average a ticket with another one, whose gradients are then those of both."""
        if self._by_gradient:
            self._evaluator.note_gradients(other)
        return cx_average(one, other, rng=rng, both=both, **self._saliency)

    def select(self, individuals: Sequence[Any], k: int) -> list[Any]:
        """Select by ``sel_lineages`` where pruning has begun to hurt."""
        high = self._evaluator.active_below
        return sel_lineages(
            individuals,
            k,
            residents=self._residents,
            low=None if high is None else min(self._low, high),
            high=high,
        )

    def _residents(self) -> Sequence[Ticket]:
        """Return who lives now."""
        return self._evaluator.residents

    def _fraction(self) -> float:
        """Return the share of the kept weights that is swapped at this point of the run.

        It falls with the run, as that of dynamic sparse training does (Evci et al. 2020).
        """
        progress = self._evaluator.progress
        if progress is None:
            return max(LAST, FIRST * math.exp(-self._evaluator.generation / FADING))
        return LAST + (FIRST - LAST) * (1 - progress)

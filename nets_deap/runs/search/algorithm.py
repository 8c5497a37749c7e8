"""``Population``: tickets that evolve as DEAP's (mu + lambda) or (mu, lambda) has them do."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from deap import base
from deap.algorithms import varOr

from nets_deap import _checks
from nets_deap.evolution.batch_map import evaluator_in
from nets_deap.evolution.evaluator import Evaluator
from nets_deap.models.shared import Lock, random_states_lock
from nets_deap.runs.checkpoint import random_states
from nets_deap.runs.search.settings import AlgorithmSettings, SearchSettings
from nets_deap.tickets.ticket import OWN_CLASS, Ticket

# DEAP draws from the one generator of the process: one search at a time has it.
searching = Lock()


@dataclass(frozen=True, kw_only=True)
class Algorithm(AlgorithmSettings):
    """How one population evolves, with nothing left open."""

    @classmethod
    def of(cls, settings: SearchSettings, *, shrinks: bool) -> Algorithm:
        """Return an algorithm with what was left to us filled in.

        Args:
            settings: Of the search, or of an island.
            shrinks: Whether each child is smaller than its parents: comma is then the default.

        Raises:
            InvalidValueError: Settings do not go with the algorithm.
        """
        kind = settings.algorithm or ("comma" if shrinks else "plus")
        population, offspring = settings.population, settings.offspring
        if kind == "comma" and settings.reevaluate:
            raise _checks.bad_value(
                "reevaluate",
                "be left out where parents die",
                "algorithm='plus'",
                "algorithm='comma'",
            )
        if kind == "plus" and settings.holdout == "folds" and settings.reevaluate is False:
            raise _checks.bad_value(
                "reevaluate",
                "be left out with holdout='folds', where survivors must be measured on each fold",
                "True or None",
                False,
            )
        if offspring is None:
            offspring = 2 * population if kind == "comma" else population
        if kind == "comma" and offspring < population:
            raise _checks.bad_value(
                "offspring",
                "be enough for algorithm='comma'",
                f"at least population = {population}",
                offspring,
                "Give more offspring or a smaller population.",
            )
        given = settings.part(AlgorithmSettings)
        return cls(**{**given, "offspring": offspring, "algorithm": kind})

    def vary(self, tickets: list[Ticket], toolbox: base.Toolbox) -> list[Ticket]:
        """Return a generation's offspring: crossed, mutated or the same as a parent."""
        mutpb = min(self.mutpb, 1 - self.cxpb)  # DEAP asserts the sum without room for rounding
        offspring: list[Ticket] = varOr(tickets, toolbox, self.offspring, self.cxpb, mutpb)
        return offspring

    def select(
        self, tickets: Sequence[Ticket], offspring: Sequence[Ticket], toolbox: base.Toolbox
    ) -> list[Ticket]:
        """Return who survives: of parents and offspring, with comma of the offspring alone."""
        those = [*offspring] if self.algorithm == "comma" else [*tickets, *offspring]
        return list(toolbox.select(those, self.population))


@dataclass
class Population:
    """Tickets that evolve together.

    Attributes:
        algorithm: How they do.
        toolbox: Its operators.
        seed: Of its evolution.
        about: More of it for ``config.json``, as plain data.
        tickets: Who lives now.
        random: The states of its own random generators between its turns; None where it has the
            global ones for itself.
    """

    algorithm: Algorithm
    toolbox: base.Toolbox
    seed: int
    about: dict[str, Any] = field(default_factory=dict)
    tickets: list[Ticket] = field(default_factory=list)
    random: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return how it evolves as plain data."""
        return {**self.algorithm.part(AlgorithmSettings), **self.about, "seed": self.seed}

    def begin(self) -> None:
        """Draw the first tickets; the global random generators are then this population's.

        All of them are seeded: operators of the user's may draw from NumPy's or torch's, too.
        """
        with random_states_lock.held():
            random.seed(self.seed)
            np.random.seed(self.seed % 2**32)  # noqa: NPY002
            torch.default_generator.manual_seed(self.seed % 2**64)
            drawn = self.toolbox.population(n=self.algorithm.population)
            for one in drawn:
                if not isinstance(one, Ticket) or getattr(one.fitness, "weights", None) is None:
                    raise _checks.bad_type(
                        "toolbox.population",
                        "return tickets with a fitness",
                        "a list of nets.Ticket",
                        one if not isinstance(one, Ticket) else one.fitness,
                        OWN_CLASS,
                    )
            self.tickets = list(drawn)

    def vary(self) -> list[Ticket]:
        """Return the offspring of a generation, the changed ones without fitness."""
        with self._turn():
            return self.algorithm.vary(self.tickets, self.toolbox)

    def select(self, offspring: Sequence[Ticket]) -> None:
        """Let those who are selected live on."""
        with self._turn():
            self.tickets = self.algorithm.select(self.tickets, offspring, self.toolbox)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Let the global random generators be this population's for a while.

        DEAP and its operators draw from the global ones. Each island has its own states of them, so
        it evolves as it would alone, whatever the others draw. No other thread seeds them then.
        """
        evaluator = evaluator_in(self.toolbox.evaluate)
        if isinstance(evaluator, Evaluator):
            evaluator.residents = self.tickets  # among whom mating finds neighbours
        with random_states_lock.held():
            yield from self._with_own()

    def _with_own(self) -> Iterator[None]:
        """Set the population's own states, if it has some, and put those outside back."""
        if self.random is None:
            yield
            return
        outside = random_states.states()
        random_states.set_states(self.random)
        try:
            yield
        finally:
            self.random = random_states.states()
            random_states.set_states(outside)

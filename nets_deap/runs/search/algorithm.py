"""``Algorithm``: how one population evolves, as DEAP's (mu + lambda) or (mu, lambda) does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from deap import base
from deap.algorithms import varOr

from nets_deap import _checks
from nets_deap.evolution.batch_map import unwrap
from nets_deap.evolution.evaluator import Evaluator
from nets_deap.tickets.ticket import Ticket

ALGORITHMS = ("plus", "comma")


@dataclass(frozen=True)
class Algorithm:
    """Sizes, probabilities and the algorithm of a population's evolution.

    Attributes:
        population: Tickets that survive each generation (mu).
        offspring: Tickets made each generation (lambda).
        cxpb: Probability that a child comes from crossover.
        mutpb: Probability that it comes from mutation.
        algorithm: ``"plus"`` or ``"comma"``.
    """

    population: int
    offspring: int
    cxpb: float
    mutpb: float
    algorithm: str

    @classmethod
    def of(
        cls,
        where: str,
        toolbox: base.Toolbox,
        options: Mapping[str, Any],
        *,
        population: int,
        offspring: int | None,
        cxpb: float,
        mutpb: float,
        algorithm: str | None,
    ) -> Algorithm:
        """Return an algorithm with what was left to us filled in.

        Args:
            where: What is named where several arguments are bad.
            toolbox: The toolbox; where it inherits weights, the default algorithm is comma.
            options: What ``make_toolbox`` got.
            population: mu.
            offspring: lambda; None for as many as ``population``, or twice as many with comma.
            cxpb: Of crossover.
            mutpb: Of mutation.
            algorithm: ``"plus"``, ``"comma"``, or None.

        Raises:
            InvalidValueError: Something is out of range; all that is gets listed.
        """
        check_numbers(where, population, offspring, cxpb, mutpb, 0)
        usual = "comma" if inherits(toolbox) else "plus"
        kind = _checks.choice("algorithm", algorithm or usual, ALGORITHMS)
        if kind == "comma" and options.get("reevaluate"):
            raise _checks.bad_value(
                "reevaluate",
                "be left out where parents die",
                "algorithm='plus'",
                "algorithm='comma'",
            )
        twice = 2 * population if kind == "comma" else population
        children = twice if offspring is None else offspring
        if kind == "comma" and children < population:
            raise _checks.bad_value(
                "offspring",
                "be enough for algorithm='comma'",
                f"at least population = {population}",
                children,
                "Give more offspring or a smaller population.",
            )
        return cls(int(population), int(children), float(cxpb), float(mutpb), kind)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self)

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


def check_numbers(
    where: str,
    population: int,
    offspring: int | None,
    cxpb: float,
    mutpb: float,
    generations: int,
) -> None:
    """Raise unless sizes and probabilities are in range, with all that are not."""
    _checks.together(
        where,
        (
            lambda: _checks.whole("population", population, low=2 if cxpb else 1),
            lambda: _checks.unless_none(_checks.whole, "offspring", offspring),
            lambda: _checks.whole("generations", generations, low=0),
            lambda: _checks.real("cxpb", cxpb, low=0, high=1),
            lambda: _checks.real("mutpb", mutpb, low=0, high=1),
            lambda: _checks.real("cxpb + mutpb", cxpb + mutpb, low=0, high=1 + 1e-9),
        ),
    )


def evaluator_in(toolbox: base.Toolbox) -> Evaluator | None:
    """Return the evaluator that is registered in a toolbox; None where there is another."""
    found = unwrap(toolbox.evaluate)
    return found if isinstance(found, Evaluator) else None


def inherits(toolbox: base.Toolbox) -> bool:
    """Return whether a toolbox lets tickets inherit trained weights."""
    evaluator = evaluator_in(toolbox)
    return evaluator is not None and evaluator.inherit == "weights"

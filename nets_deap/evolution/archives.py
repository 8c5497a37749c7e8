"""``ParetoFront`` and ``NicheArchive``: halls of fame that a search fills."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from operator import eq
from typing import Any

import numpy as np
from deap import tools

from nets_deap import _checks
from nets_deap.evolution.fronts import costs_of, is_finite, nondominated
from nets_deap.tickets.ticket import Ticket


@_checks.signed
class ParetoFront(tools.ParetoFront):  # type: ignore[misc]
    """DEAP's Pareto archive with a fast update: one non-domination sort for each generation.

    A drop-in for ``tools.ParetoFront``: the same members, copies of what was added, best first
    objective first. Individuals with equal fitness are all kept unless ``similar`` says that they
    are the same; those with a value that is not finite never enter. As DEAP's, it keeps what it has
    from one run to the next: ``clear()`` it, or make a new one for each.
    """

    def __init__(self, similar: Any = eq) -> None:
        if not callable(similar):
            raise _checks.bad_type(
                "similar", "be a function", "of two individuals", similar, "A front has no limit."
            )
        super().__init__(similar)

    def update(self, population: Iterable[Any]) -> None:
        """Take in ``population``; what is dominated leaves or never enters."""
        fresh = list(population)
        if not fresh:
            return
        # A ticket that has been evaluated again replaces its earlier, perhaps luckier, self.
        held: list[Any] = list(self.items)
        renewed = {t.network_key for t in fresh if isinstance(t, Ticket) and t.evaluations > 1}
        if renewed:
            held = [one for one in held if getattr(one, "network_key", None) not in renewed]
        members = [*held, *fresh]
        costs = costs_of(members)
        best = nondominated(costs) & np.isfinite(costs).all(axis=1)
        old = len(held)
        by_values: dict[tuple[float, ...], list[Any]] = {}
        for i in np.flatnonzero(best):
            member = members[i]
            twins = by_values.setdefault(member.fitness.wvalues, [])
            if i < old:
                twins.append(member)
            elif not any(self.similar(member, twin) for twin in twins):
                twins.append(copy.deepcopy(member))
        ordered = [by_values[values] for values in sorted(by_values, reverse=True)]
        self.items: list[Any] = [member for twins in ordered for member in twins]
        self.keys = [member.fitness for member in reversed(self.items)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shown(self)})"


@_checks.signed
class NicheArchive(tools.HallOfFame):  # type: ignore[misc]
    """An archive that keeps the best ticket of each niche of log density: no region starves.

    The best by the first objective other than what niches are over; those that diverged, or have a
    value that is not finite, never enter.

    Use it as ``halloffame=``. Where tickets inherit, a later one has trained longer than an
    earlier one, and dominance between them would be unfair; niches compare only tickets that are
    about equally sparse. Members are copies, densest first.

    Args:
        width: Ratio of a niche's upper to its lower end, > 1.
        by: ``"density"``, or the name of a positive objective to spread over instead.

    Raises:
        InvalidValueError: ``width`` is not above 1.
    """

    def __init__(self, width: float = 1.1, *, by: str = "density") -> None:
        super().__init__(maxsize=None)
        self.width = _checks.real("width", width, low=1, open_low=True)
        self.by = by

    def update(self, population: Iterable[Any]) -> None:
        """Take in each individual that is the first of its niche, or better than its holder."""
        holders = {self.niche(member): member for member in self.items}
        for individual in population:
            costs_of([individual])  # raises where it has not been evaluated
            lost = isinstance(individual, Ticket) and individual.diverged
            if lost or not is_finite(individual):
                continue
            cell = self.niche(individual)
            held = holders.get(cell)
            if held is None or self._merit(individual) > self._merit(held):
                holders[cell] = copy.deepcopy(individual)
        self.items: list[Any] = [holders[cell] for cell in sorted(holders, reverse=True)]
        self.keys = [member.fitness for member in reversed(self.items)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shown(self)})"

    def _merit(self, individual: Any) -> float:
        """Return the weighted value of the first objective that is not what niches are over."""
        names = getattr(individual.fitness, "names", ())
        column = next((i for i, name in enumerate(names) if name != self.by), 0)
        return float(individual.fitness.wvalues[column])

    def niche(self, individual: Any) -> int:
        """Return the number of the niche that an evaluated individual belongs to."""
        value = individual.density
        if self.by != "density":
            names = individual.fitness.names
            value = individual.fitness.values[names.index(_checks.choice("by", self.by, names))]
        return math.floor(math.log(max(value, 1e-12)) / math.log(self.width))


def shown(front: Sequence[Any]) -> str:
    """Format a front in a line: how many members, and from where to where they go."""
    words = [f"{len(front)} member{'' if len(front) == 1 else 's'}"]
    values = [member.fitness.values for member in front]
    if all(values):
        for i, column in enumerate(zip(*values, strict=True)):
            names = getattr(front[0].fitness, "names", ())
            name = names[i] if i < len(names) else f"objective_{i}"
            words.append(f"{name} {min(column):.4g} to {max(column):.4g}")
    return ", ".join(words)

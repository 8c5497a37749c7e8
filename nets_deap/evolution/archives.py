"""``ParetoFront`` and ``NicheArchive``: halls of fame that a search fills.

One file: both keep who is best in a niche of log density, by the same rules.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from operator import eq
from typing import Any

import numpy as np
from deap import tools

from nets_deap import _checks
from nets_deap.evolution.evaluator import evaluator_for
from nets_deap.evolution.fronts import costs_of, is_finite, nondominated
from nets_deap.evolution.measures import STRUCTURAL
from nets_deap.tickets.ticket import Ticket

logger = logging.getLogger("nets_deap")

# Ratio of the ends of a niche of log density: eight niches for a factor of two.
WIDTH = 1.09


@_checks.signed
class ParetoFront(tools.ParetoFront):  # type: ignore[misc]
    """DEAP's Pareto archive with a fast update: one non-domination sort for each generation.

    A drop-in for ``tools.ParetoFront``: the same members, copies of what was added, best first
    objective first. Individuals with equal fitness are all kept unless ``similar`` says that they
    are the same; those with a value that is not finite never enter. As DEAP's, it keeps what it has
    from one run to the next: ``clear()`` it, or make a new one for each.

    Tickets that inherit weights have trained for different lengths, so that their fitness cannot
    be compared over the whole front. Of these it keeps the last elite of each niche of log density
    in ``items``; and when the front is read, all of them are trained from W0 by their evaluator,
    for the same steps and on the same minibatches. What that measured is the fitness of the
    members, those that it dominates are left out, and so it is a Pareto front. The training takes
    as long as a few generations; it is done once, and again only for what has changed. Where
    ``evaluate`` is a function around the evaluator (``toolbox.decorate``), what that measures goes
    through the function; values that others than an evaluator have given (an ``evaluate`` of your
    own, the penalty of ``tools.DeltaPenalty``) stay as they are, and are compared as in DEAP's.
    """

    def __init__(self, similar: Any = eq) -> None:
        if not callable(similar):
            raise _checks.bad_type(
                "similar", "be a function", "of two individuals", similar, "A front has no limit."
            )
        super().__init__(similar)
        self._front: list[Any] | None = None
        # Of a run that was begun in another process: it alone knows the function around.
        self.lacks_function = False

    def update(self, population: Iterable[Any]) -> None:
        """Take in ``population``; what is dominated leaves or never enters."""
        fresh = list(population)
        if not fresh:
            return
        self._front, self.lacks_function = None, False
        own, others = _parted(fresh)
        held, held_others = _parted(self.items)
        if own:
            by = _spread_over(own[0].fitness)
            if not self.items:
                stations, instead = _stations_for(own[0])
                own, others = [*stations, *own], [*instead, *others]
            held = list(_succeeded(held, own, by).values())
        # A ticket that has been evaluated again replaces its earlier, perhaps luckier, self.
        renewed = {t.network_key for t in others if isinstance(t, Ticket) and t.evaluations > 1}
        if renewed:
            held_others = [
                one for one in held_others if getattr(one, "network_key", None) not in renewed
            ]
        if others:
            held_others = _undominated(held_others, others, self.similar)
        self._keep([*held, *held_others])

    def clear(self) -> None:
        """Forget all members."""
        super().clear()
        self._front = None

    def _keep(self, items: list[Any]) -> None:
        """Hold these individuals, best first objective first."""
        self.items: list[Any] = sorted(items, key=lambda one: one.fitness.wvalues, reverse=True)
        self.keys = [member.fitness for member in reversed(self.items)]

    @property
    def members(self) -> list[Any]:
        """The members, measured alike."""
        if self._front is None:
            own, others = _parted(self.items)
            self._front = self._measure(own, others) if own else self.items
        return self._front

    def _measure(self, own: list[Any], others: list[Any]) -> list[Any]:
        """Measure tickets from W0, where they have not been yet; return whom none dominates."""
        # After a resume only those that came since know who has trained them.
        evaluator = evaluator_for(max(own, key=lambda one: bool(one.evaluator_key)))
        if evaluator is None:  # nobody can measure them any more
            return self.items
        if self.lacks_function:
            logger.warning(
                "The front is as the search trained it, not measured from W0: its values go "
                "through a function of your own around the evaluator. Let an algorithm evaluate a "
                "generation with the run's toolbox, then read it."
            )
            return self.items
        found = [copy.deepcopy(one) for one in own]
        for one, values in zip(found, evaluator.measure(found), strict=True):
            one.fitness.values = values
        found += others
        costs = costs_of(found)
        best = nondominated(costs) & np.isfinite(costs).all(axis=1)
        front = [found[i] for i in np.flatnonzero(best)]
        return sorted(front, key=lambda one: one.fitness.wvalues, reverse=True)

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, place: Any) -> Any:
        return self.members[place]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.members)

    def __reversed__(self) -> Iterator[Any]:
        return iter(self.members[::-1])

    def __str__(self) -> str:
        return str(self.members)

    def __repr__(self) -> str:
        if self._front is None and any(map(is_measurable, self.items)):
            what = f"{len(self.items)} elites of niches, measured from W0 when it is read"
            return f"{type(self).__name__}({what})"
        return f"{type(self).__name__}({shown(self.members)})"


def _undominated(held: list[Any], fresh: list[Any], similar: Any) -> list[Any]:
    """Return whom nobody dominates, with finite values: those held, and copies of fresh ones."""
    members = [*held, *fresh]
    costs = costs_of(members)
    best = nondominated(costs) & np.isfinite(costs).all(axis=1)
    by_values: dict[tuple[float, ...], list[Any]] = {}
    for i in np.flatnonzero(best):
        member = members[i]
        twins = by_values.setdefault(member.fitness.wvalues, [])
        if i < len(held):
            twins.append(member)
        elif not any(similar(member, twin) for twin in twins):
            twins.append(copy.deepcopy(member))
    return [member for twins in by_values.values() for member in twins]


def _parted(individuals: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """Part those whose fitness an evaluator can measure anew, from W0, from all others."""
    parts: tuple[list[Any], list[Any]] = [], []
    for one in individuals:
        parts[0 if is_measurable(one) else 1].append(one)
    return parts


def is_measurable(individual: Any) -> bool:
    """Return whether an evaluator has given a ticket its fitness, and measures it from W0 anew."""
    return inherits(individual) and individual.evaluations > 0


def inherits(individual: Any) -> bool:
    """Return whether an individual is a ticket whose evaluator lets it inherit weights."""
    evaluator = evaluator_for(individual) if isinstance(individual, Ticket) else None
    return evaluator is not None and evaluator.inherit == "weights"


def _stations_for(ticket: Ticket) -> tuple[list[Ticket], list[Ticket]]:
    """Return the tickets that a descent has passed through, where a ticket's run began with one.

    Also those to which a function around the evaluator has given values of its own, apart.
    """
    evaluator = evaluator_for(ticket)
    if evaluator is None:
        return [], []
    names = getattr(ticket.fitness, "names", None)
    found = [one for stations in evaluator.stations.values() for one in stations]
    found = [
        one for one in found if one.fitness.valid and getattr(one.fitness, "names", ()) == names
    ]
    if evaluator.around is None:
        return found, []
    found = [copy.deepcopy(one) for one in found]
    passed = evaluator.through_around(found, [one.fitness.values for one in found])
    parts: tuple[list[Ticket], list[Ticket]] = [], []
    for one, (values, asked) in zip(found, passed, strict=True):
        one.fitness.values = values
        one.note_evaluations(int(asked))
        parts[0 if asked else 1].append(one)
    return parts


def _spread_over(fitness: Any) -> str:
    """Return what niches are over: an objective that a search makes small, or density."""
    names = getattr(fitness, "names", ())
    return next((name for name in STRUCTURAL if name in names), "density")


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
        holders = _holders(self.items, list(population), self.width, self.by)
        self.items: list[Any] = [holders[cell] for cell in sorted(holders, reverse=True)]
        self.keys = [member.fitness for member in reversed(self.items)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shown(self)})"

    def niche(self, individual: Any) -> int:
        """Return the number of the niche that an evaluated individual belongs to."""
        return _niche(individual, self.width, self.by)


def _holders(
    held: Iterable[Any], population: Iterable[Any], width: float, by: str
) -> dict[int, Any]:
    """Return the best individual of each niche: who held it, or a copy of who is better."""
    holders = {_niche(member, width, by): member for member in held}
    for individual in population:
        costs_of([individual])  # raises where it has not been evaluated
        lost = isinstance(individual, Ticket) and individual.diverged
        if lost or not is_finite(individual):
            continue
        cell = _niche(individual, width, by)
        old = holders.get(cell)
        if old is None or _merit(individual, by) > _merit(old, by):
            holders[cell] = copy.deepcopy(individual)
    return holders


def _succeeded(held: Iterable[Any], population: Iterable[Any], by: str) -> dict[int, Any]:
    """Return who holds each niche after a generation of tickets that inherit weights.

    The best of the generation, as in ``sel_lineages``: the loss of weights that have trained for
    long says little about how a ticket trains from W0 (where they begin to learn examples by heart
    it rises, and masks become better all the same), so that later ones follow earlier ones. But
    children of two parents must be better than who was there; and so must those that are denser
    than where lineages go on, which have trained for a few steps only.
    """
    before = {_niche(member, WIDTH, by): member for member in held}
    new = _holders((), population, WIDTH, by)
    for cell, one in new.items():
        old = before.get(cell)
        if old is not None and old.network_key == one.network_key:
            continue  # a resident, which is on the front since it came
        evaluator = evaluator_for(one)
        active = None if evaluator is None else evaluator.active_below
        proven = len(one.parent_digests) > 1 or (active is not None and one.density > active * 1.01)
        if old is None or not proven or _merit(one, by) > _merit(old, by):
            before[cell] = one
    return before


def _merit(individual: Any, by: str) -> float:
    """Return the weighted value of the first objective that is not what niches are over."""
    names = getattr(individual.fitness, "names", ())
    column = next((i for i, name in enumerate(names) if name != by), 0)
    return float(individual.fitness.wvalues[column])


def _niche(individual: Any, width: float, by: str) -> int:
    """Return the number of the niche that an evaluated individual belongs to."""
    value = individual.density
    if by != "density":
        names = individual.fitness.names
        value = individual.fitness.values[names.index(_checks.choice("by", by, names))]
    return math.floor(math.log(max(value, 1e-12)) / math.log(width))


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

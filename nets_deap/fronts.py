"""Fronts: non-dominated sets, ranks, hypervolume, knee, and the pick of a front."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from operator import eq
from typing import Any

import moocore
import numpy as np
from deap import tools
from numpy.typing import ArrayLike, NDArray

from nets_deap import _checks

Costs = NDArray[np.float64]


def costs_of(individuals: Iterable[Any]) -> Costs:
    """Return what DEAP compares, turned so that smaller is better: shape (P, M).

    Raises:
        InvalidValueError: An individual has no valid fitness.
    """
    rows = [getattr(ind.fitness, "wvalues", ()) for ind in individuals]
    if not rows:
        return np.zeros((0, 0))
    if not all(rows):
        raise _checks.bad_value(
            "individuals", "be evaluated", "a valid fitness each", "one without", "Evaluate first."
        )
    return -np.asarray(rows, dtype=np.float64)


def hypervolume(costs: ArrayLike, reference: ArrayLike) -> float:
    """Return the volume that points dominate up to a reference point, all minimised.

    Args:
        costs: Shape (F, M); points that are not better than the reference in all M count nothing.
        reference: Shape (M,).

    Returns:
        The volume; 0.0 for no points.

    >>> hypervolume([[1.0, 3.0], [2.0, 1.0]], reference=[4.0, 4.0])
    7.0
    """
    points = np.asarray(costs, dtype=np.float64)
    if points.size == 0:
        return 0.0
    point = np.asarray(reference, dtype=np.float64)
    if point.ndim != 1 or points.ndim != 2 or points.shape[1] != point.size:
        raise _checks.bad_value(
            "reference", "match the points", f"(M,) with costs (F, M) = {points.shape}", point.shape
        )
    if point.size == 1:
        return float(max(0.0, point[0] - points.min()))
    return float(moocore.hypervolume(points, ref=point))


def attainment(fronts: Sequence[ArrayLike], percents: Sequence[float]) -> list[Costs]:
    """Return the points that bound what a share of R fronts attains, all minimised.

    Args:
        fronts: R >= 1 of them, each of shape (F, M) with M = 2 or 3 and F >= 1.
        percents: Shares in per cent, each in [0, 100].

    Returns:
        For each share, points (N, M): they, and what they dominate, are attained by at least that
        share of the fronts.

    Reference:
        Fonseca et al. 2011, On the computation of the empirical attainment function,
        https://doi.org/10.1007/978-3-642-19893-9_8.
    """
    points = [np.asarray(front, dtype=np.float64) for front in fronts]
    if not points or any(one.ndim != 2 or len(one) == 0 for one in points):
        raise _checks.bad_value(
            "fronts", "hold points", "shape (F, M) each", [*map(np.shape, points)]
        )
    sets = np.repeat(np.arange(len(points)), [len(one) for one in points])
    found = []
    for percent in percents:
        level = _checks.real("percents", percent, low=0, high=100)
        found.append(moocore.eaf(np.concatenate(points), sets, percentiles=[level])[:, :-1])
    return found


def ranks(costs: Costs) -> NDArray[np.int64]:
    """Return the rank of each of P points (P, M), all minimised; 0 is the first front."""
    if costs.shape[0] == 0:
        return np.zeros(0, dtype=np.int64)
    if costs.shape[1] == 1:
        return np.unique(costs[:, 0], return_inverse=True)[1].reshape(-1).astype(np.int64)
    return np.asarray(moocore.pareto_rank(costs), dtype=np.int64)


def crowding(costs: Costs) -> NDArray[np.float64]:
    """Return the crowding distances (Deb et al. 2002) of one front (F, M); ends are infinite."""
    n, m = costs.shape
    distance = np.zeros(n)
    if n == 0:
        return distance
    for j in range(m):
        order = np.argsort(costs[:, j], kind="stable")
        column = costs[order, j]
        distance[order[[0, -1]]] = np.inf
        span = column[-1] - column[0]
        if span > 0 and n > 2:
            distance[order[1:-1]] += (column[2:] - column[:-2]) / (m * span)
    return distance


class ParetoFront(tools.ParetoFront):  # type: ignore[misc]
    """DEAP's Pareto archive with a fast update: one non-domination sort for each generation.

    A drop-in for ``tools.ParetoFront``: the same members, copies of what was added, best first
    objective first. Individuals with equal fitness are all kept unless ``similar`` says that they
    are the same.
    """

    def __init__(self, similar: Any = eq) -> None:
        super().__init__(similar)

    def update(self, population: Iterable[Any]) -> None:
        """Take in ``population``; what is dominated leaves or never enters."""
        fresh = list(population)
        if not fresh:
            return
        # A ticket that has been evaluated again replaces its earlier, perhaps luckier, self.
        held: list[Any] = list(self.items)
        renewed = {t.genes for t in fresh if getattr(t, "evaluations", 0) > 1}
        if renewed:
            held = [member for member in held if member.genes not in renewed]
        members = [*held, *fresh]
        costs = costs_of(members)
        if costs.shape[1] == 1:
            best = costs[:, 0] == costs[:, 0].min()
        else:
            best = moocore.is_nondominated(costs, keep_weakly=True)
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


class NicheArchive(tools.HallOfFame):  # type: ignore[misc]
    """An archive that keeps the best ticket of each niche of log density: no region starves.

    The best by the first objective other than what niches are over; diverged ones never enter.

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
            if getattr(individual, "diverged", False):
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
        costs_of([individual])
        value = individual.density
        if self.by != "density":
            names = individual.fitness.names
            value = individual.fitness.values[names.index(_checks.choice("by", self.by, names))]
        return math.floor(math.log(max(value, 1e-12)) / math.log(self.width))


def shown(front: Sequence[Any]) -> str:
    """Word a front in a line: how many members, and from where to where they go."""
    words = [f"{len(front)} member{'' if len(front) == 1 else 's'}"]
    values = [member.fitness.values for member in front]
    if all(values):
        for i, column in enumerate(zip(*values, strict=True)):
            names = getattr(front[0].fitness, "names", ())
            name = names[i] if i < len(names) else f"objective_{i}"
            words.append(f"{name} {min(column):.4g} to {max(column):.4g}")
    return ", ".join(words)


def knee(front: Sequence[Any]) -> Any:
    """Return the member of a front that lies farthest from the line between its ends.

    Objectives are scaled to [0, 1] over the front; with three and more, the member nearest to the
    ideal point is returned.

    Raises:
        InvalidValueError: The front is empty.
    """
    members = _members(front)
    costs = costs_of(members)
    span = np.ptp(costs, axis=0)
    scaled = (costs - costs.min(axis=0)) / np.where(span > 0, span, 1.0)
    if scaled.shape[1] == 2:
        return members[int(np.argmin(scaled.sum(axis=1)))]
    return members[int(np.argmin(np.linalg.norm(scaled, axis=1)))]


def best(
    front: Sequence[Any], *, max_density: float | None = None, objective: int | str = 0
) -> Any:
    """Return the member that is best in one objective among those sparse enough.

    Args:
        front: Evaluated tickets.
        max_density: Only members of at most this density, in (0, 1]; None for all.
        objective: The position of the objective, or its name.

    Raises:
        InvalidValueError: The front is empty or has no member that sparse.
    """
    members = _members(front)
    n_objectives = costs_of(members).shape[1]
    names = getattr(members[0].fitness, "names", ())
    if isinstance(objective, str):
        objective = names.index(_checks.choice("objective", objective, names))
    column = _checks.whole("objective", objective, low=0, high=n_objectives - 1)
    if max_density is not None:
        limit = _checks.density("max_density", max_density)
        sparse = [ticket for ticket in members if ticket.density <= limit]
        if not sparse:
            least = min(ticket.density for ticket in members)
            raise _checks.bad_value(
                "max_density", "be met by the front", f"at least {least:.6g}", limit
            )
        members = sparse
    return min(members, key=lambda t: (-t.fitness.wvalues[column], t.density))


def _members(front: Sequence[Any]) -> list[Any]:
    """Return the members of a front that must not be empty."""
    members = list(front)
    if not members:
        raise _checks.bad_value(
            "front", "have members", "at least one", 0, "Update it with an evaluated population."
        )
    return members

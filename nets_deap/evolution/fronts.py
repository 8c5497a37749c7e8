"""Fronts: non-dominated sets, ranks, hypervolume, knee, and the pick of a front."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import moocore
import numpy as np
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

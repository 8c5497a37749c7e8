"""Fronts: non-dominated sets, ranks, hypervolume, knee, and the pick of a front.

The one door to moocore, whose C code takes finite numbers only: of others it ranks wrongly, crashes
or never returns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nets_deap import _checks

Costs = NDArray[np.float64]


def is_finite(individual: Any) -> bool:
    """Whether all values of an evaluated individual are finite numbers."""
    return all(map(math.isfinite, individual.fitness.wvalues))


def costs_of(individuals: Iterable[Any]) -> Costs:
    """Return what DEAP compares, turned so that smaller is better: shape (P, M).

    An individual with a value that is not finite costs infinitely much in all objectives, whatever
    its others are: it is worse than any other, and as bad as its like.

    Raises:
        InvalidValueError: An individual has no valid fitness, or others have another number of
            objectives.
    """
    rows = [getattr(getattr(ind, "fitness", None), "wvalues", ()) for ind in individuals]
    if not rows:
        return np.zeros((0, 0))
    if not all(rows):
        raise _checks.bad_value(
            "individuals", "be evaluated", "a valid fitness each", "one without", "Evaluate first."
        )
    numbers = sorted({len(row) for row in rows})
    if len(numbers) > 1:
        raise _checks.bad_value("individuals", "have the same objectives", "one M", numbers)
    costs = -np.asarray(rows, dtype=np.float64)
    costs[~np.isfinite(costs).all(axis=1)] = np.inf
    return costs


def hypervolume(costs: ArrayLike, reference: ArrayLike) -> float:
    """Return the volume that points dominate up to a reference point, all minimised.

    Args:
        costs: Shape (F, M); points that are not better than the reference in all M count nothing,
            so infinitely bad ones do not either.
        reference: Shape (M,).

    Returns:
        The volume; 0.0 for no points, infinite where a point that counts is infinitely good.

    Raises:
        InvalidValueError: The shapes do not match, or a number is NaN.

    >>> hypervolume([[1.0, 3.0], [2.0, 1.0]], reference=[4.0, 4.0])
    7.0
    """
    points, point = _numbers("costs", costs), _numbers("reference", reference)
    if points.size == 0:
        return 0.0
    if point.ndim != 1 or points.ndim != 2 or points.shape[1] != point.size:
        raise _checks.bad_value(
            "reference", "match the points", f"(M,) with costs (F, M) = {points.shape}", point.shape
        )
    better = points[(points < point).all(axis=1)]
    if not len(better):
        return 0.0
    if np.isinf(better).any() or np.isinf(point).any():
        return math.inf
    if point.size == 1:
        return float(point[0] - better.min())
    return float(moocore.hypervolume(better, ref=point))


def attainment(fronts: Sequence[ArrayLike], percents: Sequence[float]) -> list[Costs]:
    """Return the points that bound what a share of R fronts attains, all minimised.

    Args:
        fronts: R >= 1 of them, each of shape (F, M) with M = 2 or 3 and F >= 1; infinitely bad
            points attain nothing.
        percents: Shares in per cent, each in [0, 100].

    Returns:
        For each share, points (N, M): they, and what they dominate, are attained by at least that
        share of the fronts; none where fewer fronts attain anything.

    Raises:
        InvalidValueError: The shapes do not fit, or a number is NaN.

    Reference:
        Fonseca et al. 2011, On the computation of the empirical attainment function,
        https://doi.org/10.1007/978-3-642-19893-9_8.
    """
    points = [_numbers("fronts", front) for front in fronts]
    if (
        not points
        or any(one.ndim != 2 or len(one) == 0 for one in points)
        or {one.shape[1] for one in points} not in ({2}, {3})
    ):
        raise _checks.bad_value(
            "fronts",
            "hold points",
            "shape (F, M) each, with one M = 2 or 3",
            [*map(np.shape, points)],
        )
    sets = np.repeat(np.arange(len(points)), [len(one) for one in points])
    places, values = _in_order(np.concatenate(points))
    found = []
    for percent in percents:
        level = _checks.real("percents", percent, low=0, high=100)
        surface = moocore.eaf(places, sets, percentiles=[level])[:, :-1]
        if values is not None:
            rows = surface.astype(np.int64)
            surface = np.stack([of[row] for of, row in zip(values, rows.T, strict=True)], axis=1)
            surface = surface[(surface < np.inf).all(axis=1)]
        found.append(surface)
    return found


def ranks(costs: ArrayLike) -> NDArray[np.int64]:
    """Return the rank of each of P points (P, M), all minimised; 0 is the first front.

    Of a column NaN is the worst, after infinity.
    """
    costs = np.asarray(costs, dtype=np.float64)
    if costs.shape[0] == 0:
        return np.zeros(0, dtype=np.int64)
    if costs.shape[1] == 1:
        return np.unique(costs[:, 0], return_inverse=True)[1].reshape(-1).astype(np.int64)
    return np.asarray(moocore.pareto_rank(_in_order(costs)[0]), dtype=np.int64)


def nondominated(costs: ArrayLike) -> NDArray[np.bool_]:
    """Return which of P points (P, M), all minimised, no other one dominates: shape (P,).

    Of a column NaN is the worst, after infinity.
    """
    costs = np.asarray(costs, dtype=np.float64)
    if costs.shape[0] == 0:
        return np.zeros(0, dtype=np.bool_)
    if costs.shape[1] == 1:
        first: NDArray[np.bool_] = ranks(costs) == 0
        return first
    return np.asarray(moocore.is_nondominated(_in_order(costs)[0], keep_weakly=True), dtype=bool)


def _in_order(points: Costs) -> tuple[Costs, list[Costs] | None]:
    """Return points that dominate each other as these do, all finite; with what each number was.

    Dominance depends on the order within columns alone, so there the place in it stands for what is
    not finite; points that are finite stay as they are, without the values of each column.
    """
    if np.isfinite(points).all():
        return points, None
    columns = [np.unique(column, return_inverse=True) for column in points.T]
    places = np.stack([place.reshape(-1) for _, place in columns], axis=1).astype(np.float64)
    return places, [values for values, _ in columns]


def _numbers(name: str, given: ArrayLike) -> Costs:
    """Return an array of numbers none of which is NaN."""
    try:
        found = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise _checks.bad_type(name, "be an array", "numbers", given) from None
    if np.isnan(found).any():
        raise _checks.bad_value(name, "hold numbers", "no NaN", f"{np.isnan(found).sum()} of them")
    return found


def crowding(costs: Costs) -> NDArray[np.float64]:
    """Return the crowding distances (Deb et al. 2002) of one front (F, M); ends are infinite.

    A point with a number that is not finite has no neighbours, and distance 0.
    """
    n, m = costs.shape
    distance = np.zeros(n)
    finite = np.isfinite(costs).all(axis=1)
    if n == 0 or not finite.all():
        if finite.any():
            distance[finite] = crowding(costs[finite])
        return distance
    costs = np.ldexp(costs, -8)  # exact, and no difference of the greatest numbers is infinite
    for j in range(m):
        order = np.argsort(costs[:, j], kind="stable")
        column = costs[order, j]
        distance[order[[0, -1]]] = np.inf
        span = column[-1] - column[0]
        if span > 0 and n > 2:
            distance[order[1:-1]] += (column[2:] - column[:-2]) / (m * span)
    return distance


def knee(front: Iterable[Any]) -> Any:
    """Return the member of a front that lies farthest from the line between its ends.

    Objectives are scaled to [0, 1] over the front; with three and more, the member nearest to the
    ideal point is returned. Members with values that are not finite do not count.

    Raises:
        InvalidValueError: The front is empty, or no member has finite values.
    """
    members = _members(front)
    costs = np.ldexp(costs_of(members), -8)  # as in ``crowding``
    span = np.ptp(costs, axis=0)
    scaled = (costs - costs.min(axis=0)) / np.where(span > 0, span, 1.0)
    if scaled.shape[1] == 2:
        return members[int(np.argmin(scaled.sum(axis=1)))]
    return members[int(np.argmin(np.linalg.norm(scaled, axis=1)))]


def best(
    front: Iterable[Any], *, max_density: float | None = None, objective: int | str = 0
) -> Any:
    """Return the member that is best in one objective among those sparse enough.

    Members with values that are not finite do not count.

    Args:
        front: Evaluated tickets.
        max_density: Only members of at most this density, in (0, 1]; None for all.
        objective: The position of the objective, or its name.

    Raises:
        InvalidValueError: The front is empty, or has no member that sparse with finite values.
    """
    members = _members(front)
    n_objectives = costs_of(members).shape[1]
    if isinstance(objective, str):
        # Late: it takes torch, which what only reads fronts does without.
        from nets_deap.evolution.objective_names import objective_names

        names = objective_names(members)
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
    # Individuals of other kinds have no density.
    return min(members, key=lambda t: (-t.fitness.wvalues[column], getattr(t, "density", 0)))


def _members(front: Iterable[Any]) -> list[Any]:
    """Return the members of a front that have finite values, of which there must be some."""
    given = list(front)
    costs = costs_of(given)
    members = [one for one, row in zip(given, costs, strict=True) if np.isfinite(row).all()]
    if not members:
        raise _checks.bad_value(
            "front",
            "have members",
            "at least one with finite values",
            f"{len(given)} without" if given else 0,
            "Update it with an evaluated population.",
        )
    return members

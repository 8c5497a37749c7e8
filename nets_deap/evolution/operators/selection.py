"""Selection: NSGA-II with a fast sort, a roulette wheel for losses, and elitism."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nets_deap import _checks
from nets_deap.evolution import fronts
from nets_deap.evolution.operators._common import generator
from nets_deap.tickets.choice import Rng

Select = Callable[[Sequence[Any], int], list[Any]]


@_checks.signed
def sel_nsga2(individuals: Sequence[Any], k: int) -> list[Any]:
    """Select ``k`` individuals as NSGA-II does: by rank, then by crowding distance.

    The same choice as ``tools.selNSGA2`` up to ties of crowding distance, at 2 ms for 1,000
    individuals of two objectives. With one objective it selects the best. Sets
    ``fitness.crowding_dist``, which ``tools.selTournamentDCD`` needs.

    Args:
        individuals: Evaluated individuals.
        k: How many, at least 0 and at most as many as there are.

    Returns:
        References to the chosen ones, best front first, the least crowded first within a front.

    Reference:
        Deb et al. 2002, A fast and elitist multiobjective genetic algorithm: NSGA-II.
    """
    _checks.whole("k", k, low=0, high=len(individuals))
    costs = fronts.costs_of(individuals)
    rank = fronts.ranks(costs) if len(costs) else np.zeros(0, dtype=np.int64)
    crowd = np.zeros(len(individuals))
    for level in range(int(rank.max(initial=-1)) + 1):
        members = np.flatnonzero(rank == level)
        crowd[members] = fronts.crowding(costs[members])
        if (rank <= level).sum() >= k:
            break
    for individual, distance in zip(individuals, crowd.tolist(), strict=True):
        individual.fitness.crowding_dist = distance
    order = np.lexsort((-crowd, rank))
    return [individuals[i] for i in order[:k]]


@_checks.signed
def sel_niched(individuals: Sequence[Any], k: int, *, objective: int = 0) -> list[Any]:
    """Select ``k`` tickets spread evenly over log density: no region of the front starves.

    The range of log density is cut into ``k`` niches of equal width. The best of each niche by one
    objective survives; what empty niches leave goes to the second best of the others, and so on.
    Crowding distance spreads over what is crowded; this spreads over density alone.

    Args:
        individuals: Evaluated tickets that keep at least one weight.
        k: How many, at least 0 and at most as many as there are.
        objective: Position of the objective that decides within a niche.

    Returns:
        References to the chosen ones: the best of all niches, densest first, then the second best.
    """
    _checks.whole("k", k, low=0, high=len(individuals))
    if not k:
        return []
    costs = fronts.costs_of(individuals)
    _checks.whole("objective", objective, low=0, high=costs.shape[1] - 1)
    logs = np.log([ticket.density for ticket in individuals])
    span = np.ptp(logs) or 1.0
    niche = np.minimum((logs.max() - logs) / span * k, k - 1).astype(np.int64)
    order = np.lexsort((costs[:, objective], niche))
    place = np.arange(len(order)) - np.searchsorted(niche[order], niche[order])
    return [individuals[i] for i in order[np.lexsort((niche[order], place))][:k]]


@_checks.signed
def sel_roulette_low(individuals: Sequence[Any], k: int, *, rng: Rng | None = None) -> list[Any]:
    """Select ``k`` individuals by a roulette wheel that turns towards the better ones.

    Shares go by rank: the best of n gets n shares, the worst one, equal ones as much as each other.
    So the probability falls with a minimised fitness (such as a loss) and rises with a maximised
    one, whatever its sign and scale, and one diverged network does not level all the others.
    ``tools.selRoulette`` is wrong for losses: its shares grow with the value itself, so that the
    worst individual is drawn most often.

    Args:
        individuals: Evaluated individuals with one objective.
        k: How many to draw, >= 0, with replacement.
        rng: NumPy generator; None for one seeded from ``random``.

    Returns:
        References to the chosen ones, in the order drawn; empty for k = 0.

    Raises:
        InvalidValueError: Not evaluated, several objectives, or none to draw from.

    Reference:
        Baker 1985, Adaptive selection methods for genetic algorithms (linear ranking).
    """
    _checks.whole("k", k, low=0)
    if k and not individuals:
        raise _checks.bad_value("individuals", "be there to draw from", "at least one", 0)
    costs = fronts.costs_of(individuals)
    if not k:
        return []
    if costs.shape[1] != 1:
        raise _checks.bad_value(
            "individuals",
            "have one objective to be drawn by",
            "M = 1",
            costs.shape[1],
            "Select by several with sel_nsga2.",
        )
    cost = costs[:, 0]
    worse = (cost[:, None] < cost).sum(axis=1)
    shares = worse + ((cost[:, None] == cost).sum(axis=1) + 1) / 2
    drawn = generator(rng).choice(len(individuals), k, p=shares / shares.sum())
    return [individuals[i] for i in drawn]


@_checks.signed
def elitist(select: Select, n: int = 1) -> Select:
    """Return a selection that keeps the ``n`` best individuals and draws the others.

    With it as ``toolbox.select``, ``algorithms.eaMuPlusLambda`` never loses its best, whatever
    draws the others.

    Args:
        select: A selection ``(individuals, k)`` such as ``sel_roulette_low``.
        n: How many are kept, >= 0; all of ``k`` where that is less.

    Returns:
        A selection ``(individuals, k)``: the best first, the same individual never twice among
        them, then what ``select`` draws from all of them. The best go by the first objective,
        then by the next.
    """
    _checks.whole("n", n, low=0)

    def keeping(individuals: Sequence[Any], k: int) -> list[Any]:
        _checks.whole("k", k, low=0)
        once = list({id(individual): individual for individual in individuals}.values())
        costs = fronts.costs_of(once)
        order = np.lexsort(costs.T[::-1]) if once else np.zeros(0, dtype=np.int64)
        best = [once[i] for i in order[: min(n, k)]]
        return [*best, *select(individuals, k - len(best))]

    return keeping

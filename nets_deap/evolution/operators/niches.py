"""Niches of log density: who survives in each, who mates across them, and who moves between."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.evolution import fronts
from nets_deap.evolution.operators._common import check_ticket, generator
from nets_deap.tickets.choice import Rng
from nets_deap.tickets.ticket import Ticket

Operator = Callable[..., tuple[Any, ...]]
Pool = Callable[[], Sequence[Ticket]] | Sequence[Ticket]
# Two densities are of different niches where their ratio is beyond this.
APART = 1.05
# Of crossings and moves, those with the denser neighbour: it has trained on more of the network.
DENSER = 0.7
# How often the sparsest niche is selected beyond once, over how often the densest is.
SPARSE = 4.0


@_checks.signed
def sel_lineages(
    individuals: Sequence[Any],
    k: int,
    *,
    residents: Pool = (),
    low: float | None = None,
    high: float | None = None,
    width: float = 1.2,
    objective: int = 0,
) -> list[Any]:
    """Select ``k`` tickets evenly over niches of log density, the young before their parents.

    For tickets that inherit weights: a child has trained for longer than its parent, so that both
    cannot be compared. In each niche those that are not among the residents come first, best first
    by one objective, then the residents; where nobody new has come, a resident stays. Children of
    two parents come last if they are no better than a resident: averaged weights may lie in no
    basin at all, and a row of such elites would drag all niches down. The first of
    each niche, its elite, is selected as often as it takes to make ``k``, those of sparse niches
    more often, so that all parents are elites. What is outside of the range survives only where
    nothing is inside.

    Args:
        individuals: Evaluated tickets that keep at least one weight.
        k: How many, at least 0 and at most as many as there are.
        residents: The tickets that lived before, or what returns them; none for plain niches.
        low: Least density of the niches; None for the sparsest ticket's.
        high: Greatest density of the niches; None for the densest ticket's.
        width: Ratio of the densities of neighbouring niches, > 1; greater where there would be
            more niches than ``k``. A ticket belongs to the nearest one.
        objective: Position of the objective that decides.

    Returns:
        References to the elites of all niches, densest first, again and again.

    Reference:
        Beyer and Schwefel 2002, Evolution strategies (comma selection).
    """
    _checks.whole("k", k, low=0, high=len(individuals))
    if not k:
        return []
    costs = fronts.costs_of(individuals)
    _checks.whole("objective", objective, low=0, high=costs.shape[1] - 1)
    ratio = _checks.real("width", width, low=1, open_low=True)
    logs = np.log([ticket.density for ticket in individuals])
    top = logs.max() if high is None else math.log(_checks.density("high", high))
    bottom = logs.min() if low is None else math.log(_checks.density("low", low))
    span = max(top - bottom, 0.0)
    # Both ends are centres of niches: what is sparsest competes with nothing denser.
    many = max(1, min(k, math.floor(span / math.log(ratio) + 1e-6) + 1))
    step = span / (many - 1) if many > 1 else 1.0
    niche = np.round((top - logs) / step).astype(np.int64)
    outside = (niche < 0) | (niche >= many)
    niche[outside] = many  # a niche of its own, that comes last
    cost = costs[:, objective]
    known = {_key(ticket) for ticket in _members(residents)}
    old = np.array([_key(ticket) in known for ticket in individuals])
    # What a resident of each niche has reached, which only crossing must not fall behind.
    reached = np.full(many + 1, np.inf)
    np.minimum.at(reached, niche[old], cost[old])
    crossed = np.array([len(getattr(ticket, "parent_digests", ())) > 1 for ticket in individuals])
    behind = ~old & crossed & (cost >= reached[niche])
    order = np.lexsort((cost, old + 2 * behind, niche))
    first = order[np.searchsorted(niche[order], np.unique(niche))]
    inside = first[~outside[first]]
    for individual in individuals:
        individual.fitness.crowding_dist = 0.0  # tools.selTournamentDCD needs one
    if not len(inside):  # all are outside of the range
        return [individuals[i] for i in order[:k]]
    return [individuals[i] for i in np.repeat(inside, _shares(len(inside), k)).tolist()]


@_checks.signed
def cx_near(
    ind1: Ticket,
    ind2: Ticket,
    *,
    cross: Operator,
    cross_one: Operator | None = None,
    pool: Pool = (),
    rng: Rng | None = None,
) -> tuple[Ticket, Ticket]:
    """Cross each of two tickets with a neighbour in density, whoever the other one is.

    Tickets of near density are near relatives, whose trained weights average well; those of far
    densities are not. A neighbour is a ticket of the pool whose density is the next above or below
    that of a ticket's own niche, seven times out of ten above. Without one the two cross with each
    other. In place; returns a tuple; fitness untouched.

    Args:
        ind1: One parent.
        ind2: The other, of the same layout.
        cross: A crossover (a partial with its arguments) that takes ``rng``.
        cross_one: What crosses a ticket with a copy of its neighbour, which nobody looks at
            afterwards: such as ``cx_average`` with ``both=False``. None for ``cross``.
        pool: The tickets that live now, or what returns them.
        rng: NumPy generator; None for one seeded from ``random``.
    """
    check_ticket(ind1)
    check_ticket(ind2)
    source = generator(rng)
    near = [_neighbour(ind, pool, source) for ind in (ind1, ind2)]
    if near[0] is None and near[1] is None:
        cross(ind1, ind2, rng=source)
        return ind1, ind2
    for own, other in zip((ind1, ind2), near, strict=True):
        if other is not None:
            (cross_one or cross)(own, copy.deepcopy(other), rng=source)
    return ind1, ind2


@_checks.signed
def mut_migrate(
    individual: Ticket, *, move: Operator, pool: Pool = (), rng: Rng | None = None
) -> tuple[Ticket]:
    """Prune or regrow a ticket to the size of a neighbour in density: it migrates to that niche.

    In place; returns a tuple; fitness untouched. Without a neighbour it keeps its size.

    Args:
        individual: The ticket.
        move: A mutation that takes ``size`` and ``rng``, such as ``mut_swap``.
        pool: The tickets that live now, or what returns them.
        rng: NumPy generator; None for one seeded from ``random``.
    """
    check_ticket(individual)
    source = generator(rng)
    other = _neighbour(individual, pool, source)
    move(individual, size=None if other is None else other.kept, rng=source)
    return (individual,)


def _shares(niches: int, k: int) -> NDArray[np.int64]:
    """Return how often each of some niches, densest first, is selected: ``k`` times in all.

    At least once each, the sparser the more often: their children cost less, and their lineages
    have further to go.
    """
    wanted = np.linspace(1.0, SPARSE, niches) if niches > 1 else np.ones(1)
    ends = np.round(np.cumsum(wanted) / wanted.sum() * (k - niches)).astype(np.int64)
    found: NDArray[np.int64] = 1 + np.diff(ends, prepend=0)
    return found


def _members(pool: Pool) -> Sequence[Ticket]:
    """Return who is in a pool."""
    return pool() if callable(pool) else pool


def _key(ticket: Any) -> Any:
    """Return what tells a ticket from others: its network, or of other individuals themselves."""
    return getattr(ticket, "network_key", id(ticket))


def _neighbour(ticket: Ticket, pool: Pool, rng: Rng) -> Ticket | None:
    """Return a ticket of the pool in the next niche above or below; None where there is none."""
    key = ticket.layout_key
    members = [other for other in _members(pool) if other.layout_key == key]
    if not members or not ticket.kept:
        return None
    ratio: NDArray[Any] = np.array([other.kept for other in members]) / ticket.kept
    above, below = ratio > APART, (ratio < 1 / APART) & (ratio > 0)
    sides = [side for side in (above, below) if side.any()]
    if not sides:
        return None
    side = sides[0] if len(sides) == 1 or rng.random() < DENSER else sides[1]
    distance = np.where(side, np.abs(np.log(np.maximum(ratio, 1e-12))), np.inf)
    near = np.flatnonzero(distance <= distance.min() * APART)
    return members[int(rng.choice(near))]

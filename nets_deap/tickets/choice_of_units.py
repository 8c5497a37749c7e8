"""Choices among bits by the weights that they gate: one each, or units of several.

Rates and bounds of operators are numbers of weights. Where each bit gates one weight, these are
the plain choices of ``tickets.choice``; else whole units are chosen whose weights come nearest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap.tickets import bits
from nets_deap.tickets.choice import Rng, Scores, choose, smallest
from nets_deap.tickets.units import UnitLayout

SPARE = 1.1


def weights_in(units: UnitLayout | None, mask: bits.Mask, start: int = 0) -> int:
    """Count the weights that bits gate: a mask of all (G,), or of some from ``start`` on."""
    if units is None or units.unit_sizes is None:
        return int(np.count_nonzero(mask))
    return int(units.unit_sizes[start : start + len(mask)][mask].sum())


def places_for(
    units: UnitLayout | None, kept: bits.Ones, inside: slice = slice(None)
) -> bits.Places:
    """Return the places of kept bits, or of those ``inside`` among them, where ``units`` need them.

    They do for choices by what a bit gates; finding them takes long, so else any will do.
    """
    if units is None or not (units.grouped or units.unit_sizes is not None):
        return inside
    places = kept.places
    return places[inside] if isinstance(places, np.ndarray) else inside


def smallest_of(
    units: UnitLayout | None,
    kept: bits.Places,
    scores: Scores,
    k: int,
    *,
    at_least: bool = False,
    sizes: Scores | None = None,
) -> bits.Mask:
    """Mark the smallest scores (kept,), of bits that gate ``k`` weights together.

    Args:
        units: Of the ticket; None where a bit is a weight.
        kept: The bits' places.
        scores: A score for each; NaN is larger than any number.
        k: How many weights; of units the number that comes nearest, fewer if two are as near.
        at_least: Of units the least number that gates ``k``.
        sizes: What counts of each unit instead of its weights (G,); None for those.
    """
    if units is None or units.unit_sizes is None:
        return smallest(scores, k)
    counted = (units.unit_sizes if sizes is None else sizes)[kept]
    # Units differ in size at the ragged edges of a layer and between layers, so that how many are
    # needed is known only once they stand in order.
    order = _smallest_in_order(scores, k, counted)
    totals = np.cumsum(counted[order])
    n = int(np.searchsorted(totals, k))  # the first n gate fewer than k, one more at least k
    if n < len(totals) and k > 0:
        below = totals[n - 1] if n else 0
        n += bool(at_least or totals[n] - k < k - below)
    marked: bits.Mask = np.zeros(len(scores), dtype=np.bool_)
    marked[order[:n]] = True
    return marked


def _smallest_in_order(scores: Scores, k: float, counted: NDArray[Any]) -> NDArray[np.int64]:
    """Return places of the smallest scores in order, equal ones by place, so many as gate ``k``."""
    # Sorting all of them takes most of an operator's time: where few will do, by the mean of what
    # they gate and a little more, these are sorted alone.
    total = float(counted.sum())
    guess = int(SPARE * k * len(scores) / total) + 1 if total > 0 else len(scores)
    if k > 0 and guess < len(scores) / 2:
        bound = np.partition(scores, guess - 1)[guess - 1]
        few = np.flatnonzero(scores <= bound)  # those as large as the last one, too; no NaN
        if counted[few].sum() >= k:
            return few[np.argsort(scores[few], kind="stable")]
    return np.argsort(scores, kind="stable")


def choose_of(
    units: UnitLayout | None,
    mask: bits.Mask,
    k: int,
    rng: Rng,
    *,
    at_least: bool = False,
    start: int = 0,
) -> bits.Mask:
    """Mark random ones of a mask that gate ``k`` weights: of all bits (G,), or from ``start``."""
    if units is None or units.unit_sizes is None:
        return choose(mask, k, rng)
    places = np.flatnonzero(mask)
    marked: bits.Mask = np.zeros(len(mask), dtype=np.bool_)
    keys = rng.random(len(places))
    marked[places] = smallest_of(units, start + places, keys, k, at_least=at_least)
    return marked


def together(
    units: UnitLayout | None, wanted: bits.Mask, rng: Rng, held: bits.Mask | None = None
) -> bits.Mask:
    """Mark random ones of the wanted bits (G,) that may be set together, beside those held."""
    if units is None or not units.grouped:
        return wanted
    return units.fitting(wanted, rng, held)


def best_together(units: UnitLayout | None, kept: bits.Places, scores: Scores) -> bits.Mask:
    """Mark those of kept bits (kept,) that may be set together, of largest scores."""
    if units is None or not units.grouped:
        return np.ones(len(scores), dtype=np.bool_)
    wanted, keys = np.zeros(units.size, dtype=np.bool_), np.zeros(units.size)
    wanted[kept], keys[kept] = True, scores
    marked: bits.Mask = units.fitting(wanted, keys)[kept]
    return marked

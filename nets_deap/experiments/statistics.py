"""Statistics of comparisons: bootstrap intervals, paired tests, fronts at equal densities."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from nets_deap import _checks

Vector = NDArray[np.float64]

ALTERNATIVES = ("greater", "two-sided")

# Accuracies are multiples of 1 / N, so equal differences are common; rounding must not order them.
DIGITS = 12


@dataclass(frozen=True)
class WilcoxonResult:
    """A Wilcoxon signed-rank test on pairs.

    Attributes:
        p_value: In (0, 1]; 1.0 if all pairs tie.
        statistic: Sum of the ranks of the pairs that ``ours`` wins; two-sided, the smaller of that
            and the sum of the pairs that it loses.
        wins: Pairs where ``ours`` is greater.
        ties: Pairs where both are equal; they are left out of the test.
        losses: Pairs where ``theirs`` is greater.
        n: All pairs: wins + ties + losses.
    """

    p_value: float
    statistic: float
    wins: int
    ties: int
    losses: int
    n: int


def bootstrap_interval(
    values: ArrayLike, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Return a bootstrap interval (bias-corrected and accelerated) of the mean.

    The same arguments give the same interval. With a handful of values it is too narrow: below
    about ten, read it as a lower bound of the uncertainty.

    Args:
        values: Shape (n,), n >= 1, finite.
        confidence: In (0, 1).
        resamples: Bootstrap samples.
        seed: Seed of the resampling.

    Returns:
        (low, high); twice the value for one value or if all are equal.

    Raises:
        InvalidValueError: No values, a value that is not finite, or an option out of range.
        InvalidTypeError: An argument is of the wrong kind.

    Reference:
        Efron 1987, Better bootstrap confidence intervals,
        https://doi.org/10.1080/01621459.1987.10478410.
    """
    sample = _vector("values", values)
    level = _checks.inner_share("confidence", confidence)
    n_resamples = _checks.whole("resamples", resamples)
    rng = np.random.default_rng(_checks.whole("seed", seed, low=0))
    scale = float(np.abs(sample).max()) or 1.0
    unit = sample / scale  # within [-1, 1], so that nothing over- or underflows
    centre, span = float(unit.mean()), float(np.ptp(unit))
    if span <= 10.0**-DIGITS:
        return float(sample.min()), float(sample.max())
    # Where the resamples are so alike that the correction is undefined, plain percentiles are left.
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", stats.DegenerateDataWarning)
            found = stats.bootstrap(
                ((unit - centre) / span,),
                _rounded_mean,
                confidence_level=level,
                n_resamples=n_resamples,
                method=method,
                batch=max(1, 2**22 // unit.size),
                random_state=rng,
            ).confidence_interval
        if np.isfinite(found.low) and np.isfinite(found.high):
            break
    low, high = (float((centre + span * end) * scale) for end in found)
    return low, high


def wilcoxon(ours: ArrayLike, theirs: ArrayLike, *, alternative: str = "greater") -> WilcoxonResult:
    """Test on pairs whether ``ours`` is greater than ``theirs``, by signed ranks.

    Few pairs cannot be significant: n = 5 cannot go below p = 0.03125 one-sided or 0.0625
    two-sided, n = 10 below 0.00098 or 0.00195. Ties lower n further.

    The p-value is exact up to 50 untied pairs if all differences have distinct sizes, and up to 13
    pairs if not; beyond, it is the normal approximation. Differences below 1e-12 of the largest
    value are ties, and differences that agree to that are of equal size.

    Args:
        ours: Shape (n,), n >= 1, finite.
        theirs: Shape (n,); the partner of each.
        alternative: ``"greater"`` (one-sided: ours greater) or ``"two-sided"``.

    Returns:
        The test; p = 1 and statistic 0 if all pairs tie.

    Raises:
        InvalidValueError: Lengths differ, no values, a value that is not finite, or an unknown
            alternative.
        InvalidTypeError: The values are not numbers.

    Reference:
        Wilcoxon 1945, Individual comparisons by ranking methods,
        https://doi.org/10.2307/3001968.
    """
    one, other = _vector("ours", ours), _vector("theirs", theirs)
    _checks.length("theirs", other.size, one.size, "n of ours", "Give both in pairs.")
    side = _checks.choice("alternative", alternative, ALTERNATIVES)
    scale = max(float(np.abs(one).max()), float(np.abs(other).max())) or 1.0
    difference = np.round(one / scale - other / scale, DIGITS)
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    p_value, statistic = 1.0, 0.0
    if wins or losses:
        found = stats.wilcoxon(difference[difference != 0], alternative=side)
        p_value, statistic = min(1.0, float(found.pvalue)), float(found.statistic)
    return WilcoxonResult(p_value, statistic, wins, one.size - wins - losses, losses, one.size)


def interpolate_front(densities: ArrayLike, accuracies: ArrayLike, targets: ArrayLike) -> Vector:
    """Return the accuracy of a front at target densities.

    Linear in the logarithm of the density between neighbouring members; of members with equal
    density the mean. No member is dropped for being worse than another: choosing by a noisy
    measurement would favour the front with more members. For targets denser than the densest
    member it is the accuracy of that member, which satisfies them; for targets sparser than the
    sparsest it is NaN: nothing is extrapolated.

    Args:
        densities: Shape (F,), each in (0, 1], in any order.
        accuracies: Shape (F,), or anything else that is better when greater.
        targets: Shape (T,), densities in (0, 1].

    Returns:
        Shape (T,); NaN where no member is as sparse as the target.

    Raises:
        InvalidValueError: Lengths differ, no values, or a density out of range.
        InvalidTypeError: The values are not numbers.
    """
    places, heights = _densities("densities", densities), _vector("accuracies", accuracies)
    _checks.length("accuracies", heights.size, places.size, "F", "Give one for each density.")
    goals = _densities("targets", targets)
    members, which = np.unique(places, return_inverse=True)
    means = np.bincount(which.reshape(-1), heights) / np.bincount(which.reshape(-1))
    attained: Vector = np.interp(np.log(goals), np.log(members), means)
    attained[goals < members[0]] = np.nan
    return attained


def _rounded_mean(sample: Vector, axis: int = -1) -> Vector:
    """Return means that are equal where only the order of their values differs."""
    means: Vector = np.round(np.asarray(sample.mean(axis=axis)), DIGITS)
    return means


def _vector(argument: str, values: ArrayLike) -> Vector:
    """Return ``values`` as a vector of finite floats, not empty."""
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise _checks.bad_value(
            argument, "be a vector", "shape (n,) with n >= 1", f"shape {array.shape}"
        )
    if array.dtype.kind not in "iuf":
        raise _checks.bad_type(argument, "hold numbers", "ints or floats", array.flat[0])
    vector = array.astype(np.float64)
    bad = vector[~np.isfinite(vector)]
    if bad.size:
        got = f"{bad.size} of {vector.size} that are not"
        raise _checks.bad_value(argument, "be finite", "finite numbers only", got)
    return vector


def _densities(argument: str, values: ArrayLike) -> Vector:
    """Return ``values`` as a vector of densities in (0, 1]."""
    vector = _vector(argument, values)
    for value in vector[(vector <= 0) | (vector > 1)][:1]:
        _checks.density(argument, float(value))
    return vector

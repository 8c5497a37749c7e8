"""Exact choices among many weights: the smallest scores, random subsets, and noise on scores."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap.tickets.bits import Mask

Rng = np.random.Generator
Scores = NDArray[np.floating]

# Where scores are many, at most so many of them are looked at to guess where the k-th smallest
# lies; then so many times at most all are compared with a bound, until so small a part of them is
# left between two bounds.
MANY = 4096
SAMPLE = 4096
PASSES = 6
CLOSE = 1 / 128

# Below these, numpy's own choice without replacement is the faster one.
FEW = 1 / 50
SMALL = 10_000

QUANTILES = 1 << 16


def smallest(scores: Scores, k: int) -> Mask:
    """Mark the ``k`` smallest scores, exactly ``k`` also with ties; NaN is larger than any number.

    Args:
        scores: Shape (N,).
        k: How many; all N where there are no more.

    Returns:
        Bool (N,). Which of several equal scores are marked is not defined, but always the same.

    Cost: a few passes over the scores where they are many; the smaller half of 266,200 takes
    a sixth of the time of ``np.argpartition``.

    Reference:
        Floyd and Rivest 1975, Expected time bounds for selection.
    """
    n = len(scores)
    if k >= n:
        return np.ones(n, dtype=np.bool_)
    if k > 0 and n > MANY:
        found = _bracketed(scores, k)
        if found is not None:
            return found
    marked: Mask = np.zeros(n, dtype=np.bool_)
    if k > 0:
        marked[np.argpartition(scores, k - 1)[:k]] = True
    return marked


def largest_first(scores: Scores) -> NDArray[np.int64]:
    """Return the places of scores, the largest first, equal ones by place, NaN last."""
    if scores.dtype != np.float32 or not (scores >= 0).all():
        return np.argsort(-scores, kind="stable")
    # The bits of positive numbers have their order, so that a number and its place are one key: to
    # sort keys takes half as long as to find out the order.
    reverse = ~(scores + np.float32(0)).view(np.uint32)  # of -0 nothing is left
    keys = reverse.astype(np.uint64) << np.uint64(32) | np.arange(len(scores), dtype=np.uint64)
    keys.sort()
    places: NDArray[np.int64] = (keys & np.uint64(2**32 - 1)).astype(np.int64)
    return places


def subset(n: int, k: int, rng: Rng) -> Mask:
    """Mark ``k`` of ``n`` places, every subset being equally likely: bool (n,)."""
    if k >= n:
        return np.ones(n, dtype=np.bool_)
    if n < SMALL or k < FEW * n:
        marked: Mask = np.zeros(n, dtype=np.bool_)
        marked[rng.choice(n, k, replace=False, shuffle=False)] = True
        return marked
    return _smallest_keys(None, n, n, k, rng)


def choose(mask: Mask, k: int, rng: Rng) -> Mask:
    """Mark ``k`` of the ones of a mask (D,), every subset being equally likely: bool (D,).

    All of them where there are no more than ``k``.
    """
    n = int(np.count_nonzero(mask))
    if k >= n:
        return np.array(mask)
    if n < SMALL or k < FEW * n:
        marked = np.zeros(len(mask), dtype=np.bool_)
        if k > 0:
            marked[np.flatnonzero(mask)[rng.choice(n, k, replace=False, shuffle=False)]] = True
        return marked
    return _smallest_keys(mask, len(mask), n, k, rng)


def shared_out(n: int, shares: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return ``n`` shared out in proportion, in whole numbers that add up to it."""
    total = max(int(shares.sum()), 1)
    scaled: NDArray[np.int64] = shares.astype(np.int64) * n
    whole, rest = scaled // total, scaled % total
    left = n - int(whole.sum())
    whole[np.argsort(-rest, kind="stable")[:left]] += 1
    return whole


def lognormal(sigma: float, n: int, rng: Rng) -> Scores:
    """Return ``n`` log-normal factors whose logarithms have standard deviation ``sigma``.

    Drawn from 65,536 equally likely quantiles, so no factor is beyond exp(4.33 sigma) or below
    its inverse: eight times as fast as drawing from the distribution itself.
    """
    factors: Scores = _quantiles(sigma).take(_random(np.uint16, n, rng))
    return factors


def _bracketed(scores: Scores, k: int) -> Mask | None:
    """Mark the ``k`` smallest, 0 < k < N, by bounds that close in; None where NaN is frequent."""
    # A sorted sample guesses where the k-th smallest lies. Each pass compares all scores with one
    # of its values, which is a pass that memory bandwidth bounds, while a partition moves numbers
    # about. Guesses only cost time: what is marked follows from counts over all scores, never
    # from the sample.
    n = len(scores)
    size = min(SAMPLE, n // 8)
    sample = scores[(_even()[:size] * n).astype(np.int64)]
    sample.sort()
    if np.isnan(sample[-1]):
        return None
    # Always: at most k scores lie below the low bound, and more than k below the high one.
    low, below, high, above = -1, 0, size, n
    marked: Mask = np.zeros(n, dtype=np.bool_)
    rest: Mask = np.ones(n, dtype=np.bool_)
    place = size * k / n
    for _ in range(PASSES):
        at = min(max(int(place), low + 1), high - 1)
        if at <= low or above - below <= CLOSE * n:
            break
        bound = sample[at]
        fewer: Mask = scores < bound
        count = int(np.count_nonzero(fewer))
        if count <= k:
            # A value that the sample holds twice may be one that many scores share, as zeros are:
            # no bound lies between equal scores, so the passes would not close in on k among
            # them.
            if bound == sample[min(at + 1, size - 1)]:
                equal = np.flatnonzero(scores == bound)
                if k <= count + len(equal):
                    # Evenly over the network, as no layer should lose its ties first.
                    left = k - count
                    fewer[equal[np.arange(left) * len(equal) // max(left, 1)]] = True
                    return fewer
            low, below, marked = at, count, fewer
        else:
            high, above, rest = at, count, fewer
        # Aims a little beyond the k-th, so that it soon lies between two near bounds.
        step = (k - count) * size / n
        place = at + step + np.copysign(3 + abs(step) ** 0.5, step)
    # What lies between the bounds is partitioned: mostly below 1 / 128 of all scores.
    middle = np.flatnonzero(rest > marked)
    if below < k:
        marked[middle[np.argpartition(scores[middle], k - below - 1)[: k - below]]] = True
    return marked


def _smallest_keys(mask: Mask | None, size: int, n: int, k: int, rng: Rng) -> Mask:
    """Mark the ``k`` of the ``n`` ones of a mask (None: all ones) that draw the smallest keys.

    Keys are bytes; of those that drew the last one that is needed, random ones are marked.
    """
    keys = _random(np.uint8, size, rng)

    def under(bound: int) -> tuple[Mask, int]:
        found: Mask = keys < bound if mask is None else (keys < bound) & mask
        return found, int(np.count_nonzero(found))

    # One byte a weight is drawn instead of a float64, an eighth of the random numbers. Bytes have
    # ties; the last byte that is needed takes a random part of its ties, so that subsets stay
    # equally likely.
    bound = k * 256 // n  # where the k-th lies on average, so that a step or two reach it
    marked, count = under(bound)
    while count > k:
        bound -= 1
        marked, count = under(bound)
    wider, more = under(bound + 1)
    while more < k:
        bound, marked, count = bound + 1, wider, more
        wider, more = under(bound + 1)
    equal = np.flatnonzero(wider ^ marked)
    marked[equal[rng.choice(len(equal), k - count, replace=False, shuffle=False)]] = True
    return marked


def _random(dtype: type[np.unsignedinteger[Any]], n: int, rng: Rng) -> NDArray[Any]:
    """Return ``n`` random numbers that fill an unsigned dtype of at most 64 bits."""
    size = n * np.dtype(dtype).itemsize
    if isinstance(rng.bit_generator, np.random.PCG64):
        # Twice as fast; a generator of 32 bits would leave half of each word zero.
        words = rng.bit_generator.random_raw(-(-size // 8))
        return words.view(dtype)[:n]
    return np.frombuffer(rng.bytes(size), dtype=dtype)


@functools.cache
def _even() -> NDArray[np.float64]:
    """Return the places in [0, 1) of the scores that are looked at; the same every time."""
    return np.random.default_rng(0).random(SAMPLE)


@functools.lru_cache(maxsize=4)
def _quantiles(sigma: float) -> NDArray[np.float32]:
    """Return equally likely factors: the quantiles of a log-normal distribution."""
    from scipy.special import ndtri

    normal = ndtri((np.arange(QUANTILES) + 0.5) / QUANTILES)
    # As float32, a large sigma would overflow.
    logs = np.clip(sigma * normal, -80, 80)
    factors: NDArray[np.float32] = np.exp(logs).astype(np.float32)
    return factors

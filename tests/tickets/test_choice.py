"""Exact choices: the k smallest of anything, uniform random subsets, noise by quantiles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nets_deap.tickets import choice
from nets_deap.tickets.choice import (
    MANY,
    SAMPLE,
    choose,
    largest_first,
    lognormal,
    smallest,
    subset,
)

quick = settings(deadline=None, max_examples=60)
KINDS = ("normal", "lognormal", "equal", "few", "zeros", "sorted", "nan", "inf", "hostile")
SIZES = [1, 2, 100, MANY, MANY + 1, 8 * SAMPLE - 1, 8 * SAMPLE, 8 * SAMPLE + 7, 60_000]


def scores_of(kind, n, rng, dtype):
    """Return scores of a kind that could upset a search for bounds."""
    scores = rng.normal(size=n)
    if kind == "lognormal":
        scores = np.exp(5 * scores)
    elif kind == "equal":
        scores[:] = 0.5
    elif kind == "few":
        scores = rng.integers(0, 3, n).astype(float)
    elif kind == "zeros":
        scores[rng.random(n) < 0.4] = 0
        scores = np.abs(scores)
    elif kind == "sorted":
        scores.sort()
    elif kind in ("nan", "inf"):
        bad = [np.nan] if kind == "nan" else [np.inf, -np.inf]
        places = rng.random(n) < rng.choice([0.001, 0.3, 1.0])
        scores[places] = rng.choice(bad, int(places.sum()))
    elif kind == "hostile":  # what is looked at says nothing of the others
        scores = rng.random(n)
        scores[np.unique((choice._even()[: n // 8] * n).astype(int))] += 5
    return scores.astype(dtype)


@quick
@given(
    kind=st.sampled_from(KINDS),
    n=st.sampled_from(SIZES),
    share=st.sampled_from([0.0, 1e-9, 0.001, 0.2, 0.5, 0.9, 0.9999, 1.0]),
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_the_smallest_are_exactly_those_of_a_full_sort(kind, n, share, seed, dtype):
    scores = scores_of(kind, n, np.random.default_rng(seed), dtype)
    k = int(np.ceil(share * n))
    before = scores.copy()
    chosen = smallest(scores, k)
    assert chosen.dtype == np.bool_
    assert np.count_nonzero(chosen) == k
    np.testing.assert_array_equal(np.sort(scores[chosen]), np.sort(before)[:k])
    np.testing.assert_array_equal(scores, before)
    np.testing.assert_array_equal(smallest(scores, k), chosen)


def test_more_than_there_are_is_all_and_whole_numbers_count_as_scores():
    assert smallest(np.zeros(3), 5).tolist() == [True] * 3
    assert smallest(np.zeros(0), 0).tolist() == []
    whole = np.random.default_rng(0).permutation(50_000)
    assert np.array_equal(smallest(whole, 123), whole < 123)


def test_ties_are_lost_evenly_over_the_network():
    scores = np.concatenate([np.zeros(60_000), np.ones(40_000)])
    lost = smallest(scores, 20_000).reshape(10, -1).sum(axis=1)
    assert lost[:6] == pytest.approx(20_000 / 6, abs=2)


# Either side of where bytes take over from numpy's own choice.
@pytest.mark.parametrize(("n", "k"), [(30, 11), (12_000, 100), (12_000, 5_000), (12_000, 11_990)])
def test_every_place_and_every_pair_is_equally_likely(n, k):
    rng, trials = np.random.default_rng(0), 1500
    free = np.arange(3 * n) % 3 == 1
    for draw in (lambda: subset(n, k, rng), lambda: choose(free, k, rng)[free]):
        drawn = np.array([draw() for _ in range(trials)])
        assert (drawn.sum(axis=1) == k).all()
        share = k / n
        error = np.sqrt(share * (1 - share) / trials)
        parts = drawn.reshape(trials, 30, -1).mean(axis=(0, 2))
        assert parts == pytest.approx(share, abs=max(5 * error / np.sqrt(n / 30), 1e-9))
        assert drawn[:, ::997].mean(axis=0) == pytest.approx(share, abs=5 * error)
        both = (drawn[:, 0] & drawn[:, 1]).mean()
        wanted = share * (k - 1) / (n - 1)
        assert both == pytest.approx(wanted, abs=5 * np.sqrt(wanted * (1 - wanted) / trials))


@quick
@given(
    density=st.floats(0, 1),
    share=st.floats(0, 1.2),
    size=st.sampled_from([7, 300, 40_000]),
    seed=st.integers(0, 2**32),
)
def test_what_is_chosen_lies_within_the_mask_and_is_exactly_as_many(density, share, size, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(size) < density
    k = round(share * mask.sum())
    before = mask.copy()
    chosen = choose(mask, k, rng)
    assert (chosen <= before).all()
    assert np.count_nonzero(chosen) == min(k, before.sum())
    chosen[:] = False
    assert np.array_equal(mask, before), "a copy, also where all are chosen"
    assert np.count_nonzero(subset(size, round(share * size), rng)) == min(
        size, round(share * size)
    )


@pytest.mark.parametrize(
    "source", [np.random.PCG64, np.random.MT19937, np.random.SFC64, np.random.Philox]
)
def test_noise_is_log_normal_from_every_generator(source):
    rng, sigma = np.random.Generator(source(0)), 0.3
    logs = np.log(lognormal(sigma, 200_000, rng).astype(np.float64)) / sigma
    assert logs.mean() == pytest.approx(0, abs=0.01)
    assert logs.std() == pytest.approx(1, abs=0.01)
    assert (logs**3).mean() == pytest.approx(0, abs=0.03)
    assert (logs**4).mean() == pytest.approx(3, abs=0.1)
    assert np.corrcoef(logs[:-1], logs[1:])[0, 1] == pytest.approx(0, abs=0.01)
    for lag in (2, 4):
        assert np.corrcoef(logs[:-lag], logs[lag:])[0, 1] == pytest.approx(0, abs=0.01)
    assert np.abs(logs).max() < 4.4
    assert len(np.unique(subset(50_000, 25_000, rng).reshape(-1, 8) @ 2 ** np.arange(8))) == 256


def test_noise_of_any_size_stays_finite_and_positive():
    factors = lognormal(1e6, 5001, np.random.default_rng(0))
    assert factors.shape == (5001,)
    assert factors.dtype == np.float32
    assert np.isfinite(factors).all()
    assert (factors > 0).all()
    assert len(lognormal(0.1, 0, np.random.default_rng(0))) == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("odd", [None, -0.0, -1.0, np.inf, np.nan])
def test_the_largest_come_first_and_equal_ones_by_place(dtype, odd):
    scores = np.random.default_rng(0).integers(0, 40, 900).astype(dtype) / 7
    if odd is not None:
        scores[::9] = odd
    np.testing.assert_array_equal(largest_first(scores), np.argsort(-scores, kind="stable"))
    assert largest_first(scores[:0]).tolist() == []

"""Statistics against values known by hand and against full enumeration."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from nets_deap.errors import InvalidTypeError, InvalidValueError, NetsError
from nets_deap.experiments.statistics import bootstrap_interval, interpolate_front, wilcoxon

unhurried = settings(deadline=None, max_examples=60)
numbers = st.floats(-1e6, 1e6)
tenths = st.integers(-30, 30).map(lambda n: n / 10)
fractions = st.integers(1, 1000).map(lambda n: n / 1000)
members = st.lists(st.tuples(fractions, tenths), min_size=1, max_size=8)


# ---- bootstrap


def test_the_interval_of_a_large_normal_sample_is_the_textbooks():
    sample = np.random.default_rng(0).normal(3, 2, 400)
    low, high = bootstrap_interval(sample)
    half = 1.96 * sample.std(ddof=1) / math.sqrt(400)
    assert low == pytest.approx(sample.mean() - half, abs=0.02)
    assert high == pytest.approx(sample.mean() + half, abs=0.02)


def test_two_values_are_their_own_interval():
    # A quarter of the resamples is (0, 0), a quarter (1, 1): both ends lie beyond 2.5 %.
    assert bootstrap_interval([0, 1]) == (0, 1)
    assert bootstrap_interval([0, 1], confidence=0.3) == (0.5, 0.5)


def test_the_interval_leans_towards_the_long_tail():
    sample = np.random.default_rng(0).exponential(size=30)
    low, high = bootstrap_interval(sample)
    means = np.random.default_rng(1).choice(sample, (5000, 30)).mean(axis=1)
    plain = np.quantile(means, (0.025, 0.975))
    assert low > plain[0] + 0.02
    assert high > plain[1] + 0.02


@pytest.mark.parametrize("values", [[0.7], [0.1] * 5, [0.0, 0.0], [0.1 + 0.2, 0.3], [-1e308] * 3])
def test_the_interval_of_equal_values_is_that_value(values):
    low, high = bootstrap_interval(values)
    assert (low, high) == (min(values), max(values))


@unhurried
@given(st.lists(numbers, min_size=1, max_size=12), st.integers(0, 5))
@example([0.0] * 11 + [1e-6], 0)
@example([1.0, 1.0, 1.0 + 2**-39], 0)
@example([5e-324, 0.0], 0)
@example([1e308, -1e308, 1e308], 0)
def test_the_interval_is_finite_ordered_and_within_the_values(values, seed):
    low, high = bootstrap_interval(values, resamples=200, seed=seed)
    slack = 1e-12 * max(map(abs, values))
    assert min(values) - slack <= low <= high <= max(values) + slack


@unhurried
@given(st.lists(tenths, min_size=3, max_size=8, unique=True), tenths)
def test_the_interval_moves_with_the_values_and_widens_with_confidence(values, shift):
    low, high = bootstrap_interval(values, resamples=500)
    moved = bootstrap_interval(np.add(values, shift), resamples=500)
    assert moved == pytest.approx((low + shift, high + shift), abs=1e-9)
    wide = bootstrap_interval(values, resamples=500, confidence=0.99)
    assert wide[0] <= low + 1e-9
    assert high <= wide[1] + 1e-9


def test_the_interval_depends_on_its_seed_alone():
    values = np.random.default_rng(0).random(20)
    state = np.random.get_state()[1].copy()  # noqa: NPY002  (that it is left alone)
    assert bootstrap_interval(values) == bootstrap_interval(values, seed=0)
    assert bootstrap_interval(values) != bootstrap_interval(values, seed=1)
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002


# ---- Wilcoxon


def p_by_enumeration(differences, alternative):
    """Return the p-value over all signs of the differences, ties in size sharing their ranks."""
    sizes = [abs(d) for d in differences if d]
    ranks = [sum(s < size for s in sizes) + (sizes.count(size) + 1) / 2 for size in sizes]
    observed = sum(r for r, d in zip(ranks, filter(None, differences), strict=True) if d > 0)
    sums = [
        sum(itertools.compress(ranks, signs))
        for signs in itertools.product((0, 1), repeat=len(ranks))
    ]
    above = sum(s >= observed for s in sums) / len(sums)
    below = sum(s <= observed for s in sums) / len(sums)
    return above if alternative == "greater" else min(1.0, 2 * min(above, below))


@pytest.mark.parametrize(("n", "one", "two"), [(5, 0.03125, 0.0625), (10, 2**-10, 2**-9)])
def test_the_least_p_value_of_few_pairs(n, one, two):
    ours, theirs = np.arange(1, n + 1) / 7, np.zeros(n)
    result = wilcoxon(ours, theirs)
    assert (result.p_value, result.statistic) == (one, n * (n + 1) / 2)
    assert (result.wins, result.ties, result.losses, result.n) == (n, 0, 0, n)
    both = wilcoxon(ours, theirs, alternative="two-sided")
    assert (both.p_value, both.statistic) == (two, 0)
    assert wilcoxon(theirs, ours).p_value == 1


def test_a_worked_example():
    # Differences 1, 2, -3, 4 win the ranks 1 + 2 + 4 = 7. Of the 16 sets of ranks five reach that:
    # {1, 2, 4}, {3, 4}, {1, 3, 4}, {2, 3, 4} and {1, 2, 3, 4}.
    result = wilcoxon([11, 12, 10, 14], [10, 10, 13, 10])
    assert result.statistic == 7
    assert result.p_value == 5 / 16
    assert (result.wins, result.losses) == (3, 1)


@unhurried
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=8), st.sampled_from([0.0, 0.9, 0.97]))
@example([1] * 5, 0.97)
@example([1, 1, 1, -1, 0], 0.9)
def test_the_p_value_is_exact_with_ties_and_in_spite_of_rounding(differences, base):
    theirs = [base + i / 1000 for i in range(len(differences))]
    ours = [t + d / 10_000 for t, d in zip(theirs, differences, strict=True)]
    for alternative in ("greater", "two-sided"):
        result = wilcoxon(ours, theirs, alternative=alternative)
        assert result.p_value == pytest.approx(p_by_enumeration(differences, alternative))
    assert result.wins == sum(d > 0 for d in differences)
    assert result.ties == differences.count(0)
    assert result.losses == sum(d < 0 for d in differences)


@pytest.mark.parametrize("values", [[0.5], [0.1, 0.2, 0.3], [0, 0]])
@pytest.mark.parametrize("alternative", ["greater", "two-sided"])
def test_nothing_but_ties_is_not_evidence(values, alternative):
    result = wilcoxon(values, values, alternative=alternative)
    assert (result.p_value, result.statistic, result.ties, result.n) == (
        1,
        0,
        len(values),
        len(values),
    )


def test_many_pairs_are_tested_by_the_normal_approximation():
    rng = np.random.default_rng(0)
    theirs = rng.random(200)
    assert wilcoxon(theirs + 0.1 + 0.01 * rng.random(200), theirs).p_value < 1e-30
    assert 0.01 < wilcoxon(rng.random(200), theirs).p_value < 0.99


# ---- fronts at equal densities


def test_between_members_accuracy_is_linear_in_log_density():
    found = interpolate_front([0.1, 0.001], [0.98, 0.90], [0.001, 0.01, 0.1, 10**-1.5])
    assert found == pytest.approx([0.90, 0.94, 0.98, 0.96])


def test_beyond_the_ends_the_densest_serves_and_nothing_else():
    found = interpolate_front([0.02, 0.1], [0.9, 0.95], [0.5, 1, 0.1, 0.02, 0.0199, 0.001])
    assert found[:4].tolist() == [0.95, 0.95, 0.95, 0.9]
    assert np.isnan(found[4:]).all()


def test_a_front_of_one_member_is_a_step():
    found = interpolate_front([0.1], [0.9], [0.05, 0.1, 0.2])
    assert np.isnan(found[0])
    assert found[1:].tolist() == [0.9, 0.9]


def test_no_member_is_dropped_for_its_accuracy_and_equal_densities_are_averaged():
    found = interpolate_front([1.0, 0.1, 0.01, 0.01], [0.98, 0.7, 0.9, 0.6], [0.01, 0.1, 1.0])
    assert found == pytest.approx([0.75, 0.7, 0.98])


@unhurried
@given(members, st.lists(fractions, min_size=2, max_size=6), st.randoms())
def test_what_a_front_attains(front, targets, random):
    densities, accuracies = zip(*front, strict=True)
    targets = sorted(targets)
    found = interpolate_front(densities, accuracies, targets)
    assert np.isnan(found).tolist() == [t < min(densities) for t in targets]
    attained = found[~np.isnan(found)]
    assert (attained >= min(accuracies) - 1e-12).all()
    assert (attained <= max(accuracies) + 1e-12).all()
    shuffled = random.sample(front, len(front))
    again = interpolate_front(*zip(*shuffled, strict=True), targets)
    np.testing.assert_allclose(found, again, rtol=1e-12)


@unhurried
@given(members, st.lists(fractions, min_size=1, max_size=6), fractions, tenths)
def test_a_further_member_never_makes_sparse_enough_targets_undefined(front, targets, d, a):
    assume(all(d != density for density, _ in front))
    before = interpolate_front(*zip(*front, strict=True), targets)
    after = interpolate_front(*zip(*front, (d, a), strict=True), targets)
    assert not (np.isnan(after) & ~np.isnan(before)).any()


# ---- what is refused


@pytest.mark.parametrize(
    ("error", "text", "call"),
    [
        (InvalidValueError, r"values must be a vector: .*n >= 1", lambda: bootstrap_interval([])),
        (InvalidValueError, r"values must be a vector", lambda: bootstrap_interval([[1.0]])),
        (InvalidTypeError, r"values must hold numbers", lambda: bootstrap_interval(["a"])),
        (
            InvalidValueError,
            r"values must be finite: .* got 2 of 3",
            lambda: bootstrap_interval([1, math.nan, math.inf]),
        ),
        (
            InvalidValueError,
            r"confidence must be in range",
            lambda: bootstrap_interval([1], confidence=1),
        ),
        (
            InvalidValueError,
            r"resamples must be in range",
            lambda: bootstrap_interval([1], resamples=0),
        ),
        (InvalidValueError, r"seed must be in range", lambda: bootstrap_interval([1], seed=-1)),
        (
            InvalidValueError,
            r"theirs must have the right length: expected n of ours = 2, got 1\. .*in pairs",
            lambda: wilcoxon([1, 2], [1]),
        ),
        (InvalidValueError, r"ours must be a vector", lambda: wilcoxon([], [])),
        (InvalidValueError, r"theirs must be finite", lambda: wilcoxon([1], [math.nan])),
        (
            InvalidValueError,
            r"alternative must .*Did you mean 'two-sided'",
            lambda: wilcoxon([1], [1], alternative="two_sided"),
        ),
        (
            InvalidValueError,
            r"accuracies must have the right length: expected F = 2, got 1",
            lambda: interpolate_front([0.1, 0.2], [1], [0.1]),
        ),
        (
            InvalidValueError,
            r"densities must be a density: .*got 0\.0",
            lambda: interpolate_front([0.0], [1], [0.1]),
        ),
        (
            InvalidValueError,
            r"targets must be a density: .*got 5\.0",
            lambda: interpolate_front([0.1], [1], [0.5, 5]),
        ),
        (InvalidValueError, r"densities must be a vector", lambda: interpolate_front([], [], [1])),
    ],
)
def test_bad_arguments_are_refused(error, text, call):
    with pytest.raises(error, match=text) as caught:
        call()
    assert isinstance(caught.value, NetsError)

"""Mutation: exact counts, the right weights, and nothing else."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.trained import set_trained

from nets_deap import MaskLayout, Ticket
from nets_deap.evolution.operators import (
    mut_flip,
    mut_layer,
    mut_one_of,
    mut_prune,
    mut_regrow,
    mut_swap,
)

D = 63
PARTS = [slice(0, 40), slice(40, 52), slice(52, 63)]
prune_any, swap_any = partial(mut_prune, by="random"), partial(mut_swap, by="random")
quick = settings(deadline=None, max_examples=60)


@st.composite
def tickets(draw):
    """Draw a ticket whose weights all differ in size, its mask and |w| (D,), and a generator."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    initial, trained = (rng.permutation(np.arange(1, D + 1)) * rng.choice([-1, 1], D) for _ in "ab")
    layout = MaskLayout([("a", (5, 8)), ("b", (2, 2, 3)), ("c", (11,))], initial.astype(float))
    mask = rng.random(D) < draw(st.sampled_from([0.1, 0.5, 0.9, 1.0]))
    mask[[part.start for part in PARTS]] = True
    ticket = Ticket(mask, layout)
    if draw(st.booleans()):
        set_trained(ticket, trained[mask])
        initial = trained
    return ticket, mask, np.abs(initial), rng


def smallest(sizes, among, k):
    """Return the mask of the ``k`` smallest of ``sizes`` among some positions."""
    positions = np.flatnonzero(among)
    return np.isin(np.arange(D), positions[np.argsort(sizes[positions])[:k]])


def plain(size=1000):
    """Return a ticket without weights to go by that keeps the first 40 % of its bits."""
    return Ticket(np.arange(size) < 0.4 * size)


def test_flip_is_bernoulli_for_each_bit():
    before, rng = plain(10_000).mask, np.random.default_rng(0)
    flips = [mut_flip(Ticket(before), indpb=0.03, rng=rng)[0].mask ^ before for _ in range(200)]
    counts = np.sum(flips, axis=1)
    assert counts.mean() == pytest.approx(300, abs=6)
    assert counts.std() == pytest.approx(np.sqrt(300 * 0.97), abs=3.5)
    shares = np.mean(flips, axis=0).reshape(10, 1000).mean(axis=1)
    assert shares == pytest.approx(0.03, abs=0.003)
    assert np.array_equal(mut_flip(Ticket(before), indpb=1)[0].mask, ~before)


@quick
@given(drawn=tickets(), fraction=st.floats(0, 1), allow=st.booleans())
def test_prune_takes_exactly_the_smallest_trained_else_initial_weights(drawn, fraction, allow):
    ticket, before, sizes, rng = drawn
    mut_prune(ticket, fraction=fraction, allow_empty_layers=allow, rng=rng)
    bare = before & ~smallest(sizes, before, round(fraction * before.sum()))
    spared = ticket.mask & ~bare
    assert ((bare <= ticket.mask) & (ticket.mask <= before)).all()
    for part in [slice(0, D)] if allow else PARTS:
        assert spared[part].sum() == (not bare[part].any())


def test_prune_counts_are_exact_with_ties_and_levels_are_nested():
    ticket = Ticket(np.ones(1000), MaskLayout([("a", (40, 20)), ("b", (200,))], np.ones(1000)))
    for kept in (800, 640, 512):
        before = ticket.mask
        mut_prune(ticket, fraction=0.2)
        assert ticket.kept == kept
        assert (ticket.mask <= before).all()


@pytest.mark.parametrize(
    ("operator", "lost", "grown"),
    [(prune_any, 0.5, 0), (mut_regrow, 0, 1 / 3), (swap_any, 0.5, 1 / 3)],
)
def test_what_is_chosen_at_random_is_uniform(operator, lost, grown):
    rng, layout = np.random.default_rng(0), MaskLayout([("w", (30,))], np.arange(30.0))
    before = plain(30).mask
    after = [operator(Ticket(before, layout), fraction=0.5, rng=rng)[0].mask for _ in range(300)]
    changed = np.mean(after ^ before, axis=0)
    assert changed[before] == pytest.approx(lost, abs=0.11 * (lost > 0))
    assert changed[~before] == pytest.approx(grown, abs=0.11 * (grown > 0))


@pytest.mark.parametrize("operator", [prune_any, mut_regrow, swap_any])
def test_an_interval_of_fractions_is_drawn_from_evenly(operator):
    rng, before = np.random.default_rng(0), plain().mask
    after = [operator(Ticket(before), fraction=(0.2, 0.6), rng=rng)[0].mask for _ in range(300)]
    changes = [max((before & ~mask).sum(), (mask & ~before).sum()) for mask in after]
    assert 80 <= min(changes) < 90
    assert 230 < max(changes) <= 240
    assert np.mean(changes) == pytest.approx(160, abs=10)


@quick
@given(drawn=tickets(), fraction=st.floats(0, 1))
def test_regrow_adds_exactly_the_fraction_as_far_as_there_is_room(drawn, fraction):
    ticket, before, _, rng = drawn
    mut_regrow(ticket, fraction=fraction, rng=rng)
    assert (ticket.mask >= before).all()
    assert ticket.kept == min(D, before.sum() + round(fraction * before.sum()))


@quick
@given(drawn=tickets(), fraction=st.floats(0, 1))
def test_swap_keeps_each_layers_count(drawn, fraction):
    ticket, before, sizes, rng = drawn
    mut_swap(ticket, fraction=fraction, rng=rng)
    lost, due = before & ~ticket.mask, smallest(sizes, before, round(fraction * before.sum()))
    assert (lost <= due).all()
    for part in PARTS:
        assert ticket.mask[part].sum() == before[part].sum()
        assert lost[part].sum() == min(due[part].sum(), (~before[part]).sum())


@quick
@given(drawn=tickets(), sigma=st.floats(0.01, 5), by=st.sampled_from(["magnitude", "random"]))
def test_layer_changes_one_layer_and_either_prunes_or_grows(drawn, sigma, by):
    ticket, before, sizes, rng = drawn
    mut_layer(ticket, sigma=sigma, by=by, rng=rng)
    lost, grown = before & ~ticket.mask, ticket.mask & ~before
    assert not (lost.any() and grown.any())
    assert sum((lost | grown)[part].any() for part in PARTS) <= 1
    for part in PARTS:
        assert ticket.mask[part].any()
        if lost[part].any() and by == "magnitude":
            inside = before & (np.arange(D) >= part.start) & (np.arange(D) < part.stop)
            assert np.array_equal(lost, smallest(sizes, inside, lost.sum()))


def test_layer_draws_all_layers_and_a_log_normal_factor():
    layout = MaskLayout([("a", (40, 100)), ("b", (5000,))], np.ones(9000))
    rng, logs = np.random.default_rng(0), np.zeros((400, 2))
    for row in logs:
        (ticket,) = mut_layer(Ticket(np.arange(9000) % 10 == 0, layout), rng=rng)
        row[:] = np.log(np.array(list(ticket.layer_densities.values())) / 0.1)
    changed = logs[logs != 0]
    assert (logs != 0).sum(axis=0) == pytest.approx([200, 200], abs=50)
    assert changed.mean() == pytest.approx(0, abs=0.05)
    assert changed.std() == pytest.approx(0.3, abs=0.04)


@pytest.mark.parametrize(
    ("weights", "shares"),
    [(None, [1 / 3, 1 / 3, 1 / 3]), ((5, 0, 15), [0.25, 0, 0.75]), ([0, 1e-9, 0], [0, 1, 0])],
)
def test_one_of_draws_by_weight_and_hands_on_generator_and_result(weights, shares):
    def spy(individual, *, k, rng):
        assert individual is ticket
        assert rng is source
        return (k,)

    ticket, source = plain(), np.random.default_rng(0)
    operators = [partial(spy, k=k) for k in range(3)]
    drawn = [
        mut_one_of(ticket, operators=operators, weights=weights, rng=source) for _ in range(600)
    ]
    for k, share in enumerate(shares):
        assert drawn.count((k,)) / 600 == pytest.approx(share, abs=0.07 * (0 < share < 1))


UNIT = r"must be in range: expected a finite float in \[0, 1\], got"
FRACTIONS = [
    (-0.1, f"fraction {UNIT} -0.1"),
    (float("nan"), f"fraction {UNIT} nan"),
    (None, "fraction must be a number: .* got NoneType"),
    ((0.1, 2.0), rf"fraction\[1\] {UNIT} 2.0"),
    ((0.3, 0.1), r"fraction must be ordered: expected low <= high, got \(0.3, 0.1\)"),
    ((0.1, 0.2, 0.3), r"fraction must be a pair: expected two numbers \(low, high\)"),
]
CRITERIA = [
    ("magnitud", "by must be a known name: .* Did you mean 'magnitude'"),
    ("magnitude", "by must have weights to go by: .* or prune by='random'"),
]
ONE_OF = partial(mut_one_of, operators=[mut_regrow, mut_regrow])


@pytest.mark.parametrize(
    ("operator", "options", "text"),
    [
        (mut_flip, {"indpb": 1.5}, f"indpb {UNIT} 1.5"),
        (mut_flip, {"indpb": "all"}, "indpb must be a number: .* got str"),
        *[
            (op, {"fraction": f}, s)
            for op in (mut_prune, mut_regrow, mut_swap)
            for f, s in FRACTIONS
        ],
        *[(op, {"by": by}, s) for op in (mut_prune, mut_swap, mut_layer) for by, s in CRITERIA],
        (mut_layer, {"sigma": 0}, r"sigma must be in range: expected a finite float in \(0, inf"),
        (mut_layer, {"sigma": float("inf")}, "sigma must be in range: .* got inf"),
        (mut_one_of, {"operators": []}, "operators must hold mutations: .* at least one, got 0"),
        (ONE_OF, {"weights": [1]}, "weights must have the right length: .* operators = 2, got 1"),
        (ONE_OF, {"weights": [2, -1]}, r"weights must be probabilities: .* got \[2, -1\]"),
        (
            ONE_OF,
            {"weights": [0, 0]},
            "weights must be probabilities: expected all >= 0, not all 0",
        ),
        (ONE_OF, {"weights": [1, float("nan")]}, "weights must be probabilities"),
    ],
)
def test_arguments_that_cannot_be(operator, options, text):
    for seed in range(4):  # the error comes whatever is drawn, and changes nothing
        ticket = plain()
        with pytest.raises((ValueError, TypeError), match=text):
            operator(ticket, rng=np.random.default_rng(seed), **options)
        assert ticket == plain()

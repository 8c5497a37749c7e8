"""Operators on neurons: whole units go and come, and no network is ever cut in two."""

import itertools
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.trained import set_trained

from nets_deap import MaskLayout, Ticket
from nets_deap.evolution.operators import mut_prune
from nets_deap.evolution.operators.neurons import (
    cx_structure,
    mut_columns,
    mut_inputs,
    mut_neurons,
    neuron_saliency,
)
from nets_deap.tickets.live import is_connected, live_units, multiply_adds, unit_norms

MUTATIONS = (mut_neurons, mut_inputs, mut_columns)
quick = settings(deadline=None, max_examples=60)


def layout_of(sizes, seed=0):
    layers = [(f"w{i}", pair[::-1]) for i, pair in enumerate(itertools.pairwise(sizes))]
    size = sum(a * b for a, b in itertools.pairwise(sizes))
    return MaskLayout(layers, np.random.default_rng(seed).normal(size=size))


@st.composite
def tickets(draw, n=1):
    """Draw tickets of one layout without empty layers, half of them trained, and a generator."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=2, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    layout = layout_of(sizes, draw(st.integers(0, 9)))
    found = []
    for _ in range(n):
        mask = rng.random(layout.size) < draw(st.sampled_from([0.0, 0.3, 0.6, 1.0]))
        mask[[layer.start + rng.integers(layer.size) for layer in layout.layers]] = True
        ticket = Ticket(mask, layout)
        if draw(st.booleans()):
            set_trained(ticket, rng.normal(size=ticket.kept))
        found.append(ticket)
    return *found, rng


def weights_of(layout, level, unit):
    """Mark the weights into and out of a unit; level 0 counts inputs."""
    marked = np.zeros(layout.size, dtype=bool)
    parts = list(layout.split(marked).values())
    if level:
        parts[level - 1][unit] = True
    if level < len(parts):
        parts[level][:, unit] = True
    return marked


def values_of(ticket):
    values = np.zeros(len(ticket))
    state = ticket.trained
    values[ticket.mask] = state.values if state else ticket.layout.initial[ticket.mask]
    return values


@quick
@given(tickets(), st.sampled_from(MUTATIONS), st.floats(0, 1))
def test_mutations_only_prune_and_never_disconnect(drawn, operator, fraction):
    ticket, rng = drawn
    before = ticket.mask
    children = operator(ticket, fraction=fraction, rng=rng)
    assert type(children) is tuple
    assert children[0] is ticket
    assert (ticket.mask <= before).all()
    assert ticket.layout.counts(ticket.packed).min() > 0
    assert is_connected(ticket.layout, ticket.mask) == is_connected(ticket.layout, before)


@quick
@given(tickets(), st.sampled_from([mut_neurons, mut_inputs]), st.floats(0, 1))
def test_units_go_whole_in_order_and_as_many_as_asked(drawn, operator, fraction):
    ticket, rng = drawn
    layout, before, norms = ticket.layout, ticket.mask, unit_norms(ticket.layout, values_of(ticket))
    live = live_units(layout, before)
    options = {"noise": 0} if operator is mut_neurons else {}
    operator(ticket, fraction=fraction, rng=rng, **options)
    levels = range(1, len(layout.layers)) if operator is mut_neurons else [0]
    score = {
        (i, j): norms[i][j] / (norms[i][live[i]].mean() if i else 1)
        for i in levels
        for j in np.flatnonzero(live[i])
    }
    order = sorted(score, key=score.get)[: round(fraction * len(score))]
    # Some number of the weakest is gone; one more would cut the network in two.
    expected = before
    for unit in order:
        fewer = expected & ~weights_of(layout, *unit)
        if not is_connected(layout, fewer):
            break
        expected = fewer
    assert np.array_equal(ticket.mask, expected)


@quick
@given(tickets(), st.floats(0, 0.9), st.floats(0, 3), st.floats(0, 3))
def test_columns_takes_the_smallest_scores(drawn, fraction, a, b):
    ticket, rng = drawn
    layout, before = ticket.layout, ticket.mask
    scores, k = neuron_saliency(layout, values_of(ticket), a, b), round(fraction * ticket.kept)
    mut_columns(ticket, fraction=fraction, a=a, b=b, rng=rng)
    lost = before & ~ticket.mask
    kept_on = ticket.mask
    if lost.any() and is_connected(layout, before):
        assert scores[lost].max() <= scores[kept_on].min()
    assert lost.sum() <= k
    order = np.flatnonzero(before)[np.argsort(scores[before], kind="stable")]
    plain = before.copy()
    plain[order[:k]] = False
    if is_connected(layout, plain):
        assert lost.sum() == k
    elif is_connected(layout, before):
        plain[order[lost.sum() : k]] = True
        plain[order[lost.sum()]] = False  # one more
        assert not is_connected(layout, plain)


def test_without_powers_columns_is_pruning_by_magnitude():
    layout = layout_of((20, 12, 8, 4))
    one, other = (Ticket(np.ones(layout.size), layout) for _ in range(2))
    mut_columns(one, fraction=0.6, a=0, b=0.0)
    mut_prune(other, fraction=0.6)
    assert one == other


def test_powers_make_networks_smaller_at_equal_density():
    layout = layout_of((60, 30, 20, 5))
    sizes = []
    for power in (0.0, 1.0, 2.0):
        ticket = Ticket(np.ones(layout.size), layout)
        for _ in range(5):
            mut_columns(ticket, fraction=0.2, a=power, b=power)
        sizes.append(multiply_adds(layout, ticket.mask))
    assert max(sizes[1:]) < 0.7 * sizes[0]


def test_powers_are_drawn_from_their_intervals():
    layout, rng = layout_of((12, 8, 3)), np.random.default_rng(0)

    def children(**powers):
        found = set()
        for _ in range(60):
            ticket = Ticket(np.ones(layout.size), layout)
            mut_columns(ticket, fraction=0.5, rng=rng, **powers)
            found.add(ticket.digest)
        return found

    assert len(children(a=1.0, b=0.5)) == 1
    assert len(children(a=(1, 1), b=(0.5, 0.5)) | children(a=1.0, b=0.5)) == 1
    assert len(children(a=(0, 2), b=0.0)) > 3
    assert len(children(a=0.0, b=(0, 2))) > 3


def test_noise_reaches_beyond_the_very_weakest_but_favours_them():
    layout, rng = layout_of((20, 40, 30, 5)), np.random.default_rng(0)
    norms = unit_norms(layout, layout.initial)
    relative = np.concatenate([norms[1] / norms[1].mean(), norms[2] / norms[2].mean()])
    removed = np.zeros(70)
    for _ in range(300):
        ticket = Ticket(np.ones(layout.size), layout)
        mut_neurons(ticket, fraction=0.1, rng=rng)
        gone = ~np.concatenate(live_units(layout, ticket.mask)[1:3])
        assert gone.sum() == 7
        removed += gone
    order = np.argsort(relative)
    assert (removed > 0).sum() > 30
    assert removed[order[:23]].sum() > 3 * removed[order[-23:]].sum()


@quick
@given(tickets(n=2), st.floats(0, 1))
def test_crossover_swaps_whole_neurons(drawn, p):
    one, other, rng = drawn
    layout, parents = one.layout, (one.mask, other.mask)
    state = rng.bit_generator.state
    cx_structure(one, other, indpb=p, rng=rng)
    rng.bit_generator.state = state
    swap = np.zeros(layout.size, dtype=bool)
    for level, layer in enumerate(layout.layers[:-1], 1):
        for unit in np.flatnonzero(rng.random(layer.shape[0]) < p):
            swap |= weights_of(layout, level, unit)
    for child, own, given_ in ((one, *parents), (other, *parents[::-1])):
        plain = np.where(swap, given_, own)
        assert layout.counts(child.packed).min() > 0
        assert is_connected(layout, child.mask) >= is_connected(layout, own)
        assert (plain <= child.mask).all()
        if is_connected(layout, own):  # what a repair brings back is the child's own
            assert (child.mask & ~plain <= own & swap).all()
        if is_connected(layout, plain):
            assert np.array_equal(child.mask, plain)


def test_crossover_repairs_with_the_strongest_neuron_of_its_own():
    # Each parent is one path through one neuron; the swap leaves the second without inputs.
    layout = layout_of((1, 3, 1))
    w = np.array([5.0, 1.0, 2.0, 5.0, 1.0, 2.0])
    layout = MaskLayout([(la.name, la.shape) for la in layout.layers], w)
    for seed in range(20):
        full, broken = Ticket(np.ones(6), layout), Ticket([0, 0, 0, 1, 1, 1], layout)
        cx_structure(full, broken, indpb=1.0, rng=np.random.default_rng(seed))
        assert broken.mask.tolist() == [1] * 6
        # The child that lost its inputs gets back the neuron of the largest norm, whole.
        assert full.mask.tolist() == [1, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("operator", [partial(op, fraction=1.0) for op in MUTATIONS])
def test_asked_for_everything_one_path_stays(operator):
    layout = layout_of((7, 6, 5, 4))
    ticket = Ticket(np.ones(layout.size), layout)
    operator(ticket, rng=np.random.default_rng(0))
    live = [int(units.sum()) for units in live_units(layout, ticket.mask)]
    assert min(live) >= 1
    if operator.func is mut_neurons:
        assert min(live[1:3]) == 1
    elif operator.func is mut_inputs:
        assert live[0] == 1
    else:
        assert ticket.kept < layout.size / 2


@pytest.mark.parametrize("operator", MUTATIONS)
def test_trained_weights_count_before_initial_ones(operator):
    layout, seen = layout_of((8, 6, 3)), set()
    for values in (None, layout.initial, layout.initial[::-1].copy()):
        ticket = Ticket(np.ones(layout.size), layout)
        if values is not None:
            set_trained(ticket, values)
        options = {"noise": 0} if operator is mut_neurons else {}
        operator(ticket, fraction=0.3, rng=np.random.default_rng(0), **options)
        seen.add(ticket.digest)
    assert len(seen) == 2


FEEDFORWARD, OTHER = (
    layout_of((3, 2, 2)),
    MaskLayout([("a", (2, 3)), ("c", (1, 1, 2, 2))], np.ones(10)),
)
BARE = MaskLayout([("a", (2, 3)), ("b", (2, 2))])
UNIT = r"must be in range: expected a finite float in \[0, 1\], got"


@pytest.mark.parametrize("operator", [*MUTATIONS, cx_structure])
@pytest.mark.parametrize(
    ("layout", "text"),
    [
        (
            OTHER,
            r"layout must be feedforward: fully connected layers in sequence: .* got 'c' of shape",
        ),
        (BARE, r"individual must have weights to go by: .* Give the ticket a layout with initial"),
        (None, "The ticket has no layout"),
    ],
)
def test_tickets_that_do_not_fit(operator, layout, text):
    tickets_ = [Ticket(np.ones(10), layout) for _ in range(2 if operator is cx_structure else 1)]
    if operator is cx_structure and layout is BARE:  # needs no weights
        operator(*tickets_)
        return
    with pytest.raises((ValueError, RuntimeError), match=text):
        operator(*tickets_)
    assert tickets_[0].kept == 10


@pytest.mark.parametrize(
    ("operator", "options", "text"),
    [
        *[(op, {"fraction": 1.5}, f"fraction {UNIT} 1.5") for op in MUTATIONS],
        *[(op, {"fraction": (0.5, 0.1)}, "fraction must be ordered") for op in MUTATIONS],
        (mut_neurons, {"noise": -1}, r"noise must be in range: .*\[0, inf\), got -1.0"),
        (mut_columns, {"a": -1}, r"a must be in range: .*\[0, 10\], got -1.0"),
        (mut_columns, {"b": (0, 11)}, r"b\[1\] must be in range: .*\[0, 10\], got 11.0"),
        (mut_columns, {"b": (2, 1)}, "b must be ordered: expected low <= high"),
        (mut_columns, {"a": "much"}, "a must be a number: .* got str"),
    ],
)
def test_arguments_that_cannot_be(operator, options, text):
    ticket = Ticket(np.ones(10), FEEDFORWARD)
    with pytest.raises((ValueError, TypeError), match=text):
        operator(ticket, **options)
    assert ticket.kept == 10


def test_crossover_arguments():
    one = Ticket(np.ones(10), FEEDFORWARD)
    with pytest.raises(ValueError, match=f"indpb {UNIT} 2.0"):
        cx_structure(one, Ticket(np.ones(10), FEEDFORWARD), indpb=2)
    with pytest.raises(ValueError, match="ind2 must have the layout of ind1"):
        cx_structure(one, Ticket(np.ones(10), BARE))
    with pytest.raises(TypeError, match="individual must be a ticket"):
        mut_neurons([1, 0])


def test_neurons_are_compared_within_their_layer():
    layout, seen = layout_of((6, 8, 8, 4)), set()
    for scale in (1.0, 100.0):
        weights = layout.initial.copy()
        weights[:48] *= scale  # the first layer's, so the first hidden layer is far stronger
        ticket = Ticket(np.ones(layout.size), layout)
        set_trained(ticket, weights)
        mut_neurons(ticket, fraction=0.5, noise=0)
        assert all(0 < units.sum() < 8 for units in live_units(layout, ticket.mask)[1:3])
        seen.add(ticket.digest)
    assert len(seen) == 1

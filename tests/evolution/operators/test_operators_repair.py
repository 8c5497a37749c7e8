"""Repair: children come back into the range of densities, by as few changes as possible."""

import copy
import random

import numpy as np
import pytest
from deap import base
from hypothesis import given, settings
from hypothesis import strategies as st
from support.trained import set_trained

from nets_deap import MaskLayout, Ticket
from nets_deap.evolution.operators import cx_layers, keep_density
from nets_deap.tickets.fitness import fitness_class

SIZES = np.random.default_rng(5).permutation(np.arange(1.0, 64.0))
LAYOUT = MaskLayout([("a", (5, 8)), ("b", (2, 2, 3)), ("c", (11,))], SIZES * (-1) ** np.arange(63))
L, D = len(LAYOUT.layers), LAYOUT.size


def unchanged(*children):
    """Return the children as they are."""
    return children


def repaired(ticket, low, high=1.0, seed=0):
    rng = np.random.default_rng(seed)
    (child,) = keep_density(low, high, rng=rng)(unchanged)(ticket)
    assert child is ticket
    return child.mask


@settings(deadline=None)
@given(
    bits=st.lists(st.booleans(), min_size=D, max_size=D),
    ends=st.tuples(st.integers(L, D), st.integers(L, D)).map(sorted),
    layout=st.sampled_from([LAYOUT, None]),
    seed=st.integers(0, 2**32),
)
def test_density_is_brought_to_the_nearer_end_and_no_layer_is_emptied(bits, ends, layout, seed):
    ticket, before, (least, most) = Ticket(bits, layout), np.array(bits), ends
    after = repaired(ticket, least / D, most / D, seed)
    assert after.sum() == np.clip(before.sum(), least, most)
    assert (after <= before).all() or (after >= before).all()
    for layer in LAYOUT.layers if layout else ():
        part = slice(layer.start, layer.stop)
        assert after[part].any() or not before[part].any()


@pytest.mark.parametrize(
    ("low", "high", "size", "least", "most"),
    [(0.21, 0.59, 10, 3, 5), (0.07, 0.57, 100, 7, 57), (0.01, 0.02, 10, 1, 1)],
)
def test_ends_are_the_first_and_last_counts_within_the_range(low, high, size, least, most):
    assert repaired(Ticket(np.zeros(size)), low, high).sum() == least
    assert repaired(Ticket(np.ones(size)), low, high).sum() == most


@pytest.mark.parametrize("trained", [False, True])
def test_the_smallest_weights_go_but_each_layers_largest_stays(trained):
    ticket, sizes = Ticket(np.ones(D), LAYOUT), SIZES
    if trained:
        sizes = SIZES[::-1].copy()
        set_trained(ticket, -sizes)
    largest = {la.start + int(np.argmax(sizes[la.start : la.stop])) for la in LAYOUT.layers}
    for kept in (40, 10, 4, 3):
        after = repaired(copy.deepcopy(ticket), 0.01, kept / D)
        others = [i for i in np.argsort(-sizes) if i not in largest]
        assert set(np.flatnonzero(after)) == largest | set(others[: kept - L])


def test_no_layer_is_emptied_for_the_range_nor_one_filled_that_was_allowed_to_be_empty():
    ticket = Ticket(np.ones(D), LAYOUT)
    repaired(ticket, 0.01, 1 / D)
    assert LAYOUT.counts(ticket.packed).tolist() == [1, 1, 1]
    assert not repaired(Ticket(np.arange(D) < 40, LAYOUT), 0.01, 0.3)[40:].any()


def test_regrown_weights_and_those_pruned_without_knowing_any_are_random():
    for mask, ends in ((np.zeros(20), (0.5, 1.0)), (np.ones(20), (0.1, 0.5))):
        shares = np.mean([repaired(Ticket(mask), *ends, seed) for seed in range(300)], axis=0)
        assert shares == pytest.approx(0.5, abs=0.13)


def test_a_ticket_in_range_is_left_alone_and_fitness_always_is():
    ticket = Ticket(np.arange(D) < 30, LAYOUT, fitness_class(("loss",), (-1.0,))((0.5,)))
    trained = set_trained(ticket, np.ones(30))
    state = random.getstate()
    keep_density(0.2, 0.6)(unchanged)(ticket)
    assert ticket.trained is trained
    assert random.getstate() == state
    repaired(ticket, 0.9)
    assert ticket.trained is None
    assert ticket.fitness.values == (0.5,)


def test_it_decorates_a_toolbox_and_returns_what_the_operator_returns():
    toolbox = base.Toolbox()
    toolbox.register("mate", cx_layers, indpb=1.0)
    toolbox.decorate("mate", keep_density(0.4, 0.5))
    assert toolbox.mate.func.__name__ == "cx_layers"
    tickets = Ticket(np.arange(D) % 30 == 0, LAYOUT), Ticket(np.ones(D), LAYOUT)
    children = toolbox.mate(*tickets)
    assert [child.kept for child in children] == [31, 26]
    assert all(child is ticket for child, ticket in zip(children, tickets, strict=True))
    assert keep_density(0.5)(unchanged)([0, 0], None) == ([0, 0], None)


def test_seeds_repeat_a_repair():
    def global_seed(seed):
        random.seed(seed)
        return list(keep_density(0.5)(unchanged)(Ticket(np.zeros(50)))[0])

    def given_rng(seed):
        return list(repaired(Ticket(np.zeros(50)), 0.5, seed=seed))

    for run in (global_seed, given_rng):
        assert run(1) == run(1) != run(2)


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((0,), r"\(low, high\)\[0\] must be a density: expected a float in \(0, 1\], got 0.0"),
        ((0.1, 1.1), r"\(low, high\)\[1\] must be a density: .* got 1.1"),
        ((0.5, 0.1), r"\(low, high\) must be ordered: expected low <= high, got \(0.5, 0.1\)"),
        (("0.1",), r"\(low, high\)\[0\] must be a number: .* got str"),
    ],
)
def test_ranges_that_cannot_be(ends, text):
    with pytest.raises((ValueError, TypeError), match=text):
        keep_density(*ends)

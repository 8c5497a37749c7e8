"""Shrinking: how many units and weights are left, which ones, and how the rates evolve."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.trained import set_trained

from nets_deap import MaskLayout, Ticket, operators
from nets_deap.tickets import live

SHAPES = [("a", (30, 40)), ("b", (20, 30)), ("c", (5, 20))]
LAYOUT = MaskLayout(SHAPES, np.random.default_rng(0).normal(size=1900))
LOOSE = [("a", (2, 3)), ("b", (2, 3))]
DENSE = 30 * 40 + 20 * 30 + 5 * 20
unhurried = settings(max_examples=40, deadline=None)


def trained(density=1.0, seed=0):
    rng = np.random.default_rng(seed)
    ticket = Ticket(rng.random(1900) < density, layout=LAYOUT)
    set_trained(ticket, rng.normal(size=ticket.kept))
    return ticket


def live_counts(ticket):
    return [int(units.sum()) for units in live.live_units(LAYOUT, ticket.mask)]


@unhurried
@given(st.floats(0, 0.9), st.floats(0, 1), st.integers(0, 99))
def test_multiply_adds_shrink_by_the_fraction_asked_for(fraction, sigma, seed):
    ticket = trained(seed=seed)
    operators.mut_shrink(
        ticket, fraction=fraction, sigma=sigma, thin=1.0, rng=np.random.default_rng(seed)
    )
    inputs, one, two, outputs = live_counts(ticket)
    # Whole units: half a unit more or less of each level.
    most = (inputs + 0.6) * (one + 0.6) + (one + 0.6) * (two + 0.6) + (two + 0.6) * outputs
    least = (inputs - 0.6) * (one - 0.6) + (one - 0.6) * (two - 0.6) + (two - 0.6) * outputs
    assert least <= (1 - fraction) * DENSE <= most
    assert outputs == 5
    # Units go whole: all weights between those that are left are kept.
    assert ticket.kept == live.multiply_adds(LAYOUT, ticket.mask)


def test_the_weakest_units_go():
    ticket = trained()
    values = np.ones(1900, dtype=np.float32)
    parts = LAYOUT.split(values)
    parts["a"][:, :10] = 0.01
    parts["a"][:8] *= 0.01
    ticket.inherited = None
    set_trained(ticket, values)
    operators.mut_shrink(ticket, fraction=0.35, sigma=0.0, thin=1.0)
    inputs, one, _, _ = live.live_units(LAYOUT, ticket.mask)
    assert inputs[10:].all()
    assert one[8:].all()
    assert (inputs.sum() < 40, one.sum() < 30) == (True, True)


def test_weights_are_thinned_step_by_step_to_the_density_that_suits_the_size():
    ticket = trained()
    operators.mut_shrink(ticket, fraction=0.0, sigma=0.0, thin=0.25)
    assert ticket.kept == round(0.6 * 1900)
    values = np.abs(ticket.inherited.values)
    assert ticket.mask[values > np.quantile(values, 0.41)].all()
    for _ in range(4):
        operators.mut_shrink(ticket, fraction=0.0, sigma=0.0, thin=0.25)
    adds = live.multiply_adds(LAYOUT, ticket.mask)
    assert ticket.kept == round(0.25 * np.sqrt(adds * 1900))


def test_rates_evolve_with_the_ticket_and_decide_where_units_go():
    ticket = trained()
    ticket.adaptation = {"level 0": 3.0, "level 1": -3.0, "level 2": -3.0, "a": 1.0}
    operators.mut_shrink(ticket, fraction=0.4, sigma=0.0, thin=1.0)
    inputs, one, two, _ = live_counts(ticket)
    assert inputs < 24
    assert (one, two) == (30, 20)
    assert ticket.adaptation["level 0"] == pytest.approx(2.7)  # it fades
    assert ticket.adaptation["a"] == 1.0
    before = ticket.adaptation
    operators.mut_shrink(ticket, sigma=0.5, rng=np.random.default_rng(0))
    names = [f"level {i}" for i in range(3)]
    assert len({round(ticket.adaptation[name] - 0.9 * before[name], 6) for name in names}) == 3


@unhurried
@given(st.floats(0, 1), st.floats(0.01, 1), st.floats(0.02, 1), st.integers(0, 99))
def test_it_never_disconnects(fraction, thin, density, seed):
    ticket, rng = trained(density, seed), np.random.default_rng(seed)
    connected = live.is_connected(LAYOUT, ticket.mask)
    before = ticket.mask
    for _ in range(3):
        operators.mut_shrink(ticket, fraction=fraction, thin=thin, rng=rng)
    assert live.is_connected(LAYOUT, ticket.mask) or not connected
    assert not (ticket.mask & ~before).any() or not connected


def test_bad_arguments_are_refused():
    for options, text in (
        ({"fraction": 1.5}, "fraction must be in range"),
        ({"sigma": -1}, "sigma must be in range"),
        ({"thin": 0.0}, "thin must be"),
    ):
        with pytest.raises(ValueError, match=text):
            operators.mut_shrink(trained(), **options)
    with pytest.raises(ValueError, match="layout must be feedforward"):
        operators.mut_shrink(Ticket(np.ones(12), MaskLayout(LOOSE, np.ones(12))))


def test_both_children_of_a_crossover_are_mutated():
    one, two = trained(seed=0), trained(seed=1)
    prune = functools.partial(operators.mut_prune, fraction=0.5)
    children = operators.cx_then_mutate(one, two, cross=operators.cx_average, mutate=prune)
    assert children == (one, two)
    assert [child.kept for child in children] == [950, 950]
    assert one.inherited is two.inherited

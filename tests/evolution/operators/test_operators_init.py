"""Initial tickets: exact counts, and the distributions over layers."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nets_deap import MaskLayout, Ticket
from nets_deap.evolution.operators import init_density, init_log_spaced, layer_counts, random_mask
from nets_deap.tickets.random import DISTRIBUTIONS

LENET = MaskLayout([("fc1", (300, 784)), ("fc2", (100, 300)), ("fc3", (10, 100))])
CONV = MaskLayout([("c1", (4, 1, 3, 3)), ("c2", (8, 4, 3, 3)), ("fc", (10, 8))])
THOUSAND = MaskLayout([("a", (20, 30)), ("b", (20, 20))])
NAMED = {"c1": 0.1, "c2": 1, "fc": 0.5}


class Mine(Ticket):
    """A class of tickets to be filled."""


@pytest.mark.parametrize(
    ("layout", "density", "distribution", "expected"),
    [
        # 53,240 of 266,200, the same 0.2 in each layer.
        (LENET, 0.2, "uniform", [47_040, 6_000, 200]),
        # In + out: 1084, 400, 110; the last layer would need 3,674 of its 1,000 and is filled, the
        # others share 52,240 as 1084 to 400: 38,159.1 and 14,080.9. Kernels: none, so erk = er.
        (LENET, 0.2, "er", [38_159, 14_081, 1_000]),
        (LENET, 0.2, "erk", [38_159, 14_081, 1_000]),
        # 5,324 as 1084 : 400 : 110 is 3,620.6, 1,336.0, 367.4.
        (LENET, 0.02, "erk", [3_621, 1_336, 367]),
        # 27 so shared is 18.4, 6.8, 1.9; five equally dense, 4.4, 0.6, 0.02, and none is empty.
        (LENET, 1e-4, "erk", [18, 7, 2]),
        (LENET, 5 / 266_200, "uniform", [3, 1, 1]),
        # 26,620 as 23,520 : 6,000 : 500 is 20,856.2, 5,320.4, 443.4.
        (LENET, 0.1, {"fc3": 0.5, "fc2": 0.2, "fc1": 0.1}, [20_856, 5_321, 443]),
        (CONV, 0.5, "uniform", [18, 144, 40]),
        # Sums of axes 11, 18, 18; 202 * 11 / 47 = 47 > 36 fills c1; 166 / 2 = 83 > 80 then fc.
        (CONV, 0.5, "erk", [36, 86, 80]),
        # (In + out) * kernel: 45, 108, 18; c1 is filled; 166 as 108 : 18 is 142.3, 23.7.
        (CONV, 0.5, "er", [36, 142, 24]),
        # c1 is filled; 166 over 368 weights of one density is 129.9 and 36.1.
        (CONV, 0.5, {"c1": 1.0, "c2": 0.01, "fc": 0.01}, [36, 130, 36]),
        *[(CONV, 1.0, kind, [36, 288, 80]) for kind in (*DISTRIBUTIONS, NAMED)],
    ],
)
def test_layer_counts_by_hand(layout, density, distribution, expected):
    assert layer_counts(layout, density, distribution).tolist() == expected


@settings(deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=5),
    share=st.floats(0, 1),
    distribution=st.sampled_from(DISTRIBUTIONS),
)
def test_tickets_have_exact_counts_in_all_and_in_each_layer(shapes, share, distribution):
    layout = MaskLayout([(f"layer{i}", shape) for i, shape in enumerate(shapes)])
    least = len(shapes) / layout.size
    density = least + share * (1 - least)
    counts = layer_counts(layout, density, distribution)
    assert counts.sum() == round(density * layout.size)
    assert (counts >= 1).all()
    assert (counts <= layout.sizes()).all()
    ticket = init_density(Mine, layout, density=density, distribution=distribution)
    assert type(ticket) is Mine
    assert ticket.layout is layout
    assert layout.counts(ticket.packed).tolist() == counts.tolist()


def test_every_weight_is_as_likely():
    layout, rng = MaskLayout([("a", (2, 5)), ("b", (4,))]), np.random.default_rng(0)
    shares = np.mean([random_mask(layout, np.array([3, 1]), rng) for _ in range(2000)], axis=0)
    assert shares == pytest.approx(np.repeat([0.3, 0.25], [10, 4]), abs=0.05)


@pytest.mark.parametrize(
    ("n", "options", "kept"),
    [
        (5, {"low": 0.01}, [1000, 316, 100, 32, 10]),
        (2, {}, [1000, 20]),
        (1, {"low": 0.1, "high": 0.3}, [300]),
        (0, {}, []),
        # At least one weight for each of the two layers.
        (3, {"low": 1e-6, "high": 0.2}, [200, 20, 2]),
        (2, {"low": 1e-6, "high": 1e-5}, [2, 2]),
    ],
)
def test_log_spaced_population(n, options, kept):
    tickets = init_log_spaced(Mine, THOUSAND, n, **options)
    assert [ticket.kept for ticket in tickets] == kept
    assert all(type(ticket) is Mine and ticket.layout is THOUSAND for ticket in tickets)


def test_defaults_and_distribution_are_handed_on():
    erk = init_density(Ticket, LENET)
    assert LENET.counts(erk.packed).tolist() == [38_159, 14_081, 1_000]
    erk, same = init_log_spaced(Ticket, LENET, 2, low=0.2, high=0.2)
    assert LENET.counts(erk.packed).tolist() == [38_159, 14_081, 1_000]
    assert erk != same
    (uniform,) = init_log_spaced(Ticket, LENET, 1, high=0.2, distribution="uniform")
    assert LENET.counts(uniform.packed).tolist() == [47_040, 6_000, 200]


def test_seeds_repeat_a_population():
    def given_rng(seed):
        return init_log_spaced(Ticket, THOUSAND, 3, rng=np.random.default_rng(seed))

    def global_seed(seed):
        random.seed(seed)
        return [init_density(Ticket, THOUSAND), *init_log_spaced(Ticket, THOUSAND, 3)]

    for run in (given_rng, global_seed):
        assert run(1) == run(1) != run(2)


@pytest.mark.parametrize(
    ("density", "distribution", "text"),
    [
        (0, "erk", r"density must be a density: expected a float in \(0, 1\], got 0.0"),
        (1.5, "erk", r"density must be a density: expected a float in \(0, 1\], got 1.5"),
        ("0.2", "erk", "density must be a number: .* got str"),
        (0.002, "erk", "density must leave every layer a weight: .* L / D = 3 / 404, got 0.002"),
        (0.2, "erkk", "one of 'uniform', 'er', 'erk', got 'erkk'. Did you mean 'erk'"),
        (0.2, {"c1": 0.1, "fc": 1}, r"distribution must name all layers: expected also \['c2'\]"),
        (0.2, NAMED | {"fc": 0}, r"fc must be a density: expected a float in \(0, 1\], got 0.0"),
        (0.2, NAMED | {"c3": 1}, "layer must be a known name: .* got 'c3'. Did you mean"),
    ],
)
def test_counts_that_cannot_be(density, distribution, text):
    with pytest.raises((ValueError, TypeError), match=text):
        init_density(Ticket, CONV, density=density, distribution=distribution)


@pytest.mark.parametrize(
    ("n", "options", "text"),
    [
        (-1, {}, "n must be in range: expected an int >= 0, got -1"),
        (2.0, {}, "n must be a whole number: expected an int >= 0, got float"),
        (2, {"low": 0.5, "high": 0.1}, r"\(low, high\) must be ordered: .* got \(0.5, 0.1\)"),
        (2, {"low": 0}, r"\(low, high\)\[0\] must be a density"),
        (2, {"high": 1.01}, r"\(low, high\)\[1\] must be a density"),
    ],
)
def test_populations_that_cannot_be(n, options, text):
    with pytest.raises((ValueError, TypeError), match=text):
        init_log_spaced(Ticket, CONV, n, **options)

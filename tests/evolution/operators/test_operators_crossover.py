"""Crossover: genes are conserved, wholes move whole, densities lie between the parents'."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nets_deap import MaskLayout, Ticket, operators
from nets_deap.evolution.operators import cx_interpolate, cx_layers, cx_neurons, cx_uniform

SWAPS = (cx_uniform, cx_layers, cx_neurons)
quick = settings(deadline=None, max_examples=60)


@st.composite
def pairs(draw):
    """Draw a layout, two masks (D,) that share a weight in each layer, and a generator."""
    shapes = st.sampled_from([(1,), (7,), (2, 5), (3, 2, 2)])
    drawn = draw(st.lists(shapes, min_size=1, max_size=4))
    layout = MaskLayout([(f"layer{i}", shape) for i, shape in enumerate(drawn)])
    d, bits = layout.size, st.tuples(st.booleans(), st.booleans())
    one, other = np.array(draw(st.lists(bits, min_size=d, max_size=d))).T
    for layer in layout.layers:
        one[layer.start] = other[layer.start] = True
    return layout, one, other, np.random.default_rng(draw(st.integers(0, 2**32)))


def crossed(operator, layout, one, other, rng, **options):
    children = operator(Ticket(one, layout), Ticket(other, layout), rng=rng, **options)
    return [child.mask for child in children]


@pytest.mark.parametrize("operator", SWAPS)
@quick
@given(drawn=pairs(), indpb=st.sampled_from([0, 0.3, 0.5, 1.0]))
def test_wholes_move_whole_and_genes_are_conserved_at_each_locus(operator, drawn, indpb):
    def units(mask):
        parts = [mask] if operator is cx_uniform else list(layout.split(mask).values())
        return parts if operator is cx_layers else [unit for part in parts for unit in part]

    layout, one, other, rng = drawn
    children = crossed(operator, layout, one, other, rng, indpb=indpb)
    for found in zip(*map(units, (one, other, *children)), strict=True):
        a, b, first, second = (unit.tolist() for unit in found)
        assert (first, second) in [(a, b)] * (indpb < 1) + [(b, a)] * (indpb > 0)


@pytest.mark.parametrize("indpb", [0.1, 0.5, 0.8])
@pytest.mark.parametrize(
    ("operator", "shapes"),
    [
        (cx_uniform, [(40_000,)]),
        (cx_layers, [(2, 2)] * 2000),
        (cx_neurons, [(5_000, 3), (5_000, 1, 2)]),
    ],
)
def test_as_many_swaps_as_asked_for(operator, shapes, indpb):
    layout = MaskLayout([(f"layer{i}", shape) for i, shape in enumerate(shapes)])
    ones, few = np.ones(layout.size, bool), np.zeros(layout.size, bool)
    few[[layer.start for layer in layout.layers]] = True
    first, second = crossed(operator, layout, ones, few, np.random.default_rng(0), indpb=indpb)
    assert second[~few].mean() == pytest.approx(indpb, abs=0.04)
    assert np.array_equal(~first[~few], second[~few])


def test_layers_move_also_where_they_leave_an_empty_one():
    layout, rng = MaskLayout([("a", (2,)), ("b", (3,))]), np.random.default_rng(0)
    one, other = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 0, 1]], dtype=bool)
    found = {str(crossed(cx_layers, layout, one, other, rng)[0].astype(int)) for _ in range(40)}
    assert {"[1 1 0 0 0]", "[1 1 1 0 1]", "[0 0 1 0 1]"} < found
    assert found - {"[1 1 0 0 0]", "[1 1 1 0 1]", "[0 0 1 0 1]"} <= {"[1 0 0 0 0]", "[0 1 0 0 0]"}


@quick
@given(drawn=pairs())
def test_interpolation_lies_between_the_parents(drawn):
    layout, one, other, rng = drawn
    children = crossed(cx_interpolate, layout, one, other, rng)
    kept = [int(child.sum()) for child in children]
    assert sum(kept) == one.sum() + other.sum()
    assert min(one.sum(), other.sum()) <= min(kept)
    for child in children:
        assert (((one & other) <= child) & (child <= (one | other))).all()


def test_interpolation_is_spread_evenly_over_densities_and_weights():
    layout, rng = MaskLayout([("a", (20, 10))]), np.random.default_rng(0)
    one, other = np.arange(200) < 20, np.arange(200) % 2 == 0
    drawn = np.array([crossed(cx_interpolate, layout, one, other, rng) for _ in range(600)])
    kept = drawn.sum(axis=2)[:, 0]
    assert kept.mean() == pytest.approx(60, abs=4)
    assert kept.std() == pytest.approx(80 / np.sqrt(12), abs=2)
    assert drawn[:, :, one ^ other].mean(axis=(0, 1)) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("operator", [cx_uniform, cx_neurons, cx_interpolate])
def test_a_layer_about_to_be_empty_keeps_a_weight_of_its_own(operator):
    layout, emptied = MaskLayout([("a", (2, 4)), ("b", (5, 1))]), 0
    one, other = np.zeros((2, 13), bool)
    one[[0, 1, 8, 9]] = other[[0, 5, 11]] = True
    for seed in range(60):
        mended, free = (
            crossed(operator, layout, one, other, np.random.default_rng(seed), **options)
            for options in ({}, {"allow_empty_layers": True})
        )
        assert all(child[8:].any() and (child <= (one | other)).all() for child in mended)
        # Mending draws random numbers, so only what was drawn before it can be compared.
        same = 1 if operator is cx_interpolate else 2
        for child, raw, parent in list(zip(mended, free, (one, other), strict=True))[:same]:
            empty, added = not raw[8:].any(), child & ~raw
            assert ((raw <= child) & (added <= parent)).all()
            assert added[8:].sum() == added.sum() == empty
            emptied += empty
    assert emptied > 0


@pytest.mark.parametrize("operator", operators.CROSSOVERS)
def test_parents_that_cannot_be_crossed(operator):
    ticket = Ticket([1, 0, 1])
    with pytest.raises(TypeError, match=r"individual must be a ticket: .* nets.Ticket, got list"):
        operator(ticket, [1, 0, 1])
    with pytest.raises(TypeError, match=r"individual must be a ticket: .* nets.Ticket, got tuple"):
        operator((1, 0, 1), ticket)
    with pytest.raises(ValueError, match=r"ind2 must have the right length: .* of ind1 = 3, got 2"):
        operator(ticket, Ticket([1, 0]))


@pytest.mark.parametrize("operator", SWAPS)
@pytest.mark.parametrize("indpb", [-0.1, 1.1, float("nan"), "0.5", True])
def test_probabilities_that_cannot_be(operator, indpb):
    text = r"indpb must be (in range|a number): expected a finite float in \[0, 1\], got"
    with pytest.raises((ValueError, TypeError), match=text):
        operator(Ticket([1, 0]), Ticket([0, 1]), indpb=indpb)


def test_averaging_one_child_leaves_the_other_parent_as_it_is():
    layout = MaskLayout([("a", (10, 12)), ("b", (3, 10))], np.arange(150.0) - 70)
    parents = [operators.init_density(Ticket, layout, density=d) for d in (0.5, 0.3)]
    for options in ({}, {"noise": 0.2}):
        both, one = ([copy.deepcopy(parent) for parent in parents] for _ in range(2))
        operators.cx_average(*both, rng=np.random.default_rng(0), **options)
        operators.cx_average(*one, both=False, rng=np.random.default_rng(0), **options)
        assert one[0] == both[0] != parents[0]
        assert one[1] == parents[1] != both[1]
        assert one[1].inherited is None

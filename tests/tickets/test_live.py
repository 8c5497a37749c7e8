"""Live units: liveness against all paths by brute force, and what follows from it."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nets_deap import MaskLayout
from nets_deap.models import lenet_300_100
from nets_deap.tickets.live import (
    check_feedforward,
    is_connected,
    live_inputs,
    live_units,
    multiply_adds,
    neuron_saliency,
    unit_norms,
)

quick = settings(deadline=None, max_examples=80)


def feedforward(sizes):
    """Return the layout of a fully connected network of these sizes, inputs first."""
    return MaskLayout([(f"w{i}", pair[::-1]) for i, pair in enumerate(itertools.pairwise(sizes))])


@st.composite
def masks(draw):
    """Draw sizes of a tiny network, its layout and a mask (D,), often disconnected."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    layout = feedforward(sizes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return sizes, layout, rng.random(layout.size) < draw(st.sampled_from([0.1, 0.3, 0.6, 1.0]))


@quick
@given(masks())
def test_live_units_are_those_on_a_path(drawn):
    sizes, layout, mask = drawn
    gates = list(layout.split(mask).values())
    live = [np.zeros(n, dtype=bool) for n in sizes]
    live[-1][:] = True
    for path in itertools.product(*map(range, sizes)):
        if all(gate[path[i + 1], path[i]] for i, gate in enumerate(gates)):
            for units, unit in zip(live, path, strict=True):
                units[unit] = True
    found = live_units(layout, mask)
    assert [units.tolist() for units in found] == [units.tolist() for units in live]
    counts = [units.sum() for units in live]
    assert multiply_adds(layout, mask) == sum(a * b for a, b in itertools.pairwise(counts))
    assert live_inputs(layout, mask) == counts[0]
    assert is_connected(layout, mask) == (counts[0] > 0)


@quick
@given(masks(), st.integers(0, 2**32))
def test_pruning_never_adds(drawn, seed):
    _, layout, mask = drawn
    fewer = mask & (np.random.default_rng(seed).random(mask.size) < 0.7)
    assert multiply_adds(layout, fewer) <= multiply_adds(layout, mask)
    assert live_inputs(layout, fewer) <= live_inputs(layout, mask)
    for less, more in zip(live_units(layout, fewer), live_units(layout, mask), strict=True):
        assert (less <= more).all()


def test_lenet():
    layout = MaskLayout.of(lenet_300_100())
    mask = np.ones(layout.size, dtype=bool)
    assert multiply_adds(layout, mask) == 266_200
    first, _, last = layout.split(mask).values()
    first[:, 196:] = False
    first[81:] = False  # constant
    last[:, 54:] = False  # dead
    assert live_inputs(layout, mask) == 196
    assert multiply_adds(layout, mask) == 196 * 81 + 81 * 54 + 54 * 10


@quick
@given(masks(), st.floats(0, 3), st.floats(0, 3))
def test_saliency_is_magnitude_times_powers_of_both_units(drawn, a, b):
    sizes, layout, mask = drawn
    weights = np.random.default_rng(1).normal(size=layout.size) * mask
    parts = list(layout.split(weights).values())
    scores = layout.split(neuron_saliency(layout, weights, a, b))
    for i, (part, score) in enumerate(zip(parts, scores.values(), strict=True)):
        for j, k in np.ndindex(*part.shape):
            expected = abs(part[j, k])
            if i == 0:
                expected *= np.linalg.norm(part[:, k]) ** a
            else:
                expected *= (np.linalg.norm(parts[i - 1][k]) * np.linalg.norm(part[:, k])) ** b
            if i + 1 < len(parts):
                expected *= (np.linalg.norm(part[j]) * np.linalg.norm(parts[i + 1][:, j])) ** b
            assert score[j, k] == pytest.approx(expected, rel=1e-9, abs=1e-15)
    assert [len(norms) for norms in unit_norms(layout, weights)] == sizes[:-1]


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ([("conv", (4, 1, 3, 3)), ("fc", (2, 4))], r"every shape \(out, in\), got 'conv' of shape"),
        (
            [("bias", (3,))],
            r"got 'bias' of shape \(3,\)\. Live units are defined where all weights",
        ),
        (
            [("read.weight_ih_l0", (3, 2)), ("read.weight_hh_l0", (3, 3)), ("out", (2, 3))],
            r"no recurrent layers, got 'read\.weight_ih_l0'",
        ),
        (
            [("a", (3, 2)), ("c", (1, 4))],
            r"each layer's in = the out of the layer before, got 'c' of shape \(1, 4\) after 'a'",
        ),
    ],
)
def test_other_layouts_are_refused_by_name(layers, text):
    layout = MaskLayout(layers)
    ones = np.ones(layout.size, dtype=bool)
    for call in (live_units, multiply_adds, live_inputs, is_connected):
        with pytest.raises(
            ValueError, match="layout must be feedforward: fully connected .*" + text
        ):
            call(layout, ones)
    with pytest.raises(ValueError, match=text):
        neuron_saliency(layout, ones.astype(float), 1, 1)
    with pytest.raises(ValueError, match=text):
        check_feedforward(layout)


def test_a_mask_of_another_length_is_refused():
    with pytest.raises(ValueError, match="mask must have the right length: expected D = 8, got 7"):
        live_units(feedforward([2, 2, 2]), np.ones(7, dtype=bool))

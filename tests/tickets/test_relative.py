"""Saliency relative to layers, by hand and by what it promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nets_deap.tickets.relative import relative

SPANS = [slice(0, 3), slice(3, 5)]


def test_scores_by_hand():
    found = relative(np.array([3.0, 0.0, 4.0, 2.0, 2.0]), SPANS)
    np.testing.assert_allclose(found[:3], [3 / 5, 0, 1])
    assert sorted(found[3:]) == pytest.approx([np.sqrt(0.5), 1])


def test_costs_divide_the_energy():
    sizes = np.array([3.0, 1.0, 4.0, 2.0, 1.0])
    found = relative(sizes, SPANS, np.array([9.0, 1.0]))
    np.testing.assert_allclose(found[:3], relative(sizes, SPANS)[:3] / np.sqrt(3))
    np.testing.assert_allclose(found[3:], relative(sizes, SPANS)[3:])


def test_layers_without_weights_or_energy_are_worth_nothing():
    assert relative(np.zeros(0), [slice(0, 0)]).shape == (0,)
    assert relative(np.zeros(2), [slice(0, 2)]).tolist() == [0, 0]
    big = relative(np.array([1e-30, 1e30], dtype=np.float32), [slice(0, 2)])
    assert np.isfinite(big).all()
    assert big[1] == 1


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 100, width=32), min_size=1, max_size=30), st.integers(0, 30))
def test_within_a_layer_the_order_stays_and_no_scale_matters(numbers, cut):
    sizes, cut = np.array(numbers), min(cut, len(numbers))
    spans = [slice(0, cut), slice(cut, len(sizes))]
    found = relative(sizes, spans)
    assert ((found >= 0) & (found <= 1)).all()
    for span in spans:
        order = np.argsort(found[span], kind="stable")
        assert (np.diff(sizes[span][order]) >= 0).all()
        if sizes[span].any():
            assert found[span].max() == 1
    scaled = sizes.copy()
    scaled[:cut] *= 4
    np.testing.assert_allclose(relative(scaled, spans), found, rtol=1e-9, atol=1e-12)

"""Layouts: which weights are maskable, and flat vectors <-> named tensors."""

import gc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nets_deap.errors import CallOrderError, InvalidTypeError, InvalidValueError
from nets_deap.models.tensors import digest_of
from nets_deap.tickets import bits
from nets_deap.tickets.layout import Layer, MaskLayout, known_layout

unhurried = settings(deadline=None)
shapes = st.lists(
    st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple), min_size=1, max_size=5
)


def lay_out(shapes, initial=None):
    return MaskLayout([(f"w{i}", shape) for i, shape in enumerate(shapes)], initial)


class Net(nn.Module):
    """Convolution, batch norm, a linear layer, and a linear layer tied to the first one."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.one = nn.Linear(4, 4)
        self.two = nn.Linear(4, 4)
        self.two.weight = self.one.weight
        self.scale = nn.Parameter(torch.ones(3))


# ---- the vector and its layers


@unhurried
@given(shapes, st.integers(0, 3))
def test_split_and_join_are_inverse(shapes, n_vectors):
    layout = lay_out(shapes)
    flat = np.arange(layout.size, dtype=np.float32)
    parts = layout.split(flat)
    assert [parts[name].shape for name in layout.names] == shapes
    assert all(np.shares_memory(part, flat) for part in parts.values())
    np.testing.assert_array_equal(layout.join(parts), flat)
    vectors = np.arange(n_vectors * layout.size).reshape(n_vectors, layout.size)
    parts = layout.split(vectors)
    for row in range(n_vectors):
        one = {name: part[row] for name, part in parts.items()}
        np.testing.assert_array_equal(layout.join(one), vectors[row])


@unhurried
@given(shapes, st.integers(0, 2**32 - 1))
def test_layers_tile_the_mask_and_counts_are_per_layer(shapes, seed):
    layout = lay_out(shapes)
    assert [layer.start for layer in layout.layers] == [0, *np.cumsum(layout.sizes())[:-1]]
    assert layout.layers[-1].stop == layout.size == layout.sizes().sum()
    mask = np.random.default_rng(seed).random(layout.size) < 0.5
    expected = [np.count_nonzero(part) for part in layout.split(mask).values()]
    assert layout.counts(bits.pack(mask)).tolist() == expected


def test_a_layer_knows_its_size_place_and_row():
    layer = Layer("conv", (8, 4, 3, 3), 10)
    assert (layer.size, layer.stop, layer.row) == (288, 298, 36)
    layout = lay_out([(2, 2), (3,)])
    assert layout.layer("w1") == Layer("w1", (3,), 4)
    assert repr(layout) == "MaskLayout(7 weights: w0 (2, 2), w1 (3,))"


# ---- initial weights and the key


def test_the_initial_weights_are_a_read_only_copy():
    weights = np.arange(3, dtype=np.float32)
    layout = lay_out([(3,)], weights)
    weights[0] = 7
    assert layout.require_initial().tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="read-only"):
        layout.initial[0] = 1


def test_the_key_depends_on_names_shapes_and_initial_weights_alone():
    weights = np.arange(4, dtype=np.float32)
    key = MaskLayout([("a", (2, 2))], weights).key
    assert MaskLayout([["a", [2, 2]]], weights.astype(">f4")).key == key
    assert MaskLayout([("a", (2, 2))], initial_digest=digest_of(weights)).key == key
    others = [
        MaskLayout([("b", (2, 2))], weights),
        MaskLayout([("a", (4,))], weights),
        MaskLayout([("a", (2, 2))], weights + 1),
        MaskLayout([("a", (2, 2))], weights.astype(np.float64)),
        MaskLayout([("a", (2, 2))]),
    ]
    assert len({key, *(other.key for other in others)}) == 6


def test_the_registry_holds_nothing_alive_and_prefers_layouts_with_initial_weights():
    weights = np.linspace(2, 3, 6)
    bare = MaskLayout([("a", (6,))], initial_digest=digest_of(weights))
    key = bare.key
    assert known_layout(key) is bare
    full = MaskLayout([("a", (6,))], weights)
    later = MaskLayout([("a", (6,))], initial_digest=digest_of(weights))
    assert known_layout(key) is full
    with pytest.raises(CallOrderError, match=r"only their digest.*include_initial=True"):
        later.require_initial()
    del bare, full, later
    gc.collect()
    assert known_layout(key) is None


# ---- of a model


def test_linear_and_convolutional_weights_are_maskable_tied_ones_once():
    net = Net()
    layout = MaskLayout.of(net)
    assert layout.names == ("conv.weight", "one.weight")
    named = dict(net.named_parameters())
    for name, part in layout.split(layout.initial).items():
        np.testing.assert_array_equal(part, named[name].detach().numpy())
    with torch.no_grad():
        net.one.weight.zero_()
    assert np.count_nonzero(layout.initial[18:]) > 0


@pytest.mark.parametrize(
    ("maskable", "names"),
    [
        ("*.bias", ("conv.bias", "norm.bias", "one.bias", "two.bias")),
        (["conv.weight", "scale"], ("scale", "conv.weight")),
        (["o*", "one.weight"], ("one.weight", "one.bias")),
        (lambda name, parameter: parameter.ndim == 4, ("conv.weight",)),
    ],
)
def test_maskable_selects_by_name_pattern_and_predicate(maskable, names):
    assert MaskLayout.of(Net(), maskable).names == names


# ---- errors


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ([], r"layers must hold weights: expected at least one layer"),
        ([("a", (2, 0))], r"layers must hold weights"),
        ([("a", (-2, -3))], r"layers must hold weights"),
        ([("a", (2,)), ("a", (3,))], r"layers must have names of their own: expected each name"),
    ],
)
def test_bad_layers_are_refused(layers, text):
    with pytest.raises(InvalidValueError, match=text):
        MaskLayout(layers)


def test_shapes_and_names_that_do_not_fit_are_refused():
    layout = lay_out([(2, 2), (3,)])
    parts = layout.split(np.zeros(7))
    cases = [
        (r"initial must .*\(D,\) = \(7,\), got \(6,\)", lay_out, [(7,)], np.zeros(6)),
        (r"flat must .*\(P, D\) with D = 7, got \(6,\)", layout.split, np.zeros(6)),
        (r"flat must .*\(P, D\) with D = 7, got \(\)", layout.split, np.array(1.0)),
        (r"'w1'\] must .*\(3,\), got \(4,\)", layout.join, {**parts, "w1": np.zeros(4)}),
        (r"tensors must name every layer once", layout.join, {"w0": parts["w0"]}),
        (r"tensors must name every layer once", layout.join, {**parts, "w2": np.zeros(1)}),
        (r"mask must .*D = 7, got 8.*another layout", layout.check_bits, 8),
        (r"one of 'w0', 'w1', got 'w_1'\. Did you mean", layout.layer, "w_1"),
    ]
    for text, call, *arguments in cases:
        with pytest.raises(InvalidValueError, match=text):
            call(*arguments)


@pytest.mark.parametrize(
    ("model", "maskable", "text"),
    [
        (nn.ReLU, None, r"maskable must .*two or more dimensions, got ReLU with"),
        (Net, lambda name, parameter: False, r"maskable must .*Let the predicate accept"),
        (Net, [], r"maskable must select weights: expected some of"),
        (Net, ["one.weight", "conf.weight"], r"maskable .*Did you mean 'conv\.weight'"),
    ],
)
def test_a_selection_without_weights_is_refused(model, maskable, text):
    with pytest.raises(InvalidValueError, match=text):
        MaskLayout.of(model(), maskable)


def test_weights_that_are_not_floating_are_refused():
    net = nn.Module()
    net.codes = nn.Parameter(torch.zeros(3, dtype=torch.int8), requires_grad=False)
    with pytest.raises(InvalidTypeError, match="codes must be maskable: expected a floating-point"):
        MaskLayout.of(net, "codes")

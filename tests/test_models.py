"""Models: shapes, initial weights, and seeds."""

import math

import numpy as np
import pytest
import torch

from nets_deap.models import MLP, lenet5, lenet_300_100, xor_mlp


def test_published_sizes():
    lenet, xor = lenet_300_100(), xor_mlp(7)
    assert [layer.weight.numel() for layer in lenet.layers] == [235_200, 30_000, 1_000]
    assert sum(p.numel() for p in lenet.parameters()) == 266_200 + 410
    assert lenet(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert sum(layer.weight.numel() for layer in xor.layers) == 21


def test_weights_are_gaussian_glorot_and_biases_zero():
    for layer in lenet_300_100(seed=3).layers[:2]:
        weight, std = layer.weight.detach(), math.sqrt(2 / sum(layer.weight.shape))
        assert float(weight.std()) == pytest.approx(std, rel=0.02)
        assert abs(float(weight.mean())) < 5 * std / math.sqrt(weight.numel())
        assert float(weight.abs().max()) > 3.5 * std, "uniform, not Gaussian"
        assert not layer.bias.any()


def test_a_seed_decides_the_weights_and_no_global_state():
    state = torch.get_rng_state()
    one, same, other = (MLP((4, 3), seed=s).layers[0].weight for s in (1, np.int64(1), 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_the_forward_pass_by_hand(activation):
    model, x = MLP((6, 4, 2), activation=activation), torch.randn(3, 2, 3)
    first, last = model.layers
    hidden = getattr(torch, activation)(x.reshape(3, 6) @ first.weight.T + first.bias)
    torch.testing.assert_close(model(x), hidden @ last.weight.T + last.bias)


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ((3,), {}, r"sizes must name two layers: expected at least 2 sizes, got \(3,\)"),
        ((3, 0), {}, r"sizes\[1\] must be in range: expected an int >= 1, got 0"),
        ((3, 2.0), {}, r"sizes\[1\] must be a whole number: .*got float"),
        ((3, 2), {"activation": "rleu"}, r"activation must be a known name: .*mean 'relu'\?"),
        ((3, 2), {"seed": 2**63}, r"seed must be in range"),
    ],
)
def test_bad_arguments(sizes, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        MLP(sizes, **options)


def test_lenet5_has_the_published_sizes_and_glorot_weights():
    model, state = lenet5(seed=2), torch.get_rng_state()
    weights = [p for p in model.parameters() if p.ndim > 1]
    assert [p.numel() for p in weights] == [150, 2400, 48_000, 10_080, 840]
    assert model(torch.zeros(3, 1, 28, 28)).shape == (3, 10)
    filters = weights[1].detach()
    assert float(filters.std()) == pytest.approx(math.sqrt(2 / (25 * (6 + 16))), rel=0.05)
    assert not any(p.any() for p in model.parameters() if p.ndim == 1)
    assert torch.equal(lenet5(seed=2)[7].weight, model[7].weight)
    assert not torch.equal(lenet5(seed=3)[7].weight, model[7].weight)
    assert torch.equal(torch.get_rng_state(), state)

"""Models: shapes, initial weights, and seeds."""

import math

import numpy as np
import pytest
import torch

from nets_deap.models import MLP, ResNet, conv, lenet5, lenet_300_100, resnet20, xor_mlp
from nets_deap.models.resnet import BasicBlock


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


@pytest.mark.parametrize(
    ("depth", "image", "weights"),
    [
        (2, (3, 32, 32), 38_592 + 4_262_400),  # 64 * 16 * 16 * 256 + 256 * 256 + 2560
        (4, (3, 32, 32), 259_776 + 2_165_248),
        (6, (3, 32, 32), 1_144_512 + 1_116_672),
        (2, (1, 28, 28), 37_440 + 3_279_360),
    ],
)
def test_conv_networks_have_the_published_layers(depth, image, weights):
    model, state = conv(depth, image=image, seed=1), torch.get_rng_state()
    convolutions = [m for m in model if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == depth
    assert sum(isinstance(m, torch.nn.MaxPool2d) for m in model) == depth // 2
    maskable = [p for p in model.parameters() if p.ndim > 1]
    assert sum(p.numel() for p in maskable) == weights
    assert model(torch.zeros(2, *image)).shape == (2, 10)
    one = convolutions[1].weight
    assert float(one.detach().std()) == pytest.approx(math.sqrt(2 / (9 * 128)), rel=0.03)
    assert torch.equal(conv(depth, image=image, seed=1)[0].weight, model[0].weight)
    assert not torch.equal(conv(depth, image=image, seed=2)[0].weight, model[0].weight)
    assert torch.equal(torch.get_rng_state(), state)


def test_resnet20_has_the_published_size_and_halves_twice():
    state = torch.get_rng_state()
    model = resnet20(seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert sum(p.numel() for p in model.parameters()) == 269_722
    assert sum(isinstance(m, torch.nn.Conv2d) for m in model.modules()) == 19
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert model.blocks(torch.randn(2, 16, 32, 32)).shape == (2, 64, 8, 8)
    wide = model.blocks[-1].conv2.weight.detach()
    assert float(wide.std()) == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.02)
    same, other = resnet20(seed=3), resnet20(seed=4)
    assert torch.equal(same.blocks[4].conv1.weight, model.blocks[4].conv1.weight)
    assert not torch.equal(other.linear.weight, model.linear.weight)
    assert ResNet(1, channels=1, classes=3)(torch.randn(2, 1, 16, 16)).shape == (2, 3)


def test_a_block_without_weights_is_its_shortcut():
    block = BasicBlock(4, 8, 2).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.rand(2, 4, 6, 6)
    found = block(x)
    torch.testing.assert_close(found[:, 2:6], x[:, :, ::2, ::2])
    assert not found[:, :2].any()
    assert not found[:, 6:].any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: conv(3), r"depth must be that of a published network: expected 2, 4 or 6, got 3"),
        (lambda: conv(2, image=(28, 28)), r"image must be a shape: .*got \(28, 28\)"),
        (lambda: conv(2, image=(1, 28, 4)), r"image\[2\] must be in range: expected an int >= 8"),
        (lambda: conv(2, classes=0), r"classes must be in range"),
        (lambda: resnet20(seed=-1), r"seed must be in range"),
        (lambda: ResNet(0), r"n must be in range"),
        (lambda: lenet5(classes=0), r"classes must be in range"),
    ],
)
def test_bad_arguments_of_convolutional_networks(make, message):
    with pytest.raises(ValueError, match=message):
        make()

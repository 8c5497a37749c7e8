"""Convolutional networks: LeNet-5, and Conv-2, Conv-4 and Conv-6."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from nets_deap import _checks

PLANS = {2: (64, 64), 4: (64, 64, 128, 128), 6: (64, 64, 128, 128, 256, 256)}


@_checks.signed
def lenet5(*, classes: int = 10, seed: int = 0) -> nn.Sequential:
    """Return LeNet-5 for 28x28 images with ReLU and max pooling: 61,470 maskable weights.

    Weights are drawn from the Gaussian Glorot distribution, biases start at zero.

    Args:
        classes: Outputs.
        seed: Seed of the initial weights; the global random state stays untouched.

    Reference:
        LeCun et al. 1998, Gradient-based learning applied to document recognition.
    """
    n, draw = _checks.whole("classes", classes), generator(seed)
    return nn.Sequential(
        made(nn.Conv2d, draw, 1, 6, 5, padding=2),
        *(nn.ReLU(), nn.MaxPool2d(2)),
        made(nn.Conv2d, draw, 6, 16, 5),
        *(nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        made(nn.Linear, draw, 400, 120),
        nn.ReLU(),
        made(nn.Linear, draw, 120, 84),
        nn.ReLU(),
        made(nn.Linear, draw, 84, n),
    )


@_checks.signed
def conv(
    depth: int, *, image: Sequence[int] = (3, 32, 32), classes: int = 10, seed: int = 0
) -> nn.Sequential:
    """Return Conv-2, Conv-4 or Conv-6: pairs of 3x3 convolutions with max pooling, 256-256-C.

    Convolutions keep the size of the image; each pair is followed by 2x2 max pooling. Weights are
    drawn from the Gaussian Glorot distribution, biases start at zero. On 3x32x32 images they have
    4.3, 2.4 and 2.3 million weights (on 1x28x28: 3.3, 1.9 and 1.8).

    Args:
        depth: Convolutions: 2, 4 or 6.
        image: Channels, height and width, each side at least 8.
        classes: Outputs.
        seed: Seed of the initial weights; the global random state stays untouched.

    Reference:
        Frankle & Carbin 2019, The Lottery Ticket Hypothesis, figure 2 (scaled-down VGG).
    """
    if depth not in PLANS:
        raise _checks.bad_value("depth", "be that of a published network", "2, 4 or 6", depth)
    if len(image) != 3:
        raise _checks.bad_value("image", "be a shape", "(channels, height, width)", tuple(image))
    channels, height, width = (
        _checks.whole(f"image[{i}]", n, low=1 if i == 0 else 8) for i, n in enumerate(image)
    )
    draw = generator(seed)
    layers: list[nn.Module] = []
    for i, filters in enumerate(PLANS[depth]):
        layers += [made(nn.Conv2d, draw, channels, filters, 3, padding=1), nn.ReLU()]
        channels = filters
        if i % 2:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
    layers.append(nn.Flatten())
    n_in = channels * height * width
    for n_out in (256, 256):
        layers += [made(nn.Linear, draw, n_in, n_out), nn.ReLU()]
        n_in = n_out
    layers.append(made(nn.Linear, draw, n_in, _checks.whole("classes", classes)))
    return nn.Sequential(*layers)


def generator(seed: int) -> torch.Generator:
    """Return a generator of its own for initial weights."""
    start = _checks.whole("seed", seed, low=0, high=2**63 - 1)
    return torch.Generator().manual_seed(start)


def made(kind: Any, draw: torch.Generator, *sizes: int, **options: Any) -> Any:
    """Return a layer with Gaussian Glorot weights and biases of zero, if it has biases."""
    layer = nn.utils.skip_init(kind, *sizes, **options)  # type: ignore[no-untyped-call]
    n_out, n_in = layer.weight.shape[:2]
    field = layer.weight[0, 0].numel()
    with torch.no_grad():
        layer.weight.normal_(0.0, math.sqrt(2 / (field * (n_in + n_out))), generator=draw)
        if layer.bias is not None:
            layer.bias.zero_()
    return layer

"""Convolutional networks: LeNet-5."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from nets_deap import _checks


def lenet5(*, classes: int = 10, seed: int = 0) -> nn.Sequential:
    """Return LeNet-5 for 28x28 images with ReLU and max pooling: 61,470 maskable weights.

    Weights are drawn from the Gaussian Glorot distribution, biases start at zero.

    Args:
        classes: Outputs.
        seed: Seed of the initial weights; the global random state stays untouched.

    Reference:
        LeCun et al. 1998, Gradient-based learning applied to document recognition.
    """
    n = _checks.whole("classes", classes)
    layers: tuple[tuple[Any, tuple[int, ...], dict[str, int]], ...] = (
        (nn.Conv2d, (1, 6, 5), {"padding": 2}),
        (nn.Conv2d, (6, 16, 5), {}),
        (nn.Linear, (400, 120), {}),
        (nn.Linear, (120, 84), {}),
        (nn.Linear, (84, n), {}),
    )
    generator = torch.Generator().manual_seed(_checks.whole("seed", seed, low=0, high=2**63 - 1))
    made = []
    for kind, sizes, options in layers:
        layer = nn.utils.skip_init(kind, *sizes, **options)  # type: ignore[no-untyped-call]
        field = layer.weight[0, 0].numel()
        n_out, n_in = layer.weight.shape[:2]
        with torch.no_grad():
            deviation = math.sqrt(2 / (field * (n_in + n_out)))
            layer.weight.normal_(0.0, deviation, generator=generator)
            layer.bias.zero_()
        made.append(layer)
    one, two, three, four, five = made
    return nn.Sequential(
        *(one, nn.ReLU(), nn.MaxPool2d(2), two, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(three, nn.ReLU(), four, nn.ReLU(), five),
    )

"""Multi-layer perceptrons: the XOR networks and LeNet-300-100."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nets_deap import _checks
from nets_deap.models.convolutional import generator

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


@_checks.signed
class MLP(nn.Module):
    """Fully connected layers with one activation between them; inputs are flattened.

    Weights are drawn from the Gaussian Glorot distribution, biases start at zero (as in
    Frankle & Carbin 2019, appendix G).

    Args:
        sizes: Units of each layer, inputs first, at least two.
        activation: ``"relu"``, ``"tanh"`` or ``"sigmoid"``.
        seed: Seed of the initial weights; the global random state stays untouched.
    """

    def __init__(self, sizes: Sequence[int], *, activation: str = "relu", seed: int = 0) -> None:
        super().__init__()
        if len(sizes) < 2:
            raise _checks.bad_value("sizes", "name two layers", "at least 2 sizes", sizes)
        units = [_checks.whole(f"sizes[{i}]", n) for i, n in enumerate(sizes)]
        _checks.choice("activation", activation, ACTIVATIONS)
        draw = generator(seed)
        self.layers = nn.ModuleList()
        for n_in, n_out in itertools.pairwise(units):
            layer: nn.Linear = nn.utils.skip_init(nn.Linear, n_in, n_out)  # type: ignore[no-untyped-call]
            with torch.no_grad():
                layer.weight.normal_(0.0, math.sqrt(2 / (n_in + n_out)), generator=draw)
                layer.bias.zero_()
            self.layers.append(layer)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs (B, ...) to outputs (B, sizes[-1])."""
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        output: Tensor = self.layers[-1](x)
        return output


@_checks.signed
def xor_mlp(hidden: int = 10, *, seed: int = 0) -> MLP:
    """Return the 2-h-1 network for XOR, tanh between: 3 h maskable weights."""
    return MLP((2, hidden, 1), activation="tanh", seed=seed)


@_checks.signed
def lenet_300_100(*, classes: int = 10, seed: int = 0) -> MLP:
    """Return LeNet-300-100 (LeCun et al. 1998) for 28x28 images: 266,200 maskable weights."""
    return MLP((784, 300, 100, classes), seed=seed)

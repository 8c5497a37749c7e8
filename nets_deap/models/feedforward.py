"""``feedforward_of``: the layers of a model of fully connected ones in sequence, nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from nets_deap.models.mlp import MLP

# Each maps its inputs one by one and holds no parameters.
ELEMENTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Softplus, nn.Softsign, nn.Tanh, nn.Sigmoid, nn.LogSigmoid, nn.Hardtanh, nn.Hardsigmoid,
    nn.Hardswish, nn.Identity,
)  # fmt: skip


@dataclass(frozen=True)
class Feedforward:
    """The parts of a fully connected model: L linear layers, L - 1 activations between."""

    names: tuple[str, ...]
    linears: tuple[nn.Linear, ...]
    activations: tuple[nn.Module, ...]
    flattens: bool

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the weights, shape (L,)."""
        return tuple(f"{name}.weight" for name in self.names)

    @property
    def biases(self) -> tuple[str | None, ...]:
        """Names of the biases, shape (L,); None where a layer has none."""
        return tuple(
            f"{name}.bias" if linear.bias is not None else None
            for name, linear in zip(self.names, self.linears, strict=True)
        )

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of inputs and of each layer's units, shape (L + 1,)."""
        first = self.linears[0].in_features
        return np.array([first, *(linear.out_features for linear in self.linears)])

    @property
    def activation(self) -> type[nn.Module] | None:
        """The one kind of all activations, ReLU where there are none; None for several kinds."""
        kinds = {type(activation) for activation in self.activations} or {nn.ReLU}
        return kinds.pop() if len(kinds) == 1 else None


def feedforward_of(model: nn.Module) -> Feedforward | None:
    """Return the parts of a fully connected model; None for any other.

    Such a model is a ``models.MLP``, or an ``nn.Sequential`` of ``Linear`` layers of their own
    parameters with one activation of ``ELEMENTWISE`` between, after ``Flatten`` or not.
    """
    if type(model) is MLP:
        names = [f"layers.{i}" for i in range(len(model.layers))]
        linears = list(model.layers)
        activations: list[nn.Module] = [model.activation] * (len(linears) - 1)
        flattens = True
    elif type(model) is nn.Sequential:
        parts = list(model._modules.items())  # named_children leaves repeated modules out
        first = parts[0][1] if parts else None
        flattens = isinstance(first, nn.Flatten) and (first.start_dim, first.end_dim) == (1, -1)
        parts = parts[1:] if flattens else parts
        names, linears = [name for name, _ in parts[::2]], [part for _, part in parts[::2]]
        activations = [part for _, part in parts[1::2]]
    else:
        return None
    if not all(is_plain(module) for module in model.modules()):
        return None
    owned = [id(p) for linear in linears for p in linear.parameters()]
    if (
        len(linears) != len(activations) + 1
        or any(type(linear) is not nn.Linear for linear in linears)
        or any(type(activation) not in ELEMENTWISE for activation in activations)
        or len(set(owned)) < len(owned)
    ):
        return None
    layers = tuple(linear for linear in linears if isinstance(linear, nn.Linear))
    return Feedforward(tuple(names), layers, tuple(activations), flattens)


def is_plain(module: nn.Module) -> bool:
    """Return whether a module does what its class says: no hooks, no forward of its own."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return "forward" not in vars(module) and not any(getattr(module, name) for name in hooks)

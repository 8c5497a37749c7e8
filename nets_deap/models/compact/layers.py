"""Narrow layers: copies that have only some of the inputs and outputs of others."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nets_deap import _checks
from nets_deap.tickets import bits


class SelectInputs(nn.Module):
    """Gathers some inputs by their places; flattens first if asked to.

    Args:
        index: Places of the selected inputs, an integer tensor (n,).
        n_inputs: How many inputs there are to select from.
        flatten: Whether inputs (B, ...) are flattened to (B, n_inputs) first.
    """

    index: Tensor

    def __init__(self, index: Tensor, n_inputs: int, *, flatten: bool = True) -> None:
        super().__init__()
        self.register_buffer("index", index)
        self.n_inputs = n_inputs
        self.flatten = flatten

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs (B, ...) to the selected ones (B, n)."""
        x = x.flatten(1) if self.flatten else x
        _checks.length("inputs", x.shape[-1], self.n_inputs, "n_inputs")
        return x.index_select(-1, self.index)

    def extra_repr(self) -> str:
        """Return how many inputs are selected."""
        return f"{len(self.index)} of {self.n_inputs}, flatten={self.flatten}"


def linear_of(weight: Tensor, bias: Tensor, biased: bool) -> nn.Linear:
    """Return a linear layer with copies of these values; no bias if it had none and needs none."""
    biased = biased or bool(bias.any())
    # Made small and empty: the constructor would draw weights, and warn where there are none.
    linear = nn.Linear(1, 1, bias=biased, device="meta", dtype=weight.dtype)
    linear.out_features, linear.in_features = weight.shape
    linear.weight = nn.Parameter(weight.clone())
    if biased:
        linear.bias = nn.Parameter(bias.clone())
    return linear


def places(chosen: bits.Mask, like: Tensor) -> Tensor:
    """Return the places of what is chosen, on a tensor's device."""
    return torch.from_numpy(np.flatnonzero(chosen)).to(like.device)


def narrowed(layer: Any, weight: Tensor, bias: Tensor, rows: Tensor | None, columns: Tensor) -> Any:
    """Return a linear or convolutional layer like another, with some of its outputs and inputs.

    Args:
        layer: The other.
        weight: Weights to take, in its shape.
        bias: Biases to take, (out,); left out where all are zero and the other has none.
        rows: Places of the outputs; None for all.
        columns: Places of the inputs.
    """
    rows = torch.arange(len(weight), device=weight.device) if rows is None else rows
    if isinstance(layer, nn.Linear):
        return linear_of(
            weight[rows][:, columns], bias[rows].to(weight.dtype), layer.bias is not None
        )
    narrow: Any = copy.deepcopy(layer)  # hooks and all, which a shallow copy would share
    narrow._parameters = dict.fromkeys(layer._parameters)
    narrow.out_channels, narrow.in_channels = len(rows), len(columns)
    narrow.weight = nn.Parameter(weight[rows][:, columns].clone())
    if layer.bias is not None or bias[rows].any():
        narrow.bias = nn.Parameter(bias[rows].to(weight.dtype))
    return narrow


def narrow_norm(norm: Any, places: Tensor) -> Any:
    """Return a copy of batch normalisation for some of its channels."""
    narrow = copy.deepcopy(norm)
    narrow.num_features = len(places)
    for name, tensor in (*norm.named_parameters(), *norm.named_buffers()):
        if tensor.ndim:  # all but the count of minibatches
            part = tensor.detach()[places].clone()
            setattr(narrow, name, nn.Parameter(part) if name in norm._parameters else part)
    return narrow

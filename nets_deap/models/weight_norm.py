"""Weight normalisation that takes pruned rows: w = g v / |v|, and 0 where all of v is.

torch divides by the norm of v, so that a neuron all of whose weights are pruned would be NaN.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.weight_norm import WeightNorm


def normalised(v: Tensor, g: Tensor, dim: int) -> Tensor:
    """Return g v / |v|, with 0 for rows of v that are all 0.

    Args:
        v: Directions, of the shape of the weights.
        g: Norms, with 1 for all axes but ``dim``.
        dim: The axis that counts rows; -1: all of v is one row.
    """
    rows = dim if dim == -1 else dim % v.ndim
    axes = [axis for axis in range(v.ndim) if axis != rows]
    empty = (v == 0).all(dim=axes[0], keepdim=True)
    for axis in axes[1:]:
        empty = empty.all(dim=axis, keepdim=True)
    # Ones stand in for what is not there: a NaN that is left out afterwards would still come back
    # in the gradient.
    weight: Tensor = torch._weight_norm(torch.where(empty, 1, v), g, dim)
    return torch.where(empty, 0, weight)


class PrunableWeightNorm(_WeightNorm):
    """The step of ``torch.nn.utils.parametrizations.weight_norm``."""

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        """Return the weights."""
        return normalised(weight_v, weight_g, self.dim)

    def _get_name(self) -> str:
        """Return the name that it prints, and a task's fingerprint follows from: torch's."""
        return _WeightNorm.__name__


class PrunableWeightNormHook(WeightNorm):
    """The hook of ``torch.nn.utils.weight_norm``."""

    def compute_weight(self, module: nn.Module) -> Any:
        """Return the weights."""
        g, v = getattr(module, f"{self.name}_g"), getattr(module, f"{self.name}_v")
        return normalised(v, g, self.dim)


def make_prunable(model: nn.Module) -> None:
    """Let all weight normalisation of a model take pruned rows, in place."""
    for module in model.modules():
        if type(module) is _WeightNorm:
            module.__class__ = PrunableWeightNorm
        for hook in module._forward_pre_hooks.values():
            if type(hook) is WeightNorm:
                hook.__class__ = PrunableWeightNormHook

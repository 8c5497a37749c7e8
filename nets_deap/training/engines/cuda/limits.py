"""``Limits``: the gradients of stacked networks, each clipped as if it were alone.

As ``torch.nn.utils.clip_grad_norm_`` and ``clip_grad_value_`` do, without waiting for the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nets_deap.training.engines.cuda.weights import Weights
from nets_deap.training.problem import State
from nets_deap.training.recipe import Recipe

_EPSILON = 1e-6  # torch's own


def limited(recipe: Recipe) -> bool:
    """Return whether a recipe clips gradients."""
    return recipe.clip_norm is not None or recipe.clip_value is not None


class Limits:
    """What clips the gradients of the networks that ``Weights`` holds.

    Args:
        weights: Whose gradients, and whose masks: a pruned weight has no part in a norm.
    """

    def __init__(self, weights: Weights) -> None:
        self._weights, self._recipe = weights, weights.problem.recipe
        self._pruned: State = {}

    def reset(self) -> None:
        """Take over the present masks."""
        if self._recipe.clip_norm is None:
            return
        for layer in self._weights.problem.layout.layers:
            if layer.name in self._weights.trained:
                pruned = ~self._weights.keep(layer)
                if layer.name in self._pruned:
                    self._pruned[layer.name].copy_(pruned)
                else:
                    self._pruned[layer.name] = pruned

    def of(self, gradients: State) -> State:
        """Return clipped gradients (P, ...) by name; those of pruned weights are masked later."""
        if self._recipe.clip_value is not None:
            most = self._recipe.clip_value
            return {name: tensor.clamp(-most, most) for name, tensor in gradients.items()}
        assert self._recipe.clip_norm is not None
        norms = [self._norms(name, tensor) for name, tensor in gradients.items()]
        whole = torch.linalg.vector_norm(torch.stack(norms, 1), dim=1)
        factor = (self._recipe.clip_norm / (whole + _EPSILON)).clamp(max=1.0)
        return {
            name: tensor * factor.to(tensor.dtype).view(-1, *[1] * (tensor.ndim - 1))
            for name, tensor in gradients.items()
        }

    def _norms(self, name: str, gradient: Tensor) -> Tensor:
        """Return the norm of each network's part of one tensor's gradient, shape (P,)."""
        if name in self._pruned:
            gradient = gradient.masked_fill(self._pruned[name], 0)
        rows = gradient.reshape(len(gradient), -1)
        norms: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=self._weights.problem.dtype)
        return norms

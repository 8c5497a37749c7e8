"""The recipe's optimiser as ``torch.optim`` has it, fused where the device and dtype allow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nets_deap.training.recipe import Recipe


def make_optimizer(
    recipe: Recipe, tensors: Sequence[Tensor], *, fused: bool
) -> torch.optim.Optimizer:
    """Return an optimiser over ``tensors``; ``fused=False`` takes the plain loop."""
    how: dict[str, bool] = {"fused": True} if fused else {"foreach": False}
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            tensors,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            **how,
        )
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(tensors, lr=recipe.lr, betas=recipe.betas, weight_decay=recipe.weight_decay, **how)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = lr

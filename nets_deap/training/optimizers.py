"""The recipe's optimiser as ``torch.optim`` has it, fused where the device and dtype allow.

And its gradients' limits, as torch's own functions set them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nets_deap import _checks
from nets_deap.errors import NetsError
from nets_deap.training.problem import Problem, once
from nets_deap.training.recipe import OPTIMIZERS, Recipe, name_of
from nets_deap.training.torch_optimizers import ELEMENTWISE, factory_of


def make_optimizer(
    recipe: Recipe, tensors: Sequence[Tensor], *, fused: bool, like: Sequence[Tensor] | None = None
) -> torch.optim.Optimizer:
    """Return an optimiser over tensors.

    Args:
        recipe: What it is, with its settings.
        tensors: What it steps.
        fused: Whether one of ``OPTIMIZERS`` takes torch's fused step; else the plain loop.
        like: Where the tensors are stacks of those of several networks, the tensors of one: a
            factory goes by these.
    """
    made = _made(recipe, tensors, like) or _known(recipe, tensors, fused=fused)
    for group in made.param_groups:
        # A factory may give groups learning rates of their own: all follow one schedule.
        group["share"] = group["lr"] / recipe.lr
    return made


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every parameter group to its share of the recipe's."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["share"]


def limit(recipe: Recipe, tensors: Sequence[Tensor]) -> None:
    """Clip the gradients of one network, in place, as the recipe says."""
    if recipe.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(tensors, recipe.clip_norm)
    if recipe.clip_value is not None:
        torch.nn.utils.clip_grad_value_(tensors, recipe.clip_value)


def is_known(recipe: Recipe) -> bool:
    """Return whether a recipe's optimiser is one of those that every engine has."""
    return recipe.optimizer in OPTIMIZERS


@once
def stackable(problem: Problem) -> bool:
    """Return whether one optimiser can step the networks of a batch, each as if it were alone.

    Raises:
        InvalidValueError: The recipe's factory does not make an optimiser of the parameters.
    """
    recipe = problem.recipe
    if is_known(recipe):
        return True
    tensors = [
        tensor.clone().requires_grad_()
        for name, tensor in problem.initial.items()
        if name not in problem.frozen
    ]
    try:
        made = make_optimizer(recipe, tensors, fused=False)
    except NetsError:
        raise
    except Exception as error:  # whatever a factory does
        raise _checks.bad_value(
            "recipe.optimizer",
            "make an optimiser of the network's parameters",
            "a torch.optim.Optimizer of (parameters, lr)",
            name_of(recipe.optimizer),
            f"It said: {error}",
        ) from error
    return type(made) in ELEMENTWISE


def _known(recipe: Recipe, tensors: Sequence[Tensor], *, fused: bool) -> torch.optim.Optimizer:
    """Return one of ``OPTIMIZERS``."""
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


def _made(
    recipe: Recipe, tensors: Sequence[Tensor], like: Sequence[Tensor] | None
) -> torch.optim.Optimizer | None:
    """Return what a factory makes of tensors; None where the optimiser is a known one."""
    if is_known(recipe):
        return None
    factory: Any = factory_of(recipe.optimizer)
    own = list(tensors) if like is None else [one.clone().requires_grad_() for one in like]
    made = factory(own, lr=recipe.lr, **recipe.set_beyond_lr())
    if not isinstance(made, torch.optim.Optimizer):
        expected = "a torch.optim.Optimizer"
        raise _checks.bad_type("recipe.optimizer", "make an optimiser", expected, made)
    if like is None:
        return made
    home = {id(one): tensor for one, tensor in zip(own, tensors, strict=True)}
    groups = [
        {**group, "params": [home[id(one)] for one in group["params"]]}
        for group in made.param_groups
    ]
    again: torch.optim.Optimizer = type(made)(groups)  # type: ignore[call-arg]
    return again

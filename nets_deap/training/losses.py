"""Losses by name, what counts as correct under each, and the loss of knowing nothing."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nets_deap import _checks


def loss_of(name: str, output: Tensor, target: Tensor) -> Tensor:
    """Return the mean loss of one network on one minibatch, a scalar."""
    if name == "cross_entropy":
        return F.cross_entropy(output, target)
    if name == "binary_cross_entropy":
        return F.binary_cross_entropy_with_logits(output.reshape(target.shape), target)
    return F.mse_loss(output.reshape(target.shape), target)


def n_correct(name: str, output: Tensor, target: Tensor) -> Tensor:
    """Count the correct outputs of one network, a float scalar; NaN where none is defined."""
    each = max(1, target[0].numel())  # an example with several targets counts by their share
    if name == "cross_entropy":
        return (output.argmax(1) == target).sum().double() / each
    if name == "binary_cross_entropy":
        return ((output.reshape(target.shape) > 0) == (target > 0.5)).sum().double() / each
    return torch.full((), torch.nan, dtype=torch.float64, device=output.device)


def chance_loss(name: str, target: Tensor) -> float:
    """Return the loss of the best constant output on these targets: a fixed reference."""
    if name == "cross_entropy":
        share = torch.bincount(target.reshape(-1)).double() / target.numel()
        share = share[share > 0]
        return max(float(-(share * share.log()).sum()), 1e-6)
    values = target.double()
    if name == "binary_cross_entropy":
        share = values.mean().clamp(1e-6, 1 - 1e-6)
        return float(-(share * share.log() + (1 - share) * (1 - share).log()))
    return max(float(values.var(dim=0, correction=0).mean()), 1e-6)


def prepare_target(name: str, split: str, target: Tensor, output: Tensor) -> Tensor:
    """Check targets against the loss and the model's output for them; return them converted.

    Args:
        name: The loss.
        split: ``"train"``, ``"val"`` or ``"test"``, for the message.
        target: Shape (N,) of class indices, or the output's shape for the other losses.
        output: The model's output for the first example, shape (1, ...).
    """
    argument = f"{split} targets"
    if name == "cross_entropy":
        if target.is_floating_point() or target.dtype == torch.bool:
            raise _checks.bad_value(
                argument, "be class indices", "an integer dtype for cross_entropy", target.dtype
            )
        target = target.long()
        _checks.shape(argument, target.shape[1:], output.shape[2:], "(N, ...), here beyond N:")
        classes = output.shape[1] if output.ndim > 1 else 0
        low, high = int(target.min()), int(target.max())
        if low < 0 or high >= classes:
            got = f"labels in [{low}, {high}]"
            hint = f"The model has {classes} outputs."
            raise _checks.bad_value(argument, "be in range", f"[0, C = {classes})", got, hint)
        return target
    target = target.to(output.dtype)
    if target[:1].numel() != output.numel():
        raise _checks.bad_value(
            argument, "match the output", f"{tuple(output.shape[1:])}", tuple(target.shape[1:])
        )
    if name == "binary_cross_entropy" and not bool(((target == 0) | (target == 1)).all()):
        got = f"values in [{float(target.min()):g}, {float(target.max()):g}]"
        raise _checks.bad_value(argument, "be binary", "0 and 1", got)
    return target

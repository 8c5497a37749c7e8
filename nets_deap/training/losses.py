"""Losses by name or as functions, what counts as correct, and the loss of knowing nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nets_deap import _checks

Loss = str | Callable[..., Any]


class Weighted(NamedTuple):
    """Targets with the weight of each example, (N,), whose mean over the split is 1."""

    target: Any
    weight: Tensor


def loss_of(loss: Loss, output: Any, target: Any) -> Tensor:
    """Return the mean loss of one network on one minibatch, a scalar.

    With ``Weighted`` targets it is the mean of weight times loss: its expectation over minibatches
    is the weighted mean over the split.
    """
    if isinstance(target, Weighted):
        each: Tensor = losses_of(loss, output, target.target) * target.weight
        return each.mean()
    if loss == "cross_entropy":
        return F.cross_entropy(output, target)
    if loss == "binary_cross_entropy":
        return F.binary_cross_entropy_with_logits(output.reshape(target.shape), target)
    if loss == "mse":
        return F.mse_loss(output.reshape(target.shape), target)
    assert callable(loss)
    found: Tensor = loss(output, target)
    return found.mean() if found.ndim else found


def losses_of(loss: Loss, output: Any, target: Any) -> Tensor:
    """Return the loss of each example of a minibatch, shape (B,)."""
    if loss == "cross_entropy":
        each = F.cross_entropy(output, target, reduction="none")
    elif loss == "binary_cross_entropy":
        each = F.binary_cross_entropy_with_logits(
            output.reshape(target.shape), target, reduction="none"
        )
    elif loss == "mse":
        each = F.mse_loss(output.reshape(target.shape), target, reduction="none")
    else:
        assert callable(loss)
        each = loss(output, target)
    rows: Tensor = each.reshape(len(each), -1)
    return rows.mean(1)


def n_correct(loss: Loss, output: Any, target: Any) -> Tensor:
    """Count the correct outputs of one network, a float scalar; NaN where none is defined.

    With ``Weighted`` targets it is the sum of their weights. An example with several targets counts
    by their share. Under a loss that is a function, outputs are scores of classes where targets are
    integers that have the outputs' shape without its second axis.
    """
    if isinstance(target, Weighted):
        hits = _hits(loss, output, target.target)
        return hits if hits.ndim == 0 else (hits * target.weight).sum()
    hits = _hits(loss, output, target)
    return hits if hits.ndim == 0 else hits.sum()


def _hits(loss: Loss, output: Any, target: Any) -> Tensor:
    """Return for each example the share of its targets that are met (B,); a scalar NaN for none."""
    if loss == "cross_entropy" or (callable(loss) and _are_classes(output, target)):
        hits = output.argmax(1) == target
    elif loss == "binary_cross_entropy":
        hits = (output.reshape(target.shape) > 0) == (target > 0.5)
    else:
        device = output.device if isinstance(output, Tensor) else None
        return torch.full((), torch.nan, dtype=torch.float64, device=device)
    shares: Tensor = hits.reshape(len(hits), -1).double()
    return shares.mean(1)


def _are_classes(output: Any, target: Any) -> bool:
    """Return whether outputs are scores of the classes that targets name."""
    return (
        isinstance(output, Tensor)
        and isinstance(target, Tensor)
        and output.ndim > 1
        and not target.is_floating_point()
        and target.dtype != torch.bool
        and target.shape == output.shape[:1] + output.shape[2:]
    )


def chance_loss(loss: str, target: Any) -> float:
    """Return the loss of the best constant output on these targets: a fixed reference."""
    weight = None
    if isinstance(target, Weighted):
        target, weight = target
    each = torch.ones(target.shape, dtype=torch.float64, device=target.device)
    if weight is not None:
        each *= weight.double().reshape(-1, *[1] * (target.ndim - 1))
    if loss == "cross_entropy":
        share = torch.bincount(target.reshape(-1), each.reshape(-1)) / each.sum()
        share = share[share > 0]
        return max(float(-(share * share.log()).sum()), 1e-6)
    values = target.double()
    if loss == "binary_cross_entropy":
        share = ((values * each).sum() / each.sum()).clamp(1e-6, 1 - 1e-6)
        return float(-(share * share.log() + (1 - share) * (1 - share).log()))
    middle = (values * each).sum(0) / each.sum(0)
    return max(float(((values - middle) ** 2 * each).mean()), 1e-6)


def prepare_target(loss: str, split: str, target: Any, output: Any) -> Tensor:
    """Check targets against a loss with a name and the model's output; return them converted.

    Args:
        loss: The loss.
        split: ``"train"``, ``"val"`` or ``"test"``, for the message.
        target: Shape (N,) of class indices, or the output's shape for the other losses.
        output: The model's output for the first example, shape (1, ...).
    """
    argument = f"{split} targets"
    hint = "What has several takes a function as loss=, of (output, target)."
    if not isinstance(output, Tensor):
        raise _checks.bad_type("model", f"return one tensor for {loss}", "a Tensor", output, hint)
    if not isinstance(target, Tensor):
        raise _checks.bad_type(argument, f"be one tensor for {loss}", "a Tensor", target, hint)
    if loss == "cross_entropy":
        if target.is_floating_point() or target.dtype == torch.bool:
            raise _checks.bad_value(
                argument, "be class indices", "an integer dtype for cross_entropy", target.dtype
            )
        labels: Tensor = target.long()
        _checks.shape(argument, labels.shape[1:], output.shape[2:], "(N, ...), here beyond N:")
        classes = output.shape[1] if output.ndim > 1 else 0
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            got = f"labels in [{low}, {high}]"
            hint = f"The model has {classes} outputs."
            raise _checks.bad_value(argument, "be in range", f"[0, C = {classes})", got, hint)
        return labels
    values: Tensor = target.to(output.dtype)
    if values[:1].numel() != output.numel():
        raise _checks.bad_value(
            argument, "match the output", f"{tuple(output.shape[1:])}", tuple(values.shape[1:])
        )
    if loss == "binary_cross_entropy" and not bool(((values == 0) | (values == 1)).all()):
        got = f"values in [{float(values.min()):g}, {float(values.max()):g}]"
        raise _checks.bad_value(argument, "be binary", "0 and 1", got)
    return values

"""Losses by name or as functions, what counts as correct, and the loss of knowing nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from nets_deap import _checks
from nets_deap.inputs.nested import length_of

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
        return F.binary_cross_entropy_with_logits(shaped_as(target, output), target)
    if loss == "mse":
        return F.mse_loss(shaped_as(target, output), target)
    assert callable(loss)
    found: Tensor = loss(output, target)
    return found.mean() if found.ndim else found


def losses_of(loss: Loss, output: Any, target: Any) -> Tensor:
    """Return the loss of each example of a minibatch, shape (B,)."""
    if loss == "cross_entropy":
        each = F.cross_entropy(output, target, reduction="none")
    elif loss == "binary_cross_entropy":
        each = F.binary_cross_entropy_with_logits(
            shaped_as(target, output), target, reduction="none"
        )
    elif loss == "mse":
        each = F.mse_loss(shaped_as(target, output), target, reduction="none")
    else:
        assert callable(loss)
        each = loss(output, target)
    rows: Tensor = each.reshape(len(each), -1)
    return rows.mean(1)


def shaped_as(target: Tensor, output: Tensor) -> Tensor:
    """Return outputs in the shape of their targets: axes of size 1 come and go, no others.

    Raises:
        ValueError: The shapes differ otherwise; a reshape would pair outputs with other targets.
    """
    if output.shape == target.shape:
        return output
    if not are_alike(output.shape, target.shape):
        raise ValueError(f"outputs {tuple(output.shape)} for targets {tuple(target.shape)}")
    return output.reshape(target.shape)


def are_alike(first: Sequence[int], second: Sequence[int]) -> bool:
    """Return whether two shapes are the same but for axes of size 1."""
    return [n for n in first if n != 1] == [n for n in second if n != 1]


def n_correct(loss: Loss, output: Any, target: Any, ignored: Sequence[int] = ()) -> Tensor:
    """Count the correct outputs of one network, a float scalar; NaN where none is defined.

    With ``Weighted`` targets it is the sum of their weights. An example with several targets counts
    by their share. Under a loss that is a function, outputs are scores of classes where targets are
    integers that have the outputs' shape without its second axis.

    Args:
        loss: The loss.
        output: Of B examples.
        target: Theirs.
        ignored: Labels that the loss leaves out, which count nothing: see ``ignored_labels``.
    """
    weight = target.weight if isinstance(target, Weighted) else None
    hits = _hits(loss, output, target if weight is None else target.target, ignored)
    if hits.ndim == 0:
        return hits
    return hits.sum() if weight is None else (hits * weight).sum()


def n_labelled(loss: Loss, output: Any, target: Any, ignored: Sequence[int] = ()) -> Tensor | int:
    """Count the examples that ``n_correct`` goes by: B, less those without a label.

    Without one are targets that name no class of the output, and those that the loss ignores.
    """
    weight = target.weight if isinstance(target, Weighted) else None
    true = target if weight is None else target.target
    n = length_of(true)
    if not (callable(loss) and are_classes(output, true)):
        return n  # labels were checked, or there are none
    missing = 1 - _shares(_labels(output, true, ignored))
    # B less what is missing, not a sum of weights: all of B exactly where nothing is missing.
    return n - (missing if weight is None else missing * weight).sum()


def _hits(loss: Loss, output: Any, target: Any, ignored: Sequence[int]) -> Tensor:
    """Return for each example the share of its targets that are met (B,); a scalar NaN for none."""
    if loss == "cross_entropy":
        hits = output.argmax(1) == target
    elif loss == "binary_cross_entropy":
        hits = (shaped_as(target, output) > 0) == (target > 0.5)
    elif callable(loss) and are_classes(output, target):
        hits = (output.argmax(1) == target) & _labels(output, target, ignored)
    else:
        device = output.device if isinstance(output, Tensor) else None
        return torch.full((), torch.nan, dtype=torch.float64, device=device)
    return _shares(hits)


def _labels(output: Tensor, target: Tensor, ignored: Sequence[int]) -> Tensor:
    """Return which targets name a class that counts, bool."""
    found = (target >= 0) & (target < output.shape[1])
    for label in ignored:
        found &= target != label
    return found


def _shares(flags: Tensor) -> Tensor:
    """Return for each example the share of its flags that are set, (B,)."""
    shares: Tensor = flags.reshape(len(flags), -1).double()
    return shares.mean(1)


def are_classes(output: Any, target: Any) -> bool:
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
            if low < 0:
                hint += " For examples without a label take loss=torch.nn.CrossEntropyLoss()."
            raise _checks.bad_value(argument, "be in range", f"[0, C = {classes})", got, hint)
        return labels
    values: Tensor = target.to(output.dtype)
    if not are_alike(output.shape[1:], values.shape[1:]):
        same = output.shape[1:].numel() == values.shape[1:].numel()
        hint = "Only axes of size 1 come and go: permute or flatten the targets." if same else ""
        raise _checks.bad_value(
            argument,
            "match the output",
            f"{tuple(output.shape[1:])}",
            tuple(values.shape[1:]),
            hint,
        )
    if loss == "binary_cross_entropy" and not bool(((values == 0) | (values == 1)).all()):
        got = f"values in [{float(values.min()):g}, {float(values.max()):g}]"
        hint = "For shares take loss=torch.nn.BCEWithLogitsLoss()."
        raise _checks.bad_value(argument, "be binary", "0 and 1", got, hint)
    return values

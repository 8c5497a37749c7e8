"""What must be known of a loss that is a function: labels it ignores, shapes that it broadcasts."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nets_deap.training.device import seeded
from nets_deap.training.losses import are_alike, loss_of

logger = logging.getLogger("nets_deap")

# Examples that a label is tried on, and most numbers in the outputs for all labels.
TRIES = 8
TRIED_NUMBERS = 2**24
# By which scores become far better or worse than all others.
FAR = 50.0


def ignored_labels(loss: Any, output: Tensor, target: Tensor) -> tuple[int, ...]:
    """Return which labels a loss leaves out, of those that name a class of the output.

    What a module, a partial function or a function calls ``ignore_index`` itself; for any other
    function those labels by whose outputs it does not change.

    Args:
        loss: A function or module of scores of classes and their labels.
        output: For some examples, shape (B, C, ...).
        target: Of all examples, shape (N, ...).
    """
    declared = _declared(loss)
    if declared is not None:
        return tuple(label for label in declared if 0 <= label < output.shape[1])
    labels = torch.unique(target)
    labels = labels[(labels >= 0) & (labels < output.shape[1])]
    each = max(1, output[0, 0].numel())
    n = max(len(output), -(-TRIES * len(labels) // each))
    if len(labels) < 2 or n * output[0].numel() > TRIED_NUMBERS:
        return ()
    with seeded(0, output.device):
        scores = torch.randn((n, *output.shape[1:]), dtype=output.dtype, device=output.device)
    places = torch.arange(n * each, device=output.device) % len(labels)
    tried = labels.to(output.device)[places].reshape(n, *output.shape[2:])

    def found(scores: Tensor) -> Tensor:
        with seeded(0, output.device):
            return loss_of(loss, scores, tried.to(target.dtype))

    scores.requires_grad_()
    try:
        with torch.enable_grad():
            before = found(scores)
            (gradient,) = torch.autograd.grad(before, scores)
        moved = (gradient != 0).any(1).reshape(-1)
        heard = torch.zeros(len(labels), dtype=torch.bool, device=output.device)
        heard[places[moved]] = True
        unheard = labels[~heard.cpu()].tolist()
        # A loss that hears of no label at all goes by something else.
        if len(unheard) == len(labels) or _are_unheard(found, scores, tried, unheard, before):
            return tuple(unheard) if len(unheard) < len(labels) else ()
        if len(unheard) > TRIES:
            return ()
        return tuple(
            label for label in unheard if _are_unheard(found, scores, tried, [label], before)
        )
    except Exception:  # it may take no such scores, and then says nothing
        return ()


def _are_unheard(
    found: Callable[[Tensor], Tensor],
    scores: Tensor,
    tried: Tensor,
    labels: Sequence[int],
    before: Tensor,
) -> bool:
    """Return whether a loss stays the same if scores of labels become far better, or far worse.

    A loss of the worst examples or of a median has no gradient by most labels, but hears of them.
    """
    shift = torch.zeros_like(scores).scatter_(1, tried.unsqueeze(1), FAR)
    chosen = torch.isin(tried, torch.tensor(labels, device=tried.device)).unsqueeze(1)
    with torch.no_grad():
        return all(
            torch.equal(found(scores + sign * shift * chosen), before) for sign in (1.0, -1.0)
        )


def _declared(loss: Any) -> tuple[int, ...] | None:
    """Return what a loss, or a part of it, calls ``ignore_index``; None for nothing."""
    if isinstance(loss, functools.partial):
        given = loss.keywords.get("ignore_index")
        return _declared(loss.func) if given is None else _labels_of(given)
    parts = loss.modules() if isinstance(loss, nn.Module) else [loss]
    held = [getattr(part, "ignore_index", None) for part in parts]
    if any(one is not None for one in held):
        return tuple(label for one in held if one is not None for label in _labels_of(one))
    if isinstance(loss, nn.Module):
        return None
    try:
        parameter = inspect.signature(loss).parameters.get("ignore_index")
    except (TypeError, ValueError):
        return None
    given = None if parameter is None else parameter.default
    return None if given is None or given is inspect.Parameter.empty else _labels_of(given)


def _labels_of(given: Any) -> tuple[int, ...]:
    """Return one label or several as whole numbers; none for anything else."""
    values = given if isinstance(given, (tuple, list)) else [given]
    return tuple(int(value) for value in values if isinstance(value, int))


def warn_of_broadcast(loss: Callable[..., Any], output: Any, target: Any) -> None:
    """Warn where a loss pairs each output with the targets of all examples: (N, 1) and (N,)."""
    if not isinstance(output, Tensor) or not isinstance(target, Tensor):
        return
    shapes = tuple(output.shape), tuple(target.shape)
    if shapes[0] == shapes[1] or not are_alike(*shapes) or output.numel() < 2:
        return
    with seeded(0, output.device), torch.no_grad():
        # Other outputs than the model's, which may all be the same: a mean over pairs is then
        # that over examples.
        moved = output * (1 - 0.5 * torch.rand_like(output)) - 1e-3 * torch.rand_like(output)
        try:
            given, paired = (
                loss_of(loss, one, target) for one in (moved, moved.reshape(shapes[1]))
            )
        except Exception:  # it takes outputs in the one shape alone, and knows what to do
            return
    if not torch.allclose(given, paired):
        logger.warning(
            "The loss takes outputs %s and targets %s as all pairs of examples: its value is %.6g, "
            "and %.6g for outputs in the targets' shape. Give targets and outputs one shape.",
            *shapes,
            float(given),
            float(paired),
        )

"""What must be known of a user's module before it trains: dtype, digest, and that data fit it."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nets_deap import _checks
from nets_deap.data.convert import Given
from nets_deap.data.normalize import Normalize, NormalizeEntries
from nets_deap.data.streamed import spec_of
from nets_deap.inputs.call import call, how_called
from nets_deap.inputs.nested import each, leaves_of, length_of, shapes_of
from nets_deap.models.private import copied
from nets_deap.models.tensors import digest_of, values_of
from nets_deap.training.batches import rows_of, spread_rows
from nets_deap.training.device import seeded
from nets_deap.training.loss_checks import ignored_labels, warn_of_broadcast
from nets_deap.training.losses import Loss, are_classes, prepare_target
from nets_deap.training.precision import slow_path
from nets_deap.training.problem import EVAL_ROWS, Split
from nets_deap.training.score import Score

# That the loss of a model as it is is measured on, at most.
CHANCE_ROWS = 10_000


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the one dtype of a module's floating-point parameters, float32 or float64."""
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if kinds not in ({torch.float32}, {torch.float64}):
        names = sorted(str(kind).removeprefix("torch.") for kind in kinds)
        hint = "Call model.float(); for products in bfloat16 there is precision='bf16'."
        raise _checks.bad_value(
            "model", "have one dtype", "float32 or float64 throughout", names, hint
        )
    return kinds.pop()


def digest_of_model(model: nn.Module) -> str:
    """Return the SHA-256 over a module's parameters, buffers and printed structure."""
    tensors = (*model.named_parameters(), *model.named_buffers())
    content = [
        [name, list(t.shape), t.requires_grad, digest_of(values_of(name, t))] for name, t in tensors
    ]
    structure = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(model))  # without addresses in memory
    return hashlib.sha256(json.dumps([structure, content]).encode()).hexdigest()


@dataclass(frozen=True)
class Fit:
    """What is known of a split once the model has been shown some of it.

    Attributes:
        targets: As the loss takes them.
        has_accuracy: Whether the loss defines what is correct.
        ignored: Labels that the loss leaves out.
    """

    targets: Any
    has_accuracy: bool
    ignored: tuple[int, ...] = ()


def fitted(
    model: nn.Module,
    loss: Loss,
    name: str,
    given: Given,
    pixels: Normalize | NormalizeEntries | None,
    dtype: torch.dtype,
    count: int,
) -> Fit:
    """Return the targets of a split as the loss takes them, or raise.

    Args:
        model: Is shown some examples, in evaluation mode.
        loss: The loss.
        name: Of the split, for messages.
        given: The split.
        pixels: How images of bytes become inputs; None for inputs that are used as they are.
        dtype: Of the inputs then.
        count: How many examples it is shown: as many as a minibatch has.
    """
    rows = spread_rows(length_of(given.inputs), count)
    count = len(rows)
    sample, place = rows_of(given.inputs, rows), _home(model)
    loss = _own(loss, place)  # neither is the model's
    if pixels is not None:
        pixels.check(f"{name} inputs", sample)
        sample = pixels(sample, dtype)
    output = _shown(model, name, sample, shapes_of(spec_of(given.inputs)))
    if isinstance(loss, str):
        one = output[:1] if isinstance(output, Tensor) else output
        return Fit(prepare_target(loss, name, given.targets, one), loss != "mse")
    targets = each(given.targets, lambda t: t.to(dtype) if t.is_floating_point() else t)
    some = each(targets, lambda tensor: tensor[rows].to(place))
    try:
        with seeded(0, place):
            found = loss(output, some)
    except Exception as error:
        raise _checks.bad_value(
            "loss",
            f"take the outputs and the targets of {name}",
            "a loss that fits them, or targets that fit the loss",
            f"outputs {_kinds_of(output)} and targets {_kinds_of(some)}",
            f"{getattr(loss, '__name__', 'The loss')} said: {error}",
        ) from error
    if not isinstance(found, Tensor) or not found.is_floating_point():
        raise _checks.bad_type("loss", "return a number", "a floating-point Tensor", found)
    each_one = found.ndim > 0 and len(found) == count
    if not each_one and found.numel() != 1:  # as backward() takes it, of whatever shape
        expected = "a scalar, or one loss for each example: (B, ...)"
        got = f"shape {tuple(found.shape)} for B = {count}"
        raise _checks.bad_value("loss", "return losses", expected, got)
    if given.weights is not None and not each_one:
        raise _checks.bad_value(
            "loss",
            "return one loss for each example, as there are weights",
            "shape (B, ...)",
            "a scalar",
            "Give it reduction='none'.",
        )
    if name == "train":
        warn_of_broadcast(loss, output, some)
    if not are_classes(output, some):
        return Fit(targets, has_accuracy=False)
    return Fit(targets, has_accuracy=True, ignored=ignored_labels(loss, output, targets))


def first_loss(
    model: nn.Module,
    loss: Loss,
    split: Split,
    pixels: Normalize | NormalizeEntries | None,
    dtype: torch.dtype,
    count: int,
) -> float:
    """Return the loss of a model as it is, in evaluation mode.

    On all examples together, or on ten thousand spread evenly over them; several times over where
    there are fewer than ``count``, with whose loss it is compared: it may be a sum.
    """
    rows = spread_rows(length_of(split[0]), CHANCE_ROWS)
    rows = rows.repeat(max(1, min(-(-count // len(rows)), CHANCE_ROWS // len(rows))))
    private, place = copied(model), _home(model)
    targets = each(split[1], lambda tensor: tensor.to(place))
    score = Score(_own(loss, place), rows_of(targets, rows.to(place)))
    for part in torch.split(rows, EVAL_ROWS):
        given = rows_of(split[0], part)
        inputs = given if pixels is None else pixels(given, dtype)
        output = _shown(private, "train", inputs, shapes_of(inputs))
        score.add(len(part), output, rows_of(targets, part.to(place)))
    with seeded(0, place), torch.no_grad():
        return score.result()[0]


def first_input(
    inputs: Any, pixels: Normalize | NormalizeEntries | None, dtype: torch.dtype
) -> Any:
    """Return the first of some inputs (1, ...), as a model takes it.

    Args:
        inputs: All of them.
        pixels: How images of bytes become inputs; None for inputs that are used as they are.
        dtype: Of the model.
    """
    some = rows_of(inputs, torch.zeros(1, dtype=torch.int64))
    return some if pixels is None else pixels(some, dtype)


def _home(model: nn.Module) -> torch.device:
    """Return where a model stands, and is shown examples: as its user left it, on a GPU perhaps."""
    return next(model.parameters()).device


def _own(loss: Loss, place: torch.device) -> Loss:
    """Return a copy of a loss on a device; itself where it cannot be copied, as if scripted."""
    try:
        own = copy.deepcopy(loss)
    except Exception:
        return loss
    return own.to(place) if isinstance(own, nn.Module) else own


def _shown(model: nn.Module, name: str, sample: Any, shape: Any) -> Any:
    """Return what a model gives for some inputs in evaluation mode, or word why it does not."""
    leaves, device = leaves_of(sample), _home(model)
    with seeded(0, device), slow_path():
        try:
            with torch.no_grad():
                return call(model.eval(), each(sample, lambda tensor: tensor.to(device)))
        except Exception as error:
            hint = f"{how_called(model, sample)} The model said: {error}".strip()
            if any(leaf.dtype == torch.uint8 for leaf in leaves):
                hint = f"Images of bytes need normalize=(mean, std), of x / 255. {hint}"
            elif not any(leaf.is_floating_point() for leaf in leaves):
                hint = f"Whole numbers are given as they are; for real ones give floats. {hint}"
            raise _checks.bad_value(
                f"{name} inputs", "fit the model", "what its forward takes", shape, hint
            ) from error


def _kinds_of(tensors: Any) -> str:
    """Return type and shape of each of some tensors, in whatever they stand."""
    each_one = (
        f"{str(one.dtype).removeprefix('torch.')} {tuple(one.shape)}" for one in leaves_of(tensors)
    )
    return ", ".join(each_one)

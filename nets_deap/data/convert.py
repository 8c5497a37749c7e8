"""The user's data, whatever they come as, turned into a pair of tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from nets_deap import _checks

Split = tuple[Tensor, Tensor]


def as_split(name: str, data: Any, dtype: torch.dtype) -> Split:
    """Return inputs (N, ...) and targets (N, ...) as tensors on the CPU.

    Args:
        name: ``"train"``, ``"val"`` or ``"test"``, for messages.
        data: A pair of tensors, arrays or sequences, or a map-style torch data set, which is read
            once from start to end.
        dtype: What floating-point inputs are converted to.

    Raises:
        InvalidTypeError: It is neither.
        InvalidValueError: It is empty, inputs and targets differ in number, or inputs are not
            finite.
    """
    if isinstance(data, Dataset):
        data = _materialise(name, data)
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise _checks.bad_type(name, "be a data set", "(inputs, targets) or a torch Dataset", data)
    inputs, targets = _tensor(f"{name} inputs", data[0]), _tensor(f"{name} targets", data[1])
    if inputs.ndim == 0 or len(inputs) == 0:
        raise _checks.bad_value(name, "hold examples", "N >= 1", f"shape {tuple(inputs.shape)}")
    count = len(targets) if targets.ndim else 0
    _checks.length(f"{name} targets", count, len(inputs), "N (as many as inputs)")
    if inputs.is_floating_point():
        if not bool(torch.isfinite(inputs).all()):
            raise _checks.bad_value(f"{name} inputs", "be finite", "no NaN or inf", "some")
        inputs = inputs.to(dtype)
    if targets.is_floating_point() and not bool(torch.isfinite(targets).all()):
        raise _checks.bad_value(f"{name} targets", "be finite", "no NaN or inf", "some")
    return inputs, targets


def _tensor(argument: str, values: Any) -> Tensor:
    """Return ``values`` as a tensor that nobody else writes."""
    if isinstance(values, Tensor):
        return values.detach().cpu().clone()
    try:
        array = np.array(values)
        if array.dtype.kind not in "biuf":
            raise ValueError(f"dtype {array.dtype}")
    except ValueError as error:
        raise _checks.bad_value(argument, "be numbers", "an array or tensor", error) from error
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))


def _materialise(name: str, data: Dataset[Any]) -> tuple[Tensor, Tensor]:
    """Read a map-style data set into memory."""
    if not hasattr(data, "__len__"):
        raise _checks.bad_type(name, "be map-style", "a Dataset with a length", data)
    pairs = [data[i] for i in range(len(data))]
    if not pairs:
        raise _checks.bad_value(name, "hold examples", "N >= 1", "an empty Dataset")
    try:
        inputs = torch.stack([torch.as_tensor(np.asarray(x)) for x, _ in pairs])
        targets = torch.stack([torch.as_tensor(np.asarray(y)) for _, y in pairs])
    except (TypeError, ValueError, RuntimeError) as error:
        hint = "Give it a transform that yields arrays or tensors of one shape."
        raise _checks.bad_value(name, "yield (input, target)", "numbers", error, hint) from error
    return inputs, targets

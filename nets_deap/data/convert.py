"""The user's data, whatever they come as, turned into tensors or into a stream of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from nets_deap import _checks
from nets_deap.data.numbers import tensor_of
from nets_deap.data.splits import digest_of_array, digest_of_parts
from nets_deap.data.streamed import Streamed, read

FORMS = "(inputs, targets), (inputs, targets, weights) or a torch Dataset"


@dataclass(frozen=True)
class Given:
    """One split as it was given, on the CPU.

    Attributes:
        inputs: A tensor (N, ...), or a stream of them.
        targets: A tensor (N, ...), or tuples and dictionaries of them.
        weights: Weights of the examples, (N,); None where all count the same.
        digest: SHA-256 over all of it.
        random: Whether the first example, read twice, was not the same.
    """

    inputs: Tensor | Streamed
    targets: Any
    weights: Tensor | None
    digest: str
    random: bool = False

    def take(self, rows: NDArray[np.int64]) -> Given:
        """Return some examples, with a digest of their own."""
        index = torch.from_numpy(rows)
        digest = digest_of_parts([self.digest, digest_of_array(rows)])
        weights = None if self.weights is None else self.weights[index]
        targets = each(self.targets, lambda tensor: tensor[index])
        if isinstance(self.inputs, Streamed):
            return Given(self.inputs.take(rows), targets, weights, digest)
        return Given(self.inputs[index], targets, weights, digest)


def each(targets: Any, function: Any) -> Any:
    """Return what a function gives for each tensor of targets, in the same tuples and dicts."""
    if isinstance(targets, dict):
        return {name: each(value, function) for name, value in targets.items()}
    if isinstance(targets, tuple):
        return tuple(each(value, function) for value in targets)
    return function(targets)


def tensors_of(targets: Any) -> list[Tensor]:
    """Return all tensors of targets, in order."""
    found: list[Tensor] = []
    each(targets, found.append)
    return found


def as_split(
    name: str,
    data: Any,
    dtype: torch.dtype,
    *,
    in_memory: bool | None = None,
    capacity: int = 2**62,
) -> Given:
    """Return a split as tensors on the CPU.

    Args:
        name: ``"train"``, ``"val"`` or ``"test"``, for messages.
        data: Inputs and targets, with weights of the examples or not: tensors, arrays or sequences
            of numbers, targets also tuples of arrays or dictionaries; or a map-style torch data
            set of the same, which is read once from start to end.
        dtype: What floating-point numbers are converted to; floating-point targets are left.
        in_memory: Whether the inputs of a data set are kept; None: if they take at most
            ``capacity``. Else they are read again whenever they are needed.
        capacity: In bytes.

    Raises:
        InvalidTypeError: It is none of these.
        InvalidValueError: It is empty, the parts differ in number, numbers are not finite, or a
            weight is negative.
    """
    if isinstance(data, Dataset):
        return _check(name, _from_dataset(name, data, dtype, in_memory, capacity), dtype)
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        loader = isinstance(data, DataLoader)
        hint = "Give its .dataset: the recipe says what a minibatch is." if loader else ""
        raise _checks.bad_type(name, "be a data set", FORMS, data, hint)
    inputs, targets = _tensor(f"{name} inputs", data[0]), _targets(f"{name} targets", data[1])
    weights = _tensor(f"{name} weights", data[2]) if len(data) == 3 else None
    digest = digest_of_array(inputs.numpy())
    if inputs.is_floating_point():
        _finite(f"{name} inputs", inputs)
        inputs = inputs.to(dtype)
    return _check(name, Given(inputs, targets, weights, digest), dtype)


def _check(name: str, given: Given, dtype: torch.dtype) -> Given:
    """Check the parts against each other; return them with weights of a dtype and a digest."""
    inputs, weights = given.inputs, given.weights
    if inputs.ndim == 0 or len(inputs) == 0:
        raise _checks.bad_value(name, "hold examples", "N >= 1", f"shape {tuple(inputs.shape)}")
    tensors = tensors_of(given.targets)
    for target in tensors:
        count = len(target) if target.ndim else 0
        _checks.length(f"{name} targets", count, len(inputs), "N (as many as inputs)")
        _finite(f"{name} targets", target)
    digests = [given.digest, *(digest_of_array(target.numpy()) for target in tensors)]
    if not isinstance(given.targets, Tensor):
        digests.append(str(each(given.targets, lambda tensor: "tensor")))
    if weights is not None:
        _checks.shape(f"{name} weights", weights.shape, (len(inputs),), "(N,)")
        _finite(f"{name} weights", weights)
        if bool((weights < 0).any()) or not bool((weights > 0).any()):
            expected, got = "numbers >= 0, some > 0", f"a smallest of {float(weights.min()):g}"
            raise _checks.bad_value(f"{name} weights", "weigh examples", expected, got)
        if not weights.is_floating_point():
            hint = (
                "A third item that holds indices or groups must go; weights are given as floats: "
                "weights.astype(float), or weights.float()."
            )
            rule, expected = "be weights", "a floating-point dtype"
            raise _checks.bad_value(f"{name} weights", rule, expected, weights.dtype, hint)
        weights = weights.to(dtype)
        digests += ["weights", digest_of_array(weights.numpy())]
    return replace(given, weights=weights, digest=digest_of_parts(digests))


def _finite(argument: str, tensor: Tensor) -> None:
    """Raise if any number is NaN or infinite."""
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise _checks.bad_value(argument, "be finite", "no NaN or inf", "some")


def _targets(argument: str, values: Any) -> Any:
    """Return targets as tensors: those of a dictionary, of a tuple of arrays, or one."""
    if isinstance(values, Mapping):
        return {name: _targets(f"{argument}[{name!r}]", value) for name, value in values.items()}
    arrays = (Tensor, np.ndarray, Mapping, tuple)
    if isinstance(values, tuple) and values and all(isinstance(v, arrays) for v in values):
        return tuple(_targets(f"{argument}[{i}]", value) for i, value in enumerate(values))
    return _tensor(argument, values)


def _tensor(argument: str, values: Any) -> Tensor:
    """Return ``values`` as a tensor that nobody else writes."""
    try:
        return tensor_of(values).clone()
    except (TypeError, ValueError) as error:
        raise _checks.bad_value(argument, "be numbers", "an array or tensor", f"{error}") from error


def _from_dataset(
    name: str, data: Dataset[Any], dtype: torch.dtype, in_memory: bool | None, capacity: int
) -> Given:
    """Read a map-style data set once, keeping its inputs or not."""
    if not hasattr(data, "__len__") or isinstance(data, IterableDataset):
        hint = "Examples are read by their index, from its __getitem__."
        raise _checks.bad_type(name, "be map-style", "a Dataset with a length", data, hint)
    if not len(data):
        raise _checks.bad_value(name, "hold examples", "N >= 1", "an empty Dataset")
    first = read(name, data, 0).inputs
    size = len(data) * first.numel() * (dtype.itemsize if first.is_floating_point() else 1)
    kept = size <= capacity if in_memory is None else in_memory
    items, total = [], hashlib.sha256()
    inputs = torch.empty((len(data), *first.shape), dtype=first.dtype) if kept else None
    for i, item in enumerate(read(name, data)):
        if item.inputs.shape != first.shape or item.inputs.dtype != first.dtype:
            got = f"{tuple(item.inputs.shape)} of {item.inputs.dtype} at {i}"
            expected = f"{tuple(first.shape)} of {first.dtype}, as the first example"
            hint = "Give it a transform that yields arrays or tensors of one shape."
            raise _checks.bad_value(f"{name} inputs", "be alike", expected, got, hint)
        _finite(f"{name} inputs", item.inputs)
        if inputs is not None:
            inputs[i] = item.inputs
        else:
            total.update(item.inputs.contiguous().numpy().data)
        items.append((item.targets, item.weight))
    targets = _stacked(f"{name} targets", [target for target, _ in items])
    weights = None
    if items[0][1] is not None:
        weights = _stacked(f"{name} weights", [weight for _, weight in items])
    if inputs is None:
        shape = (len(data), *first.shape)
        head = f"{first.numpy().dtype.str}{shape}".encode()
        stream = Streamed(name, data, np.arange(len(data)), first, dtype)
        return Given(stream, targets, weights, digest_of_parts([head.hex(), total.hexdigest()]))
    digest = digest_of_array(inputs.numpy())
    random = not torch.equal(inputs[0], first)
    if inputs.is_floating_point():
        inputs = inputs.to(dtype)
    return Given(inputs, targets, weights, digest, random)


def _stacked(argument: str, items: list[Any]) -> Any:
    """Return what single examples hold as tensors (N, ...), in the same tuples and dicts."""
    first = items[0]
    if isinstance(first, dict):
        return {
            key: _stacked(f"{argument}[{key!r}]", [item[key] for item in items]) for key in first
        }
    if isinstance(first, tuple):
        return tuple(
            _stacked(f"{argument}[{i}]", [item[i] for item in items]) for i in range(len(first))
        )
    try:
        return torch.stack(items)
    except (TypeError, RuntimeError) as error:
        raise _checks.bad_value(argument, "be alike", "one shape and dtype", error) from error

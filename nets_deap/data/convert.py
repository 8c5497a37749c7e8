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
from nets_deap.data.streamed import Streamed, apart, as_dtype, read
from nets_deap.inputs.nested import each, leaves_of, length_of, like, named, structure_of

FORMS = "(inputs, targets), (inputs, targets, weights) or a torch Dataset"
Inputs = Any  # a tensor (N, ...), a stream of them, or tuples and dictionaries of tensors


@dataclass(frozen=True)
class Given:
    """One split as it was given, on the CPU.

    Attributes:
        inputs: A tensor (N, ...), tuples and dictionaries of them, or a stream of either.
        targets: A tensor (N, ...), or tuples and dictionaries of them.
        weights: Weights of the examples, (N,); None where all count the same.
        digest: SHA-256 over all of it.
        random: Whether the first example, read twice, was not the same.
    """

    inputs: Inputs
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
        return Given(each(self.inputs, lambda t: t[index]), targets, weights, digest)


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
            of numbers, or tuples and dictionaries of these; or one dictionary of inputs with the
            targets under ``"labels"`` or ``"label"``; or a map-style torch data set of the same,
            which is read once from start to end. A tuple or list that holds as many rows as there
            are targets is one tensor, unless it is a tuple of arrays each of which does.
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
    if isinstance(data, Mapping):
        data = apart(name, data)
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        loader = isinstance(data, DataLoader)
        hint = "Give its .dataset: the recipe says what a minibatch is." if loader else ""
        raise _checks.bad_type(name, "be a data set", FORMS, data, hint)
    targets = _targets(f"{name} targets", data[1])
    inputs = _inputs(f"{name} inputs", data[0], _rows(targets))
    weights = _tensor(f"{name} weights", data[2]) if len(data) == 3 else None
    digest = _digest(inputs, [digest_of_array(leaf.numpy()) for leaf in leaves_of(inputs)])
    for argument, leaf in named(f"{name} inputs", inputs):
        _finite(argument, leaf)
    return _check(name, Given(as_dtype(inputs, dtype), targets, weights, digest), dtype)


def _check(name: str, given: Given, dtype: torch.dtype) -> Given:
    """Check the parts against each other; return them with weights of a dtype and a digest."""
    inputs, weights = given.inputs, given.weights
    if not isinstance(inputs, Streamed):
        _check_lengths(name, inputs)
    n = length_of(inputs)
    tensors = leaves_of(given.targets)
    for target in tensors:
        count = len(target) if target.ndim else 0
        _checks.length(f"{name} targets", count, n, "N (as many as inputs)")
        _finite(f"{name} targets", target)
    digests = [given.digest, *(digest_of_array(target.numpy()) for target in tensors)]
    if not isinstance(given.targets, Tensor):
        digests.append(structure_of(given.targets))
    if weights is not None:
        _checks.shape(f"{name} weights", weights.shape, (n,), "(N,)")
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


def _check_lengths(name: str, inputs: Any) -> None:
    """Raise unless inputs are tensors, at least one, that hold examples, all as many."""
    leaves = list(named(f"{name} inputs", inputs))
    if not leaves:
        raise _checks.bad_value(f"{name} inputs", "hold tensors", "at least one", inputs)
    first, n = leaves[0][0], _rows(inputs)
    for argument, leaf in leaves:
        if leaf.ndim == 0 or len(leaf) == 0:
            raise _checks.bad_value(
                argument if len(leaves) > 1 else name,
                "hold examples", "N >= 1", f"shape {tuple(leaf.shape)}",
            )  # fmt: skip
        _checks.length(argument, len(leaf), n, f"N (as many as {first})")


def _rows(thing: Any) -> int:
    """Return how many examples the first tensor of a thing holds."""
    first = next(iter(leaves_of(thing)), None)
    return len(first) if first is not None and first.ndim else 0


def _digest(inputs: Any, digests: list[str]) -> str:
    """Return the digest of inputs from those of their tensors, and of what these are called."""
    if not isinstance(inputs, (tuple, dict)):
        return digests[0]
    return digest_of_parts([*digests, structure_of(inputs)])


def _finite(argument: str, tensor: Tensor) -> None:
    """Raise if any number is NaN or infinite; masks that are added to scores may hold -inf."""
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        if bool(((tensor == 0) | (tensor == -torch.inf)).all()):
            return
        raise _checks.bad_value(argument, "be finite", "no NaN or inf", "some")


def _inputs(argument: str, values: Any, n: int) -> Any:
    """Return inputs of N examples as tensors: one, or those of tuples and dictionaries each."""
    if isinstance(values, Mapping):
        return {name: _inputs(f"{argument}[{name!r}]", value, n) for name, value in values.items()}
    if isinstance(values, (tuple, list)) and _are_several(values, n):
        found = [_inputs(f"{argument}[{i}]", value, n) for i, value in enumerate(values)]
        return like(values, found) if isinstance(values, tuple) else tuple(found)
    return _tensor(argument, values)


def _are_several(values: Any, n: int) -> bool:
    """Return whether a tuple or list holds several inputs of N examples, not rows of one input."""
    if hasattr(values, "_fields"):
        return True
    is_tuple = isinstance(values, tuple)
    counts = (_count(value, n) for value in values)  # one by one: rows are many, the first tells
    if len(values) == n:
        return is_tuple and all(map(_is_array, values)) and all(count == n for count in counts)
    found = list(counts)
    if None in found:
        return False
    return n in found or (is_tuple and any(map(_is_array, values)))


def _is_array(value: Any) -> bool:
    """Return whether a value is an array or a dictionary, not a list of numbers."""
    return isinstance(value, Mapping) or hasattr(value, "__array__")


def _count(value: Any, n: int) -> int | None:
    """Return how many examples a part of inputs of N examples holds; None for a number."""
    if isinstance(value, Mapping):
        return next((_count(part, n) for part in value.values()), 0)
    if isinstance(value, (tuple, list)) and value and _are_several(value, n):
        return _count(value[0], n)
    if isinstance(value, str) or not hasattr(value, "__len__") or getattr(value, "ndim", 1) == 0:
        return None
    return len(value)


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
    firsts = leaves_of(first)
    if not firsts:
        raise _checks.bad_value(f"{name} inputs", "hold tensors", "at least one", first)
    size = len(data) * sum(leaf.numel() * leaf.dtype.itemsize for leaf in as_dtype(firsts, dtype))
    kept = size <= capacity if in_memory is None else in_memory
    items, totals = [], [hashlib.sha256() for _ in firsts]
    stores = [torch.empty((len(data), *t.shape), dtype=t.dtype) for t in firsts] if kept else []
    for i, item in enumerate(read(name, data)):
        if structure_of(item.inputs) != structure_of(first):
            raise _unlike(f"{name} inputs", first, item.inputs, i)
        for j, (argument, leaf) in enumerate(named(f"{name} inputs", item.inputs)):
            if leaf.shape != firsts[j].shape or leaf.dtype != firsts[j].dtype:
                raise _unlike(argument, firsts[j], leaf, i)
            _finite(argument, leaf)
            totals[j].update(leaf.contiguous().numpy().data)
            if kept:
                stores[j][i] = leaf
        items.append((item.targets, item.weight))
    targets = _stacked(f"{name} targets", [target for target, _ in items])
    weights = None
    if items[0][1] is not None:
        weights = _stacked(f"{name} weights", [weight for _, weight in items])
    digests = []
    for leaf, total in zip(firsts, totals, strict=True):  # as of one array of all examples
        head = f"{leaf.numpy().dtype.str}{(len(data), *leaf.shape)}".encode()
        digests.append(digest_of_parts([head.hex(), total.hexdigest()]))
    digest = _digest(first, digests)
    if not kept:
        stream = Streamed(name, data, np.arange(len(data)), first, dtype)
        return Given(stream, targets, weights, digest)
    random = any(not torch.equal(own[0], leaf) for own, leaf in zip(stores, firsts, strict=True))
    stored = iter(as_dtype(stores, dtype))
    return Given(each(first, lambda _: next(stored)), targets, weights, digest, random)


def _unlike(argument: str, first: Any, other: Any, place: int) -> Exception:
    """Return the error for an example whose inputs are not like those of the first."""
    if isinstance(first, Tensor) and isinstance(other, Tensor):
        expected, got = (f"{tuple(one.shape)} of {one.dtype}" for one in (first, other))
    else:
        expected, got = structure_of(first), structure_of(other)
    hint = "Give it a transform that yields arrays or tensors of one shape."
    expected, got = f"{expected}, as the first example", f"{got} at {place}"
    return _checks.bad_value(argument, "be alike", expected, got, hint)


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

"""``Streamed``: inputs of a torch data set that are read again whenever they are needed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from nets_deap import _checks
from nets_deap.data.normalize import Normalize, NormalizeEntries
from nets_deap.data.numbers import tensor_of
from nets_deap.inputs.nested import each, leaves_of, length_of, like, paired

MEMORY_SHARE = 0.5
HINT = "Give it a transform that yields arrays or tensors of one shape."
LABELS = ("labels", "label")  # what holds the targets of examples that are dictionaries


class Item(NamedTuple):
    """One example of a data set; ``weight`` is None where it has none."""

    inputs: Any
    targets: Any
    weight: Tensor | None


class Streamed:
    """Inputs (N, ...), one tensor or several, that are read from a data set when indexed.

    Args:
        name: Of the split, for messages.
        data: A map-style data set.
        rows: Which of its examples, in order, shape (N,).
        first: The inputs of one example, a tensor or several: all have its shapes and dtypes.
        dtype: What floating-point inputs are converted to.
        device: Where minibatches go.
        normalize: How images of bytes become inputs; None for inputs that are used as they are.
    """

    def __init__(
        self,
        name: str,
        data: Dataset[Any],
        rows: NDArray[np.int64],
        first: Any,
        dtype: torch.dtype,
        device: torch.device | None = None,
        normalize: Normalize | NormalizeEntries | None = None,
    ) -> None:
        self._name, self._data, self._rows, self._first = name, data, rows, first
        self._dtype, self._normalize = dtype, normalize
        self.device = torch.device("cpu") if device is None else device

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def spec(self) -> Any:
        """All inputs as they are handed out, without values: tensors on the meta device."""

        def empty(tensor: Tensor) -> Tensor:
            return torch.empty((len(self), *tensor.shape), dtype=tensor.dtype, device="meta")

        return self._finished(each(self._first, empty))

    def take(self, rows: NDArray[np.int64]) -> Streamed:
        """Return a stream of some of the examples."""
        rest = (self._first, self._dtype, self.device, self._normalize)
        return Streamed(self._name, self._data, self._rows[rows], *rest)

    def on(self, device: torch.device, normalize: Normalize | NormalizeEntries | None) -> Streamed:
        """Return a stream whose minibatches are normalised on a device."""
        rest = (self._rows, self._first, self._dtype, device, normalize)
        return Streamed(self._name, self._data, *rest)

    def to(self, device: torch.device) -> Streamed:
        """Return the same stream with minibatches that go to another device."""
        return self.on(device, self._normalize)

    def __getitem__(self, rows: Tensor | slice) -> Any:
        """Read some examples, given by their indices (B,) or as a slice: shape (B, ...)."""
        chosen = self._rows[rows if isinstance(rows, slice) else rows.cpu().numpy()]
        items = [leaves_of(read(self._name, self._data, int(i)).inputs) for i in chosen]
        stacked = iter([torch.stack(tensors) for tensors in zip(*items, strict=True)])
        return self._finished(each(self._first, lambda _: next(stacked).to(self.device)))

    def _finished(self, inputs: Any) -> Any:
        """Return inputs normalised, and floating-point ones in the dtype of the model."""
        found = as_dtype(inputs, self._dtype)
        return found if self._normalize is None else self._normalize(found, self._dtype)


class StreamedParts(Streamed):
    """Examples of two splits in one stream, at least one of them streamed; nothing is copied.

    Args:
        first: Inputs (N1, ...), as tensors or streamed.
        second: Inputs (N2, ...) of the same shapes and dtypes.
        rows: Which examples, in order, shape (N,): those of ``second`` count on from N1.
    """

    def __init__(self, first: Any, second: Any, rows: NDArray[np.int64]) -> None:
        self._parts, self._rows = (first, second), rows
        self._bound = length_of(first)
        self.device = leaves_of(first)[0].device

    @property
    def spec(self) -> Any:
        """All inputs as they are handed out, without values: tensors on the meta device."""

        def empty(tensor: Tensor) -> Tensor:
            return torch.empty((len(self), *tensor.shape[1:]), dtype=tensor.dtype, device="meta")

        return each(spec_of(self._parts[0]), empty)

    def take(self, rows: NDArray[np.int64]) -> StreamedParts:
        """Return a stream of some of the examples."""
        return StreamedParts(*self._parts, self._rows[rows])

    def on(
        self, device: torch.device, normalize: Normalize | NormalizeEntries | None
    ) -> StreamedParts:
        """Return a stream on a device; its parts are normalised already, each in its own way."""
        return self.to(device)

    def to(self, device: torch.device) -> StreamedParts:
        """Return the same stream with minibatches that go to another device."""
        first, second = (each(part, lambda leaf: leaf.to(device)) for part in self._parts)
        return StreamedParts(first, second, self._rows)

    def __getitem__(self, rows: Tensor | slice) -> Any:
        """Read some examples, given by their indices (B,) or as a slice: shape (B, ...)."""
        chosen = self._rows[rows if isinstance(rows, slice) else rows.cpu().numpy()]
        early = chosen < self._bound
        if early.all():
            return _rows_of(self._parts[0], chosen)
        if not early.any():
            return _rows_of(self._parts[1], chosen - self._bound)
        # One part after the other; then each example at its place.
        places = torch.from_numpy(np.argsort(np.argsort(~early, kind="stable"))).to(self.device)
        first = _rows_of(self._parts[0], chosen[early])
        second = _rows_of(self._parts[1], chosen[~early] - self._bound)
        return paired(first, second, lambda a, b: torch.cat([a, b])[places])


def _rows_of(part: Any, rows: NDArray[np.int64]) -> Any:
    """Return some examples of tensors or a stream."""
    chosen = torch.from_numpy(rows)
    return each(part, lambda leaf: leaf[chosen.to(leaf.device)])


def spec_of(inputs: Any) -> Any:
    """Return tensors with the shapes and dtypes of all inputs; of a stream without values."""
    return inputs.spec if isinstance(inputs, Streamed) else inputs


def as_dtype(inputs: Any, dtype: torch.dtype) -> Any:
    """Return inputs, those that are floating-point in another dtype; whole numbers stay."""
    return each(inputs, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)


@overload
def read(name: str, data: Dataset[Any], place: int) -> Item: ...
@overload
def read(name: str, data: Dataset[Any]) -> Iterator[Item]: ...
def read(name: str, data: Dataset[Any], place: int | None = None) -> Item | Iterator[Item]:
    """Return one example of a data set, or go through all of them with a progress bar.

    Raises:
        InvalidValueError: An example is not (input, target) or (input, target, weight) of numbers,
            nor a dictionary with its target under ``"labels"`` or ``"label"``.
    """
    return _all(name, data) if place is None else _item(name, data[place])


def _all(name: str, data: Any) -> Iterator[Item]:
    """Go through all examples; if it takes long, a bar shows on a terminal or in a notebook."""
    from tqdm.auto import tqdm

    for i in tqdm(range(len(data)), desc=f"reading {name} data", delay=1, disable=None):
        yield _item(name, data[i])


def apart(name: str, item: Mapping[Any, Any]) -> tuple[Any, Any]:
    """Return the inputs and the targets that one dictionary holds.

    Raises:
        InvalidValueError: It does not name its targets.
    """
    held = [label for label in LABELS if label in item]
    if len(held) != 1:
        expected, got = " or ".join(map(repr, LABELS)), ", ".join(map(repr, item))
        hint = "Or give (inputs, targets), where inputs may be a dictionary."
        raise _checks.bad_value(name, "name its targets", f"one entry {expected}", got, hint)
    return {key: value for key, value in item.items() if key != held[0]}, item[held[0]]


def _item(name: str, item: Any) -> Item:
    """Return an example as tensors."""
    if isinstance(item, Mapping):
        item = apart(name, item)
    rule, expected = "yield (input, target)", "numbers, with a weight as third or not"
    if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
        raise _checks.bad_value(name, rule, expected, type(item).__name__, HINT)
    try:
        weight = tensor_of(item[2]) if len(item) == 3 else None
        return Item(_inputs("", item[0]), _targets(item[1]), weight)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _checks.bad_value(name, rule, expected, f"{error}", HINT) from error


def _inputs(place: str, values: Any) -> Any:
    """Return the inputs of one example as tensors: one, or those of tuples and dictionaries each.

    A tuple or list of mere numbers is one tensor.

    Args:
        place: Where among the inputs these are, for the message.
        values: The inputs.
    """
    if isinstance(values, Mapping):
        return {name: _inputs(f"{place}[{name!r}]", value) for name, value in values.items()}
    if isinstance(values, (tuple, list)) and any(map(_is_whole, values)):
        found = [_inputs(f"{place}[{i}]", value) for i, value in enumerate(values)]
        return like(values, found) if isinstance(values, tuple) else tuple(found)
    try:
        return tensor_of(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{place}: {error}" if place else str(error)) from error


def _is_whole(value: Any) -> bool:
    """Return whether a part of an example's inputs is an input of its own, not a number of one."""
    if isinstance(value, (tuple, list)):
        return any(map(_is_whole, value))
    is_array = hasattr(value, "__array__") or hasattr(value, "__array_interface__")
    return isinstance(value, Mapping) or (is_array and np.ndim(value) > 0)


def _targets(target: Any) -> Any:
    """Return the targets of one example as tensors, those of tuples and dictionaries each."""
    if isinstance(target, dict):
        return {name: _targets(value) for name, value in target.items()}
    if isinstance(target, tuple):
        return tuple(_targets(value) for value in target)
    return tensor_of(target)


def capacity_for_data(device: torch.device) -> int:
    """Return the bytes that data may take: half of what is free in memory, and on the device."""
    free = [_free_memory()]
    if device.type == "cuda":
        free.append(torch.cuda.mem_get_info(device)[0])
    return int(MEMORY_SHARE * min(free))


def _free_memory() -> int:
    """Return the bytes of memory that are free, by the limit of a container where there is one."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        facts = dict(line.split(":") for line in lines)
        found.append(int(facts["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):  # not Linux: what the machine has
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text("ascii"))
        found.append(limit - int((group / "memory.current").read_text("ascii")))
    except (OSError, ValueError):  # no container, or "max"
        pass
    return max(0, min(found))

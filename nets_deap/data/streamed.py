"""``Streamed``: inputs of a torch data set that are read again whenever they are needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from nets_deap import _checks
from nets_deap.data.normalize import Normalize
from nets_deap.data.numbers import tensor_of

MEMORY_SHARE = 0.5
HINT = "Give it a transform that yields arrays or tensors of one shape."


class Item(NamedTuple):
    """One example of a data set; ``weight`` is None where it has none."""

    inputs: Tensor
    targets: Any
    weight: Tensor | None


class Streamed:
    """Inputs (N, ...) that are indexed like a tensor and read from a data set each time.

    Args:
        name: Of the split, for messages.
        data: A map-style data set.
        rows: Which of its examples, in order, shape (N,).
        first: The inputs of one example: all have its shape and dtype.
        dtype: What floating-point inputs are converted to.
        device: Where minibatches go.
        normalize: How images of bytes become inputs; None for inputs that are used as they are.
    """

    def __init__(
        self,
        name: str,
        data: Dataset[Any],
        rows: NDArray[np.int64],
        first: Tensor,
        dtype: torch.dtype,
        device: torch.device | None = None,
        normalize: Normalize | None = None,
    ) -> None:
        self._name, self._data, self._rows, self._first = name, data, rows, first
        self._dtype, self._normalize = dtype, normalize
        self.device = torch.device("cpu") if device is None else device

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...)."""
        return (len(self), *self._first.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Of the inputs as they are handed out."""
        converted = self._first.is_floating_point() or self._normalize is not None
        return self._dtype if converted else self._first.dtype

    def take(self, rows: NDArray[np.int64]) -> Streamed:
        """Return a stream of some of the examples."""
        rest = (self._first, self._dtype, self.device, self._normalize)
        return Streamed(self._name, self._data, self._rows[rows], *rest)

    def on(self, device: torch.device, normalize: Normalize | None) -> Streamed:
        """Return a stream whose minibatches are normalised on a device."""
        rest = (self._rows, self._first, self._dtype, device, normalize)
        return Streamed(self._name, self._data, *rest)

    def to(self, device: torch.device) -> Streamed:
        """Return the same stream with minibatches that go to another device."""
        return self.on(device, self._normalize)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """Read some examples, given by their indices (B,) or as a slice: shape (B, ...)."""
        chosen = self._rows[rows if isinstance(rows, slice) else rows.cpu().numpy()]
        items = [read(self._name, self._data, int(i)).inputs for i in chosen]
        found = torch.stack(items).to(self.device)
        if self._normalize is not None:
            return self._normalize(found, self._dtype)
        return found.to(self.dtype)


@overload
def read(name: str, data: Dataset[Any], place: int) -> Item: ...
@overload
def read(name: str, data: Dataset[Any]) -> Iterator[Item]: ...
def read(name: str, data: Dataset[Any], place: int | None = None) -> Item | Iterator[Item]:
    """Return one example of a data set, or go through all of them with a progress bar.

    Raises:
        InvalidValueError: An example is not (input, target) or (input, target, weight) of numbers.
    """
    return _all(name, data) if place is None else _item(name, data[place])


def _all(name: str, data: Any) -> Iterator[Item]:
    """Go through all examples; if it takes long, a bar shows on a terminal or in a notebook."""
    from tqdm.auto import tqdm

    for i in tqdm(range(len(data)), desc=f"reading {name} data", delay=1, disable=None):
        yield _item(name, data[i])


def _item(name: str, item: Any) -> Item:
    """Return an example as tensors."""
    rule, expected = "yield (input, target)", "numbers, with a weight as third or not"
    if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
        raise _checks.bad_value(name, rule, expected, type(item).__name__, HINT)
    try:
        weight = tensor_of(item[2]) if len(item) == 3 else None
        return Item(tensor_of(item[0]), _targets(item[1]), weight)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _checks.bad_value(name, rule, expected, f"{error}", HINT) from error


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

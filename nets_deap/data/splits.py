"""``DataSplits``: training, validation and test data as arrays, with a digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = tuple[NDArray[Any], NDArray[Any]]
Numbers = float | tuple[float, ...]
N_VAL = 5000  # the last training examples of a published set, which has no validation split


@dataclass(frozen=True)
class DataSplits:
    """Inputs and targets of the three splits.

    Attributes:
        name: What the data are called in logs.
        train: Inputs (N, ...) and targets (N, ...).
        val: The same for validation.
        test: The same for the final test.
        normalize: Mean and standard deviation of uint8 images, of all pixels or of each channel,
            for ``nets.Task``; None where inputs are used as they are.
    """

    name: str
    train: Arrays
    val: Arrays
    test: Arrays
    normalize: tuple[Numbers, Numbers] | None = None


def digest_of_splits(*arrays: NDArray[Any] | None) -> str:
    """Return the SHA-256 over arrays with their shapes and dtypes; None counts as absent."""
    total = hashlib.sha256()
    for array in arrays:
        if array is None:
            total.update(b"none")
            continue
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()

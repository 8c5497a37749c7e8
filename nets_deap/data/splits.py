"""``DataSplits``: training, validation and test data as arrays, with a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap._table import Brief

Arrays = tuple[NDArray[Any], NDArray[Any]]
Numbers = float | tuple[float, ...]
N_VAL = 5000  # the last training examples of a published set, which has no validation split


@dataclass(frozen=True, repr=False)
class DataSplits(Brief):
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


def digest_of_array(array: NDArray[Any]) -> str:
    """Return the SHA-256 over an array with its shape and dtype."""
    head = f"{array.dtype.str}{array.shape}".encode()
    inner = hashlib.sha256(np.ascontiguousarray(array).data)
    return digest_of_parts([head.hex(), inner.hexdigest()])


def digest_of_parts(digests: Iterable[str]) -> str:
    """Return the SHA-256 over several digests, in order."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()

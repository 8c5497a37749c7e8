"""Holding out a validation split of the training data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Rows = NDArray[np.int64]


def hold_out(targets: Any, n: int, share: float, seed: int) -> tuple[Rows, Rows]:
    """Return the rows that stay for training and those for validation, both sorted.

    Where targets are classes (one whole number for each example, or 0 and 1), each class gives its
    share, rounded up or down. The same arguments give the same rows.

    Args:
        targets: A tensor (N, ...), or tuples and dictionaries of them.
        n: Number of examples N, at least 2.
        share: Of the examples that are held out, in (0, 1); at least one is, and one stays.
        seed: Seed of the draw.
    """
    total = min(max(round(share * n), 1), n - 1)
    rng = np.random.default_rng([seed, n])
    # Examples in a random order within each class: every (n / total)-th is held out.
    order = np.lexsort((rng.permutation(n), _classes(targets, n)))
    chosen = order[((np.arange(total) + 0.5) * n / total).astype(np.int64)]
    return np.setdiff1d(np.arange(n), chosen), np.sort(chosen)


def _classes(targets: Any, n: int) -> NDArray[Any]:
    """Return the class of each example (N,); all the same where there are none."""
    none = np.zeros(n, dtype=np.int64)
    if not isinstance(targets, Tensor) or targets.numel() != n:
        return none
    values = targets.reshape(n).numpy()
    if values.dtype.kind == "f" and not np.isin(values, (0, 1)).all():
        return none
    return values

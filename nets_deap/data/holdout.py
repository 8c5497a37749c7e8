"""Holding out a validation split of the training data, once or in folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Rows = NDArray[np.int64]


def hold_out(targets: Any, n: int, share: float, seed: int) -> tuple[Rows, Rows]:
    """Return the rows that stay for training and those for validation, both sorted.

    Where targets are classes (one whole number for each example, or 0 and 1), each class gives its
    share, rounded up or down, and none goes whole where another can give an example instead. The
    same arguments give the same rows.

    Args:
        targets: A tensor (N, ...), or tuples and dictionaries of them.
        n: Number of examples N, at least 2.
        share: Of the examples that are held out, in (0, 1); at least one is, and one stays.
        seed: Seed of the draw.
    """
    total = min(max(round(share * n), 1), n - 1)
    rng = np.random.default_rng([seed, n])
    _, classes, sizes = np.unique(classes_of(targets, n), return_inverse=True, return_counts=True)
    # Examples in a random order within each class: every (n / total)-th is held out.
    order = np.lexsort((rng.permutation(n), classes))
    held = np.zeros(n, dtype=np.bool_)
    held[order[((np.arange(total) + 0.5) * n / total).astype(np.int64)]] = True
    _leave_one(held, order, classes, sizes)
    return np.flatnonzero(~held), np.flatnonzero(held)


def _leave_one(held: NDArray[np.bool_], order: Rows, classes: Rows, sizes: Rows) -> None:
    """Swap examples so that no class goes whole, as long as all give their share, rounded.

    Args:
        held: Which examples are held out, (N,); changed in place.
        order: All examples, class by class.
        classes: The class of each, counted from 0.
        sizes: Examples of each class.
    """
    given = np.bincount(classes[held], minlength=len(sizes))
    due = sizes * given.sum() / len(classes)
    for whole in np.flatnonzero(given == sizes):
        able = np.flatnonzero((given < due) & (given + 1 < sizes))
        if not len(able):
            return
        other = able[np.argmax((due - given)[able])]
        for kind, out in ((whole, True), (other, False)):
            held[order[(classes[order] == kind) & (held[order] == out)][0]] = not out
            given[kind] += -1 if out else 1


def deal(groups: Sequence[NDArray[Any]], count: int, seed: Sequence[int]) -> Rows:
    """Return the fold of each example, (N,), drawn at random: of every group each has its share.

    All folds have N / count examples, rounded up or down. So has each of every value of the first
    grouping, and of every value of the second within one of the first. The same arguments give the
    same folds.

    Args:
        groups: Values of each example, (N,), such as its class; the coarsest grouping first.
        count: Number of folds.
        seed: Whole numbers that the draw follows from.
    """
    n = len(groups[0])
    rng = np.random.default_rng([*seed, n])
    # In a random order within each group, dealt like cards.
    order = np.lexsort((rng.permutation(n), *reversed(groups)))
    found = np.empty(n, dtype=np.int64)
    found[order] = rng.permutation(count)[np.arange(n) % count]
    return found


def classes_of(targets: Any, n: int) -> NDArray[Any]:
    """Return the class of each example (N,); all the same where there are none."""
    none = np.zeros(n, dtype=np.int64)
    if not isinstance(targets, Tensor) or targets.numel() != n:
        return none
    found = targets.detach().reshape(n).cpu()
    values: NDArray[Any] = (found.double() if found.is_floating_point() else found).numpy()
    if values.dtype.kind == "f" and not np.isin(values, (0, 1)).all():
        return none
    return values

"""Minibatches: rows of a split, changed as the user asks, the same for all networks of a step."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from nets_deap import _checks
from nets_deap.inputs.nested import each, leaves_of, length_of, named, structure_of
from nets_deap.training.device import seeded
from nets_deap.training.problem import EVAL_ROWS, Plan, Problem, Split


def rows_of(part: Any, rows: Tensor | slice) -> Any:
    """Return rows of inputs or targets: of a tensor, or of each of several.

    Args:
        part: A tensor (N, ...), or tuples and dictionaries of them, or a stream of either.
        rows: Indices (B,), or a slice.

    Returns:
        Copies: a module may write in what it is given.
    """

    def rows_in(leaf: Any) -> Any:
        found = leaf[rows]
        is_view = isinstance(rows, slice) and isinstance(leaf, Tensor)
        return found.clone() if is_view else found

    return each(part, rows_in)


def spread_rows(n: int, count: int) -> Tensor:
    """Return ``count`` rows (fewer where there are no more), evenly spread over N in order."""
    some = min(n, count)
    return torch.arange(some, device="cpu") * n // some


def checked_augment(augment: Any, inputs: Any, count: int) -> Any:
    """Return what augments minibatches, tried on ``count`` examples; raise if it cannot."""
    if augment is None:
        return None
    if not callable(augment):
        raise _checks.bad_type("augment", "be a function", "one of inputs (B, ...)", augment)
    some = rows_of(inputs, spread_rows(length_of(inputs), count).to(leaves_of(inputs)[0].device))
    given = list(named("inputs", some))
    with seeded(0, given[0][1].device):
        found = augment(each(some, Tensor.clone))
    returned = [leaf for _, leaf in named("inputs", found)]
    if structure_of(found) != structure_of(some) or not all(
        isinstance(leaf, Tensor) for leaf in returned
    ):
        one = f"{len(given[0][1])} inputs of {given[0][1].dtype}"
        expected = one if isinstance(some, Tensor) else structure_of(some)
        raise _checks.bad_value("augment", "return as many inputs", expected, type(found))
    for (name, leaf), other in zip(given, returned, strict=True):
        if other.dtype != leaf.dtype or len(other) != len(leaf):
            kind = f"{len(leaf)} {name} of {leaf.dtype}"
            got = f"{other.dtype} {tuple(other.shape)}"
            raise _checks.bad_value("augment", "return as many inputs", kind, got)
    return augment


def minibatch(problem: Problem, plan: Plan, step: int, rows: Tensor) -> Split:
    """Return inputs and targets of one training step, the inputs augmented.

    ``rows`` may lie on the host, wherever the data are.

    What ``augment`` and a streamed data set draw follows from the plan's seed and the step: it is
    the same for every network, chunk and thread.
    """
    targets = rows_of(problem.train[1], rows)
    if problem.is_resident:
        return rows_of(problem.train[0], rows), targets
    text = f"augment {plan.seed} {step}".encode()
    seed = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
    with seeded(seed, problem.device):
        inputs = rows_of(problem.train[0], rows)
        if problem.augment is not None:
            inputs = problem.augment(inputs)
            for argument, leaf in named("inputs from augment", inputs):
                _checks.length(argument, len(leaf), len(rows), "B (as many as it got)")
    return inputs, targets


def eval_batches(split: Split, size: int = EVAL_ROWS) -> Iterator[tuple[int, Any, Any]]:
    """Go through a split: (number of examples, inputs, targets) of about equal batches."""
    inputs, targets = split
    n = length_of(inputs)
    parts = -(-n // size)
    step = -(-n // parts)
    for start in range(0, n, step):
        rows = slice(start, start + step)
        yield min(step, n - start), rows_of(inputs, rows), rows_of(targets, rows)


def example_of(problem: Problem) -> Any:
    """Return one input (1, ...) of the validation split, or several, on the CPU."""
    _, example, _ = next(eval_batches(problem.val, 1))
    return each(example, lambda leaf: leaf.cpu() if isinstance(leaf, Tensor) else leaf)

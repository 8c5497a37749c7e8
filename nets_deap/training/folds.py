"""Folds: validation examples drawn anew each generation from training and validation data.

Selection that sees one validation part again and again learns it. With folds the examples of both
parts, N in all, are dealt into K = N / N_val folds, rounded up: by class where targets are classes,
so that a fold holds at most as many examples as the validation part. Generation g validates on fold
g mod K and trains on the rest. After K generations every example has validated once, and the
folds are dealt anew. All follows from a seed and the generation, so that each process that has the
problem makes the same fold.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nets_deap import _checks
from nets_deap.data.holdout import Rows, classes_of, deal
from nets_deap.data.streamed import Streamed, StreamedParts, spec_of
from nets_deap.inputs.nested import length_of, named, paired
from nets_deap.training.losses import Weighted
from nets_deap.training.problem import Fold, Part, Plan, Problem, Split, once


def count_of(problem: Problem) -> int:
    """Return the number of folds K, at least 2."""
    held = length_of(problem.val[0])
    return -(-(problem.n_examples + held) // held)


def rows_of_fold(problem: Problem, fold: Fold) -> tuple[Rows, Rows]:
    """Return which examples train and which validate in a generation, both sorted.

    Examples are counted through both parts: those of validation go on from N_train.
    """
    count, seen = count_of(problem), fold.generation
    folds = deal(_groups(problem), count, (fold.seed, seen // count))
    held = folds == seen % count
    return np.flatnonzero(~held), np.flatnonzero(held)


def folded(problem: Problem, fold: Fold | None) -> Problem:
    """Return the problem of a generation's fold; itself for None.

    Of tensors in memory the training part is a copy, which is kept until another fold is asked for:
    one more copy of the training data at a time. Streamed inputs are read by other lists of rows.
    """
    if fold is None:
        return problem
    latest = _latest(problem)
    found = latest.get(fold)
    if found is None:
        latest.clear()  # before the next one takes as much memory
        train, val = (_part(problem, rows) for rows in rows_of_fold(problem, fold))
        latest[fold] = found = replace(problem, train=train, val=val)
    return found


def dealt(problem: Problem, plan: Plan) -> tuple[Problem, Plan]:
    """Return what trains on a plan's fold as ``folded`` does, the same bits, by a list of rows.

    All examples stand in one table that stays as it is: the problem is the same for all folds, and
    what is built for it serves them all, such as a captured step. Examples that are read again each
    time and weights, which have a mean of 1 in each fold, are dealt as ``folded`` deals them.
    """
    if plan.fold is None:
        return problem, plan
    if not problem.in_memory or isinstance(problem.val[0], Streamed) or _is_weighted(problem):
        return folded(problem, plan.fold), plan
    latest = _latest_part(problem)
    part = latest.get(plan.fold)
    if part is None:
        latest.clear()
        train, val = rows_of_fold(problem, plan.fold)
        latest[plan.fold] = part = Part(torch.from_numpy(train), _part(problem, val))
    return _table(problem), replace(plan, part=part)


def check_folds(problem: Problem) -> None:
    """Raise unless training and validation data can be dealt into folds together."""
    for part in (0, 1):
        what = ("inputs", "targets")[part]
        first, second = (_forms(what, split[part]) for split in (problem.train, problem.val))
        if first != second:
            raise _checks.bad_value(
                "holdout",
                "be 'fixed' where training and validation data cannot change places",
                f"validation {what} as those of training, {first}",
                second,
                "Give both in the same form, or let the task hold validation data out: val=0.1.",
            )
    weights = _weights(problem)
    count = count_of(problem)
    if weights is not None and int((weights > 0).sum()) < count:
        raise _checks.bad_value(
            "holdout",
            "be 'fixed' where some fold would have no example of a weight > 0",
            f"at least K = {count} such examples",
            int((weights > 0).sum()),
            "Give a larger validation part.",
        )


def _forms(what: str, part: Any) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Return by name the shape of an example and the dtype of inputs or targets."""
    values = part.target if isinstance(part, Weighted) else spec_of(part)
    each = sorted(named(what, values), key=lambda item: item[0])
    return {name: (tuple(leaf.shape[1:]), leaf.dtype) for name, leaf in each}


@once
def _latest(problem: Problem) -> dict[Fold, Problem]:
    """Return where the problem of the last fold is kept."""
    return {}


@once
def _latest_part(problem: Problem) -> dict[Fold, Part]:
    """Return where what the last fold takes of the table is kept."""
    return {}


@once
def _table(problem: Problem) -> Problem:
    """Return a problem that trains on all examples: those of training, then of validation."""
    count = problem.n_examples + length_of(problem.val[0])
    return replace(problem, train=_part(problem, np.arange(count)))


def _groups(problem: Problem) -> list[NDArray[Any]]:
    """Return what folds have their shares of: examples that count at all, and classes."""
    weights = _weights(problem)
    found = [] if weights is None else [(weights > 0).cpu().numpy()]
    classes = [
        classes_of(targets.target if isinstance(targets, Weighted) else targets, length_of(inputs))
        for inputs, targets in (problem.train, problem.val)
    ]
    return [*found, np.concatenate(classes)]


def _weights(problem: Problem) -> Tensor | None:
    """Return the weights of all examples, (N,), on the scale that they were given on."""
    if not _is_weighted(problem):
        return None
    found = []
    for (inputs, target), mean in zip(
        (problem.train, problem.val), problem.weight_means, strict=True
    ):
        if isinstance(target, Weighted):
            found.append(target.weight * mean)
        else:
            found.append(torch.ones(length_of(inputs), dtype=problem.dtype, device=problem.device))
    return torch.cat(found)


def _is_weighted(problem: Problem) -> bool:
    """Return whether any examples have weights."""
    return any(isinstance(split[1], Weighted) for split in (problem.train, problem.val))


def _part(problem: Problem, rows: Rows) -> Split:
    """Return the examples of some rows, counted through both parts."""
    (inputs, targets), (more_inputs, more_targets) = problem.train, problem.val
    gather = functools.partial(_gathered, rows=rows, bound=problem.n_examples)
    if isinstance(inputs, Streamed) or isinstance(more_inputs, Streamed):
        found: Any = StreamedParts(inputs, more_inputs, rows)
    else:
        found = paired(inputs, more_inputs, gather)
    weights = _weights(problem)
    if weights is None:
        return found, paired(targets, more_targets, gather)
    first, second = (
        each.target if isinstance(each, Weighted) else each for each in (targets, more_targets)
    )
    own = weights[torch.from_numpy(rows).to(weights.device)]
    return found, Weighted(paired(first, second, gather), own / own.mean())


def _gathered(first: Tensor, second: Tensor, *, rows: Rows, bound: int) -> Tensor:
    """Return rows of two tensors, counted through both, in order: nothing is held twice."""
    split = int(np.searchsorted(rows, bound))
    found = first.new_empty((len(rows), *first.shape[1:]))
    early, late = (
        torch.from_numpy(own).to(first.device) for own in (rows[:split], rows[split:] - bound)
    )
    torch.index_select(first, 0, early, out=found[:split])
    torch.index_select(second, 0, late, out=found[split:])
    return found

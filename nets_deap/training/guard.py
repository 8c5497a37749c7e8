"""The guard: validation examples that never select, to tell how far selection has learnt the rest.

What is selected by a validation loss has a low one in part by chance. The gap between its loss on
the guard and that on what selected it is this part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nets_deap import _checks
from nets_deap.data.holdout import Rows, hold_out
from nets_deap.data.streamed import Streamed
from nets_deap.inputs.call import call_with
from nets_deap.inputs.nested import each, length_of
from nets_deap.tickets import bits
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.batches import eval_batches
from nets_deap.training.losses import Weighted, losses_of
from nets_deap.training.precision import plain_attention
from nets_deap.training.problem import Problem, Split, working
from nets_deap.training.score import Score


@dataclass(frozen=True)
class Guarded:
    """A network's loss on the guard, and the deviation of single examples; NaN if unknown."""

    loss: float
    deviation: float


def guarded(val: Split, share: float, seed: int) -> tuple[Split, Split, float]:
    """Return a validation part without and with a share of it, taken by class.

    The last number is the mean weight of what stays, over that of the whole part.
    """
    inputs, targets = val
    n = length_of(inputs)
    if n < 2:
        raise _checks.bad_value("val", "be enough to give a guard", "N >= 2", n, "Give more.")
    plain = targets.target if isinstance(targets, Weighted) else targets
    stay, off = hold_out(each(plain, Tensor.cpu), n, share, seed)
    mean = 1.0
    if isinstance(targets, Weighted):
        means = [float(_rows(targets.weight, rows).mean()) for rows in (stay, off)]
        if not min(means) > 0:
            rule, hint = "leave weights on both sides", "Give a larger validation part."
            raise _checks.bad_value("guard", rule, "some > 0", "all 0", hint)
        mean = means[0]
    return _part(val, stay), _part(val, off), mean


@working
def guard_loss(problem: Problem, mask: bits.Mask, state: TrainedState) -> Guarded:
    """Return the loss of a trained network on the guard; nothing is trained.

    Args:
        problem: With a guard.
        mask: Kept weights, bool (D,).
        state: The weights that its training ended with.
    """
    assert problem.guard is not None
    own = {n: t.to(problem.device) for n, t in state.tensors(problem.layout, mask).items()}
    model, mode, loss = problem.model, problem.model.training, problem.recipe.loss
    score, single = Score(loss, problem.guard[1], problem.ignored), []
    try:
        model.eval()
        with torch.no_grad(), plain_attention():
            for n, x, y in eval_batches(problem.guard):
                output = call_with(model, {**problem.initial, **problem.buffers, **own}, x)
                score.add(n, output, y)
                if isinstance(loss, str):
                    weighted = isinstance(y, Weighted)
                    one = losses_of(loss, output, y.target if weighted else y)
                    single.append(one * y.weight if weighted else one)
    finally:
        model.train(mode)
    many = torch.cat(single).double() if single else torch.zeros(0, device="cpu")
    deviation = float(many.std()) if len(many) > 1 else np.nan
    return Guarded(score.result()[0], deviation)


def _part(split: Split, rows: Rows) -> Split:
    """Return some examples of a split; their weights have a mean of 1 again."""
    inputs, targets = split
    some: Any = inputs.take(rows) if isinstance(inputs, Streamed) else _rows(inputs, rows)
    if not isinstance(targets, Weighted):
        return some, _rows(targets, rows)
    weight = _rows(targets.weight, rows)
    return some, Weighted(_rows(targets.target, rows), weight / weight.mean())


def _rows(part: Any, rows: Rows) -> Any:
    """Return rows of tensors."""
    return each(part, lambda leaf: leaf[torch.from_numpy(rows).to(leaf.device)])

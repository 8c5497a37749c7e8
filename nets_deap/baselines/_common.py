"""What all baselines share: densities, places in the random sequence, ranking, and costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.tickets.layout import MaskLayout
from nets_deap.tickets.ticket import Ticket
from nets_deap.tickets.units import UnitLayout
from nets_deap.training.cost import gradient_share
from nets_deap.training.problem import Outcome, Plan, Start
from nets_deap.training.task import Task

Positions = NDArray[np.int64]
Scores = NDArray[Any]

# First words of a place in the random sequence: no two families of baselines share one.
RANDOM, MAGNITUDE, SALIENCY, RIGL = 7001, 7002, 7003, 7004
# Last words: what is drawn there. Never 0: a trailing zero would not make another seed.
BATCHES, CHOICES = 1, 2


def as_densities(densities: float | Iterable[float]) -> list[float]:
    """Return one or more densities in (0, 1], densest first."""
    if not isinstance(densities, (Real, Iterable)):
        raise _checks.bad_type("densities", "be densities", "floats in (0, 1]", densities)
    given = [densities] if isinstance(densities, Real) else list(densities)
    if not given:
        raise _checks.bad_value("densities", "hold densities", "at least one", 0)
    return sorted((_checks.density("densities", one) for one in given), reverse=True)


def kept_at(layout: MaskLayout, density: float) -> int:
    """Return how many weights a density keeps: round(density * D), at least one.

    Of structured tickets how many of those that bits gate.
    """
    fixed = layout.fixed if isinstance(layout, UnitLayout) else 0
    return max(1, round(density * layout.weights.size) - fixed)


def seed_at(task: Task, seed: int, *place: int) -> int:
    """Return the seed of one place in a baseline that runs with ``seed``.

    Raises:
        InvalidValueError: Of a family that ranks single weights, on a task of structured tickets.
    """
    units = task.layout if isinstance(task.layout, UnitLayout) else None
    by_size = place[0] == MAGNITUDE and units is not None and not units.grouped
    if units is not None and place[0] != RANDOM and not by_size:
        raise _checks.bad_value(
            "task",
            "gate single weights, which this baseline ranks",
            "unit='weight'",
            repr(units.unit),
            "Random baselines take structured tickets too, and so do one-shot, imp and finetune "
            "other ones than of '2:4'.",
        )
    return task.derived_seed(_checks.whole("seed", seed, low=0), *place)


def generator_at(task: Task, seed: int, *place: int) -> np.random.Generator:
    """Return the generator of one place in a baseline that runs with ``seed``."""
    return np.random.default_rng(seed_at(task, seed, *place))


def ranked(scores: Scores, rng: np.random.Generator) -> Positions:
    """Return the places of scores (n,), largest first; ties in random order."""
    order: Positions = np.lexsort((rng.random(len(scores)), -scores))
    return order


def charge(task: Task, examples: int, share: float = 1.0) -> tuple[int, float]:
    """Enter a gradient by all weights over some examples in the ledger.

    Args:
        task: Whose ledger.
        examples: How many.
        share: The network's ``dense_share``.

    Returns:
        Its cost in steps x networks, and in dense steps.
    """
    steps = math.ceil(examples / task.recipe.batch_size)
    dense = steps * gradient_share(share)
    task.ledger.network_steps += steps
    task.ledger.dense_steps += dense
    return steps, dense


def draw_rows(task: Task, examples: int, rng: np.random.Generator) -> Positions:
    """Return the indices of distinct training examples, shape (examples,)."""
    return rng.choice(task.problem.n_examples, examples, replace=False)


def run_finite(
    task: Task, tickets: Sequence[Ticket], plan: Plan, starts: Sequence[Start]
) -> Outcome:
    """Train tickets; raise if one diverged, as its weights then rank nothing."""
    outcome = task.run(tickets, plan, starts=starts)
    for ticket, state in zip(tickets, outcome.trained, strict=True):
        check_finite(task, ticket, bool(np.isfinite(state.values).all()))
    return outcome


def check_finite(task: Task, ticket: Ticket, finite: bool) -> None:
    """Raise, and count it in the ledger, if a ticket's training diverged."""
    if not finite:
        task.ledger.diverged += 1
        raise _checks.bad_value(
            "task.recipe",
            "train without diverging",
            "finite weights",
            f"others at density {ticket.density:.4f}",
            "Try a smaller learning rate.",
        )

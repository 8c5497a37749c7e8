"""Magnitude pruning: one shot, iterative with rewinding (IMP), and with fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.baselines._common import (
    BATCHES,
    CHOICES,
    MAGNITUDE,
    Scores,
    as_densities,
    generator_at,
    kept_at,
    ranked,
    run_finite,
    seed_at,
)
from nets_deap.baselines.result import Baseline, Level
from nets_deap.names import BY_SIZE
from nets_deap.tickets import bits
from nets_deap.tickets.layout import MaskLayout
from nets_deap.tickets.random import layer_counts
from nets_deap.tickets.relative import relative, spans_by
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.cost import dense_share, uses
from nets_deap.training.problem import Plan, Start
from nets_deap.training.task import Task, check_task

# What is measured of the trained network that a ticket is pruned from.
MEASURED = ("train_loss", "val_loss", "val_accuracy")
SCOPES = ("global", "layerwise")

Share = tuple[int, int, int]  # [start, stop) of the mask, and how many weights it keeps


@_checks.signed(subject=check_task)
def one_shot(
    task: Task,
    densities: float | Iterable[float],
    *,
    steps: int,
    seed: int = 0,
    scope: str = "global",
    by: str = "magnitude",
) -> Baseline:
    """Train the dense network once from W0, then prune it by ``|w|`` to each density.

    Args:
        task: The task.
        densities: One or more densities in (0, 1]; each ticket keeps exactly round(density * D)
            weights.
        steps: Optimiser steps of the dense training: the cost of the whole search.
        seed: Of the minibatches.
        scope: ``"global"`` ranks all weights together (a layer may end up empty);
            ``"layerwise"`` gives every layer the same density.
        by: What ranks them: ``"magnitude"``, ``|w|``; ``"lamp"``, what that is of its layer's
            energy, see ``tickets.relative``; or ``"cost"``, that over what the weight costs.

    Returns:
        Levels that all cost ``steps``.

    Raises:
        InvalidValueError: The training diverged, or a layer would be empty (layerwise).

    Reference:
        Han et al. 2015, Learning both Weights and Connections, https://arxiv.org/abs/1506.02626.
    """
    layout, plan = task.layout, _plan(task, seed, 1, steps)
    everywhere = _checks.choice("scope", scope, SCOPES) == "global"
    _check_by(by, scope)
    goals: list[list[Share]] = []
    for density in as_densities(densities):
        if everywhere:
            goals.append([(0, layout.size, kept_at(layout, density))])
        else:
            goals.append(_shares(layout, layer_counts(layout, density, "uniform")))
    outcome = run_finite(task, [task.dense_ticket()], plan, [None])
    values = outcome.trained[0].values
    scores = _scores(task, np.ones(layout.size, dtype=np.bool_), values, by)
    # The same order of ties at every density keeps the tickets nested.
    masks = [_keep(scores, goal, generator_at(task, seed, MAGNITUDE, 1, CHOICES)) for goal in goals]
    spent: float = plan.steps
    levels = [Level(task.ticket(m), plan.steps, search_dense_steps=spent) for m in masks]
    return Baseline.of(_named("one-shot", scope, by), levels, before=task.rewound_steps)


@_checks.signed(subject=check_task)
def imp(
    task: Task,
    *,
    rounds: int,
    steps: int,
    fraction: float = 0.2,
    scope: str = "global",
    by: str = "magnitude",
    output_fraction: float | None = None,
    rewind_to: int = 0,
    seed: int = 0,
) -> Baseline:
    """Find tickets by iterative magnitude pruning with rewinding.

    Each round trains the ticket it has, prunes the smallest ``|w|`` and goes back to the start.
    Each uses other minibatches.

    Args:
        task: The task.
        rounds: Rounds of pruning; as many levels, the dense one not among them.
        steps: Optimiser steps of each round.
        fraction: Of the kept weights that a round prunes, in (0, 1). Level n keeps exactly
            round(D (1 - fraction)^n) weights; layerwise, each layer as many of its own, >= 1.
        scope: ``"global"`` ranks all weights together (a layer may end up empty);
            ``"layerwise"`` ranks each layer by itself.
        by: As for ``one_shot``.
        output_fraction: Layerwise, the fraction of the last layer; None for half of ``fraction``.
        rewind_to: Step of a dense training that all rounds, and the final training, start from;
            0 for W0. These steps are spent once. Optimiser and learning-rate schedule start anew.
        seed: Of the minibatches.

    Returns:
        Nested levels of growing cost.

    Raises:
        InvalidValueError: A training diverged, or ``output_fraction`` with scope ``"global"``.

    Reference:
        Frankle & Carbin 2019, The Lottery Ticket Hypothesis, https://arxiv.org/abs/1803.03635;
        for ``rewind_to``: Frankle et al. 2020, Linear Mode Connectivity and the Lottery Ticket
        Hypothesis, https://arxiv.org/abs/1912.05671.
    """
    goals = _goals(task.layout, rounds, fraction, scope, output_fraction)
    _check_by(by, scope)
    _checks.whole("rewind_to", rewind_to, low=0)
    _checks.whole("steps", steps)
    origin: Start = None
    if rewind_to:
        plan = _plan(task, seed, 0, rewind_to)
        outcome = run_finite(task, [task.dense_ticket()], plan, [None])
        origin = outcome.trained[0]
    levels = _rounds(
        task, goals, steps, seed, by=by, origin=origin, rewound=rewind_to, inherit=False
    )
    return Baseline.of(_named("imp", scope, by), levels, before=task.rewound_steps)


@_checks.signed(subject=check_task)
def finetune(
    task: Task,
    *,
    rounds: int,
    steps: int,
    fraction: float = 0.2,
    scope: str = "global",
    by: str = "magnitude",
    seed: int = 0,
) -> Baseline:
    """Find tickets by iterative magnitude pruning that goes on from its trained weights.

    As ``imp``, but a round starts from the weights that the one before left, with a fresh
    optimiser. The tickets are masks over W0 all the same: their final training starts there.

    Args:
        task: The task.
        rounds: As for ``imp``.
        steps: Optimiser steps of each round; far fewer than for ``imp`` will do.
        fraction: As for ``imp``; layerwise, the last layer loses half of it.
        scope: As for ``imp``.
        by: As for ``one_shot``.
        seed: Of the minibatches; round n sees those of ``imp``'s round n.

    Returns:
        Nested levels of growing cost.

    Raises:
        InvalidValueError: A training diverged.

    Reference:
        Renda et al. 2020, Comparing Rewinding and Fine-tuning, https://arxiv.org/abs/2003.02389,
        section 3, for iterative pruning with fine-tuning; it goes back to Han et al. 2015,
        https://arxiv.org/abs/1506.02626. The return to W0 is Frankle & Carbin's.
    """
    goals = _goals(task.layout, rounds, fraction, scope, None)
    _check_by(by, scope)
    levels = _rounds(task, goals, steps, seed, by=by, origin=None, rewound=0, inherit=True)
    return Baseline.of(_named("finetune", scope, by), levels, before=task.rewound_steps)


def _rounds(
    task: Task,
    goals: list[list[Share]],
    steps: int,
    seed: int,
    *,
    by: str,
    origin: Start,
    rewound: int,
    inherit: bool,
) -> list[Level]:
    """Train, prune to the next goal, and start again: at ``origin``, or where training ended."""
    ticket, start, spent, dense = task.dense_ticket(), origin, rewound, float(rewound)
    levels: list[Level] = []
    for level, goal in enumerate(goals, 1):
        plan = _plan(task, seed, level, steps)
        outcome = run_finite(task, [ticket], plan, [start])
        spent += plan.steps
        dense += plan.steps * dense_share(task.problem, ticket.packed_mask)
        before = ticket.mask
        state = outcome.trained[0]
        trained = np.zeros(task.layout.size, dtype=state.values.dtype)
        trained[before] = state.values
        scores = _scores(task, before, state.values, by)
        mask = _keep(scores, goal, generator_at(task, seed, MAGNITUDE, level, CHOICES))
        parent, ticket = ticket, task.ticket(mask)
        # So that a population seeded from these tickets can go on from their weights.
        metrics = {name: float(outcome.metrics[name][0]) for name in MEASURED}
        ticket.inherited = replace(
            state, packed=parent.packed_mask.copy(), steps=spent, digest=parent.digest,
            metrics=metrics,
        )  # fmt: skip
        rewinding = None if origin is None else TrainedState(origin.values[mask], origin.unmasked)
        start = TrainedState(trained[mask], state.unmasked) if inherit else rewinding
        levels.append(Level(ticket, spent, rewinding, rewound, search_dense_steps=dense))
    return levels


def _scores(task: Task, mask: bits.Mask, values: NDArray[np.floating], by: str) -> Scores:
    """Return what the kept weights of a mask, with trained values (kept,), are worth; (D,).

    Pruned weights rank below kept ones that happen to be zero.
    """
    sizes = np.abs(values)
    if by != "magnitude":
        spans = spans_by(task.layout.counts(bits.pack(mask)))
        sizes = relative(sizes, spans, uses(task.problem) if by == "cost" else None)
    scores = np.full(mask.size, -1, dtype=sizes.dtype)
    scores[mask] = sizes
    return scores


def _check_by(by: str, scope: str) -> None:
    """Raise unless a criterion is known, and makes a difference."""
    if _checks.choice("by", by, BY_SIZE) != "magnitude" and scope != "global":
        hint = "Within a layer all rank alike; use scope='global'."
        raise _checks.bad_value("by", "be left out with scope='layerwise'", "'magnitude'", by, hint)


def _goals(
    layout: MaskLayout, rounds: int, fraction: float, scope: str, output_fraction: float | None
) -> list[list[Share]]:
    """Return what each round keeps, and where."""
    n = _checks.whole("rounds", rounds)
    keep = 1 - _checks.inner_share("fraction", fraction)
    if _checks.choice("scope", scope, SCOPES) == "global":
        if output_fraction is not None:
            raise _checks.bad_value(
                "output_fraction",
                "be left out with scope='global'",
                "None",
                output_fraction,
                "A global ranking has no fraction of its own for a layer; use scope='layerwise'.",
            )
        return [[(0, layout.size, kept_at(layout, keep**level))] for level in range(1, n + 1)]
    last = fraction / 2 if output_fraction is None else output_fraction
    keeps = np.full(len(layout.layers), keep)
    keeps[-1] = 1 - _checks.inner_share("output_fraction", last)
    sizes = layout.sizes()
    return [
        _shares(layout, np.maximum(1, np.rint(sizes * keeps**level)).astype(np.int64))
        for level in range(1, n + 1)
    ]


def _shares(layout: MaskLayout, counts: NDArray[np.int64]) -> list[Share]:
    """Return one share for each layer."""
    return [(la.start, la.stop, int(k)) for la, k in zip(layout.layers, counts, strict=True)]


def _keep(scores: Scores, goal: list[Share], rng: np.random.Generator) -> bits.Mask:
    """Return the mask (D,) that keeps the largest scores of each share."""
    mask = np.zeros(len(scores), dtype=np.bool_)
    for start, stop, k in goal:
        mask[start + ranked(scores[start:stop], rng)[:k]] = True
    return mask


def _plan(task: Task, seed: int, level: int, steps: int) -> Plan:
    """Return the plan of one round."""
    return Plan(_checks.whole("steps", steps), seed_at(task, seed, MAGNITUDE, level, BATCHES))


def _named(name: str, scope: str, by: str) -> str:
    """Return a method's name with its scope and criterion, unless they are the usual ones."""
    return "-".join([name, *(word for word in (scope, by) if word not in ("global", "magnitude"))])

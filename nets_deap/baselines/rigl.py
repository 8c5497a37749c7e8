"""RigL: dynamic sparse training, the upper reference for tickets of fixed density."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from nets_deap import _checks
from nets_deap.baselines._common import (
    BATCHES,
    CHOICES,
    RIGL,
    Scores,
    as_densities,
    charge,
    check_finite,
    draw_rows,
    generator_at,
    kept_at,
    ranked,
    run_finite,
    seed_at,
)
from nets_deap.baselines.result import Baseline, Level
from nets_deap.tickets import bits
from nets_deap.tickets.layout import MaskLayout
from nets_deap.tickets.random import Distribution, layer_counts, random_mask
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.cost import dense_share, gradient_share
from nets_deap.training.gradients import dense_gradient
from nets_deap.training.problem import Plan, Start
from nets_deap.training.task import Task, check_task


@_checks.signed(subject=check_task)
def rigl(
    task: Task,
    densities: float | Iterable[float],
    *,
    steps: int,
    delta: int = 100,
    alpha: float = 0.3,
    distribution: Distribution = "erk",
    end: float = 0.75,
    seed: int = 0,
) -> Baseline:
    """Train sparse networks that move their weights about: an upper reference, not tickets.

    Each network starts from W0 under a random mask. Every ``delta`` steps each layer drops its
    smallest ``|w|`` and grows as many weights where the loss of the dense network has the largest
    gradient; they start at zero. A weight that is dropped and grown at once keeps its value. The
    trained networks are what counts (``Level.trained``): their masks are not trained from W0
    again. All densities train together, on the same minibatches. The optimiser's moments and the
    learning-rate schedule restart at every update.

    Args:
        task: The task.
        densities: One or more densities in (0, 1]; each network keeps exactly round(density * D)
            weights, the same number in each layer from start to end.
        steps: Optimiser steps of each network.
        delta: Steps between updates.
        alpha: Fraction of a layer's kept weights that the update at step t drops is
            alpha / 2 (1 + cos(pi t / (end * steps))), rounded; alpha in [0, 1]. Layers that keep
            all their weights stay as they are.
        distribution: How kept weights are spread over layers; see ``operators.layer_counts``.
        end: Fraction of ``steps`` after which the masks stay, in [0, 1].
        seed: Of the masks and minibatches.

    Returns:
        Levels with their trained networks. Each costs ``steps`` and one step for each update's
        gradient, over one minibatch.

    Raises:
        InvalidValueError: A density would leave a layer empty, or a training diverged.

    Reference:
        Evci et al. 2020, Rigging the Lottery: Making All Tickets Winners,
        https://arxiv.org/abs/1911.11134, algorithm 1.
    """
    _checks.whole("steps", steps)
    _checks.whole("delta", delta)
    _checks.real("alpha", alpha, low=0, high=1)
    last = steps * _checks.real("end", end, low=0, high=1)
    layout = task.layout
    masks = [_first_mask(task, d, distribution, seed) for d in as_densities(densities)]
    starts: list[Start] = [None] * len(masks)
    updates = [t for t in range(delta, steps, delta) if t < last]
    for before, now in itertools.pairwise([0, *updates]):
        plan = Plan(now - before, seed_at(task, seed, RIGL, before, BATCHES))
        tickets = [task.ticket(mask) for mask in masks]
        outcome = run_finite(task, tickets, plan, starts)
        share = 0.5 * alpha * (1 + math.cos(math.pi * now / last))
        rng = generator_at(task, seed, RIGL, now, CHOICES)
        rows = torch.from_numpy(draw_rows(task, task.recipe.batch_size, rng))
        for i, ticket in enumerate(tickets):
            trained = outcome.trained[i]
            gradient = dense_gradient(task.problem, masks[i], rows, trained)
            charge(task, len(rows), dense_share(task.problem, ticket.packed_mask))
            ties = generator_at(task, seed, RIGL, now, ticket.kept, CHOICES)
            masks[i], starts[i] = _moved(layout, masks[i], trained, gradient, share, ties)
    done = updates[-1] if updates else 0
    tickets = [task.ticket(mask) for mask in masks]
    results = task.train_all(
        tickets,
        steps=steps - done,
        seed=seed_at(task, seed, RIGL, done, BATCHES),
        starts=starts,
    )
    for ticket, result in zip(tickets, results, strict=True):
        check_finite(task, ticket, math.isfinite(result.val_loss))
    own, dense = steps + len(updates), 0.0
    levels = []
    for i, (ticket, result) in enumerate(zip(tickets, results, strict=True), 1):
        # A layer keeps as many weights from start to end, so the share of the last mask is theirs.
        share = dense_share(task.problem, ticket.packed_mask)
        dense += steps * share + len(updates) * gradient_share(share)
        trained_now = replace(result, steps=steps)
        levels.append(Level(ticket, own * i, trained=trained_now, search_dense_steps=dense))
    return Baseline.of("rigl", levels, before=task.rewound_steps)


def _first_mask(task: Task, density: float, distribution: Distribution, seed: int) -> bits.Mask:
    """Return the random mask that a density starts with, the same in any company."""
    counts = layer_counts(task.layout, density, distribution)
    kept = kept_at(task.layout, density)
    return random_mask(task.layout, counts, generator_at(task, seed, RIGL, kept, CHOICES))


def _moved(
    layout: MaskLayout,
    mask: bits.Mask,
    trained: TrainedState,
    gradient: Scores,
    share: float,
    rng: np.random.Generator,
) -> tuple[bits.Mask, TrainedState]:
    """Drop a share of each layer's weights and grow as many; return mask and weights."""
    values = np.zeros(layout.size, dtype=trained.values.dtype)
    values[mask] = trained.values
    after = mask.copy()
    for layer in layout.layers:
        part = after[layer.start : layer.stop]
        kept = np.flatnonzero(part)
        k = 0 if len(kept) == layer.size else round(share * len(kept))
        if not k:
            continue
        here = slice(layer.start, layer.stop)
        part[kept[ranked(-np.abs(values[here][kept]), rng)[:k]]] = False
        free = np.flatnonzero(~part)  # those just dropped may come back
        part[free[ranked(np.abs(gradient[here][free]), rng)[:k]]] = True
    # ``values`` is zero where nothing was kept, which is where new weights start.
    return after, TrainedState(values[after], trained.unmasked)

"""Torch-Pruning's importance of neurons and filters, as a baseline of structured tickets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nets_deap import _checks, _optional
from nets_deap.baselines._common import (
    CHOICES,
    MAGNITUDE,
    as_densities,
    generator_at,
    kept_at,
    run_finite,
)
from nets_deap.baselines.magnitude import keep, plan_of
from nets_deap.baselines.result import Baseline, Level
from nets_deap.models.private import copied, set_state
from nets_deap.names import NEURON
from nets_deap.tickets.units import UnitLayout
from nets_deap.training.batches import eval_batches
from nets_deap.training.problem import Plan
from nets_deap.training.task import Task, check_task


@_checks.signed(subject=check_task)
def torch_pruning(
    task: Task, densities: float | Iterable[float], *, steps: int, seed: int = 0
) -> Baseline:
    """Train the dense network once from W0, then prune units by Torch-Pruning's importance.

    That is the norm of all weights that go with a unit, its own, those that read it and those of
    its normalisation, over the mean of its layer (``GroupMagnitudeImportance``). Units of all
    layers are ranked together; each layer keeps its floor.

    Args:
        task: With ``unit="filter"``.
        densities: One or more densities in (0, 1].
        steps: Optimiser steps of the dense training: the cost of the whole search.
        seed: Of the minibatches.

    Returns:
        Levels that all cost ``steps``.

    Raises:
        MissingExtraError: torch-pruning is not installed.
        InvalidValueError: The training diverged, or the task has no such units.

    Reference:
        Fang et al. 2023, DepGraph: Towards Any Structural Pruning,
        https://arxiv.org/abs/2301.12900.
    """
    if task.layout.unit != NEURON:
        raise _checks.bad_value(
            "task", "gate neurons or filters, which this baseline ranks", "unit='filter'",
            repr(task.layout.unit),
        )  # fmt: skip
    library = _optional.require("torch_pruning", "torch-pruning", "Its importance of units")
    layout, plan = task.layout, plan_of(task, seed, 1, steps)
    plan = Plan(plan.steps, plan.seed, keep_states=True)
    outcome = run_finite(task, [task.dense_ticket()], plan, [None])
    scores = _importance(task, outcome.states[0], library)
    levels = []
    for density in as_densities(densities):
        rng = generator_at(task, seed, MAGNITUDE, 1, CHOICES)
        mask = keep(layout, scores, [(0, layout.size, kept_at(layout, density))], rng)
        levels.append(Level(task.ticket(mask), plan.steps, search_dense_steps=float(plan.steps)))
    return Baseline.of("torch-pruning", levels, before=task.rewound_steps)


def _importance(task: Task, state: Any, library: Any) -> NDArray[np.float64]:
    """Return the importance of all units, shape (G,), over the mean of their layers."""
    model = copied(task.problem.model).cpu()
    set_state(model, state)
    _, inputs, _ = next(eval_batches(task.problem.val, 2))
    with torch.enable_grad():
        graph = library.DependencyGraph().build_dependency(model.eval(), inputs.cpu())
    assert isinstance(task.layout, UnitLayout)
    rate, found = library.importance.GroupMagnitudeImportance(p=2, normalizer="mean"), []
    for layer in task.layout.layers:
        module: Any = model.get_submodule(layer.name.rpartition(".")[0])
        prune = library.prune_linear_out_channels
        if not isinstance(module, torch.nn.Linear):
            prune = library.prune_conv_out_channels
        bits = task.layout.bits_at(layer.name) - layer.start
        outputs = np.flatnonzero((bits >= 0) & (bits < layer.size))  # others are an earlier layer's
        group = graph.get_pruning_group(module, prune, idxs=outputs.tolist())
        sums, counts = np.zeros(layer.size), np.bincount(bits[outputs], minlength=layer.size)
        np.add.at(sums, bits[outputs], rate(group).detach().numpy().astype(np.float64))
        found.append(sums / counts)
    return np.concatenate(found)

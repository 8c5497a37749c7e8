"""What the weights of a task are pruned by: the usual choice, and what operators need for one."""

from __future__ import annotations

from typing import Any

from nets_deap.names import WEIGHT
from nets_deap.training.cost import uses
from nets_deap.training.task import Task


def criterion(task: Task, by: str) -> dict[str, Any]:
    """Return a criterion as ``mut_prune``, ``mut_swap`` and ``cx_average`` take it, by keyword."""
    return {"by": by, "costs": task.weight_costs if by == "cost" else None}


def usual_criterion(task: Task) -> str:
    """Return what lineages of a task prune by, where nobody has said so.

    By |w|, unless layers differ in how often a weight is used, as with convolutions: there |w| of
    the whole network takes the wrong layers, and LAMP is better from a few per cent of density
    down. With fully connected layers alone the two are level.
    """
    unlike = len(set(uses(task.problem).tolist())) > 1
    return "lamp" if unlike and task.layout.unit == WEIGHT else "magnitude"

"""What the weights of a task are pruned by: the usual choice, and what operators need for one."""

from __future__ import annotations

from typing import Any

import numpy as np

from nets_deap.evolution.measured import Measured
from nets_deap.evolution.measures import multiply_adds
from nets_deap.names import NEURON, WEIGHT
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.cost import uses
from nets_deap.training.task import Task


def criterion(task: Task, by: str, ticket: Ticket | None = None) -> dict[str, Any]:
    """Return a criterion as ``mut_prune``, ``mut_swap`` and ``cx_average`` take it, by keyword.

    Args:
        task: The task.
        by: The criterion.
        ticket: See ``costs_of``.
    """
    return {"by": by, "costs": costs_of(task, ticket) if by == "cost" else None}


def usual_criterion(task: Task) -> str:
    """Return what lineages of a task prune by, where nobody has said so.

    By |w|, unless layers differ in how often a weight is used, as with convolutions: there |w| of
    the whole network takes the wrong layers, and LAMP is better from a few per cent of density
    down. With fully connected layers alone the two are level. Of neurons and filters by what is
    lost for each multiply-add that is saved: |w| takes those of many inputs first, until a layer
    is nearly gone, and LAMP those of many weights, which cost little.
    """
    if task.layout.unit == NEURON:
        return "cost"
    unlike = len(set(uses(task.problem).tolist())) > 1
    return "lamp" if unlike and task.layout.unit == WEIGHT else "magnitude"


def costs_of(task: Task, ticket: Ticket | None = None) -> dict[str, float]:
    """Return what is saved with a weight of each layer, or with a neuron or filter, by name.

    In multiply-adds. With a filter goes what reads it as well: its worth is what one filter less
    of the ticket saves, so that it depends on how many there are of the layers about it.

    Args:
        task: The task.
        ticket: Of neurons or filters the ticket that loses one; None for the dense one.
    """
    if task.layout.unit != NEURON:
        return task.weight_costs
    gates = np.ones(task.layout.size, dtype=np.bool_) if ticket is None else ticket.gates

    def count() -> float:
        return multiply_adds(Measured(task.ticket(gates), {}, 0, task=task))

    whole, found = count(), {}
    for layer in task.layout.layers:
        # The second one: where the first stays, to stand in for the constants of all, it saves
        # nothing.
        before, kept, saved = (
            whole,
            layer.start + np.flatnonzero(gates[layer.start : layer.stop]),
            1.0,
        )
        for place in kept[:2].tolist() if len(kept) > 1 else []:
            gates[place] = False
            after = count()
            before, saved = after, max(before - after, 1.0)
        gates[kept] = True
        found[layer.name] = saved
    return found

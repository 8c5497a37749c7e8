"""What the weights of a task are pruned by: the usual choice, and what operators need for one."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap.evolution.measured import Measured
from nets_deap.evolution.measures import multiply_adds
from nets_deap.evolution.objectives import Objective
from nets_deap.names import NEURON, WEIGHT
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.cost import uses
from nets_deap.training.task import Task

# Of what a neuron of the layer saves where it saves most, what one of any other counts at least.
LEAST = 0.01
# What is saved of measured times, by task and objective: measuring takes a while.
_timed: weakref.WeakKeyDictionary[Task, dict[str, dict[str, float]]] = weakref.WeakKeyDictionary()


def criterion(
    task: Task, by: str, ticket: Ticket | None = None, objectives: Sequence[Objective] = ()
) -> dict[str, Any]:
    """Return a criterion as ``mut_prune``, ``mut_swap`` and ``cx_average`` take it, by keyword.

    Args:
        task: The task.
        by: The criterion.
        ticket: See ``costs_of``.
        objectives: See ``costs_of``.
    """
    return {"by": by, "costs": costs_of(task, ticket, objectives) if by == "cost" else None}


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


def costs_of(
    task: Task, ticket: Ticket | None = None, objectives: Sequence[Objective] = ()
) -> dict[str, float]:
    """Return what is saved with a weight of each layer, or with a neuron or filter, by name.

    With a filter goes what reads it as well: its worth is what one filter less of the ticket saves,
    so that it depends on how many there are of the layers about it. It saves what the search makes
    small: multiply-adds, or parameters, memory or measured time, this once for all tickets, of the
    dense network; without such an objective, multiply-adds.

    Args:
        task: The task.
        ticket: Of neurons or filters the ticket that loses one; None for the dense one.
        objectives: Of the search.

    Returns:
        Multiply-adds; of another objective, millionths of what the ticket has of it.
    """
    if task.layout.unit != NEURON:
        return task.weight_costs
    dense = np.ones(task.layout.size, dtype=np.bool_)
    gates = dense if ticket is None else ticket.gates
    for one in objectives:
        if one.direction == "min" and one.reference == "dense" and one.measure is not multiply_adds:
            known = _timed.setdefault(task, {}) if one.timed else {}
            if one.name not in known:
                known[one.name] = _shares(task, dense if one.timed else gates, one.measure)
            if known[one.name]:
                return known[one.name]
    return {name: max(saved, 1.0) for name, saved in _saved(task, gates, multiply_adds).items()}


def _shares(
    task: Task, gates: NDArray[np.bool_], measure: Callable[[Measured], float]
) -> dict[str, float]:
    """Return what is saved of something in millionths of it, by layer; nothing where none does."""
    found = _saved(task, gates, measure)
    most = max(found.values())
    if most <= 0:
        return {}
    # A measured time may be less with a filter more, and of some layers nothing counts.
    whole, least = measure(_of(task, gates)), LEAST * most
    return {name: 1e6 * max(saved, least) / whole for name, saved in found.items()}


def _saved(
    task: Task, gates: NDArray[np.bool_], measure: Callable[[Measured], float]
) -> dict[str, float]:
    """Return how much less there is of something with a neuron or filter less, by layer.

    The mean of half of those that are kept, as time is measured and a single one is lost in it.
    """
    found = {}
    for layer in task.layout.layers:
        kept = layer.start + np.flatnonzero(gates[layer.start : layer.stop])
        # From the second one on: where the first stays, to stand in for the constants of all, it
        # saves nothing.
        gone = kept[1 : 1 + max(1, len(kept) // 2)]
        found[layer.name] = 0.0
        if len(gone):
            fewer = gates.copy()
            fewer[kept[0]] = False
            before = measure(_of(task, fewer))
            fewer[gone] = False
            found[layer.name] = (before - measure(_of(task, fewer))) / len(gone)
    return found


def _of(task: Task, gates: NDArray[np.bool_]) -> Measured:
    """Return a ticket as an objective takes it that needs nothing but the mask."""
    return Measured.untrained(task.ticket(gates), task)

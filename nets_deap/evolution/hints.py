"""What operators go by beside trained weights: gradients, and what pruned weights were last."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nets_deap.tickets import bits
from nets_deap.tickets.choice import largest_first, smallest
from nets_deap.tickets.ticket import Ticket
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.gradients import cheap_gradient
from nets_deap.training.problem import Problem

Gradients: TypeAlias = tuple[NDArray[Any], NDArray[np.int64], NDArray[Any]]

# Candidates for regrowth and remembered weights: at most so many times the kept bits. Where these
# are many, fewer candidates: a swap takes less than half of the kept ones, and each is 12 bytes.
CANDIDATES, REMEMBERED = 2, 4
FEW = 20  # a share of 1 / FEW of all bits is not many


def gradients_of(problem: Problem, ticket: Ticket, state: TrainedState, rows: Tensor) -> Gradients:
    """Return |gradient| at the kept weights, the pruned bits of largest one, and theirs.

    Args:
        problem: Model, data and recipe.
        ticket: Whose it is.
        state: Of its training.
        rows: Indices of the training examples, shape (N,).
    """
    units, gates = ticket.units, ticket.gates
    mask = gates if units is None else units.mask_of(gates)
    gradient = cheap_gradient(problem, mask, rows, state)
    np.abs(gradient, out=gradient)
    at_kept = gradient[mask]
    if units is not None:  # what can be regrown are units
        gradient = units.root_mean_square(gradient)
    kept, size = bits.count(ticket.packed), len(gates)
    most = min(size - kept, CANDIDATES * kept, max(1, kept // 2, size // FEW))
    # One pass over all bits instead of sorting them: kept ones last, as 1 > -|gradient|.
    first = np.flatnonzero(smallest(np.where(gates, 1, -gradient), most) & ~gates)
    first = first[largest_first(gradient[first])]
    return at_kept, first, gradient[first]


def memory_of(ticket: Ticket) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return pruned bits that an ancestor has trained, and their last |w|."""
    if ticket.inherited is None:
        return np.zeros(0, np.int64), np.zeros(0)
    places, sizes = ticket.inherited.last_known(ticket.gates, ticket.units)
    most = REMEMBERED * bits.count(ticket.packed)
    if len(places) > most:
        largest = np.argpartition(-sizes, most - 1)[:most]
        places, sizes = places[largest], sizes[largest]
    return places, sizes

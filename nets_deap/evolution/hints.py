"""What operators go by beside trained weights: gradients, and what pruned weights were last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nets_deap.tickets import bits
from nets_deap.tickets.choice import largest_first, smallest
from nets_deap.tickets.ticket import Ticket
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.gradients import cheap_gradient, gradients_together
from nets_deap.training.problem import Problem

Gradients: TypeAlias = tuple[NDArray[Any], NDArray[np.int64], NDArray[Any]]

# Candidates for regrowth and remembered weights: at most so many times the kept bits. Where these
# are many, fewer candidates: a swap takes less than half of the kept ones, and each is 12 bytes.
CANDIDATES, REMEMBERED = 2, 4
FEW = 20  # a share of 1 / FEW of all bits is not many


def gradients_of(
    problem: Problem,
    tickets: Sequence[Ticket],
    states: Sequence[TrainedState],
    rows: Tensor,
    *,
    at_once: int = 1,
) -> Iterator[Gradients]:
    """Go through |gradient| at the kept weights, the pruned bits of largest one, and theirs.

    Args:
        problem: Model, data and recipe.
        tickets: Whose they are.
        states: Of their trainings.
        rows: Indices of the training examples, shape (N,).
        at_once: Networks to differentiate as one batch, by ``torch.func``; 1 for one by one.
    """
    for first in range(0, len(tickets), at_once):
        some, own = tickets[first : first + at_once], states[first : first + at_once]
        if len(some) > 1:
            masks = [ticket.packed_mask for ticket in some]
            found = gradients_together(problem, masks, rows, own, at_once=at_once)
        else:
            found = [cheap_gradient(problem, some[0].mask, rows, own[0])]
        for ticket, gradient in zip(some, found, strict=True):
            yield _noted(ticket, gradient)


def _noted(ticket: Ticket, gradient: NDArray[Any]) -> Gradients:
    """Return what is kept of the gradient (D,) of a ticket's network."""
    units, gates, mask = ticket.units, ticket.gates, ticket.mask
    gradient = np.abs(gradient)
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

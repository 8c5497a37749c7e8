"""Tickets to measure with: evaluated, and with a trained state, as after training."""

from __future__ import annotations

import functools

import numpy as np

from nets_deap.evolution.operators import mut_swap, random_mask
from nets_deap.tickets.fitness import fitness_class
from nets_deap.tickets.layout import MaskLayout
from nets_deap.tickets.random import layer_counts
from nets_deap.tickets.ticket import Ticket
from nets_deap.tickets.trained import TrainedState
from nets_deap.training import tasks
from nets_deap.training.task import Task

# No trained state; that of its own mask; or an ancestor's, which a mutation has left behind.
INHERITED = ("none", "own", "ancestor")
CHANGED = 0.1

Rng = np.random.Generator


@functools.cache
def lenet() -> Task:
    """Return LeNet-300-100 on the embedded digits, the same task every time: it loads slowly."""
    return tasks.lenet(dataset="mnist5k", device="cpu")


def made_up_ticket(
    layout: MaskLayout,
    density: float,
    inherited: str,
    rng: Rng,
    *,
    kind: type[Ticket] = Ticket,
    gradients: bool = False,
) -> Ticket:
    """Return an evaluated random ticket with a trained state, as after training.

    Args:
        layout: Knows W0.
        density: In (0, 1].
        inherited: One of ``INHERITED``.
        rng: NumPy generator.
        kind: Its class.
        gradients: Whether the state has gradients as well.
    """
    ticket = kind(random_mask(layout, layer_counts(layout, density), rng), layout=layout)
    ticket.fitness = fitness_class(("val_loss", "density"), (-1.0, -1.0), (2.3, 1.0))()
    ticket.fitness.values = (2.3 * float(rng.random()), ticket.density)
    if inherited != "none":
        own = kind(ticket.mask, layout=layout)
        if inherited == "ancestor":
            mut_swap(own, fraction=CHANGED, by="random", rng=rng)
        ticket.inherited = made_up_state(own, rng, gradients=gradients)
    return ticket


def made_up_state(ticket: Ticket, rng: Rng, *, gradients: bool = False) -> TrainedState:
    """Return what training could have made of a ticket: values near W0, and gradients.

    Args:
        ticket: Its layout knows W0.
        rng: NumPy generator.
        gradients: Whether there are gradients.
    """
    layout, free = ticket.layout, np.flatnonzero(~ticket.mask)
    initial = layout.require_initial()[ticket.mask]
    noise = rng.standard_normal((2, len(initial))).astype(initial.dtype)
    most = min(len(free), max(1, ticket.kept // 2))
    return TrainedState(
        digest=ticket.digest,
        steps=100,
        values=initial + initial.std() * noise[0],
        metrics={"train_loss": 0.5, "val_loss": 0.5, "val_accuracy": 0.9},
        packed=ticket.packed.copy(),
        unmasked={f"{la.name}.bias": np.zeros(la.shape[0], initial.dtype) for la in layout.layers},
        gradients=np.abs(noise[1]) if gradients else None,
        candidates=rng.permutation(free)[:most] if gradients else None,
    )

"""Random tickets: what any search must beat at equal density, or at equal layer densities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.baselines._common import CHOICES, RANDOM, as_densities, generator_at
from nets_deap.baselines.result import Baseline, Level
from nets_deap.tickets.random import layer_counts, random_mask
from nets_deap.tickets.ticket import Ticket, several
from nets_deap.training.task import Task, check_task


@_checks.signed(subject=check_task)
def random_uniform(task: Task, densities: float | Iterable[float], *, seed: int = 0) -> Baseline:
    """Return random tickets with the same density in all layers. Costs no steps.

    Args:
        task: The task.
        densities: One or more densities in (0, 1]; each ticket keeps exactly round(density * D)
            weights.
        seed: Of the random choice. A density gets the same ticket whatever stands beside it.

    Raises:
        InvalidValueError: A density would leave a layer empty.
    """
    counts = [layer_counts(task.layout, d, "uniform") for d in as_densities(densities)]
    return _drawn("random", task, counts, seed)


@_checks.signed(subject=check_task)
def random_erk(task: Task, densities: float | Iterable[float], *, seed: int = 0) -> Baseline:
    """Return random tickets whose layers have Erdős–Rényi-kernel densities. Costs no steps.

    Args:
        task: The task.
        densities: As for ``random_uniform``.
        seed: As for ``random_uniform``.

    Raises:
        InvalidValueError: A density would leave a layer empty.

    Reference:
        Evci et al. 2020, Rigging the Lottery, https://arxiv.org/abs/1911.11134, section 3.
    """
    counts = [layer_counts(task.layout, d, "erk") for d in as_densities(densities)]
    return _drawn("erk", task, counts, seed)


@_checks.signed(subject=check_task)
def random_like(task: Task, tickets: Iterable[Ticket], *, seed: int = 0) -> Baseline:
    """Return a random ticket for each of ``tickets``, with its layer counts. Costs no steps.

    It tells whether a search found more than how many weights each layer needs.

    Args:
        task: The task that the tickets belong to.
        tickets: One or more; the levels stand densest first, equally dense ones in order.
        seed: Of the random choice.

    Raises:
        InvalidTypeError: They are something else.
        InvalidValueError: No tickets, or one of another layout.

    Reference:
        Frankle et al. 2021, Pruning Neural Networks at Initialization: Why Are We Missing the
        Mark?, https://arxiv.org/abs/2009.08576, section 5.
    """
    tickets = several(tickets, "Baselines have .tickets, searches .front.")
    if not tickets:
        raise _checks.bad_value("tickets", "hold tickets", "at least one", 0)
    for ticket in tickets:
        if not isinstance(ticket, Ticket):
            raise _checks.bad_type("tickets", "hold tickets", "nets.Tickets", ticket)
        task.layout.check_bits(len(ticket))
    ordered = sorted(tickets, key=lambda ticket: -ticket.kept)
    counts = [task.layout.counts(ticket.packed) for ticket in ordered]
    return _drawn("same-layers", task, counts, seed)


def _drawn(name: str, task: Task, counts: list[NDArray[np.int64]], seed: int) -> Baseline:
    """Return a random ticket for each vector of layer counts (L,), densest first."""
    levels: list[Level] = []
    before: Counter[int] = Counter()
    for layers in counts:
        kept = int(layers.sum())
        rng = generator_at(task, seed, RANDOM, kept, before[kept], CHOICES)
        before[kept] += 1
        levels.append(Level(task.ticket(random_mask(task.layout, layers, rng))))
    return Baseline.of(name, levels, before=task.rewound_steps)

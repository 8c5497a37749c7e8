"""Initial tickets: masks of exact density, spread over layers by a distribution."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from nets_deap import _checks
from nets_deap.evolution.operators._common import generator
from nets_deap.tickets.choice import Rng
from nets_deap.tickets.layout import MaskLayout
from nets_deap.tickets.random import Distribution, layer_counts, random_mask
from nets_deap.tickets.ticket import Ticket, check_individual, several

# Who has found tickets: they, or a result that has them as ``tickets`` or as ``front``.
Seeds = Any
T = TypeVar("T", bound=Ticket)


@_checks.signed
def init_density(
    container: Callable[..., T],
    layout: MaskLayout,
    *,
    density: float = 0.2,
    distribution: Distribution = "erk",
    rng: Rng | None = None,
) -> T:
    """Return one random ticket of round(density * D) kept weights.

    Exactly as many where a bit is a weight; else as near as whole units allow.

    Args:
        container: The ticket class; called as ``container(mask, layout=layout)``.
        layout: The layout of the mask.
        density: In (0, 1].
        distribution: How kept weights are spread over layers; see ``layer_counts``.
        rng: NumPy generator; None for one seeded from ``random``.

    Returns:
        The ticket; no layer is empty.
    """
    counts = layer_counts(layout, density, distribution)
    return container(random_mask(layout, counts, generator(rng)), layout=layout)


@_checks.signed
def init_log_spaced(
    container: Callable[..., T],
    layout: MaskLayout,
    n: int,
    *,
    low: float = 0.02,
    high: float = 1.0,
    distribution: Distribution = "erk",
    rng: Rng | None = None,
) -> list[T]:
    """Return a population of ``n`` random tickets, log-spaced in density from high to low.

    Args:
        container: The ticket class; called as ``container(mask, layout=layout)``.
        layout: The layout of the masks.
        n: Number of tickets, >= 0; a single one has density ``high``.
        low: Density of the last ticket, in (0, 1]; raised where a layer would be empty, lowered
            where no ticket is as dense (as is ``high``).
        high: Density of the first ticket, in [low, 1].
        distribution: How kept weights are spread over layers; see ``layer_counts``.
        rng: NumPy generator; None for one seeded from ``random``.
    """
    _checks.whole("n", n, low=0)
    _checks.interval("(low, high)", (low, high), _checks.density)
    least, most = layout.density_range
    densities = np.geomspace(min(max(high, least), most), min(max(low, least), most), n)
    source = generator(rng)
    return [
        init_density(
            container, layout, density=min(most, float(d)), distribution=distribution, rng=source
        )
        for d in densities
    ]


@_checks.signed
def init_from(container: Callable[..., T], layout: MaskLayout, n: int, *, seeds: Seeds) -> list[T]:
    """Return a population of ``n`` tickets that others have found: the masks of its seeds.

    Spread evenly over the seeds in order of density, densest first; where there are fewer seeds
    than ``n`` the sparser ones stand more than once: for one of your own among others, use
    ``toolbox.population(n=19) + [toolbox.individual(mask)]``. They inherit the trained weights
    that the seeds have, those that a baseline's tickets were pruned from or that a search ended
    with.

    Args:
        container: The ticket class; called as ``container(mask, layout=layout)``.
        layout: The layout of the masks.
        n: Number of tickets, >= 0.
        seeds: Tickets of that layout, one or more, or a result that has some: a baseline's or a
            search's, such as ``baselines.finetune(task, ...)``.

    Raises:
        InvalidValueError: There are no seeds, or they are of another layout.
    """
    _checks.whole("n", n, low=0)
    found = next(
        (getattr(seeds, name) for name in ("tickets", "front") if hasattr(seeds, name)), seeds
    )
    tickets = several(found, "Give a baseline's .tickets, or a search's .front.")
    if not tickets:
        raise _checks.bad_value("seeds", "hold tickets", "at least one", 0)
    for ticket in tickets:
        check_individual(ticket)
        if ticket.layout_key != layout.key:
            raise _checks.bad_value(
                "seeds",
                "have the layout of the task",
                layout.key[:12],
                ticket.layout_key[:12] or "none",
                "Take tickets over the same initial weights, with the task's layout: "
                "task.ticket(mask), or nets.Ticket(mask, layout=task.layout).",
            )
    ordered = sorted(tickets, key=lambda ticket: -ticket.kept)
    if n > len(ordered):
        picked = sorted(len(ordered) - 1 - i % len(ordered) for i in range(n))
    else:
        goals = np.linspace(0, len(ordered) - 1, n) if n > 1 else np.zeros(n)
        picked = [round(goal) for goal in goals.tolist()]
    drawn = []
    for i in picked:
        one = container(ordered[i].gates, layout=layout)
        if ordered[i].inherited is not None:
            one.inherited = copy.copy(ordered[i].inherited)
        drawn.append(one)
    return drawn

"""Shrinking: whole inputs and neurons and single weights at once, at rates that evolve."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nets_deap import _checks
from nets_deap.evolution.operators._common import Positions, draw_fraction, generator, marked, write
from nets_deap.evolution.operators.neurons import begin, connected, weights_of, without
from nets_deap.tickets import bits, live
from nets_deap.tickets.choice import Rng, smallest
from nets_deap.tickets.layout import MaskLayout
from nets_deap.tickets.ticket import Ticket

Interval = float | tuple[float, float]
Operator = Callable[..., tuple[Any, ...]]

# A pull towards equal rates keeps self-adaptation from drifting away without selection.
MEMORY = 0.9
MOST_AT_ONCE = 0.4


@_checks.signed
def mut_shrink(
    individual: Ticket,
    *,
    fraction: Interval = (0.15, 0.3),
    sigma: float = 0.3,
    thin: float = 0.18,
    rng: Rng | None = None,
) -> tuple[Ticket]:
    """Take a fraction off the multiply-adds: remove weak inputs and neurons, and small weights.

    In place; returns a tuple; fitness untouched. Of the n units of each level (inputs, then each
    hidden layer) n (1 - fraction)^e survive, those of largest norm (incoming x outgoing, of the
    trained weights when the ticket has them). The exponents e follow the ticket's own parameters,
    which mutates first and which children inherit: ``individual.adaptation["level 0"]``, ... are
    their logarithms, before they are scaled so that the multiply-adds shrink as asked. Then small
    weights go, down to a density of ``thin`` x sqrt(multiply-adds / D), though never more than
    two fifths of them at once: sparse networks train best from W0, and the smaller they are the
    denser they must be inside. Never disconnects the network.

    Args:
        individual: A ticket with a feedforward layout.
        fraction: Of the compact network's multiply-adds, in [0, 1]; or an interval to draw from.
        sigma: Standard deviation of the change of each logarithm, >= 0.
        thin: Density of a network that has lost no unit, in (0, 1]; 1 keeps all weights between
            units that survive. It does not evolve: sparser networks lose units sooner, so
            selection for few multiply-adds would make them sparser than trains well from W0.
        rng: NumPy generator; None for one seeded from ``random``.

    Raises:
        InvalidValueError: The layout is not feedforward, or has no weights to go by.
    """
    layout, before, values, source = begin(individual, rng)
    share = draw_fraction("fraction", fraction, source)
    _checks.real("sigma", sigma, low=0)
    _checks.density("thin", thin)
    names = [f"level {i}" for i in range(len(layout.layers))]
    old = individual.adaptation
    moved = {name: MEMORY * old.get(name, 0.0) + float(source.normal(0, sigma)) for name in names}
    individual.adaptation = {**old, **moved}
    alive = live.live_units(layout, before)
    if not alive[0].any():  # nothing reaches an output, so nothing can be taken off
        write(individual, before, source, allow_empty_layers=False)
        return (individual,)
    rates = [math.exp(moved[name]) for name in names]
    sizes = _sizes([int(units.sum()) for units in alive], rates, 1 - share)
    norms = live.unit_norms(layout, values)
    levels, places, strength = [], [], []
    for level, size in enumerate(sizes):
        units = np.flatnonzero(alive[level])
        lost = units[smallest(norms[level][units], len(units) - size)]
        levels.append(np.full(len(lost), level))
        places.append(lost)
        # Relative to its level, so that a sparing repair is fair between levels.
        strength.append(norms[level][lost] / max(float(norms[level][units].mean()), 1e-300))
    order = np.argsort(-np.concatenate(strength), kind="stable")
    mask = _without(layout, before, np.concatenate(levels)[order], np.concatenate(places)[order])
    total = int(np.count_nonzero(mask))
    least = (1 - MOST_AT_ONCE) * total if thin < 1 else total
    goal = max(thin * float(np.sqrt(live.multiply_adds(layout, mask) * layout.size)), least)
    n, kept = max(0, total - round(goal)), bits.places(mask)
    small = marked(layout.size, kept, smallest(values[kept], n))
    thinned = functools.partial(without, mask, small, values)
    write(individual, connected(layout, mask, n, thinned), source, allow_empty_layers=False)
    return (individual,)


@_checks.signed
def cx_then_mutate(
    ind1: Ticket, ind2: Ticket, *, cross: Operator, mutate: Operator, rng: Rng | None = None
) -> tuple[Ticket, Ticket]:
    """Cross two tickets, then mutate both children: for searches in which every child is pruned.

    In place; returns a tuple; fitness untouched.

    Args:
        ind1: One parent.
        ind2: The other, of the same layout.
        cross: A crossover (a partial with its arguments) that takes ``rng``.
        mutate: A mutation likewise.
        rng: NumPy generator; None for one seeded from ``random``.
    """
    source = generator(rng)
    cross(ind1, ind2, rng=source)
    for child in (ind1, ind2):
        mutate(child, rng=source)
    return ind1, ind2


def _without(
    layout: MaskLayout, before: bits.Mask, level: Positions, place: Positions
) -> bits.Mask:
    """Remove units, given with the strongest first, as far as the network stays connected."""

    def after(spared: int) -> bits.Mask:
        gone: bits.Mask = weights_of(layout, level[spared:], place[spared:])
        return before & ~gone

    return connected(layout, before, len(level), after)


def _sizes(counts: Sequence[int], rates: Sequence[float], factor: float) -> list[int]:
    """Return how many units of each level but the last survive, at least one.

    ``counts`` are the live units of all levels, outputs last. Multiply-adds shrink to ``factor``
    of what they are, as nearly as whole units allow.
    """
    goal = factor * _multiply_adds(counts)

    def at(scale: float) -> list[float]:
        pairs = zip(counts, rates, strict=False)
        return [*(max(n * math.exp(-scale * rate), 1.0) for n, rate in pairs), counts[-1]]

    low, high = 0.0, 60.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _multiply_adds(at(middle)) > goal else (low, middle)
    return [round(size) for size in at(high)[:-1]]


def _multiply_adds(sizes: Sequence[float]) -> float:
    """Return the multiply-adds of dense layers between levels of these sizes."""
    return sum(one * two for one, two in itertools.pairwise(sizes))

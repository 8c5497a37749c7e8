"""Operators that see neurons: whole neurons and inputs of fully connected networks.

They lead to tickets that are small once compact (see ``tickets.live``). Each works on feedforward
layouts only. A child of a connected network is always connected: the strongest of what an
operator would take comes back until some input reaches an output.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.evolution.operators._common import (
    Positions,
    check_pair,
    check_ticket,
    draw_fraction,
    generator,
    inherit_average,
    magnitudes,
    marked,
    write,
)
from nets_deap.tickets import bits, live
from nets_deap.tickets.choice import Rng, smallest
from nets_deap.tickets.layout import MaskLayout
from nets_deap.tickets.live import neuron_saliency, unit_norms
from nets_deap.tickets.ticket import Ticket

__all__ = ["cx_structure", "mut_columns", "mut_inputs", "mut_neurons", "neuron_saliency"]

Mutated = tuple[Ticket]
Interval = float | tuple[float, float]
Vector = NDArray[np.floating]

# Beyond this power, norms far from one would overflow.
GREATEST_POWER = 10.0


@_checks.signed
def mut_neurons(
    individual: Ticket,
    *,
    fraction: Interval = (0.02, 0.2),
    noise: float = 0.3,
    rng: Rng | None = None,
) -> Mutated:
    """Remove some of the weakest hidden neurons, with all weights into and out of each.

    In place; returns a tuple; fitness untouched. A neuron's strength is the norm of its incoming
    times that of its outgoing weights (trained ones when the ticket has them, else W0) over the
    mean of its layer, times log-normal noise. Never disconnects the network.

    Args:
        individual: A ticket with a feedforward layout.
        fraction: Of the live hidden neurons, in [0, 1], rounded; or an interval to draw from.
        noise: Standard deviation of the noise's logarithm, >= 0; 0 takes exactly the weakest.
        rng: NumPy generator; None for one seeded from ``random``.

    Raises:
        InvalidValueError: The layout is not feedforward, or has no weights to go by.
    """
    layout, before, values, source = begin(individual, rng)
    share = draw_fraction("fraction", fraction, source)
    sigma = _checks.real("noise", noise, low=0)
    alive = live.live_units(layout, before)
    strengths = unit_norms(layout, values)
    levels: list[Positions] = []
    places: list[Positions] = []
    scores: list[Vector] = []
    for i in range(1, len(layout.layers)):
        units = np.flatnonzero(alive[i])
        found = strengths[i][units]
        levels.append(np.full(len(units), i))
        places.append(units)
        scores.append(found / (found.mean() or 1.0) if len(units) else found)
    if not levels:
        return (individual,)
    score = np.concatenate(scores)
    score *= np.exp(source.normal(0, sigma, len(score)))
    chosen = _weakest(score, share)
    level, place = np.concatenate(levels)[chosen], np.concatenate(places)[chosen]
    return _remove_units(individual, before, level, place, source)


@_checks.signed
def mut_inputs(
    individual: Ticket, *, fraction: Interval = (0.02, 0.2), rng: Rng | None = None
) -> Mutated:
    """Remove the weakest inputs: whole columns of the first layer.

    In place; returns a tuple; fitness untouched. An input's strength is the norm of its weights
    (trained ones when the ticket has them, else W0). Never disconnects the network.

    Args:
        individual: A ticket with a feedforward layout.
        fraction: Of the live inputs, in [0, 1], rounded; or an interval to draw from.
        rng: NumPy generator; None for one seeded from ``random``.

    Raises:
        InvalidValueError: The layout is not feedforward, or has no weights to go by.
    """
    layout, before, values, source = begin(individual, rng)
    share = draw_fraction("fraction", fraction, source)
    inputs = np.flatnonzero(live.live_units(layout, before)[0])
    place = inputs[_weakest(unit_norms(layout, values)[0][inputs], share)]
    return _remove_units(individual, before, np.zeros(len(place), dtype=np.int64), place, source)


@_checks.signed
def mut_columns(
    individual: Ticket,
    *,
    fraction: Interval = (0.1, 0.4),
    a: Interval = (0.0, 2.0),
    b: Interval = (0.0, 2.0),
    rng: Rng | None = None,
) -> Mutated:
    """Prune a fraction of the kept weights, those of weak inputs and neurons before others.

    In place; returns a tuple; fitness untouched. The weights of smallest ``neuron_saliency``
    go, over the whole network. With a = b = 0 that is pruning by magnitude. Never disconnects the
    network.

    Args:
        individual: A ticket with a feedforward layout.
        fraction: Of the kept weights, in [0, 1], rounded; or an interval to draw from.
        a: Power of the norm of network inputs, in [0, 10]; or an interval to draw from.
        b: Power of the norm of hidden neurons, in [0, 10]; or an interval to draw from.
        rng: NumPy generator; None for one seeded from ``random``.

    Raises:
        InvalidValueError: The layout is not feedforward, or has no weights to go by.
    """
    layout, before, values, source = begin(individual, rng)
    share = draw_fraction("fraction", fraction, source)
    powers = _draw_power("a", a, source), _draw_power("b", b, source)
    kept = bits.places(before)
    scores = neuron_saliency(layout, values, *powers)
    n = round(share * individual.kept)
    lost = marked(len(before), kept, smallest(scores[kept], n))
    mask = connected(layout, before, n, functools.partial(without, before, lost, scores))
    write(individual, mask, source, allow_empty_layers=False)
    return (individual,)


@_checks.signed
def cx_structure(
    ind1: Ticket, ind2: Ticket, *, indpb: float = 0.5, rng: Rng | None = None
) -> tuple[Ticket, Ticket]:
    """Swap hidden neurons with all weights into and out of each, each with ``indpb``.

    In place; returns a tuple; fitness untouched. A weight between two hidden neurons is swapped
    with either of them. A child that this would disconnect keeps weights of its own strongest
    neurons as well.

    Args:
        ind1: One parent, with a feedforward layout.
        ind2: The other, of the same layout.
        indpb: Probability of a swap of each hidden neuron, in [0, 1].
        rng: NumPy generator; None for one seeded from ``random``.

    Raises:
        InvalidValueError: The layouts differ or are not feedforward.
    """
    check_pair(ind1, ind2)
    source = generator(rng)
    layout = ind1.layout
    live.check_feedforward(layout)
    p = _checks.real("indpb", indpb, low=0, high=1)
    draws = [np.flatnonzero(source.random(la.shape[0]) < p) for la in layout.layers[:-1]]
    level = np.repeat(np.arange(1, len(layout.layers)), [len(units) for units in draws])
    place = np.concatenate([*draws, np.zeros(0, dtype=np.int64)])
    swap = weights_of(layout, level, place)
    before = ind1.packed, ind2.packed
    one, other = ind1.mask, ind2.mask
    pairs = ((ind1, one, np.where(swap, other, one)), (ind2, other, np.where(swap, one, other)))
    for child, own, swapped in pairs:
        values = magnitudes(child, own)
        strengths = unit_norms(layout, own.astype(np.float64) if values is None else values)
        found = [norms[units] for norms, units in zip(strengths[1:], draws, strict=True)]
        score = np.concatenate([*found, np.zeros(0)])
        order = np.argsort(-score, kind="stable")
        keep = functools.partial(_with_own, layout, own, swapped, level[order], place[order])
        write(child, connected(layout, own, len(order), keep), source, allow_empty_layers=False)
    inherit_average((ind1, ind2), before)
    return ind1, ind2


def begin(individual: Ticket, rng: Rng | None) -> tuple[MaskLayout, bits.Mask, Vector, Rng]:
    """Return layout, mask, |w| (D,) and generator of a ticket that has weights to go by."""
    check_ticket(individual)
    live.check_feedforward(individual.layout)
    mask = individual.mask
    values = magnitudes(individual, mask)
    if values is None:
        raise _checks.bad_value(
            "individual",
            "have weights to go by",
            "a ticket with trained or initial weights",
            "neither",
            "Give the ticket a layout with initial weights.",
        )
    return individual.layout, mask, values, generator(rng)


def without(before: bits.Mask, lost: bits.Mask, scores: Vector, spared: int) -> bits.Mask:
    """Return a mask without what is lost of it, less the ``spared`` weights of largest score."""
    mask: bits.Mask = before & ~lost
    if spared:
        places = np.flatnonzero(lost)
        mask[places[np.argsort(-scores[places], kind="stable")[:spared]]] = True
    return mask


def _draw_power(argument: str, power: Interval, rng: Rng) -> float:
    """Return a power in [0, 10]: as given, or uniform from an interval."""

    def check(name: str, value: object) -> float:
        return _checks.real(name, value, low=0, high=GREATEST_POWER)

    if isinstance(power, (tuple, list)):
        return float(rng.uniform(*_checks.interval(argument, power, check)))
    return check(argument, power)


def _weakest(scores: Vector, fraction: float) -> Positions:
    """Return the places of a fraction of the scores, the smallest; the strongest of them first."""
    chosen = np.flatnonzero(smallest(scores, round(fraction * len(scores))))
    return chosen[np.argsort(-scores[chosen], kind="stable")]


def _remove_units(
    individual: Ticket, before: bits.Mask, level: Positions, place: Positions, rng: Rng
) -> Mutated:
    """Remove inputs (level 0) and neurons (of layer ``level``), given with the strongest first."""
    layout = individual.layout

    def after(spared: int) -> bits.Mask:
        return before & ~weights_of(layout, level[spared:], place[spared:])

    mask = connected(layout, before, len(level), after)
    write(individual, mask, rng, allow_empty_layers=False)
    return (individual,)


def _with_own(
    layout: MaskLayout,
    own: bits.Mask,
    swapped: bits.Mask,
    level: Positions,
    place: Positions,
    spared: int,
) -> bits.Mask:
    """Return swapped bits, with those of a child's own first ``spared`` units kept as well."""
    if not spared:
        return swapped
    return swapped | (own & weights_of(layout, level[:spared], place[:spared]))


def weights_of(layout: MaskLayout, level: Positions, place: Positions) -> bits.Mask:
    """Mark all weights into and out of some units; level 0 counts inputs, i the neurons of i."""
    marked = np.zeros(layout.size, dtype=np.bool_)
    parts = list(layout.split(marked).values())
    for i, part in enumerate(parts):
        part[:, place[level == i]] = True
        part[place[level == i + 1]] = True
    return marked


def connected(
    layout: MaskLayout, before: bits.Mask, removed: int, after: Callable[[int], bits.Mask]
) -> bits.Mask:
    """Return ``after(n)`` for the least n in [0, removed] that leaves an input and output joined.

    ``after(n)`` spares the n strongest of what is removed; ``after(removed)`` holds all of
    ``before``. A network that was never connected need not be.
    """
    mask = after(0)
    if live.is_connected(layout, mask) or not live.is_connected(layout, before):
        return mask
    low, high = 0, removed  # low does not connect, high does
    while high - low > 1:
        middle = (low + high) // 2
        if live.is_connected(layout, after(middle)):
            high = middle
        else:
            low = middle
    return after(high)

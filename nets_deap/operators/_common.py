"""What all operators share: the generator, layers, exact choices, and no empty layer."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks, bits
from nets_deap.masks import Layer
from nets_deap.ticket import Ticket

Rng = np.random.Generator
Positions = NDArray[np.int64]


def generator(rng: Rng | None) -> Rng:
    """Return ``rng``, or a generator seeded from Python's ``random``, which DEAP draws from."""
    return np.random.default_rng(random.getrandbits(64)) if rng is None else rng


def layers_of(ticket: Ticket) -> tuple[Layer, ...]:
    """Return the ticket's layers; a ticket without a layout is one layer."""
    return ticket.layout.layers if ticket.has_layout else (Layer("mask", (len(ticket),), 0),)


def check_pair(one: Ticket, other: Ticket) -> None:
    """Raise unless two tickets can be crossed."""
    hint = "Cross tickets of one layout."
    check_ticket(one)
    check_ticket(other)
    _checks.length("ind2", len(other), len(one), "D of ind1", hint)
    if one.layout_key != other.layout_key:
        keys = [ticket.layout_key[:12] or "none" for ticket in (one, other)]
        raise _checks.bad_value("ind2", "have the layout of ind1", keys[0], keys[1], hint)


def check_ticket(individual: object) -> None:
    """Raise unless an operator can work on ``individual``."""
    if not isinstance(individual, Ticket):
        raise _checks.bad_type("individual", "be a ticket", "a nets.Ticket", individual)


def choose(positions: Positions, k: int, rng: Rng) -> Positions:
    """Return ``k`` of ``positions`` without replacement."""
    return (
        positions if k >= len(positions) else rng.choice(positions, k, replace=False, shuffle=False)
    )


def draw_fraction(argument: str, fraction: float | tuple[float, float], rng: Rng) -> float:
    """Return a fraction in [0, 1]: as given, or uniform from an interval."""
    if isinstance(fraction, (tuple, list)):
        low, high = _checks.interval(argument, fraction, _unit)
        return float(rng.uniform(low, high))
    return _unit(argument, fraction)


def saliency(ticket: Ticket, kept: Positions) -> NDArray[np.floating] | None:
    """Return |w| at all kept positions: of the trained weights, else of W0, else None."""
    learnt = ticket.learnt
    if learnt is not None:
        trained: NDArray[np.floating] = np.abs(learnt.values)
        return trained
    initial = ticket.layout.initial if ticket.has_layout else None
    if initial is None:
        return None
    scores: NDArray[np.floating] = np.abs(initial[kept])
    return scores


def smallest(scores: NDArray[np.floating], k: int) -> Positions:
    """Return the places of the ``k`` smallest scores, exactly ``k`` also with ties."""
    if k >= len(scores):
        return np.arange(len(scores))
    return np.argpartition(scores, k)[:k] if k else np.zeros(0, dtype=np.int64)


def write(ticket: Ticket, mask: bits.Mask, rng: Rng, allow_empty_layers: bool) -> None:
    """Put ``mask`` into the ticket; a layer, or network, that it would empty keeps one weight.

    The weight is one that the ticket kept there before, if it kept any.
    """
    before: bits.Mask | None = None
    layers = layers_of(ticket)
    if allow_empty_layers:
        layers = (Layer("mask", (len(ticket),), 0),)
    for layer in layers:
        part = mask[layer.start : layer.stop]
        if part.any():
            continue
        before = ticket.mask if before is None else before
        kept = np.flatnonzero(before[layer.start : layer.stop])
        part[rng.choice(kept) if len(kept) else rng.integers(layer.size)] = True
    ticket.assign(bits.pack(mask))


def _unit(argument: str, value: object) -> float:
    """Return a float in [0, 1]."""
    return _checks.real(argument, value, low=0, high=1)

"""What all operators share: the generator, layers, exact choices, and no empty layer."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks, bits
from nets_deap.genome import Genome
from nets_deap.masks import Layer
from nets_deap.ticket import Ticket

Rng = np.random.Generator
Positions = NDArray[np.int64]
Scores = NDArray[np.floating]


def generator(rng: Rng | None) -> Rng:
    """Return ``rng``, or a generator seeded from Python's ``random``, which DEAP draws from."""
    return np.random.default_rng(random.getrandbits(64)) if rng is None else rng


def layers_of(ticket: Ticket) -> tuple[Layer, ...]:
    """Return the ticket's layers; a ticket without a layout is one layer."""
    return ticket.layout.layers if ticket.has_layout else (Layer("mask", (len(ticket),), 0),)


def check_pair(one: Ticket, other: Ticket, *, genes: bool = False) -> None:
    """Raise unless two tickets can be crossed: ``genes`` with their weights, or masks alone."""
    hint = "Cross tickets of one layout."
    check_ticket(one)
    check_ticket(other)
    _checks.length("ind2", len(other), len(one), "D of ind1", hint)
    if one.layout_key != other.layout_key:
        keys = [ticket.layout_key[:12] or "none" for ticket in (one, other)]
        raise _checks.bad_value("ind2", "have the layout of ind1", keys[0], keys[1], hint)
    own = [ticket.weights if isinstance(ticket, Genome) else None for ticket in (one, other)]
    if not genes and own[0] is not own[1] and not np.array_equal(*own):  # type: ignore[arg-type]
        raise _checks.bad_value(
            "ind2",
            "have the weights of ind1, as masks are exchanged without them",
            "equal weights",
            "other ones",
            "Cross genomes with cx_genes.",
        )


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


def saliency(ticket: Ticket, kept: Positions, by: str = "magnitude") -> Scores | None:
    """Return what all kept weights are worth, shape (kept,); None where no weights are known.

    By magnitude |w|, of the trained weights, else of the initial ones (a genome's own, or W0); by
    gradient |w * gradient|. Weights that have been regrown since the last training count as 0.
    """
    heritage = ticket.heritage
    if heritage is None:
        initial = ticket.own_values()
        if initial is None and ticket.has_layout and ticket.layout.initial is not None:
            initial = ticket.layout.initial[kept]
        return None if initial is None else np.abs(initial)
    same = np.array_equal(heritage.packed, ticket.packed)
    mask = None if same else ticket.mask
    scores: Scores = np.abs(heritage.values if mask is None else heritage.at(mask))
    if by == "gradient":
        slopes = heritage.slopes if mask is None else heritage.slopes_at(mask)
        assert slopes is not None
        scores = scores * slopes
    return scores


def weighted(ticket: Ticket, kept: Positions, scores: Scores | None) -> Scores | None:
    """Multiply the saliency of kept weights by the layers' factors of the ticket's strategy."""
    if scores is None or not ticket.strategy:
        return scores
    factors = [ticket.strategy.get(layer.name, 0.0) for layer in layers_of(ticket)]
    ends = np.searchsorted(kept, [layer.stop for layer in layers_of(ticket)])
    spread: Scores = scores * np.repeat(np.exp(factors), np.diff(ends, prepend=0))
    return spread


def share_heritage(
    children: tuple[Ticket, Ticket],
    before: tuple[bits.Bytes, bits.Bytes],
    *,
    unchanged_too: bool = False,
) -> None:
    """Let two children inherit what lies midway between what their parents learnt.

    A child whose bits are still those of its parent keeps what that one learnt, unless
    ``unchanged_too``. Strategies are averaged likewise.
    """
    first, second = (child.heritage for child in children)
    middle = first or second
    if first is not None and second is not None and first is not second:
        middle = first.average(second, len(children[0]))
    one, two = (child.strategy for child in children)
    strategy = {name: (one.get(name, 0.0) + two.get(name, 0.0)) / 2 for name in {**one, **two}}
    for child, packed in zip(children, before, strict=True):
        if unchanged_too or not np.array_equal(child.packed, packed):
            child.heritage, child.strategy = middle, dict(strategy)


def smallest(scores: Scores, k: int) -> Positions:
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

"""What all operators share: the generator, layers, saliency, inheritance, and no empty layer."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.tickets import bits
from nets_deap.tickets.choice import Rng, Scores, choose, smallest
from nets_deap.tickets.genome import Genome
from nets_deap.tickets.layout import Layer
from nets_deap.tickets.relative import spans_by
from nets_deap.tickets.ticket import Ticket, check_individual
from nets_deap.tickets.trained import Average, TrainedState
from nets_deap.tickets.units import UnitLayout

Positions = NDArray[np.int64]


def generator(rng: Any) -> Rng:
    """Return ``rng``, or a generator seeded from Python's ``random``, which DEAP draws from.

    Raises:
        InvalidTypeError: It is neither a generator of NumPy's nor None.
    """
    if rng is None:
        return np.random.default_rng(random.getrandbits(64))
    if not isinstance(rng, np.random.Generator):
        hint = "Use rng=numpy.random.default_rng(seed)."
        raise _checks.bad_type("rng", "be a generator", "a numpy.random.Generator", rng, hint)
    return rng


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


def check_ticket(individual: Any) -> None:
    """Raise unless an operator can work on ``individual``, and settle its bits."""
    check_individual(individual)
    settle(individual)


def draw_fraction(argument: str, fraction: float | tuple[float, float], rng: Rng) -> float:
    """Return a fraction in [0, 1]: as given, or uniform from an interval."""
    if isinstance(fraction, (tuple, list)):
        low, high = _checks.interval(argument, fraction, _unit)
        return float(rng.uniform(low, high))
    return _unit(argument, fraction)


def saliency(ticket: Ticket, kept: bits.Ones, by: str = "magnitude") -> Scores | None:
    """Return what all kept weights are worth, a fresh (kept,); None where no weights are known.

    By magnitude |w|, of the trained weights, else of the initial ones (a genome's own, or W0); by
    gradient |w * gradient|. Weights that have been regrown since the last training count as 0.
    ``kept`` are the ticket's bits that are set: in a structured ticket of units, and a unit is
    worth the root mean square of its weights: the least go first, so that the least energy is lost
    for the weights that are saved.
    """
    inherited = ticket.inherited
    units = ticket.units
    if units is not None and units.unit_sizes is not None:
        sizes = magnitudes(ticket, None, by)
        if sizes is None:
            return None
        return np.array(units.root_mean_square(sizes)[kept.places])
    if inherited is None:
        initial = ticket.own_values()
        if initial is None and ticket.has_layout and ticket.layout.initial is not None:
            initial = ticket.layout.initial[kept.places]
        return None if initial is None else np.abs(initial)
    scores = _worth(inherited, by)
    if np.array_equal(inherited.packed, ticket.packed):
        return scores
    return inherited.spread(scores, ticket.n_weights)[kept.places]


def magnitudes(ticket: Ticket, mask: bits.Mask | None, by: str = "magnitude") -> Scores | None:
    """Return the saliency at all places (D,), 0 at those that ``mask`` prunes, if there is one."""
    inherited = ticket.inherited
    if inherited is not None:
        sizes = inherited.spread(_worth(inherited, by), ticket.n_weights)
    else:
        initial = ticket.layout.initial if ticket.has_layout else None
        initial = ticket.weights if isinstance(ticket, Genome) else initial
        if initial is None:
            return None
        sizes = np.abs(initial)
    return sizes if mask is None else sizes * mask


def _worth(state: TrainedState, by: str) -> Scores:
    """Return what the weights (kept,) of a trained state are worth."""
    sizes: Scores = np.abs(state.values)
    if by == "gradient":
        assert state.gradients is not None
        return sizes * state.gradients
    return sizes


def weighted(ticket: Ticket, scores: Scores | None) -> Scores | None:
    """Multiply the saliency of kept weights by the layers' factors of the ticket's own.

    Only the order of scores matters, so the greatest factor is taken as 1: none overflows.
    """
    if scores is None or not ticket.adaptation:
        return scores
    logs = np.array([ticket.adaptation.get(layer.name, 0.0) for layer in layers_of(ticket)])
    spread = np.empty(len(scores), dtype=np.result_type(scores, np.float32))
    for span, factor in zip(spans_of(ticket), np.exp(logs - logs.max()).tolist(), strict=True):
        np.multiply(scores[span], factor, out=spread[span])
    return spread


def spare(scores: Scores, spans: Sequence[slice], least: Iterable[int]) -> None:
    """Put the best of each layer beyond all others, so many of each: they go last of all."""
    for span, n in zip(spans, least, strict=True):
        own = scores[span]
        own[smallest(-own, n)] = np.inf


def adapt(individual: Ticket, sigma: float, rng: Rng) -> None:
    """Let the layers' factors of a ticket's own mutate; ``sigma`` is of their logarithms."""
    if _checks.real("sigma", sigma, low=0):
        names = [layer.name for layer in layers_of(individual)]
        old, steps = individual.adaptation, rng.normal(0, sigma, len(names))
        moved = {n: old.get(n, 0.0) + float(s) for n, s in zip(names, steps, strict=True)}
        individual.adaptation = {**old, **moved}


def spans_of(ticket: Ticket) -> list[slice]:
    """Return where the weights of each layer stand among the kept ones of all."""
    counts = [bits.count(ticket.packed, la.start, la.stop) for la in layers_of(ticket)]
    return spans_by(counts)


def marked(size: int, kept: bits.Places, chosen: bits.Mask) -> bits.Mask:
    """Return what is chosen of some places (kept,) as a mask (D,)."""
    mask = np.zeros(size, dtype=np.bool_)
    mask[kept] = chosen
    return mask


def inherit_average(
    children: tuple[Ticket, Ticket],
    before: Sequence[bits.Bytes],
    *,
    unchanged_too: bool = False,
) -> None:
    """Let two children inherit the average of what their parents inherited.

    Or the first alone, where ``before`` holds its packed bits alone. A child whose bits are still
    those of its parent keeps that one's trained state, unless ``unchanged_too``. Parameters that
    evolve are averaged likewise.
    """
    first, second = (child.inherited for child in children)
    middle: TrainedState | Average | None = first or second
    if first is not None and second is not None and first is not second:
        middle = Average(first, second, children[0].n_weights)
    one, two = (child.adaptation for child in children)
    middling = {name: (one.get(name, 0.0) + two.get(name, 0.0)) / 2 for name in {**one, **two}}
    for child, packed in zip(children, before, strict=False):
        if unchanged_too or not np.array_equal(child.packed, packed):
            child.adaptation = middling
            if isinstance(middle, Average):
                child.inherit(middle)
            else:
                child.inherited = middle


def write(ticket: Ticket, mask: bits.Mask, rng: Rng, allow_empty_layers: bool) -> None:
    """Put bits ``mask`` (G,) into the ticket; a layer, or network, that it would empty keeps one.

    The bit is one that the ticket kept there before, if it kept any. A layer of units keeps as many
    as its floor. Of bits that may not be set together, those that the mask of weights leaves out
    anyway are cleared.
    """
    before: bits.Mask | None = None
    layers, units = layers_of(ticket), ticket.units
    if allow_empty_layers:
        layers = (Layer("mask", (len(ticket),), 0),)
    for layer in layers:
        part = mask[layer.start : layer.stop]
        if part.any():
            continue
        before = ticket.gates if before is None else before
        kept = np.flatnonzero(before[layer.start : layer.stop])
        part[rng.choice(kept) if len(kept) else rng.integers(layer.size)] = True
    if units is not None:
        mask = units.fitting(mask)
    if units is not None and units.floor:
        _fill(ticket, units, mask, rng)
    ticket.assign(bits.pack(mask))


def _fill(ticket: Ticket, units: UnitLayout, mask: bits.Mask, rng: Rng) -> None:
    """Set bits (G,) where a layer has less than its floor: first those that the ticket has set."""
    for layer, least in zip(units.layers, units.least_units.tolist(), strict=True):
        part, before = (some[layer.start : layer.stop] for some in (mask, ticket.gates))
        for some in (before & ~part, ~before & ~part):
            short = least - int(np.count_nonzero(part))
            if short > 0:
                part |= choose(some, short, rng)


def _unit(argument: str, value: object) -> float:
    """Return a float in [0, 1]."""
    return _checks.real(argument, value, low=0, high=1)


def settle(ticket: Ticket) -> None:
    """Clear bits that the mask leaves out anyway, as beside two more of four; the mask stays."""
    units = ticket.units
    if (
        units is not None
        and units.grouped
        and not np.array_equal(ticket.packed_mask, ticket.packed)
    ):
        ticket.assign(ticket.packed_mask)


def kept_by_bits(ticket: Ticket) -> int:
    """Count the kept weights that a bit gates: all, but for those of layers without bits."""
    units = ticket.units
    return ticket.kept if units is None else ticket.kept - units.fixed

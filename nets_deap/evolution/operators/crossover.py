"""Crossover of two tickets: gene by gene, by layer, by neuron, and between their densities."""

from __future__ import annotations

import numpy as np

from nets_deap import _checks
from nets_deap.evolution.operators._common import (
    check_pair,
    draw_fraction,
    generator,
    inherit_average,
    kept_by_bits,
    layers_of,
    write,
)
from nets_deap.evolution.operators._criteria import OF_AVERAGES, Costs, check_costs, worth
from nets_deap.tickets import bits
from nets_deap.tickets.choice import Rng, lognormal, subset
from nets_deap.tickets.choice_of_units import (
    best_together,
    choose_of,
    places_for,
    smallest_of,
    together,
    weights_in,
)
from nets_deap.tickets.ticket import Ticket

Pair = tuple[Ticket, Ticket]


@_checks.signed
def cx_uniform(
    ind1: Ticket,
    ind2: Ticket,
    *,
    indpb: float = 0.5,
    allow_empty_layers: bool = False,
    rng: Rng | None = None,
) -> Pair:
    """Swap each bit with probability ``indpb``. In place; returns a tuple; fitness untouched.

    Args:
        ind1: One parent.
        ind2: The other, of the same layout.
        indpb: Probability of a swap, in [0, 1].
        allow_empty_layers: Whether a layer may lose all its weights.
        rng: NumPy generator; None for one seeded from ``random``.
    """
    check_pair(ind1, ind2)
    source = generator(rng)
    p = _checks.real("indpb", indpb, low=0, high=1)
    # Fair coins are the bits of random bytes. Others are drawn exactly, too: first how many bits
    # are swapped, which is binomial, then which, every set of that many being equally likely.
    if p == 0.5:
        swap = np.frombuffer(source.bytes(len(ind1.packed)), dtype=np.uint8)
    else:
        swap = bits.pack(subset(len(ind1), source.binomial(len(ind1), p), source))
    difference = (ind1.packed ^ ind2.packed) & swap
    return _exchange(ind1, ind2, difference, source, allow_empty_layers)


@_checks.signed
def cx_layers(
    ind1: Ticket,
    ind2: Ticket,
    *,
    indpb: float = 0.5,
    rng: Rng | None = None,
) -> Pair:
    """Swap each layer whole with probability ``indpb``.

    In place; returns a tuple; fitness untouched.

    Args:
        ind1: One parent.
        ind2: The other, of the same layout.
        indpb: Probability of a swap, in [0, 1].
        rng: NumPy generator; None for one seeded from ``random``.
    """
    check_pair(ind1, ind2)
    source = generator(rng)
    p = _checks.real("indpb", indpb, low=0, high=1)
    swap = np.zeros(len(ind1), dtype=np.bool_)
    for layer in layers_of(ind1):
        swap[layer.start : layer.stop] = source.random() < p
    difference = (ind1.packed ^ ind2.packed) & bits.pack(swap)
    return _exchange(ind1, ind2, difference, source, allow_empty_layers=True)


@_checks.signed
def cx_neurons(
    ind1: Ticket,
    ind2: Ticket,
    *,
    indpb: float = 0.5,
    allow_empty_layers: bool = False,
    rng: Rng | None = None,
) -> Pair:
    """Swap all weights into a neuron or filter together, each with probability ``indpb``.

    In place; returns a tuple; fitness untouched. Neurons are the first axis of a layer's weights,
    or of its units.

    Args:
        ind1: One parent.
        ind2: The other, of the same layout.
        indpb: Probability of a swap, in [0, 1].
        allow_empty_layers: Whether a layer may lose all its weights.
        rng: NumPy generator; None for one seeded from ``random``.
    """
    check_pair(ind1, ind2)
    source = generator(rng)
    p = _checks.real("indpb", indpb, low=0, high=1)
    rows = [np.repeat(source.random(la.shape[0]) < p, la.row) for la in layers_of(ind1)]
    difference = (ind1.packed ^ ind2.packed) & bits.pack(np.concatenate(rows))
    return _exchange(ind1, ind2, difference, source, allow_empty_layers)


@_checks.signed
def cx_interpolate(
    ind1: Ticket,
    ind2: Ticket,
    *,
    allow_empty_layers: bool = False,
    rng: Rng | None = None,
) -> Pair:
    """Keep the intersection and random parts of the rest, at densities between the parents'.

    With a share a, uniform in [0, 1], the children keep a k1 + (1 - a) k2 and (1 - a) k1 + a k2
    weights, rounded; both hold the parents' intersection and lie within their union. In place;
    returns a tuple; fitness untouched.

    Args:
        ind1: One parent.
        ind2: The other, of the same layout.
        allow_empty_layers: Whether a layer may lose all its weights.
        rng: NumPy generator; None for one seeded from ``random``.
    """
    check_pair(ind1, ind2)
    source = generator(rng)
    before = ind1.packed, ind2.packed
    both, apart = (
        bits.unpack(some, len(ind1)) for some in (before[0] & before[1], before[0] ^ before[1])
    )
    k1, k2, shared = kept_by_bits(ind1), kept_by_bits(ind2), weights_in(ind1.units, both)
    first = round(k1 + source.random() * (k2 - k1))
    for child, k in ((ind1, first), (ind2, k1 + k2 - first)):
        free = together(child.units, apart, source, both)
        mask = both | choose_of(child.units, free, k - shared, source)
        write(child, mask, source, allow_empty_layers)
    inherit_average((ind1, ind2), before)
    return ind1, ind2


@_checks.signed
def cx_average(
    ind1: Ticket,
    ind2: Ticket,
    *,
    fraction: float | tuple[float, float] = 0.0,
    by: str = "magnitude",
    costs: Costs | None = None,
    noise: float = 0.0,
    allow_empty_layers: bool = False,
    both: bool = True,
    rng: Rng | None = None,
) -> Pair:
    """Average what both parents inherited and keep the weights of largest saliency.

    Saliency is ``|w|`` of the averaged trained weights, a pruned weight counting as 0 (of W0 where
    nothing is inherited), over the union of both masks, multiplied by the layers' factors of the
    averaged parameters. The children keep as many weights as their parents, less a fraction. For
    relatives: the weights of tickets that descend from the same W0 and the same first steps lie in
    one basin, where their average is at least as good as they are. In place; returns a tuple;
    fitness untouched.

    Args:
        ind1: One parent.
        ind2: The other, of the same layout.
        fraction: Of the kept weights, in [0, 1], that is pruned as well; or an interval to draw
            from.
        by: ``"magnitude"``, ``"lamp"``, ``"cost"`` or ``"random"``, as for ``mut_prune``.
        costs: As for ``mut_prune``.
        noise: Standard deviation of the logarithm of a factor on each saliency, >= 0; drawn as in
            ``mut_prune``.
        allow_empty_layers: Whether a layer may lose all its weights.
        both: Whether ``ind2`` becomes a child, too; else it stays as it is, at half of the cost.
        rng: NumPy generator; None for one seeded from ``random``.

    Reference:
        Wortsman et al. 2022, Model soups (averages of relatives).
    """
    check_pair(ind1, ind2)
    source = generator(rng)
    less = 1 - draw_fraction("fraction", fraction, source)
    sigma = _checks.real("noise", noise, low=0)
    dear = check_costs(ind1, _checks.choice("by", by, OF_AVERAGES), costs)
    before = ind1.packed, ind2.packed
    counts = kept_by_bits(ind1), kept_by_bits(ind2)
    packed = ind1.packed | ind2.packed
    children = (ind1, ind2) if both else (ind1,)
    for child in children:
        child.assign(packed)
    inherit_average((ind1, ind2), before[: len(children)], unchanged_too=True)
    union = ind1.gates
    ones, total = bits.Ones(union), int(np.count_nonzero(union))
    scores = None if by == "random" else worth(ind1, ones, by, dear)
    kept = places_for(ind1.units, ones)
    for child, k in zip(children, counts, strict=False):
        own = source.random(total) if scores is None else scores
        if sigma:
            own = own * lognormal(sigma, total, source)
        fit = best_together(child.units, kept, own)
        if not fit.all():  # worth less than nothing, so that they go first
            own = np.where(fit, own, -1.0)
        n = weights_in(child.units, union) - round(less * k)
        lost = ones.marked(smallest_of(child.units, kept, own, n))
        write(child, union ^ lost, source, allow_empty_layers)
    return ind1, ind2


def _exchange(
    ind1: Ticket, ind2: Ticket, difference: bits.Bytes, rng: Rng, allow_empty_layers: bool
) -> Pair:
    """Swap the packed bits that ``difference`` marks; mend what that would empty."""
    before = ind1.packed, ind2.packed
    for child in (ind1, ind2):
        packed = child.packed ^ difference
        if child.units is not None or _leaves_empty(child, packed, allow_empty_layers):
            write(child, bits.unpack(packed, len(child)), rng, allow_empty_layers)
        else:
            child.assign(packed)
    inherit_average((ind1, ind2), before)
    return ind1, ind2


def _leaves_empty(child: Ticket, packed: bits.Bytes, allow_empty_layers: bool) -> bool:
    """Return whether packed bits would leave an empty layer or network."""
    if allow_empty_layers:
        return not packed.any()
    return any(not bits.count(packed, la.start, la.stop) for la in layers_of(child))

"""Mutation of a ticket: flip, prune, regrow, swap, and one layer at a time.

One file: a third of it says what the arguments of each are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.evolution.operators._common import (
    adapt,
    check_ticket,
    draw_fraction,
    generator,
    layers_of,
    write,
)
from nets_deap.evolution.operators._criteria import (
    GROWTH,
    Costs,
    best_free,
    check_by,
    check_costs,
    least,
    spread_over,
    to_regrow,
)
from nets_deap.names import NEURON
from nets_deap.tickets import bits
from nets_deap.tickets.choice import Rng, choose, shared_out, subset
from nets_deap.tickets.choice_of_units import choose_of, together, weights_in
from nets_deap.tickets.ticket import Ticket

Mutated = tuple[Ticket]
Fraction = float | tuple[float, float]


@_checks.signed
def mut_flip(
    individual: Ticket,
    *,
    indpb: float,
    allow_empty_layers: bool = False,
    rng: Rng | None = None,
) -> Mutated:
    """Flip each bit with probability ``indpb``. In place; returns a tuple; fitness untouched.

    Args:
        individual: The ticket.
        indpb: Probability of a flip, in [0, 1].
        allow_empty_layers: Whether a layer may lose all its weights.
        rng: NumPy generator; None for one seeded from ``random``.

    >>> mut_flip(Ticket([1, 1, 0, 0]), indpb=1.0)
    (Ticket(2 of 4 weights, density 0.5000, fitness ()),)
    """
    check_ticket(individual)
    source = generator(rng)
    # Exactly a coin for each bit: the number of flips is binomial, and given the number every set
    # of that many bits is equally likely. Where flips are few, that draws few numbers instead of
    # D.
    n = source.binomial(len(individual), _checks.real("indpb", indpb, low=0, high=1))
    mask = individual.gates ^ subset(len(individual), n, source)
    write(individual, mask, source, allow_empty_layers)
    return (individual,)


@_checks.signed
def mut_prune(
    individual: Ticket,
    *,
    fraction: Fraction = (0.1, 0.4),
    by: str = "magnitude",
    costs: Costs | None = None,
    noise: float = 0.0,
    sigma: float = 0.0,
    allow_empty_layers: bool = False,
    rng: Rng | None = None,
) -> Mutated:
    """Prune a fraction of the kept weights. In place; returns a tuple; fitness untouched.

    The weights of least saliency go, over the whole network at once. Each layer's saliency is
    multiplied by a factor exp(s) of the ticket's own, ``individual.adaptation[layer]`` = s, which
    mutates first and which children inherit: self-adaptation decides which layers are pruned more.

    Args:
        individual: The ticket.
        fraction: Of the kept weights, in [0, 1], rounded to a whole number; or an interval to
            draw from. Of neurons and filters by ``"cost"``: of what they cost together.
        by: The saliency: ``"magnitude"``: ``|w|`` of the trained weights when the ticket has them,
            else of W0; ``"lamp"``: what that is of its layer's energy, see ``tickets.relative``;
            ``"cost"``: the same over what the weight costs, see there; ``"gradient"``:
            ``|w * gradient|`` after training, which an evaluator with ``gradients=True`` measures
            (``|w|`` where nothing is inherited, as after a divergence); ``"random"``.
        costs: Multiply-adds of a weight, or of a neuron or filter, by the name of its layer, for
            ``by="cost"`` alone: ``task.weight_costs``, or ``evolution.criterion.costs_of(task)``.
        noise: Standard deviation of the logarithm of a factor on each saliency, >= 0; drawn from
            65,536 equally likely quantiles, so that none is beyond 4.33 standard deviations.
        sigma: Standard deviation of the change of each s, >= 0; 0 leaves them as they are.
        allow_empty_layers: Whether a layer may lose all its weights.
        rng: NumPy generator; None for one seeded from ``random``.

    Reference:
        Beyer and Schwefel 2002, Evolution strategies (self-adaptation); Lee et al. 2021,
        Layer-adaptive sparsity for the magnitude-based pruning (LAMP).
    """
    check_ticket(individual)
    source = generator(rng)
    _checks.real("noise", noise, low=0)
    adapt(individual, sigma, source)
    share, mask = draw_fraction("fraction", fraction, source), individual.gates
    found, total = check_costs(individual, by, costs), float(individual.kept)
    dear = found is not None and individual.unit == NEURON
    if found is not None and dear:
        total = float(spread_over(individual, found)[mask].sum())
    k = round(share * total)
    mask ^= least(individual, mask, k, by, source, noise=noise, costs=costs, dear=dear)
    write(individual, mask, source, allow_empty_layers)
    return (individual,)


@_checks.signed
def mut_regrow(
    individual: Ticket,
    *,
    fraction: Fraction = (0.05, 0.3),
    by: str = "random",
    noise: float = 0.0,
    rng: Rng | None = None,
) -> Mutated:
    """Regrow pruned weights. In place; returns a tuple; fitness untouched.

    Args:
        individual: The ticket.
        fraction: Of the kept weights, >= 0 and at most 1, rounded; or an interval to draw from.
        by: ``"random"``; or ``"gradient"``: where ``|gradient|`` was largest after training, which
            an evaluator with ``gradients=True`` measures; or ``"memory"``: those of largest last
            known ``|w|``, which one with ``memory=True`` keeps. Where these know too few, and where
            nothing is inherited, random ones.
        noise: Standard deviation of the logarithm of a factor on each of these scores, >= 0.
        rng: NumPy generator; None for one seeded from ``random``.

    Reference:
        Evci et al. 2020, Rigging the Lottery (growth by gradient).
    """
    check_ticket(individual)
    source = generator(rng)
    mask = individual.gates
    k = round(draw_fraction("fraction", fraction, source) * individual.kept)
    _checks.choice("by", by, GROWTH)
    _checks.real("noise", noise, low=0)
    free = best_free(individual, by, mask, source)
    mask |= to_regrow(individual, free, k, by, source, noise=noise)
    write(individual, mask, source, allow_empty_layers=True)
    return (individual,)


@_checks.signed
def mut_swap(
    individual: Ticket,
    *,
    fraction: Fraction = (0.01, 0.1),
    by: str = "magnitude",
    costs: Costs | None = None,
    noise: float = 0.0,
    grow: str = "random",
    grow_noise: float = 0.0,
    sigma: float = 0.0,
    size: int | None = None,
    rng: Rng | None = None,
) -> Mutated:
    """Prune some weights and regrow as many, or as many as lead to another size.

    Exactly, or as nearly as units allow. In place; returns a tuple; fitness untouched. With
    ``grow="random"`` weights are regrown in the layer that lost them, as far as it has room, and
    what the ticket grows by is spread over layers like its kept weights; else anywhere. Nothing
    that is pruned here is regrown at once.

    Args:
        individual: The ticket.
        fraction: Of the weights that are kept in the end, in [0, 1], rounded; or an interval to
            draw from. No more are swapped than there are.
        by: As for ``mut_prune``.
        costs: As for ``mut_prune``; what is regrown by gradient or memory counts over them too.
        noise: Of what is pruned, as for ``mut_prune``.
        grow: ``"random"``, ``"gradient"`` or ``"memory"``, as for ``mut_regrow``.
        grow_noise: Of what is regrown by gradient or memory, as for ``mut_regrow``.
        sigma: Of the layers' factors, as for ``mut_prune``.
        size: How many weights the ticket keeps in the end, in [1, D]; None for as many as now.
        rng: NumPy generator; None for one seeded from ``random``.

    Reference:
        Mocanu et al. 2018, Scalable training of artificial neural networks with adaptive sparse
        connectivity (swaps); Evci et al. 2020, Rigging the Lottery (growth by gradient).
    """
    check_ticket(individual)
    source = generator(rng)
    _checks.choice("grow", grow, GROWTH)
    _checks.real("noise", noise, low=0)
    _checks.real("grow_noise", grow_noise, low=0)
    check_costs(individual, by, costs)
    adapt(individual, sigma, source)
    before, units, kept = individual.gates, individual.units, individual.kept
    goal = kept if size is None else _checks.whole("size", size, high=individual.n_weights)
    k = min(round(draw_fraction("fraction", fraction, source) * goal), kept)
    more = goal - kept
    lose = k + max(-more, 0)
    regrow = functools.partial(to_regrow, noise=grow_noise, costs=costs)
    if grow == "random":
        losers = least(individual, before, lose, by, source, noise=noise, costs=costs)
        mask = _regrown_in_layers(individual, before, losers, more, source)
    elif units is not None and units.grouped:  # only what goes makes room for others
        losers = least(individual, before, lose, by, source, noise=noise, costs=costs)
        free = best_free(individual, grow, before & ~losers, source)
        grown = regrow(individual, free, k + max(more, 0), grow, source)
        n = max(weights_in(units, grown) - more, 0)
        mask = (before ^ choose_of(units, losers, n, source)) | grown
    else:  # units that are regrown may weigh more or less than was asked for
        grown = regrow(individual, ~before, k + max(more, 0), grow, source)
        n = max(weights_in(units, grown) - more, 0)
        losers = least(individual, before, n, by, source, noise=noise, costs=costs)
        mask = (before ^ losers) | grown
    write(individual, mask, source, allow_empty_layers=True)
    return (individual,)


def _regrown_in_layers(
    individual: Ticket, before: bits.Mask, losers: bits.Mask, more: int, rng: Rng
) -> bits.Mask:
    """Return bits without losers, with random others instead, by ``more`` weights more (or less).

    As many in each layer as it lost, in proportion where there are fewer; those beyond in
    proportion to what it keeps. Where a layer has no room it loses less.
    """
    units, layers = individual.units, layers_of(individual)
    mask: bits.Mask = before.copy()
    free = together(units, ~before, rng, before & ~losers)
    spans = [slice(layer.start, layer.stop) for layer in layers]
    lost, kept = (
        np.array([weights_in(units, some[span], span.start) for span in spans])
        for some in (losers, before)
    )
    due = lost
    if more:
        due = shared_out(max(int(lost.sum()) + min(more, 0), 0), lost) + shared_out(
            max(more, 0), kept
        )
    for span, gone, quota in zip(spans, lost.tolist(), due.tolist(), strict=True):
        start = span.start
        grown = choose_of(units, free[span], quota, rng, start=start)
        n = gone if more else gone - quota + weights_in(units, grown, start)
        mask[span] ^= grown | choose_of(units, losers[span], n, rng, start=start)
    for others in (free, losers) if more else ():  # a layer was full: others take its share
        short = weights_in(units, before) + more - weights_in(units, mask)
        if short > 0:
            left = together(units, others & ~mask, rng, mask)
            mask |= choose_of(units, left, short, rng)
    return mask


@_checks.signed
def mut_layer(
    individual: Ticket,
    *,
    sigma: float = 0.3,
    by: str = "magnitude",
    rng: Rng | None = None,
) -> Mutated:
    """Change the density of one random layer by a log-normal factor. Never empties it.

    In place; returns a tuple; fitness untouched. Shrinking prunes by ``by``; growing is random.

    Args:
        individual: The ticket.
        sigma: Standard deviation of the factor's logarithm, > 0.
        by: ``"magnitude"``, ``"gradient"`` or ``"random"``, as for ``mut_prune``.
        rng: NumPy generator; None for one seeded from ``random``.
    """
    check_ticket(individual)
    source = generator(rng)
    _checks.real("sigma", sigma, low=0, open_low=True)
    check_by(individual, by)
    layers = layers_of(individual)
    layer = layers[source.integers(len(layers))]
    mask, span = individual.gates, slice(layer.start, layer.stop)
    size, kept = (
        weights_in(individual.units, part, layer.start)
        for part in (np.ones(layer.size, dtype=np.bool_), mask[span])
    )
    factor = np.exp(min(source.normal(0, sigma), np.log(size)))
    k = int(np.clip(round(max(kept, 1) * factor), 1, size))
    if k < kept:
        lost = least(individual, mask, kept - k, by, source, within=layer)
        mask ^= lost
        if not mask[span].any():  # its last unit has more than one weight to lose
            mask |= choose(lost, 1, source)
    else:
        free = together(individual.units, ~mask, source, mask)[span]
        mask[span] |= choose_of(individual.units, free, k - kept, source, start=layer.start)
    write(individual, mask, source, allow_empty_layers=True)
    return (individual,)


@_checks.signed
def mut_one_of(
    individual: Ticket,
    *,
    operators: Sequence[Callable[..., Mutated]],
    weights: Sequence[float] | None = None,
    rng: Rng | None = None,
) -> Mutated:
    """Apply one of several mutations, drawn by ``weights``. In place; returns a tuple.

    Args:
        individual: The ticket.
        operators: Mutations (partials with their arguments) that take ``rng``.
        weights: Relative probabilities, >= 0, one each; None for equal ones.
        rng: NumPy generator; None for one seeded from ``random``.
    """
    check_ticket(individual)
    source = generator(rng)
    if not operators:
        raise _checks.bad_value("operators", "hold mutations", "at least one", 0)
    share = (1.0,) * len(operators) if weights is None else tuple(weights)
    _checks.length("weights", len(share), len(operators), "number of operators")
    # What Generator.choice does, which takes longer than some of the operators.
    chosen = operators[int(_ends(share).searchsorted(source.random(), side="right"))]
    return chosen(individual, rng=source)


@functools.lru_cache(maxsize=64)
def _ends(weights: tuple[float, ...]) -> NDArray[np.float64]:
    """Return where the share of each of some weights ends in [0, 1]."""
    share = np.asarray(weights, dtype=np.float64)
    if not np.isfinite(share).all() or (share < 0).any() or share.sum() == 0:
        raise _checks.bad_value("weights", "be probabilities", "all >= 0, not all 0", [*weights])
    ends = np.cumsum(share / share.sum())
    found: NDArray[np.float64] = ends / ends[-1]
    return found

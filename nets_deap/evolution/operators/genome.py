"""Operators on genomes, tickets whose initial weights evolve too: a gene is a weight and its gate.

``mut_prune``, ``mut_flip`` and the other mutations of masks work on genomes as well: they change
gates, and go by trained weights, else by the genome's own. For crossover there is ``cx_genes``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.evolution.operators._common import Positions, check_pair, generator, write
from nets_deap.evolution.operators.init import init_density
from nets_deap.tickets import bits
from nets_deap.tickets.choice import Rng, choose, subset
from nets_deap.tickets.genome import Genome
from nets_deap.tickets.layout import MaskLayout
from nets_deap.tickets.random import Distribution
from nets_deap.tickets.trained import TrainedState

T = TypeVar("T", bound=Genome)
Vector = NDArray[np.floating]


@dataclass(frozen=True)
class _Parent:
    """What crossover reads of a genome: mask, weights (D,) and what it inherited."""

    mask: bits.Mask
    weights: Vector
    known: TrainedState | None

    @functools.cached_property
    def by_gene(self) -> tuple[bits.Mask, Vector, Vector]:
        """Return which genes are known, their trained values and |gradients|, each (D,)."""
        known, size = self.known, self.mask.size
        gradients = np.zeros(size, self.weights.dtype)
        if known is None:
            return self.mask, self.weights * self.mask, gradients
        if known.gradients is not None:
            gradients = known.spread(known.gradients, size)
        return bits.unpack(known.packed, size), known.spread(known.values, size), gradients


@_checks.signed
def init_genomes(
    container: Callable[..., T],
    layout: MaskLayout,
    n: int,
    *,
    density: float | tuple[float, float] = 0.5,
    distribution: Distribution = "erk",
    rng: Rng | None = None,
) -> list[T]:
    """Return a population of ``n`` genomes with weights W0, a random mask drawn for each.

    Args:
        container: The genome class; called as ``container(mask, layout=layout)``.
        layout: The layout of the masks.
        n: Number of genomes, >= 0.
        density: In (0, 1], kept exactly; or an interval to draw each genome's own from.
        distribution: How kept weights are spread over layers; see ``layer_counts``.
        rng: NumPy generator; None for one seeded from ``random``.

    Raises:
        InvalidValueError: An argument is out of range, or a layer would be empty.
    """
    _checks.whole("n", n, low=0)
    source = generator(rng)
    pair = density if isinstance(density, (tuple, list)) else (density, density)
    low, high = _checks.interval("density", pair, _checks.density)
    return [
        init_density(
            container,
            layout,
            density=float(source.uniform(low, high)) if low < high else low,
            distribution=distribution,
            rng=source,
        )
        for _ in range(n)
    ]


@_checks.signed
def cx_genes(
    ind1: Genome,
    ind2: Genome,
    *,
    indpb: float = 0.5,
    allow_empty_layers: bool = False,
    rng: Rng | None = None,
) -> tuple[Genome, Genome]:
    """Swap each gene, weight and gate together, with probability ``indpb``.

    The trained value of a gene goes with it; other trained parameters, such as biases, stay.
    In place; returns a tuple; fitness untouched.

    Args:
        ind1: One parent.
        ind2: The other, of the same layout.
        indpb: Probability of a swap, in [0, 1].
        allow_empty_layers: Whether a layer may lose all its weights; else it keeps one gene of
            the child's own.
        rng: NumPy generator; None for one seeded from ``random``.

    Raises:
        InvalidTypeError: One of them is not a genome.
        InvalidValueError: The layouts differ, or ``indpb`` is out of range.
    """
    for name, individual in (("ind1", ind1), ("ind2", ind2)):
        _check_genome(name, individual)
    check_pair(ind1, ind2, genes=True)
    source = generator(rng)
    p = _checks.real("indpb", indpb, low=0, high=1)
    swap = subset(len(ind1), source.binomial(len(ind1), p), source)
    one, two = _parent(ind1), _parent(ind2)
    for child, mine, theirs in ((ind1, one, two), (ind2, two, one)):
        mask = _mixed(swap, theirs.mask, mine.mask)
        write(child, mask.copy(), source, allow_empty_layers)
        taken = swap & (child.mask == mask)  # a gene that mending kept stays whole
        child.weights = _mixed(taken, theirs.weights, mine.weights)
        unchanged = np.array_equal(child.mask, mine.mask) and np.array_equal(
            child.own_values(), mine.weights[bits.places(mine.mask)]
        )
        child.inherited = mine.known if unchanged else _inherited(mine, theirs, taken)
    return ind1, ind2


@_checks.signed
def mut_noise(
    individual: Genome, *, sigma: float, indpb: float, rng: Rng | None = None
) -> tuple[Genome]:
    """Add Gaussian noise to weights of kept genes. In place; returns a tuple; fitness untouched.

    Args:
        individual: The genome.
        sigma: Standard deviation of the noise, >= 0, as a share of the standard deviation of W0 in
            the weight's layer (a layer of equal weights therefore gets none).
        indpb: Probability that a kept gene's weight changes, in [0, 1].
        rng: NumPy generator; None for one seeded from ``random``.

    Raises:
        InvalidTypeError: The individual is not a genome.
        InvalidValueError: ``sigma`` or ``indpb`` is out of range.
        CallOrderError: The layout does not know W0.
    """
    size = _checks.real("sigma", sigma, low=0)
    places, source = _drawn(individual, indpb, rng)
    weights, layout = individual.weights.copy(), individual.layout
    for layer, scale in zip(layout.layers, layout.deviations, strict=True):
        inside = places[slice(*np.searchsorted(places, (layer.start, layer.stop)))]
        weights[inside] += source.normal(0, size * scale, len(inside))
    individual.weights = weights
    return (individual,)


@_checks.signed
def mut_resample(individual: Genome, *, indpb: float, rng: Rng | None = None) -> tuple[Genome]:
    """Draw weights of kept genes anew from W0. In place; returns a tuple; fitness untouched.

    Each is drawn with replacement from all weights that its layer has in W0, so that the layer's
    initial distribution is kept without having to be known.

    Args:
        individual: The genome.
        indpb: Probability that a kept gene's weight is drawn anew, in [0, 1].
        rng: NumPy generator; None for one seeded from ``random``.

    Raises:
        InvalidTypeError: The individual is not a genome.
        InvalidValueError: ``indpb`` is out of range.
        CallOrderError: The layout does not know W0.
    """
    places, source = _drawn(individual, indpb, rng)
    weights, initial = individual.weights.copy(), individual.layout.require_initial()
    for layer in individual.layout.layers:
        inside = places[slice(*np.searchsorted(places, (layer.start, layer.stop)))]
        weights[inside] = initial[source.integers(layer.start, layer.stop, len(inside))]
    individual.weights = weights
    return (individual,)


def _check_genome(name: str, individual: object) -> None:
    """Raise unless an individual has weights of its own."""
    if not isinstance(individual, Genome):
        raise _checks.bad_type(name, "be a genome", "a nets_deap.tickets.genome.Genome", individual)


def _drawn(individual: Genome, indpb: float, rng: Rng | None) -> tuple[Positions, Rng]:
    """Return kept positions, each drawn with probability ``indpb``, and the generator.

    A genome that keeps nothing gets one gene first, as from every other operator.
    """
    _check_genome("individual", individual)
    p, source = _checks.real("indpb", indpb, low=0, high=1), generator(rng)
    if not individual.kept:
        write(individual, individual.mask, source, allow_empty_layers=True)
    mask = individual.mask
    return np.flatnonzero(choose(mask, source.binomial(individual.kept, p), source)), source


def _parent(genome: Genome) -> _Parent:
    """Return what crossover reads of a genome, before it writes."""
    return _Parent(genome.mask, genome.weights, genome.inherited)


def _mixed(taken: bits.Mask, one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """Return ``np.where(taken, one, other)``, bit by bit: masks have no pattern to predict."""
    kind = np.result_type(one, other)
    words = np.dtype(f"u{kind.itemsize}")
    first, second = (np.ascontiguousarray(some, kind).view(words) for some in (one, other))
    mixed: NDArray[Any] = (((first ^ second) & -taken.astype(words)) ^ second).view(kind)
    return mixed


def _inherited(mine: _Parent, theirs: _Parent, taken: bits.Mask) -> TrainedState | None:
    """Return what a child inherits: of each gene, what training made of it where it comes from.

    Of a parent that was never trained, the weights themselves; None where neither was.
    """
    base = mine.known or theirs.known
    if base is None:
        return None
    sides = [parent.by_gene for parent in (mine, theirs)]
    mask, values, gradients = (_mixed(taken, b, a) for a, b in zip(*sides, strict=True))
    kept = bits.places(mask)
    return replace(
        base,
        digest="",
        metrics={},
        values=values[kept],
        packed=bits.pack(mask),
        unmasked={} if mine.known is None else mine.known.unmasked,
        gradients=None if base.gradients is None else gradients[kept],
    )

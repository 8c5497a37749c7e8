"""Random masks: how many weights of each layer are kept, and which."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.names import DISTRIBUTIONS
from nets_deap.tickets import bits
from nets_deap.tickets.choice import Rng, choose, subset
from nets_deap.tickets.choice_of_units import choose_of, together
from nets_deap.tickets.layout import Layer, MaskLayout
from nets_deap.tickets.units import UnitLayout

Distribution = str | Mapping[str, float]


@_checks.signed
def layer_counts(
    layout: MaskLayout, density: float, distribution: Distribution = "erk"
) -> NDArray[np.int64]:
    """Return how many weights each layer keeps, shape (L,), round(density * D) in all.

    Of structured tickets: each layer that bits gate, whole units of their mean size, which with
    the weights of layers without bits come nearest to that number.

    Args:
        layout: The layout.
        density: Global density in (0, 1].
        distribution: ``"uniform"`` (one density for all layers); ``"er"`` (Erdős–Rényi: density of
            a layer in proportion to (in + out) / (in * out)); ``"erk"`` (the same with the kernel's
            sizes: Evci et al. 2020); or densities by layer name, in (0, 1], which are scaled to
            the global one.

    Raises:
        InvalidValueError: So few weights are kept that a layer would be empty, or more than may be
            kept together.
    """
    total = round(_checks.density("density", density) * layout.weights.size)
    units = layout if isinstance(layout, UnitLayout) else None
    low, high = layout.density_range
    if units is None and total < len(layout.layers):
        raise _checks.bad_value(
            "density",
            "leave every layer a weight",
            f"at least L / D = {len(layout.layers)} / {layout.size}",
            density,
        )
    if units is not None and not round(low * layout.weights.size) <= total <= round(
        high * layout.weights.size
    ):
        raise _checks.bad_value(
            "density", f"suit the units {layout.unit!r}", f"in [{low:.4g}, {high:.4g}]", density
        )
    sizes = layout.sizes().astype(np.float64)
    wanted = _proportions(layout, distribution)
    most = np.ones(len(sizes)) if units is None else units.capacity() / sizes
    goal = total if units is None else total - units.fixed
    full = np.zeros(len(sizes), dtype=bool)
    while True:
        # Layers that would need more than they have are filled; the rest share what is left.
        left = goal - (most * sizes)[full].sum()
        scale = left / (wanted * sizes)[~full].sum() if not full.all() else 0.0
        over = ~full & (wanted * scale > most)
        if not over.any():
            break
        full |= over
    ideal = np.where(full, most * sizes, np.minimum(wanted * scale * sizes, most * sizes))
    if units is None:
        return _round_to(ideal, sizes.astype(np.int64), total)
    return _round_units(ideal, units, goal)


@_checks.signed
def random_mask(layout: MaskLayout, counts: NDArray[np.int64], rng: Rng) -> bits.Mask:
    """Return bits (G,) that keep ``counts`` (L,) random weights of each layer.

    Exactly as many where a bit is a weight, else as whole units allow; no layer is empty where
    ``counts`` is not 0.
    """
    mask = np.zeros(layout.size, dtype=np.bool_)
    if not isinstance(layout, UnitLayout):
        for layer, k in zip(layout.layers, counts, strict=True):
            mask[layer.start : layer.stop] = subset(layer.size, int(k), rng)
        return mask
    free = together(layout, np.ones(layout.size, dtype=np.bool_), rng)
    for layer, k in zip(layout.layers, counts.tolist(), strict=True):
        part = free[layer.start : layer.stop]
        chosen = choose_of(layout, part, k, rng, start=layer.start)
        if k and not chosen.any():
            chosen = choose(part, 1, rng)
        mask[layer.start : layer.stop] = chosen
    return mask


def _proportions(layout: MaskLayout, distribution: Distribution) -> NDArray[np.float64]:
    """Return the layers' densities up to a factor."""
    if isinstance(distribution, Mapping):
        for name in distribution:
            layout.layer(name)
        missing = [name for name in layout.names if name not in distribution]
        if missing:
            raise _checks.bad_value("distribution", "name all layers", f"also {missing}", "less")
        return np.array([_checks.density(n, distribution[n]) for n in layout.names])
    kind = _checks.choice("distribution", distribution, DISTRIBUTIONS)
    layers = [layout.weights.layer(name) for name in layout.names]
    return np.array([1.0 if kind == "uniform" else _erdos_renyi(la, kind) for la in layers])


def _erdos_renyi(layer: Layer, kind: str) -> float:
    """Return the Erdős–Rényi density of a layer up to a factor."""
    axes = layer.shape if kind == "erk" else layer.shape[:2]
    return sum(axes) / float(np.prod(axes))


def _round_to(
    ideal: NDArray[np.float64], sizes: NDArray[np.int64], total: int
) -> NDArray[np.int64]:
    """Round to whole numbers in [1, size] that add up to ``total``, nearest to ``ideal``."""
    # Rounded down, at most one a layer is missing, or more are kept than wanted where ideals
    # below 1 were raised to 1. Each step goes where the ideal is missed by most: the largest-
    # remainder method, kept within the bounds. It ends, as L <= total <= D leaves a layer that
    # can move.
    counts = np.clip(np.floor(ideal).astype(np.int64), 1, sizes)
    while counts.sum() != total:
        step = 1 if counts.sum() < total else -1
        movable = counts < sizes if step > 0 else counts > 1
        gap = np.where(movable, (ideal - counts) * step, -np.inf)
        counts[int(np.argmax(gap))] += step
    return counts


def _round_units(ideal: NDArray[np.float64], units: UnitLayout, goal: int) -> NDArray[np.int64]:
    """Round to at least the floor of each layer, as near to ``ideal`` and to ``goal`` in all."""
    bits_of = np.array([layer.size for layer in units.layers])
    unit = units.sizes() / bits_of
    most = np.floor(units.capacity() / unit + 1e-9)
    least = np.minimum(units.least_units, most)
    n = np.clip(np.floor(ideal / unit), least, most)
    while True:
        gap = goal - float((n * unit).sum())
        step = 1 if gap > 0 else -1
        # Only steps that end nearer to the goal than they began, so that it ends: units of layers
        # differ in size, and the goal need not be a sum of them.
        movable = ((n < most) if step > 0 else (n > least)) & (unit < 2 * abs(gap))
        if not movable.any():
            break
        lack = np.where(movable, (ideal / unit - n) * step, -np.inf)
        n[int(np.argmax(lack))] += step
    counts: NDArray[np.int64] = np.round(n * unit).astype(np.int64)
    return counts

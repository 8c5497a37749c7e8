"""Live units: those on a path from an input to an output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nets_deap.tickets import bits

Units = tuple[bits.Mask, ...]


Vector = NDArray[np.float64]


def _root(squares: NDArray[np.floating]) -> Vector:
    """Return square roots, in double precision: norms are taken to high powers."""
    roots: Vector = np.sqrt(squares, dtype=np.float64)
    return roots


def reached_of(gates: Sequence[bits.Mask]) -> Units:
    """Return which units some input reaches, for inputs and each layer; all inputs are."""
    reached: list[bits.Mask] = [np.ones(gates[0].shape[1], dtype=np.bool_)]
    for i, gate in enumerate(gates):
        reached.append(np.logical_or.reduce(gate & reached[-1] if i else gate, axis=1))
    return tuple(reached)


def live_of(gates: Sequence[bits.Mask]) -> Units:
    """Return which units are alive, from the masks of consecutive layers, each (out, in)."""
    reached = reached_of(gates)
    useful: bits.Mask = np.ones(len(gates[-1]), dtype=np.bool_)
    live = [useful]
    for gate, known in zip(reversed(gates), reversed(reached[:-1]), strict=True):
        useful = np.logical_or.reduce(gate & useful[:, None], axis=0)
        live.append(useful & known)
    return tuple(reversed(live))

"""How numbers lie in memory for the compiled kernels: blocks of lanes, tiles, aligned arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from nets_deap.training.engines.cpu.arguments import Array

# Examples in a block: the lanes of all vectors. As many as the sums of one unit can be while they
# stay in registers of every processor since AVX2, and just more than the usual minibatch of 60.
LANES = 64
# Columns of a tile of the dense product, which divide those of all whole matrices.
TILE = 16


def aligned_zeros(n: int, dtype: Any) -> Array:
    """Return ``n`` zeros, flat, that start at a multiple of 64 bytes."""
    # As wide as a cache line and a register of AVX-512: a unit's lanes, 256 bytes in float32, then
    # fill whole lines, and no load needs two. NumPy itself promises 16 bytes.
    item = np.dtype(dtype).itemsize
    raw = np.zeros(n + 64 // item, dtype)
    start = -raw.ctypes.data % 64 // item
    return raw[start : start + n]


def padded(n: int) -> int:
    """Return the least multiple of TILE that is at least ``n``."""
    return -(-n // TILE) * TILE

"""``kept_below``: when state for kept weights alone moves fewer bytes than dense state."""

from __future__ import annotations

SECTOR_BYTES = 32  # the least that a GPU's memory moves
INDEX_BYTES = 4  # of the place of a kept weight


def kept_below(itemsize: int = 4, moments: int = 2) -> float:
    """Return the density below which state for kept weights alone moves fewer bytes.

    For each weight, with t(d) the share of sectors that hold a kept one: dense state moves
    (3 + 2 moments) itemsize + 1/8 bytes (weight and moments in and out, gradient in, mask bit),
    kept state 3 itemsize t(d) + d (2 moments itemsize + 4). For float32 and Adam that is 28 1/8
    against 12 t(d) + 20 d: equal at d = 0.81.
    """
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        kept = optimiser_bytes(middle, "kept", itemsize, moments) + INDEX_BYTES * middle
        dense = optimiser_bytes(middle, "dense", itemsize, moments) + 1 / 8
        low, high = (middle, high) if kept < dense else (low, middle)
    return low


def optimiser_bytes(density: float, state: str, itemsize: int, moments: int) -> float:
    """Return the bytes that the optimiser moves for each weight, its mask apart."""
    if state == "dense":
        return itemsize * (3.0 + 2 * moments)
    touched = 1.0 - float((1.0 - density) ** (SECTOR_BYTES / itemsize))
    return 3 * itemsize * touched + 2 * moments * itemsize * density

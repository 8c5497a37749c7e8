"""Packed bits: the one representation of a mask in memory and on disk.

A mask of ``D`` bits is a ``uint8`` array of ``ceil(D / 8)`` bytes, least significant bit first.
Bits beyond ``D`` in the last byte are padding and always zero, so that equal masks have equal
bytes.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Places = NDArray[np.int64] | slice

FEW = 0.1

# Whatever is equal to a bit, such as True, 1.0 and NumPy's numbers, has its hash, too.
BITS = {0: 0, 1: 1}


def n_bytes(size: int) -> int:
    """Return how many bytes hold ``size`` bits."""
    return (size + 7) // 8


def as_mask(values: Iterable[Any], argument: str = "mask") -> Mask:
    """Return ``values`` as a bool vector (D,); anything but 0, 1, False and True is refused."""
    if type(values) in (list, tuple):
        try:  # numbers 0 and 1 by far most often: four times as fast as NumPy's look at each
            raw = np.frombuffer(bytearray(values), dtype=np.uint8)
        except (TypeError, ValueError):
            pass
        else:
            if not raw.size or raw.max() <= 1:
                return raw.view(np.bool_)
    array = np.asarray(values if hasattr(values, "__array__") else _listed(values, argument))
    if array.ndim != 1:
        raise _checks.bad_value(
            argument, "be a vector", "shape (D,)", array.shape, "Flatten it first."
        )
    if array.size == 0:
        return np.zeros(0, dtype=np.bool_)
    if array.dtype == np.bool_:
        return array
    if array.dtype.kind not in "iuf" or not np.isin(array, (0, 1)).all():
        raise _checks.bad_value(
            argument, "hold bits", "bool, or numbers that are 0 or 1", f"dtype {array.dtype}"
        )
    return array.astype(np.bool_)


def bit_of(value: Any) -> int | None:
    """Return what is equal to a bit as 0 or 1; None for anything else."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # of an array or a tensor
        value = value.item()
    try:
        return BITS.get(value)
    except TypeError:  # it has no hash
        return None


def as_bit(value: Any) -> int:
    """Return one bit as 0 or 1; anything that is not equal to either is refused."""
    bit = bit_of(value)
    if bit is None:
        raise _checks.bad_value(
            "value",
            "hold bits",
            "0, 1, False or True",
            value,
            "Operators for real numbers or permutations do not suit bits; tools.mutFlipBit does.",
        )
    return bit


def as_array(array: NDArray[Any], dtype: Any, copy: bool | None) -> NDArray[Any]:
    """Return a fresh array as NumPy asks for it by ``__array__``."""
    if copy is False:
        raise ValueError("bits are held packed: an array of them is always a copy")
    return array if dtype is None else array.astype(dtype, copy=False)


def pack(mask: Mask) -> Bytes:
    """Pack a bool vector (D,) into (ceil(D / 8),) bytes."""
    return np.packbits(mask, bitorder="little")


def unpack(packed: Bytes, size: int) -> Mask:
    """Unpack bytes into a fresh bool vector (size,)."""
    return np.unpackbits(packed, count=size, bitorder="little").view(np.bool_)


def unpack_range(packed: Bytes, start: int, stop: int) -> Mask:
    """Unpack the bits [start, stop) into a fresh bool vector."""
    first = start // 8
    window = np.unpackbits(packed[first : n_bytes(stop)], bitorder="little")
    return window[start - 8 * first : stop - 8 * first].view(np.bool_)


def places(mask: Mask) -> Places:
    """Return the positions of the ones, or where there is nothing else the slice of everything.

    Both index a vector (D,). At densities between, that takes a fifth of the time of indexing
    by the mask itself, and the slice costs nothing.
    """
    n = int(np.count_nonzero(mask))
    if n == len(mask):
        return slice(None)
    if n > FEW * len(mask):
        return np.flatnonzero(mask)
    # numpy is slow where ones are few: first the bytes that hold any, then the ones in those.
    packed = pack(mask)
    held = np.flatnonzero(packed != 0)
    inside = np.flatnonzero(unpack(packed[held], 8 * len(held)))
    found: NDArray[np.int64] = (held[inside >> 3] << 3) + (inside & 7)
    return found


def deposit(packed: Bytes, chosen: Mask) -> Bytes:
    """Return those ones of packed bits that are chosen, packed.

    Finding the places of the ones and writing to them takes twice as long where they are many.

    Args:
        packed: The bits.
        chosen: Bool, one for each of their ones, in order.
    """
    n = len(packed)
    counts = np.zeros(-(-n // 8) * 8, dtype=np.uint8)
    counts[:n] = np.bitwise_count(packed)
    # How many ones stand before each byte: within eight bytes one multiplication sums them up, as
    # each byte of the product is the sum of those below it (64 at most, so that none overflows).
    words = counts.view("<u8")
    inside = (words * np.uint64(0x0101010101010101)).view(np.uint8).reshape(-1, 8)
    before = np.cumsum(inside[:, 7], dtype=np.int64) - inside[:, 7]
    start = (before[:, None] + (inside - counts.reshape(-1, 8))).reshape(-1)[:n]
    # A byte of ``packed`` takes the next of ``chosen`` from there on, at most eight of them.
    stream = np.zeros(n_bytes(len(chosen)) + 2, dtype=np.uint16)
    stream[:-2] = np.packbits(chosen, bitorder="little")
    pairs = stream[:-1] | stream[1:] << 8
    following = (pairs.take(start >> 3) >> (start & 7).astype(np.uint16)) & 0xFF
    found: Bytes = _deposits().take(following | packed.astype(np.uint16) << 8)
    return found


class Ones:
    """The ones of a mask, whose places are found when they are first asked for.

    Args:
        mask: Bool (D,).
    """

    def __init__(self, mask: Mask) -> None:
        self.mask = mask

    @functools.cached_property
    def places(self) -> Places:
        """Where they stand; see ``places``."""
        return places(self.mask)

    def marked(self, chosen: Mask) -> Mask:
        """Mark those that are chosen, bool (kept,), in the mask: bool (D,)."""
        size = len(self.mask)
        if len(chosen) == size:
            return chosen
        if "places" not in vars(self) and len(chosen) > FEW * size:
            return unpack(deposit(pack(self.mask), chosen), size)
        found: Mask = np.zeros(size, dtype=np.bool_)
        found[self.places] = chosen
        return found


@functools.cache
def _deposits() -> Bytes:
    """Return the byte that each byte (its ones) makes of each other one (which of them)."""
    ones, chosen = (grid.astype(np.uint8) for grid in np.mgrid[:256, :256])
    found, rank = np.zeros_like(ones), np.zeros_like(ones)
    for place in range(8):
        one = ones >> place & 1
        found |= (one & chosen >> rank) << place
        rank += one
    table: Bytes = found.reshape(-1)
    return table


def clear_padding(packed: Bytes, size: int) -> None:
    """Zero the bits beyond ``size`` in the last byte, in place."""
    if size % 8:
        packed[-1] &= (1 << (size % 8)) - 1


def count(packed: Bytes, start: int = 0, stop: int | None = None) -> int:
    """Count the ones among the bits [start, stop); without ``stop``, to the end."""
    if stop is None:
        stop = 8 * len(packed)
    if start % 8 or stop % 8:
        left, right = -(-start // 8) * 8, stop // 8 * 8
        if left >= right:
            return int(np.count_nonzero(unpack_range(packed, start, stop)))
        edges = np.count_nonzero(unpack_range(packed, start, left)) if left > start else 0
        edges += np.count_nonzero(unpack_range(packed, right, stop)) if stop > right else 0
        return int(edges) + count(packed, left, right)
    part = packed[start // 8 : stop // 8]
    whole = len(part) // 8 * 8  # eight bytes at once
    words, rest = np.ascontiguousarray(part[:whole]).view(np.uint64), part[whole:]
    return int(np.bitwise_count(words).sum(dtype=np.int64)) + int(np.bitwise_count(rest).sum())


def digest(packed: Bytes, size: int) -> str:
    """Return a 32-hex-digit BLAKE2b digest of the mask, the same on every machine."""
    return hashlib.blake2b(
        packed.tobytes(), digest_size=16, salt=size.to_bytes(8, "little")
    ).hexdigest()


def overlap(one: Bytes, other: Bytes) -> float:
    """Return the Jaccard overlap |A and B| / |A or B| of two packed masks, in [0, 1].

    Two empty masks overlap fully (1.0).
    """
    _checks.length("other", len(other), len(one), "bytes of the first mask")
    union = count(one | other)
    return count(one & other) / union if union else 1.0


def _listed(values: Iterable[Any], argument: str) -> list[Any]:
    """Return values as a list.

    Raises:
        InvalidTypeError: They cannot be gone through, or are masks of layers.
    """
    try:
        found = list(values)
    except TypeError as error:
        raise _checks.bad_type(argument, "be a vector", "bits, shape (D,)", values) from error
    if isinstance(values, Mapping) or any(getattr(one, "ndim", 0) for one in found):
        raise _checks.bad_type(
            argument, "be a vector", "bits, shape (D,)", values,
            "Of a mask for each layer, by its parameter's name, "
            "nets.Ticket.from_masks(masks, task.layout) makes a ticket.",
        )  # fmt: skip
    return found

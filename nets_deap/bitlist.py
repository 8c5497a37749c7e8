"""``BitList``: packed bits that behave like a list of fixed length."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any, overload

import numpy as np

from nets_deap import _checks, bits


class BitList:
    """A list of D bits of fixed length, held packed: what DEAP's own operators need of a list.

    Single bits read as ``bool``; slices are copies (bool arrays).

    Args:
        mask: D bits (bool, or numbers 0 and 1).
    """

    # What follows from the bits, once it has been asked for; None again when they change.
    _kept: int | None = None
    _digest: str | None = None

    def __init__(self, mask: Iterable[Any] = ()) -> None:
        array = bits.as_mask(mask)
        self._size = int(array.size)
        self._packed = bits.pack(array)

    # ---- the mask

    @property
    def packed(self) -> bits.Bytes:
        """The packed bits, shape (ceil(D / 8),), as a read-only view; write with ``assign``."""
        view: bits.Bytes = self._packed.view()
        view.setflags(write=False)
        return view

    def assign(self, packed: bits.Bytes) -> None:
        """Replace all bits by packed ones."""
        _checks.shape("packed", packed.shape, self._packed.shape, "(ceil(D / 8),)")
        fresh = packed.astype(np.uint8, copy=True)
        bits.clear_padding(fresh, self._size)
        self._packed = fresh
        self._forget()

    @property
    def mask(self) -> bits.Mask:
        """The mask as a fresh bool vector (D,); assign to it to replace the bits."""
        return bits.unpack(self._packed, self._size)

    @mask.setter
    def mask(self, mask: Iterable[Any]) -> None:
        array = bits.as_mask(mask)
        _checks.length("mask", array.size, self._size, "D")
        self.assign(bits.pack(array))

    @property
    def kept(self) -> int:
        """Number of kept weights."""
        if self._kept is None:
            self._kept = bits.count(self._packed)
        return self._kept

    @property
    def density(self) -> float:
        """Kept / maskable over the whole network, in [0, 1]; 0.0 for a ticket of no bits."""
        return self.kept / self._size if self._size else 0.0

    @property
    def digest(self) -> str:
        """A digest of the mask, 32 hexadecimal digits, the same on every machine."""
        if self._digest is None:
            self._digest = bits.digest(self._packed, self._size)
        return self._digest

    # ---- a list of bits

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, key: int) -> bool: ...
    @overload
    def __getitem__(self, key: slice) -> bits.Mask: ...
    def __getitem__(self, key: int | slice) -> bool | bits.Mask:
        if isinstance(key, slice):
            start, stop, step = key.indices(self._size)
            if step == 1:
                return bits.unpack_range(self._packed, start, max(start, stop))
            strided: bits.Mask = self.mask[key].copy()
            return strided
        i = self._index(key)
        return bool(self._packed[i >> 3] >> (i & 7) & 1)

    def __setitem__(self, key: int | slice, value: Any) -> None:
        if isinstance(key, slice):
            mask, new = self.mask, bits.as_mask(value, "value")
            selected = len(range(*key.indices(self._size)))
            _checks.length("value", new.size, selected, "bits in the slice", "Length is fixed.")
            mask[key] = new
            self.assign(bits.pack(mask))
            return
        i = self._index(key)
        bit = bits.as_mask([value], "value")[0]
        if bit != self[i]:
            self._packed[i >> 3] ^= 1 << (i & 7)
            self._forget()

    def __iter__(self) -> Iterator[bool]:
        return iter(self.mask.tolist())

    def __contains__(self, bit: object) -> bool:
        return bit in (0, 1) and (self.kept > 0 if bit else self.kept < self._size)

    def _forget(self) -> None:
        """Forget what followed from the bits before they changed."""
        self._kept = self._digest = None

    def _index(self, key: Any) -> int:
        """Return a position in [0, D) from an index as lists take it."""
        i = operator.index(key)
        if not -self._size <= i < self._size:
            raise IndexError(
                f"ticket index out of range: expected -{self._size}..{self._size - 1}, got {i}"
            )
        return i % self._size

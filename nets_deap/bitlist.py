"""``BitList``: packed bits that behave like a list of fixed length."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any, overload

import numpy as np

from nets_deap import _checks, bits


class BitList:
    """A list of bits of fixed length, held packed: what DEAP's own operators need of a list.

    Single bits read as ``bool``; slices are copies (bool arrays).

    Args:
        mask: The bits (bool, or numbers 0 and 1).
    """

    # What follows from the bits, once it has been asked for; None again when they change.
    _digest: str | None = None

    def __init__(self, mask: Iterable[Any] = ()) -> None:
        array = bits.as_mask(mask)
        self._size = int(array.size)
        self._packed = bits.pack(array)

    # ---- the bits, all at once

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
    def gates(self) -> bits.Mask:
        """The bits as a fresh bool vector; assign to it to replace them."""
        return bits.unpack(self._packed, self._size)

    @gates.setter
    def gates(self, gates: Iterable[Any]) -> None:
        array = bits.as_mask(gates, "gates")
        _checks.length("gates", array.size, self._size, "bits")
        self.assign(bits.pack(array))

    @property
    def digest(self) -> str:
        """A digest of the bits, 32 hexadecimal digits, the same on every machine."""
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
            strided: bits.Mask = self.gates[key].copy()
            return strided
        i = self._index(key)
        return bool(self._packed[i >> 3] >> (i & 7) & 1)

    def __setitem__(self, key: int | slice, value: Any) -> None:
        if isinstance(key, slice):
            gates, new = self.gates, bits.as_mask(value, "value")
            selected = len(range(*key.indices(self._size)))
            _checks.length("value", new.size, selected, "bits in the slice", "Length is fixed.")
            gates[key] = new
            self.assign(bits.pack(gates))
            return
        i = self._index(key)
        bit = bits.as_mask([value], "value")[0]
        if bit != self[i]:
            self._packed[i >> 3] ^= 1 << (i & 7)
            self._forget()

    def __iter__(self) -> Iterator[bool]:
        return iter(self.gates.tolist())

    def __contains__(self, bit: object) -> bool:
        ones = bits.count(self._packed)
        return bit in (0, 1) and (ones > 0 if bit else ones < self._size)

    def _forget(self) -> None:
        """Forget what followed from the bits before they changed."""
        self._digest = None

    def _index(self, key: Any) -> int:
        """Return a position in [0, D) from an index as lists take it."""
        i = operator.index(key)
        if not -self._size <= i < self._size:
            raise IndexError(
                f"ticket index out of range: expected -{self._size}..{self._size - 1}, got {i}"
            )
        return i % self._size

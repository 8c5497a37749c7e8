"""``PackedList``: bits held packed that behave like a list of 0 and 1 of fixed length."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.tickets import bits
from nets_deap.tickets.attributes import WithAttributes
from nets_deap.tickets.bitlist import BitList

Self = TypeVar("Self", bound="PackedList")
BITS = bits.BITS


class PackedList(WithAttributes):
    """A list of the numbers 0 and 1 of fixed length, held packed.

    It does what a list of 0 and 1 does, but for growing and shrinking. Slices are copies:
    ``BitList``. To NumPy it is a bool vector, and as with one, an array or a list of places or of
    bools is an index, too.

    Args:
        mask: The bits (bool, or numbers 0 and 1).
    """

    __slots__ = ("_bytes", "_known", "_packed", "_read", "_size")

    _size: int
    _bytes: bytearray
    _packed: bits.Bytes  # of the same memory
    # What follows from the bits once it has been asked for, or holds for these bits only.
    _known: dict[str, Any]
    # The list that iterators go through, while there are any.
    _read: weakref.ref[_Read] | None

    def __new__(cls: type[Self], *_: Any, **__: Any) -> Self:
        """Return one of no bits, as ``list`` does: what a subclass may do before ``__init__``."""
        new = super().__new__(cls)
        new._known = {}
        new._read = None
        new._hold(np.zeros(0, dtype=np.uint8), 0)
        return new

    def __init__(self, mask: Iterable[Any] = ()) -> None:
        array = bits.as_mask(mask)
        self._hold(bits.pack(array), int(array.size))

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
        self._hold(packed.astype(np.uint8, copy=False), self._size)

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
        if "digest" not in self._known:
            self._known["digest"] = bits.digest(self._packed, self._size)
        found: str = self._known["digest"]
        return found

    def tolist(self) -> list[int]:
        """Return the bits as a list of 0 and 1."""
        return list(self.gates.tobytes())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return bits.as_array(self.gates, dtype, copy)

    # ---- a list of bits: reading

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, key: int) -> int: ...
    @overload
    def __getitem__(self, key: slice | list[Any] | NDArray[Any]) -> BitList: ...
    def __getitem__(self, key: Any) -> int | BitList:
        # DEAP's uniform operators read and write bit by bit, hence the short way of plain places.
        if type(key) is int and 0 <= key < self._size:
            return self._bytes[key >> 3] >> (key & 7) & 1
        if isinstance(key, slice):
            start, stop, step = key.indices(self._size)
            if step == 1:
                return BitList(bits.unpack_range(self._packed, start, max(start, stop)))
            return BitList(self.gates[key])
        places = self._places(key)
        return self[self._index(key)] if places is None else BitList(self.gates[places])

    def __iter__(self) -> Iterator[int]:
        # A list's own iterator is the fastest there is. It goes through what is written meanwhile,
        # as ``_forget`` and ``_tell`` pass it on to that list for as long as anybody iterates.
        read = None if self._read is None else self._read()
        if read is None:
            read = _Read(self.gates.tobytes())
            self._read = weakref.ref(read)
        return iter(read)

    def __contains__(self, bit: object) -> bool:
        return PackedList.count(self, bit) > 0

    def count(self, bit: Any) -> int:
        """Return how often a bit occurs."""
        wanted, ones = bits.bit_of(bit), bits.count(self._packed)
        return 0 if wanted is None else ones if wanted else self._size - ones

    def index(self, bit: Any, *span: int) -> int:
        """Return the first place of a bit, of those from the first to before the second of a span.

        Raises:
            ValueError: It does not occur there.
        """
        return self.tolist().index(bit, *span)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PackedList):
            return self._size == other._size and self._bytes == other._bytes
        if not isinstance(other, list):
            return NotImplemented  # an array compares element by element, as with lists
        return len(other) == self._size and self.tolist() == other

    __hash__ = None  # type: ignore[assignment]  # mutable, as lists are

    def __lt__(self, other: Any) -> bool:
        return self.tolist() < list(other) if _is_list(other) else NotImplemented

    def __le__(self, other: Any) -> bool:
        return self.tolist() <= list(other) if _is_list(other) else NotImplemented

    def __gt__(self, other: Any) -> bool:
        return self.tolist() > list(other) if _is_list(other) else NotImplemented

    def __ge__(self, other: Any) -> bool:
        return self.tolist() >= list(other) if _is_list(other) else NotImplemented

    def __add__(self, other: Any) -> list[Any]:
        return self[:] + (other[:] if isinstance(other, PackedList) else other)

    def __radd__(self, other: Any) -> list[Any]:
        return other + self.tolist() if isinstance(other, list) else NotImplemented

    def __mul__(self, times: Any) -> Any:
        # With an array it is the product of numbers, which the array knows how to work out.
        return NotImplemented if isinstance(times, np.ndarray) else self.tolist() * times

    __rmul__ = __mul__

    # ---- a list of bits: writing

    def __setitem__(self, key: Any, value: Any) -> None:
        if type(key) is not int or not 0 <= key < self._size:
            places = key if isinstance(key, slice) else self._places(key)
            if places is not None:
                self._write(places, value)
                return
            key = self._index(key)
        try:
            bit = BITS[value]
        except (KeyError, TypeError):
            bit = bits.as_bit(value)
        held, at = self._bytes, key >> 3
        byte = held[at]
        if byte >> (key & 7) & 1 != bit:
            held[at] = byte ^ 1 << (key & 7)
            if self._known:
                self._known.clear()
            if self._read is not None:
                self._tell(key, bit)

    def reverse(self) -> None:
        """Reverse the bits in place."""
        self.gates = self.gates[::-1]

    def sort(self, *, key: Any = None, reverse: bool = False) -> None:
        """Sort the bits in place."""
        self.gates = sorted(self.tolist(), key=key, reverse=reverse)

    def _keep_length(self, *_: Any, **__: Any) -> Any:
        """Refuse what would change the length."""
        raise _checks.bad_value(
            "ticket",
            "keep its length",
            f"D = {self._size} bits, each of which belongs to its weights",
            "what adds or removes bits",
            "Write to bits and slices, or take list(ticket).",
        )

    append = clear = extend = insert = pop = remove = _keep_length
    __delitem__ = __iadd__ = __imul__ = _keep_length

    # ---- within

    def _hold(self, packed: bits.Bytes, size: int) -> None:
        """Hold a copy of packed bits."""
        # Python reads and writes single bytes of a bytearray five times as fast as of an array;
        # both are of the same memory.
        self._size, self._bytes = size, bytearray(packed)
        self._packed = np.ndarray(len(packed), np.uint8, self._bytes)
        bits.clear_padding(self._packed, size)
        self._forget()

    def _forget(self) -> None:
        """Forget what followed from the bits before they changed."""
        self._known = {}
        read = None if self._read is None else self._read()
        if read is not None:
            read[:] = self.gates.tobytes()

    def _tell(self, key: int, bit: int) -> None:
        """Tell iterators of a bit that has changed, if there are any left."""
        read = None if self._read is None else self._read()
        if read is None:
            self._read = None
        else:
            read[key] = bit

    def _write(self, places: Any, value: Any) -> None:
        """Write the bits at a slice, or at an array of places or of bools."""
        gates = self.gates
        n = len(gates[places])
        is_one = isinstance(value, (bool, int, float, np.generic))
        new = np.full(n, bits.as_bit(value), np.bool_) if is_one else bits.as_mask(value, "value")
        _checks.length("value", new.size, n, "bits in the slice", "Length is fixed.")
        gates[places] = new
        self.assign(bits.pack(gates))

    def _places(self, key: Any) -> NDArray[Any] | None:
        """Return an index that is an array or a list of places or of bools; None for another."""
        if not isinstance(key, list) and not getattr(key, "ndim", 0):
            return None
        places = np.asarray(key)
        if places.ndim != 1:
            raise _checks.bad_value("index", "be a vector", "shape (n,)", places.shape)
        return places if places.size else places.astype(np.intp)

    def _index(self, key: Any) -> int:
        """Return a position in [0, D) from an index as lists take it."""
        i = operator.index(key)
        if not -self._size <= i < self._size:
            raise IndexError(
                f"ticket index out of range: expected -{self._size}..{self._size - 1}, got {i}"
            )
        return i % self._size


# No base class: its metaclass would not go together with that of DEAP's creator.
Sequence.register(PackedList)


class _Read(list[int]):
    """A list that can be referred to weakly."""

    __slots__ = ("__weakref__",)


def _is_list(other: Any) -> bool:
    """Return whether bits have an order with something, as lists have with lists."""
    return isinstance(other, (list, PackedList))

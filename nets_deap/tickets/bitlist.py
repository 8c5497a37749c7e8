"""``BitList``: what a slice of a ticket is, a list of 0 and 1 that NumPy reads as a bool vector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.tickets import bits

CHANGES = (
    *("__setitem__", "__delitem__", "__iadd__", "__imul__", "append", "clear", "extend"),
    *("insert", "pop", "remove", "reverse", "sort"),
)


class BitList(list[Any]):
    """A list of the numbers 0 and 1, as a slice of a ticket is one.

    In all that lists do it is a list, so that ``a[:2] + b[2:]`` are the bits of both. To NumPy it
    is a bool vector: ``np.asarray``, ``&``, ``|``, ``^``, ``~`` and an array's methods that lists
    lack, such as ``sum`` and ``mean``, are those of that vector.

    Args:
        gates: The bits (bool, or numbers 0 and 1).
    """

    __slots__ = ("_gates",)

    def __init__(self, gates: Iterable[Any] = ()) -> None:
        own = np.array(bits.as_mask(gates, "gates"))
        super().__init__(own.tobytes())
        # DEAP's crossovers hand slices from ticket to ticket: with the vector at hand that takes
        # a quarter of the time. Whatever changes the list lets go of it.
        self._gates: bits.Mask | None = own

    @property
    def gates(self) -> NDArray[Any]:
        """The elements as a fresh vector: bool where all are bits, as of a slice they are."""
        if self._gates is not None:
            return np.array(self._gates)
        plain = list(self)
        is_bits = all(type(each) in (int, bool) and 0 <= each <= 1 for each in plain)
        found: NDArray[Any] = np.array(plain, dtype=np.bool_ if is_bits else None)
        return found

    def __getitem__(self, key: Any) -> Any:
        """Return an element, or of a slice or an array of places or bools a list like this one."""
        if getattr(key, "ndim", 0):
            return BitList(self.gates[np.asarray(key)])
        found = super().__getitem__(key)
        return BitList(found) if isinstance(key, slice) and self._gates is not None else found

    def tolist(self) -> list[Any]:
        """Return the elements as a plain list."""
        return list(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return bits.as_array(self.gates, dtype, copy)

    def __getattr__(self, name: str) -> Any:
        # Only for what a list does not have.
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.gates, name)

    def __reduce__(self) -> Any:
        # One that has been changed may hold anything, and is a list as any other.
        return (list, (list(self),)) if self._gates is None else (type(self), (self._gates,))

    def __add__(self, other: Any) -> list[Any]:
        if isinstance(other, np.ndarray):  # which would add number to number, or bit OR bit
            raise _checks.bad_type(
                "other", "be a list", "a list to join, as lists do", other, "See np.concatenate."
            )
        return super().__add__(other)

    def __and__(self, other: Any) -> NDArray[Any]:
        return np.asarray(self.gates & np.asarray(other))

    def __or__(self, other: Any) -> NDArray[Any]:
        return np.asarray(self.gates | np.asarray(other))

    def __xor__(self, other: Any) -> NDArray[Any]:
        return np.asarray(self.gates ^ np.asarray(other))

    def __invert__(self) -> NDArray[Any]:
        return np.asarray(~self.gates)


def _forgetting(name: str) -> Any:
    """Return a list's method that lets go of the vector first."""
    change = getattr(list, name)

    def changed(self: BitList, *values: Any, **options: Any) -> Any:
        self._gates = None
        return change(self, *values, **options)

    changed.__name__ = name
    return changed


for _name in CHANGES:
    setattr(BitList, _name, _forgetting(_name))

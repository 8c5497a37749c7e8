"""Plain data with arrays in it as JSON and a few flat arrays, and back; nothing else comes back.

Numbers, text, containers of the standard library, NumPy's arrays and numbers, each with its exact
type; no object, no code.
"""

from __future__ import annotations

import array
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap.errors import RunFileError

KINDS = "biuf"
# Of arrays that are stored as their bytes: other byte orders, complex numbers, times and text.
RAW_KINDS = "biufcmMSU"
# What using plain data raises that is not what it should be.
BROKEN = (
    *(KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError),
    *(RecursionError, MemoryError),
)


class Unstorable(TypeError):
    """A value that is not plain data."""


Arguments = list[Any]
More = Callable[[Any], Any]

# How each type is made again: of plain arguments.
MADE: dict[type, Callable[[Any], Arguments]] = {
    set: lambda value: [list(value)],
    frozenset: lambda value: [list(value)],
    bytes: lambda value: [value.hex()],
    bytearray: lambda value: [value.hex()],
    complex: lambda value: [value.real, value.imag],
    range: lambda value: [value.start, value.stop, value.step],
    slice: lambda value: [value.start, value.stop, value.step],
    array.array: lambda value: [value.typecode, value.tolist()],
    deque: lambda value: [list(value), value.maxlen],
    OrderedDict: lambda value: [[list(pair) for pair in value.items()]],
    Counter: lambda value: [dict(value)],
    Fraction: lambda value: [value.numerator, value.denominator],
    Decimal: lambda value: [str(value)],
    date: lambda value: [value.year, value.month, value.day],
    datetime: lambda value: [*value.timetuple()[:6], value.microsecond],
    timedelta: lambda value: [value.days, value.seconds, value.microseconds],
}
_BY_NAME: dict[str, Callable[..., Any]] = {
    **{kind.__name__: kind for kind in MADE},
    **{kind.__name__: kind.fromhex for kind in (bytes, bytearray)},
}


class Packer:
    """Turns plain data into JSON; arrays go to one flat array for each dtype.

    An array that comes again is stored once.
    """

    def __init__(self) -> None:
        self.parts: dict[str, list[NDArray[Any]]] = {}
        self._ends: dict[str, int] = {}
        self._known: dict[int, tuple[NDArray[Any], dict[str, Any]]] = {}

    def pack(self, value: Any, more: More | None = None) -> Any:
        """Return a value as JSON.

        Args:
            value: Plain data.
            more: Turns what is none into JSON of one key, which an ``Unpacker.extended`` knows;
                returns None for what it does not know either.

        Raises:
            Unstorable: It holds something else than plain data.
        """
        # Exact types: of a subclass, only a part would come back.
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            return value
        if kind is np.ndarray:
            return self._pack_array(value)
        if isinstance(value, np.generic):
            return {"scalar": self._pack_array(np.array(value))}
        if kind is tuple:
            return {"tuple": [self.pack(item, more) for item in value]}
        if kind is list:
            return [self.pack(item, more) for item in value]
        if kind in (dict, MappingProxyType):
            if all(type(key) is str for key in value):
                return {"dict": {key: self.pack(item, more) for key, item in value.items()}}
            return {
                "items": [
                    [self.pack(key, more), self.pack(item, more)] for key, item in value.items()
                ]
            }
        if kind in MADE and getattr(value, "tzinfo", None) is None:
            return {"made": [kind.__name__, [self.pack(item, more) for item in MADE[kind](value)]]}
        found = None if more is None else more(value)
        if found is None:
            raise Unstorable(f"{kind.__name__} is not plain data")
        return found

    def _pack_array(self, array: NDArray[Any]) -> dict[str, Any]:
        """Store an array once; return where it is."""
        if id(array) in self._known:
            return self._known[id(array)][1]
        name = array.dtype.newbyteorder("<").str
        if array.dtype.kind not in RAW_KINDS:
            raise Unstorable(f"an array of dtype {array.dtype} is not plain data")
        if array.dtype.kind not in KINDS or array.dtype != np.dtype(name):
            place = {"raw": [array.dtype.str, list(array.shape), self._pack_bytes(array)]}
        else:
            flat = np.ascontiguousarray(array, dtype=name).reshape(-1)
            place = {"array": [*self._put(name, flat), list(array.shape)]}
        self._known[id(array)] = array, place  # holding it keeps its id its own
        return place

    def _pack_bytes(self, array: NDArray[Any]) -> dict[str, Any]:
        """Store the bytes of an array."""
        flat = np.frombuffer(array.tobytes(), np.uint8)
        return {"array": [*self._put(flat.dtype.str, flat), [flat.size]]}

    def _put(self, name: str, flat: NDArray[Any]) -> tuple[str, int]:
        """Put numbers at the end of those of their dtype; return which, and where they start."""
        start = self._ends.get(name, 0)
        self.parts.setdefault(name, []).append(flat)
        self._ends[name] = start + flat.size
        return name, start


class Unpacker:
    """Turns the JSON of a ``Packer`` back; equal places give the same array.

    Args:
        flat: The flat arrays by dtype.
        writeable: Whether arrays can be written to, as of copies; else they are read-only views.
        more: Turns back what the packer's ``more`` made: from its one key and what is under it.
    """

    def __init__(
        self,
        flat: Mapping[str, NDArray[Any]],
        *,
        writeable: bool = False,
        more: Callable[[str, Any], Any] | None = None,
    ) -> None:
        self._flat, self._writeable, self._more = flat, writeable, more
        self._known: dict[str, NDArray[Any]] = {}

    def extended(self, more: Callable[[str, Any], Any]) -> Unpacker:
        """Return one of the same arrays, which knows more kinds, for data that may be changed."""
        return Unpacker(self._flat, writeable=True, more=more)

    def unpack(self, value: Any) -> Any:
        """Return what was packed.

        Raises:
            RunFileError: It is not what a ``Packer`` makes.
        """
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, list):
            return [self.unpack(item) for item in value]
        if isinstance(value, dict) and len(value) == 1:
            ((kind, content),) = value.items()
            if kind == "tuple" and isinstance(content, list):
                return tuple(self.unpack(item) for item in content)
            if kind == "dict" and isinstance(content, dict):
                return {key: self.unpack(item) for key, item in content.items()}
            if kind == "items":
                return {self.unpack(key): self.unpack(item) for key, item in content}
            if kind == "made":
                name, arguments = content
                return _BY_NAME[name](*(self.unpack(item) for item in arguments))
            if kind in ("array", "raw"):
                return self._array(value)
            if kind == "scalar":
                return self._array(content)[()]
            if self._more is not None:
                return self._more(kind, content)
        raise RunFileError("it holds something that is not plain data")

    def _array(self, place: dict[str, Any]) -> NDArray[Any]:
        """Return the array at a place, always the same one."""
        key = repr(place)
        if key not in self._known:
            found = self._raw(*place["raw"]) if "raw" in place else self._view(*place["array"])
            if self._writeable:
                found = np.array(found)
            found.setflags(write=self._writeable)
            self._known[key] = found
        return self._known[key]

    def _view(self, name: str, start: int, shape: list[int]) -> NDArray[Any]:
        """Return a part of a flat array as a view, which takes no more memory."""
        if not all(type(n) is int and n >= 0 for n in (start, *shape)):
            raise RunFileError("the place of an array is not a place")
        flat, size = self._flat[name], math.prod(shape)
        if start + size > flat.size:
            raise RunFileError("an array reaches beyond what the file holds")
        return flat[start : start + size].reshape(shape)

    def _raw(self, name: str, shape: list[int], place: dict[str, Any]) -> NDArray[Any]:
        """Return an array that is stored as its bytes."""
        dtype = np.dtype(str(name))
        if dtype.kind not in RAW_KINDS or not dtype.itemsize:
            raise RunFileError("an array holds no plain data")
        return np.frombuffer(self._view(*place["array"]).tobytes(), dtype).reshape(shape)

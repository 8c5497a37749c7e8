"""Plain data with arrays in it as JSON and a few flat arrays, and back; nothing else comes back.

Numbers, text, lists, tuples, dictionaries and arrays; no object, no code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap.errors import RunFileError

KINDS = "biuf"
# What using plain data raises that is not what it should be.
BROKEN = (
    *(KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError),
    *(RecursionError, MemoryError),
)


class Unstorable(TypeError):
    """A value that is not plain data."""


class Packer:
    """Turns plain data into JSON; arrays go to one flat array for each dtype.

    An array that comes again is stored once.
    """

    def __init__(self) -> None:
        self.parts: dict[str, list[NDArray[Any]]] = {}
        self._ends: dict[str, int] = {}
        self._known: dict[int, tuple[NDArray[Any], dict[str, Any]]] = {}

    def pack(self, value: Any) -> Any:
        """Return a value as JSON.

        Raises:
            Unstorable: It holds something else than plain data.
        """
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, np.generic):
            return self.pack(value.item())
        if isinstance(value, np.ndarray):
            return self._pack_array(value)
        if isinstance(value, tuple):
            return {"tuple": [self.pack(item) for item in value]}
        if isinstance(value, list):
            return [self.pack(item) for item in value]
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {"dict": {key: self.pack(item) for key, item in value.items()}}
        raise Unstorable(f"{type(value).__name__} is not plain data")

    def _pack_array(self, array: NDArray[Any]) -> dict[str, Any]:
        """Store an array once; return where it is."""
        if id(array) in self._known:
            return self._known[id(array)][1]
        if array.dtype.kind not in KINDS:
            raise Unstorable(f"an array of dtype {array.dtype} is not plain data")
        name = array.dtype.newbyteorder("<").str
        start = self._ends.get(name, 0)
        flat = np.ascontiguousarray(array, dtype=name).reshape(-1)
        self.parts.setdefault(name, []).append(flat)
        self._ends[name] = start + flat.size
        place = {"array": [name, start, list(array.shape)]}
        self._known[id(array)] = array, place  # holding it keeps its id its own
        return place


class Unpacker:
    """Turns the JSON of a ``Packer`` back; equal places give the same read-only array."""

    def __init__(self, flat: Mapping[str, NDArray[Any]]) -> None:
        self._flat = flat
        self._known: dict[tuple[Any, ...], NDArray[Any]] = {}

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
            if kind == "array":
                return self._array(content)
        raise RunFileError("it holds something that is not plain data")

    def _array(self, place: Any) -> NDArray[Any]:
        """Return the array at a place."""
        name, start, shape = place
        if not all(type(n) is int and n >= 0 for n in (start, *shape)):
            raise RunFileError("the place of an array is not a place")
        key = name, start, *shape
        if key not in self._known:
            flat = self._flat[name]
            size = math.prod(shape)
            if start + size > flat.size:
                raise RunFileError("an array reaches beyond what the file holds")
            found = flat[start : start + size].reshape(shape)  # a view: it takes no more memory
            found.setflags(write=False)
            self._known[key] = found
        return self._known[key]

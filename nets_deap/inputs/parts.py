"""What a model gives, taken apart into tensors and put together of others, whatever holds them.

Beside what torch takes apart itself (tuples, lists, dictionaries, what libraries register): other
mappings, data classes and plain objects, by their attributes.
"""

from __future__ import annotations

import copy
from collections.abc import MutableMapping
from dataclasses import dataclass, field, fields, is_dataclass
from types import FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

# What is a leaf beside tensors, and stays as it is.
PLAIN = (bool, int, float, str, type(None))
# What has attributes, but is no holder of results.
_WHOLE = (Tensor, nn.Module, type, FunctionType, MethodType, ModuleType, *PLAIN)


@dataclass(frozen=True)
class Form:
    """What holds the leaves of an output: equal where the leaves have the same places.

    Attributes:
        spec: Of torch, with one place for each of ``objects``.
        objects: What torch does not look into; None for a leaf.
    """

    spec: Any
    objects: tuple[_Object | None, ...]

    @property
    def n_leaves(self) -> int:
        """How many leaves there are."""
        return sum(1 if one is None else one.form.n_leaves for one in self.objects)

    def put_together(self, leaves: list[Any]) -> Any:
        """Return an output of these leaves, in the order of ``taken_apart``."""
        parts, place = [], 0
        for one in self.objects:
            n = 1 if one is None else one.form.n_leaves
            some = leaves[place : place + n]
            parts.append(some[0] if one is None else one.filled(one.form.put_together(some)))
            place += n
        return tree_unflatten(parts, self.spec)


@dataclass(frozen=True)
class _Object:
    """An object whose items and attributes hold leaves.

    Attributes:
        kind: Its type.
        items: Names of its items, for a mapping.
        attributes: Names of its attributes.
        form: Of the list of all these values.
        empty: A copy that holds None for each of them.
    """

    kind: type
    items: tuple[Any, ...]
    attributes: tuple[str, ...]
    form: Form
    empty: Any = field(compare=False, repr=False)

    def filled(self, values: list[Any]) -> Any:
        """Return an object with these values."""
        return _filled(self.empty, self.items, self.attributes, values)


def taken_apart(output: Any) -> tuple[list[Any], Form]:
    """Return the leaves of an output in order, tensors and whatever else, and what holds them."""
    return _taken_apart(output, frozenset())


def tensors_of(output: Any) -> list[Tensor]:
    """Return all tensors in an output, in order."""
    return [leaf for leaf in taken_apart(output)[0] if isinstance(leaf, Tensor)]


def _taken_apart(output: Any, around: frozenset[int]) -> tuple[list[Any], Form]:
    """Take an output apart that is held by the objects with these identities."""
    parts, spec = tree_flatten(output)
    leaves: list[Any] = []
    objects: list[_Object | None] = []
    for part in parts:
        one = None if id(part) in around else _opened(part, around | {id(part)})
        leaves += [part] if one is None else one[0]
        objects.append(None if one is None else one[1])
    return leaves, Form(spec, tuple(objects))


def _opened(thing: Any, around: frozenset[int]) -> tuple[list[Any], _Object] | None:
    """Return the leaves in an object and what it is without them; None for a leaf."""
    if isinstance(thing, _WHOLE):
        return None
    items = tuple(thing) if isinstance(thing, MutableMapping) else ()
    names = [one.name for one in fields(thing)] if is_dataclass(thing) else []
    names += [name for name in getattr(thing, "__dict__", {}) if name not in names]
    attributes = tuple(name for name in names if hasattr(thing, name))
    values = [*(thing[name] for name in items), *(getattr(thing, name) for name in attributes)]
    leaves, form = _taken_apart(values, around)
    if not any(isinstance(leaf, Tensor) for leaf in leaves):
        return None
    try:
        empty = _filled(thing, items, attributes, [None] * len(values))
    except Exception:  # a class may refuse to be copied or written
        return None
    return leaves, _Object(type(thing), items, attributes, form, empty)


def _filled(thing: Any, items: Any, attributes: Any, values: list[Any]) -> Any:
    """Return a copy of an object with these values for its items, then its attributes."""
    found = copy.copy(thing)
    for name, value in zip(items, values, strict=False):
        found[name] = value
    for name, value in zip(attributes, values[len(items) :], strict=True):
        object.__setattr__(found, name, value)
    return found

"""Tensors in tuples and dictionaries, nested or not: what models take and give, by one walk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def each(thing: Any, function: Callable[[Any], Any]) -> Any:
    """Return what a function gives for each leaf of a thing, in the same tuples and dictionaries.

    Leaves are visited in order. Whatever is not a tuple, list or dictionary is a leaf.
    """
    if isinstance(thing, dict):
        return {name: each(value, function) for name, value in thing.items()}
    if isinstance(thing, (tuple, list)):
        return like(thing, [each(value, function) for value in thing])
    return function(thing)


def paired(first: Any, second: Any, function: Callable[[Any, Any], Any]) -> Any:
    """Return what a function gives for each leaf of a thing and the leaf of that name of another.

    Raises:
        KeyError: The other has no leaf of that name.
    """
    others = dict(named("", second))
    found = iter([function(leaf, others[name]) for name, leaf in named("", first)])
    return each(first, lambda _: next(found))


def like(thing: Any, values: list[Any]) -> Any:
    """Return values as a tuple or list of a thing's kind; a named tuple takes its fields singly."""
    return type(thing)(*values) if hasattr(thing, "_fields") else type(thing)(values)


def named(argument: str, thing: Any) -> Iterator[tuple[str, Any]]:
    """Go through the leaves of a thing, in order, each with its name: ``argument['mask'][0]``."""
    if isinstance(thing, dict):
        for name, value in thing.items():
            yield from named(f"{argument}[{name!r}]", value)
    elif isinstance(thing, (tuple, list)):
        for i, value in enumerate(thing):
            yield from named(f"{argument}[{i}]", value)
    else:
        yield argument, thing


def leaves_of(thing: Any) -> list[Any]:
    """Return the leaves of a thing, in order."""
    return [leaf for _, leaf in named("", thing)]


def length_of(thing: Any) -> int:
    """Return the number of examples N that tensors (N, ...) hold: that of the first."""
    return len(leaves_of(thing)[0])


def structure_of(thing: Any) -> str:
    """Return the tuples and dictionaries of a thing as text, ``tensor`` for each leaf."""
    return str(each(thing, lambda leaf: "tensor"))


def shapes_of(thing: Any) -> Any:
    """Return the shape of a tensor; of several the shape and dtype of each by name, as text."""
    if not isinstance(thing, (dict, tuple, list)):
        return tuple(thing.shape)
    found = named("", thing)
    return ", ".join(f"{name} {tuple(leaf.shape)} of {leaf.dtype}" for name, leaf in found)

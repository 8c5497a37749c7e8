"""What differs between how a run was set up and how it is to go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def differences(then: Any, now: Any) -> list[str]:
    """Return a line for each value of plain data that has changed, by its dotted name.

    What was not noted then is not a difference.
    """
    return [
        f"{name or 'it'} was {_short(old)}, is {_short(new)}"
        for name, old, new in _walk(then, now, "")
    ]


def _walk(then: Any, now: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, old and new value of what differs."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for key in then:
            yield from _walk(then[key], now.get(key), f"{place}.{key}".strip("."))
    elif _rows(then) and _rows(now) and len(then) == len(now):
        for number, (old, new) in enumerate(zip(then, now, strict=True)):
            yield from _walk(old, new, f"{place}.{number}")
    elif then != now and not (then != then and now != now):
        yield place, then, now


def _rows(value: Any) -> bool:
    """Return whether a value is a list of dictionaries."""
    return isinstance(value, list) and all(isinstance(each, Mapping) for each in value)


def _short(value: Any) -> str:
    """Format a value in a few characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

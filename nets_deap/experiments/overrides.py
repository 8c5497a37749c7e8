"""Overrides: what ``--set NAME=VALUE`` says, as the type of a field."""

from __future__ import annotations

import types
import typing
from typing import Any, Union

from nets_deap import _checks


def read_field(name: str, value: Any, owner: type, key: str) -> Any:
    """Read text as the type of a field; other values pass as they are."""
    if not isinstance(value, str):
        return value
    kind = typing.get_type_hints(owner)[key]
    try:
        return _parse(value.strip(), kind)
    except ValueError:
        expected = getattr(kind, "__name__", str(kind)) if not typing.get_args(kind) else str(kind)
        raise _checks.bad_value(name, "be readable", expected, repr(value)) from None


def _parse(text: str, kind: Any) -> Any:
    """Parse text as int, float, bool, str, a tuple of them, or None where allowed."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        if text.lower() == "none":
            return None
        return _parse(text, next(a for a in arguments if a is not type(None)))
    if origin is tuple:
        items = [item.strip() for item in text.strip("()[]").split(",") if item.strip()]
        return tuple(_parse(item, arguments[0]) for item in items)
    if kind is bool:
        if text.lower() in ("true", "yes", "1", "false", "no", "0"):
            return text.lower() in ("true", "yes", "1")
        raise ValueError(text)
    if origin is not None:  # a function, say, which no text is
        raise ValueError(text)
    return kind(text)

"""Validators: the one place that writes errors about values, kinds, names and shapes.

Every message reads ``{argument} must {rule}: expected {what}, got {value}. {what to do}``.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

from nets_deap.errors import InvalidTypeError, InvalidValueError, NetsError

T = TypeVar("T")


def bad_value(argument: str, rule: str, expected: str, got: object, hint: str = "") -> NetsError:
    """Build the error for a value outside what ``argument`` allows."""
    return InvalidValueError(_sentence(argument, rule, expected, got, hint))


def bad_type(argument: str, rule: str, expected: str, got: object, hint: str = "") -> NetsError:
    """Build the error for an argument of the wrong kind."""
    return InvalidTypeError(_sentence(argument, rule, expected, type(got).__name__, hint))


def whole(argument: str, value: object, *, low: int = 1, high: int | None = None) -> int:
    """Return ``value`` as an int in [low, high]."""
    span = f"an int >= {low}" if high is None else f"an int in [{low}, {high}]"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise bad_type(argument, "be a whole number", span, value)
    number = int(value)
    if number < low or (high is not None and number > high):
        raise bad_value(argument, "be in range", span, number)
    return number


def real(
    argument: str,
    value: object,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Return ``value`` as a finite float between ``low`` and ``high``."""
    left = f"({low:g}" if open_low or math.isinf(low) else f"[{low:g}"
    right = f"{high:g})" if open_high or math.isinf(high) else f"{high:g}]"
    span = f"a finite float in {left}, {right}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise bad_type(argument, "be a number", span, value)
    number = float(value)
    below = number <= low if open_low else number < low
    above = number >= high if open_high else number > high
    if not math.isfinite(number) or below or above:
        raise bad_value(argument, "be in range", span, number)
    return number


def unless_none(check: Callable[..., T], argument: str, value: object, **limits: Any) -> T | None:
    """Return ``value`` checked by ``check``; None passes."""
    return None if value is None else check(argument, value, **limits)


def density(argument: str, value: object) -> float:
    """Return ``value`` as a density, a float in (0, 1]."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    number = real(argument, value) if is_number else value
    if isinstance(number, float) and not 0 < number <= 1:
        raise bad_value(argument, "be a density", "a float in (0, 1]", number)
    return real(argument, number, low=0, high=1, open_low=True)


def interval(argument: str, value: object, check: Callable[[str, object], float]) -> Any:
    """Return a pair (low, high) with low <= high, each end passing ``check``."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise bad_type(argument, "be a pair", "two numbers (low, high)", value)
    low, high = check(f"{argument}[0]", value[0]), check(f"{argument}[1]", value[1])
    if low > high:
        raise bad_value(argument, "be ordered", "low <= high", (low, high))
    return low, high


def choice(argument: str, value: object, valid: Iterable[str], hint: str = "") -> str:
    """Return ``value`` if it is one of ``valid``; else list them and guess what was meant."""
    names = list(valid)
    if isinstance(value, str) and value in names:
        return value
    guess = difflib.get_close_matches(value, names, 1, 0.5) if isinstance(value, str) else []
    meant = f"Did you mean {guess[0]!r}? " if guess else ""
    listed = ", ".join(repr(name) for name in names)
    raise bad_value(argument, "be a known name", f"one of {listed}", value, f"{meant}{hint}")


def length(argument: str, got: int, expected: int, symbol: str, hint: str = "") -> None:
    """Check a length against what it must be."""
    if got != expected:
        raise bad_value(argument, "have the right length", f"{symbol} = {expected}", got, hint)


def path(argument: str, value: object) -> Path:
    """Return ``value`` as the path that a user means: ``~`` is a home folder."""
    if not isinstance(value, (str, os.PathLike)):
        raise bad_type(argument, "be a path", "text or a pathlib.Path", value)
    try:
        return Path(value).expanduser()
    except RuntimeError:  # no such user, or nobody knows where home is
        hint = "Write the whole path."
        raise bad_value(
            argument, "begin in a home folder", "~, of one who has one", value, hint
        ) from None


def shape(
    argument: str, got: Sequence[int], expected: Sequence[int], symbols: str, hint: str = ""
) -> None:
    """Check a shape against what it must be, in symbols and in numbers."""
    if tuple(got) != tuple(expected):
        raise bad_value(
            argument, "have the right shape", f"{symbols} = {tuple(expected)}", tuple(got), hint
        )


def together(subject: str, checks: Iterable[Callable[[], object]]) -> None:
    """Run all ``checks``; raise one error that lists every one that failed."""
    problems: list[NetsError] = []
    for check in checks:
        try:
            check()
        except NetsError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise InvalidValueError(f"{subject} has {len(problems)} bad fields:\n{lines}")


def _sentence(argument: str, rule: str, expected: str, got: object, hint: str) -> str:
    """Fill the template that every message follows."""
    text = repr(got) if not isinstance(got, str) or rule == "be a known name" else got
    if len(text) > 200:
        text = text[:200] + "..."
    return f"{argument} must {rule}: expected {expected}, got {text}. {hint}".strip()

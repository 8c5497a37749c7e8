"""Validators: the one place that writes errors about values, kinds, names, shapes and calls.

One file: all of them are sentences of one form, and a third is what other packages call things.
Every message reads ``{argument} must {rule}: expected {what}, got {value}. {what to do}``.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar, overload

from nets_deap.errors import InvalidTypeError, InvalidValueError, NetsError, UnknownNameError

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

# Words of DEAP and of other packages for what has another name here.
SYNONYMS = {
    "ngen": "generations",
    "n_generations": "generations",
    "num_generations": "generations",
    "mu": "population",
    "pop_size": "population",
    "population_size": "population",
    "lambda_": "offspring",
    "indpb": "flips",
    "verbose": "progress",
    "learning_rate": "lr",
    "num_steps": "steps",
    "n_steps": "steps",
    "max_epochs": "epochs",
    "flops": "dense steps",
    "macs": "dense steps",
    "multiply-adds": "dense steps",
    "multiply_adds": "dense steps",
    "dense_steps": "dense steps",
    "network_steps": "steps",
    "max_flops": "max_dense_steps",
    "max_macs": "max_dense_steps",
    "criterion": "loss",
    "loss_fn": "loss",
    "out": "path",
    "folder": "path",
    "num_workers": "workers",
    "n_jobs": "workers",
}
# Whose the arguments are that are often given to somebody else.
HOLDERS = {
    "It belongs to the task: nets.Task(..., {}=).": (
        "engine", "device", "chunk", "precision", "unit", "maskable", "augment", "normalize",
        "in_memory", "recipe", "loss", "guard",
    ),
    "It belongs to the recipe of the task: nets.Task(..., recipe=nets.Recipe({}=)).": (
        "optimizer", "lr", "momentum", "batch_size", "steps", "epochs", "schedule", "weight_decay",
    ),
    "It belongs to a map: map=nets.RayMap(task, {}=).": ("workers", "address", "gpus_per_worker"),
    "It belongs to nets.search(task, {}=), or to DEAP's algorithm.": (
        "generations", "population", "offspring", "cxpb", "mutpb",
    ),
    "It belongs to nets.search(task, {}=), or to nets.Recorder.": (
        "path", "patience", "max_steps", "max_dense_steps", "max_seconds", "progress", "callbacks",
    ),
    "It belongs to nets.make_toolbox(task, {}=).": (
        "objectives", "inherit", "gradient", "reevaluate", "first_density", "prune", "flips",
        "noise", "sigma", "holdout",
    ),
    "It belongs to DEAP's algorithms, stats=nets.Recorder(...).": ("stats",),
    "It belongs to DEAP's algorithms; a search's result has its front.": ("halloffame",),
}  # fmt: skip


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


def inner_share(argument: str, value: object) -> float:
    """Return ``value`` as a share that leaves something on both sides, in (0, 1)."""
    return real(argument, value, low=0, high=1, open_low=True, open_high=True)


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


def choice(
    argument: str,
    value: object,
    valid: Iterable[str],
    hint: str = "",
    meanings: Mapping[str, str] = SYNONYMS,
) -> str:
    """Return ``value`` if it is one of ``valid``; else list them and guess what was meant.

    Args:
        argument: What is checked.
        value: What was given.
        valid: The names there are.
        hint: What else to do.
        meanings: Names that others use, and what they are called here.
    """
    names = list(valid)
    if isinstance(value, str) and value in names:
        return value
    meant = meant_by(value, names, meanings) if isinstance(value, str) else ""
    raise unknown(argument, value, names, f"{meant} {hint}".strip())


def unknown(argument: str, value: object, names: Iterable[str], hint: str = "") -> NetsError:
    """Build the error for a name that is none of those there are."""
    listed = ", ".join(repr(name) for name in names)
    return bad_value(argument, "be a known name", f"one of {listed}", value, hint)


def meant_by(name: str, valid: Iterable[str], meanings: Mapping[str, str] = SYNONYMS) -> str:
    """Return a question for what an unknown name may have meant; empty if there is no idea."""
    names = list(valid)
    folded = {one.casefold(): one for one in reversed(names)}
    plain = name.strip().casefold()
    known = meanings.get(plain, plain)
    if known in folded:
        return f"Did you mean {folded[known]!r}?"
    guess = difflib.get_close_matches(name, names, 1, 0.5)
    return f"Did you mean {guess[0]!r}?" if guess else ""


def absent(module: str, name: str, names: Iterable[str]) -> AttributeError:
    """Build the error for an attribute that a module has not, with what may have been meant."""
    # Python asks modules for names such as __path__, and what is not there costs no search.
    meant = "" if name.startswith("__") else meant_by(name, names)
    return UnknownNameError(f"module {module!r} has no attribute {name!r}. {meant}".strip())


def absent_from(held: Mapping[str, Any]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a module that holds these names."""

    def get(name: str) -> Any:
        public = [one for one, value in held.items() if one[0] != "_" and callable(value)]
        raise absent(held["__name__"], name, held.get("__all__") or public)

    return get


def check_names(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise unless all names given are known.

    Raises:
        InvalidTypeError: Some are not; they are all listed, with what they may have meant, or to
            whom they belong.
    """
    names = tuple(known)

    def check(name: str) -> None:
        own = SYNONYMS.get(name, name)
        texts = [text.format(own) for text, held in HOLDERS.items() if own in held]
        if texts and own not in names:
            raise unknown(where, name, names, texts[0])
        choice(where, name, names)

    try:
        together(where, [functools.partial(check, name) for name in given])
    except InvalidValueError as error:  # Python, too, has a TypeError for unknown arguments
        raise InvalidTypeError(str(error)) from None


def misfit(
    name: str, signature: inspect.Signature, args: Sequence[Any], given: Mapping[str, Any]
) -> NetsError | None:
    """Return the error for a call that does not fit a signature; None where it does.

    Args:
        name: What was called.
        signature: Of what was called, without ``self``.
        args: What was given by position.
        given: What was given by name.
    """
    kinds = inspect.Parameter
    every = signature.parameters.values()
    if not any(one.kind is kinds.VAR_KEYWORD for one in every):
        known = [one.name for one in every if one.kind is not kinds.VAR_POSITIONAL]
        try:
            check_names(f"{name}'s argument", given, known)
        except NetsError as error:
            return error
    places = [
        p.name for p in every if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
    ]
    needed = [p for p in every if p.default is kinds.empty and p.kind not in (
        kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)]  # fmt: skip
    usual = ", ".join(p.name if p.name in places else f"{p.name}=..." for p in needed)
    call = f"{name}({usual}{', ' if usual else ''}...)"
    if len(args) > len(places) and not any(one.kind is kinds.VAR_POSITIONAL for one in every):
        most = f"at most {len(places)} ({', '.join(places)})" if places else "none"
        return InvalidTypeError(
            f"{name} must not get too many positional arguments: expected {most}, got {len(args)}. "
            f"Give the others by name, as in {call}."
        )
    held = {*places[: len(args)], *given}
    missing = [repr(one.name) for one in needed if one.name not in held]
    if missing:
        return InvalidTypeError(
            f"{name} must not be missing a required argument: {', '.join(missing)}. "
            f"Call it as {call}."
        )
    twice = [one for one in places[: len(args)] if one in given]
    if twice:
        return InvalidTypeError(
            f"{name} must get {twice[0]!r} once: expected {call}, got it by position and by name."
        )
    return None


@overload
def signed(function: F) -> F: ...
@overload
def signed(
    *, subject: Callable[[str, Any], object] | None = None, passing: Iterable[str] = ()
) -> Callable[[F], F]: ...
def signed(
    function: Any = None,
    *,
    subject: Callable[[str, Any], object] | None = None,
    passing: Iterable[str] = (),
) -> Any:
    """Have a public function, or a class, refuse arguments that it has not by our own errors.

    They name the function, list what it takes, and guess what was meant. A call that fits costs
    nothing but the call: only where Python refused it is looked at why.

    Args:
        function: The function or class; its ``__init__`` is then what is called.
        subject: Checks the first argument: gets what to call it, and its value.
        passing: Names of what ``**options`` may hold for somebody else.
    """
    if function is None:
        return functools.partial(signed, subject=subject, passing=passing)
    if isinstance(function, type):
        function.__init__ = signed(function.__init__)  # type: ignore[misc]
        return function
    name = function.__name__
    if name == "__init__":
        name = function.__qualname__.split(".")[-2]

    first, others = next(iter(inspect.signature(function).parameters), ""), tuple(passing)

    @functools.wraps(function)
    def called(*args: Any, **given: Any) -> Any:
        if others:
            check_names(f"{name}'s argument", given, (*parameters_of(function), *others))
        if subject is not None and (args or first in given):
            subject(f"{name}'s {first}", args[0] if args else given[first])
        try:
            return function(*args, **given)
        except TypeError as error:
            if isinstance(error, NetsError):
                raise
            signature, own = inspect.signature(function), args
            if first == "self":
                _, *rest = signature.parameters.values()
                signature, own = signature.replace(parameters=rest), args[1:]
            wrong = misfit(name, signature, own, given)
            if wrong is None:  # the call fits: the error is from within
                raise
            raise wrong from None

    return called


def parameters_of(function: Callable[..., Any]) -> list[str]:
    """Return the names that a function takes by keyword."""
    kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind in kinds]


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


def takes(argument: str, function: Callable[..., object], names: Sequence[str]) -> None:
    """Check that a function of the user's can be called with these arguments by position."""
    try:
        inspect.signature(function).bind(*names)
    except ValueError:  # a builtin of which Python does not know what it takes
        pass
    except TypeError:
        expected = f"one that can be called with ({', '.join(names)})"
        raise bad_type(argument, "take what it is given", expected, function) from None


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

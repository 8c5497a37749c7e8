"""Validators write every error by one template, and let good values through."""

import inspect
import math
import re
from fractions import Fraction

import numpy as np
import pytest

from nets_deap import _checks, _optional, errors
from nets_deap.errors import InvalidTypeError, InvalidValueError, MissingExtraError

UNIT = {"low": 0, "high": 1}


def test_good_values_come_back_as_plain_numbers():
    for value in (np.int64(3), np.uint8(3), 3):
        assert type(_checks.whole("x", value, low=3, high=3)) is int
    for value in (1, np.float32(1), Fraction(1)):
        assert type(_checks.real("x", value, low=1, high=1)) is float
    assert [_checks.density("x", value) for value in (1, 1e-9)] == [1.0, 1e-9]
    assert _checks.interval("x", [0.5, 0.5], _checks.density) == (0.5, 0.5)
    assert _checks.choice("x", "erk", ("erk", "uniform")) == "erk"
    _checks.length("x", 3, 3, "D")
    _checks.shape("x", [2, 3], (2, 3), "(P, D)")


@pytest.mark.parametrize("value", [True, "1", 1j, None, [1]])
def test_other_kinds_are_refused(value):
    got = type(value).__name__
    for check, text in (
        (_checks.whole, "x must be a whole number: expected an int >= 1"),
        (_checks.real, "x must be a number: expected a finite float in (-inf, inf)"),
        (_checks.density, "x must be a number: expected a finite float in (0, 1]"),
    ):
        with pytest.raises(InvalidTypeError, match=re.escape(text) + f".*, got {got}"):
            check("x", value)
    with pytest.raises(InvalidTypeError, match=r"x must be a whole number: .*, got float"):
        _checks.whole("x", 1.0)


@pytest.mark.parametrize(
    ("check", "value", "options", "text"),
    [
        (_checks.whole, 0, {}, "be in range: expected an int >= 1, got 0."),
        (_checks.whole, 1, {"low": 2, "high": 4}, "expected an int in [2, 4], got 1."),
        (_checks.whole, 5, {"low": 2, "high": 4}, "expected an int in [2, 4], got 5."),
        (
            _checks.real,
            math.nan,
            {},
            "be in range: expected a finite float in (-inf, inf), got nan",
        ),
        (_checks.real, math.inf, {}, "(-inf, inf), got inf."),
        (_checks.real, -math.inf, {"high": 1}, "(-inf, 1], got -inf."),
        (_checks.real, -0.1, {"low": 0}, "[0, inf), got -0.1."),
        (_checks.real, 1.1, UNIT, "[0, 1], got 1.1."),
        (_checks.real, 0, {**UNIT, "open_low": True}, "(0, 1], got 0.0."),
        (_checks.real, 1, {**UNIT, "open_high": True}, "[0, 1), got 1.0."),
        (_checks.density, 0, {}, "be a density: expected a float in (0, 1], got 0.0."),
        (_checks.density, -0.5, {}, "be a density: expected a float in (0, 1], got -0.5."),
        (_checks.density, 1.5, {}, "be a density: expected a float in (0, 1], got 1.5."),
        (_checks.density, math.nan, {}, "got nan"),
        (_checks.interval, 0.5, {"check": _checks.real}, "be a pair: expected two numbers"),
        (_checks.interval, (0.1,), {"check": _checks.real}, "be a pair: expected two numbers"),
        (
            _checks.interval,
            (2, 1),
            {"check": _checks.real},
            "be ordered: expected low <= high, got",
        ),
        (_checks.choice, 3, {"valid": ["a"], "hint": "Add it."}, "one of 'a', got 3. Add it."),
        (
            _checks.choice,
            ["a"],
            {"valid": ["a"]},
            "be a known name: expected one of 'a', got ['a'].",
        ),
        (
            _checks.choice,
            "unifrom",
            {"valid": ("erk", "uniform")},
            "one of 'erk', 'uniform', got 'unifrom'. Did you mean 'uniform'?",
        ),
        (
            _checks.length,
            4,
            {"expected": 3, "symbol": "D", "hint": "Cut it."},
            "have the right length: expected D = 3, got 4. Cut it.",
        ),
        (
            _checks.shape,
            (3, 2),
            {"expected": (2, 3), "symbols": "(P, D)"},
            "have the right shape: expected (P, D) = (2, 3), got (3, 2).",
        ),
    ],
)
def test_bad_values_are_refused(check, value, options, text):
    kind = InvalidTypeError if "a pair" in text else InvalidValueError
    with pytest.raises(kind, match=f"^x must .*{re.escape(text)}"):
        check("x", value, **options)


def test_an_interval_names_the_end_that_is_wrong():
    with pytest.raises(InvalidValueError, match=r"^x\[1\] must be a density"):
        _checks.interval("x", (1, 2), _checks.density)


def test_none_passes_where_it_may():
    assert _checks.unless_none(_checks.whole, "x", None, low=3) is None
    assert _checks.unless_none(_checks.whole, "x", 3, low=3) == 3
    with pytest.raises(InvalidValueError, match=r"x must be in range: expected an int >= 3, got 2"):
        _checks.unless_none(_checks.whole, "x", 2, low=3)


def test_long_values_are_cut():
    with pytest.raises(InvalidValueError, match=r"^.{200,300}\.\.\.\.$"):
        _checks.length("x", list(range(1000)), 3, "D")


def test_together_reports_all_failures_at_once():
    def good():
        return _checks.whole("a", 1)

    def bad():
        return _checks.whole("b", 0)

    def worse():
        return _checks.whole("c", "3")

    _checks.together("Recipe", [good, good])
    with pytest.raises(InvalidTypeError, match=r"^c must be a whole number"):
        _checks.together("Recipe", [good, worse])
    with pytest.raises(InvalidValueError, match=r"^Recipe has 2 bad fields:\n  - b .*\n  - c must"):
        _checks.together("Recipe", [bad, good, worse])
    with pytest.raises(ZeroDivisionError):
        _checks.together("Recipe", [bad, lambda: 1 / 0])


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.InvalidValueError, ValueError),
        (errors.InvalidTypeError, TypeError),
        (errors.CallOrderError, RuntimeError),
        (errors.MissingExtraError, ImportError),
        (errors.FileAccessError, OSError),
        (errors.TicketFileError, ValueError),
    ],
)
def test_every_error_is_of_the_family_and_a_builtin_one(error, builtin):
    assert issubclass(error, errors.NetsError)
    assert issubclass(error, builtin)


def test_a_missing_extra_names_the_command():
    assert _optional.require("math", "plots", "Plotting") is math
    text = r"^Plotting needs the package 'no_such_package'.*pip install -e \"\.\[plots\]\"$"
    with pytest.raises(MissingExtraError, match=text):
        _optional.require("no_such_package.sub", "plots", "Plotting")


# ---- calls that do not fit


@_checks.signed
def sample(task, *, steps, rounds=1):
    return (task, steps, rounds) if task else task + "a"


@_checks.signed
class Sample:
    def __init__(self, path=None, *, steps=3):
        self.steps = steps

    @_checks.signed
    def go(self, steps):
        return steps


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: sample(1, step=1),
            r"sample's argument must .* 'rounds', got 'step'. Did .* 'steps'",
        ),
        (lambda: sample(1, n_steps=1), "Did you mean 'steps'"),
        (lambda: sample(1, steps=1, lr=1), r"recipe of the task: nets.Task.*nets.Recipe\(lr=\)"),
        (lambda: sample(1, steps=1, zzz=1), r"got 'zzz'.$"),
        (
            lambda: sample(1, 2),
            r"too many positional .* at most 1 \(task\), got 2.*task, steps=...",
        ),
        (lambda: sample(1), "missing a required argument: 'steps'"),
        (
            lambda: sample(),
            r"missing a required argument: 'task', 'steps'. Call it as sample\(task",
        ),
        (lambda: sample(1, task=1, steps=2), "sample must get 'task' once"),
        (lambda: Sample(step=1), "Sample's argument .* 'steps'"),
        (lambda: Sample(1, 2), r"Sample must not .* at most 1 \(path\), got 2"),
        (lambda: Sample().go(), "go must not be missing a required argument: 'steps'"),
    ],
)
def test_calls_that_do_not_fit_are_refused_in_words(call, text):
    with pytest.raises(InvalidTypeError, match=text) as raised:
        call()
    assert raised.value.__cause__ is None


def test_calls_that_fit_are_left_alone():
    assert sample(1, steps=2) == (1, 2, 1)
    assert Sample(steps=4).go(5) == 5
    with pytest.raises(TypeError, match="unsupported operand"):  # of the function's own
        sample(0, steps=1)
    assert str(inspect.signature(sample)) == "(task, *, steps, rounds=1)"


def test_options_that_are_passed_on_are_looked_at_first():
    @_checks.signed(passing=("dtype",), subject=lambda name, value: seen.append((name, value)))
    def outer(a, **options):
        return a, options

    seen = []
    assert outer(1, dtype=2) == (1, {"dtype": 2})
    assert outer(a=1) == (1, {})
    assert seen == [("outer's a", 1)] * 2
    with pytest.raises(InvalidTypeError, match=r"one of 'a', 'dtype', got 'dtpe'. Did you mean"):
        outer(1, dtpe=2)


def test_what_belongs_to_others_is_theirs_indeed():
    import nets_deap as nets
    from nets_deap.evolution.budget import UNITS

    holders = {
        "nets.Task(..., {": nets.Task,
        "nets.Recipe": nets.Recipe,
        "nets.RayMap": nets.RayMap,
        "nets.search": nets.search,
        "make_toolbox": nets.make_toolbox,
    }
    for text, names in _checks.HOLDERS.items():
        for holder in [one for part, one in holders.items() if part in text]:
            assert set(names) <= set(inspect.signature(holder).parameters), text
    everything = {n for one in holders.values() for n in inspect.signature(one).parameters}
    assert set(_checks.SYNONYMS.values()) <= everything | set(UNITS)
    assert not set(_checks.SYNONYMS) & everything


def test_absent_names_are_attribute_errors_with_a_guess():
    error = _checks.absent("here", "lod", ("load", "save"))
    assert isinstance(error, AttributeError)
    assert str(error) == "module 'here' has no attribute 'lod'. Did you mean 'load'?"
    assert str(_checks.absent("here", "__path__", ("path",))).endswith("'__path__'.")

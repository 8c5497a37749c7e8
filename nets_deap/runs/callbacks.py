"""Callbacks: functions of the user's own that a recorder calls once a generation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from nets_deap import _checks
from nets_deap.runs import randomness

if TYPE_CHECKING:
    from nets_deap.runs.recorder import Recorder

Callback = Callable[["Recorder", dict[str, Any]], object]


def checked(callbacks: Iterable[Callback]) -> list[Callback]:
    """Return callbacks as a list.

    Raises:
        InvalidTypeError: One of them cannot be called.
    """
    if callable(callbacks):  # the usual slip, which "not iterable" would not explain
        raise _checks.bad_type("callbacks", "be a list", "functions in a list", callbacks)
    found = list(callbacks)
    for one in found:
        if not callable(one):
            raise _checks.bad_type("callbacks", "be functions", "(recorder, row) -> None", one)
    return found


def call(callbacks: Iterable[Callback], recorder: Recorder, row: dict[str, Any]) -> None:
    """Call them with a row each; what they draw from global generators changes no run."""
    called = list(callbacks)
    if not called:
        return
    states = randomness.states()
    try:
        for callback in called:
            callback(recorder, dict(row))
    finally:
        randomness.set_states(states)

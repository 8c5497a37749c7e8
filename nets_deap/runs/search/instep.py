"""Algorithms in step: several of DEAP's at once, which evaluate together and record together.

Each runs in a thread of its own, but only one of them runs at a time, and only up to where it wants
something: that keeps DEAP's global random generators apart and the result the same every time.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from queue import SimpleQueue
from typing import Any

from deap import base

from nets_deap.evolution.batch_map import has_arguments, unwrap
from nets_deap.runs.checkpoint import random_states

logger = logging.getLogger("nets_deap")

LAST_WAIT = 10.0  # seconds for what an island is doing to end, where all are to end


@dataclass(frozen=True)
class _Evaluation:
    """An algorithm wants its offspring evaluated."""

    function: Callable[..., Any]
    iterables: tuple[Any, ...]


@dataclass(frozen=True)
class _Recording:
    """An algorithm has made a generation."""

    population: list[Any]


@dataclass(frozen=True)
class _Ended:
    """An algorithm has ended, by an error if there is one."""

    error: BaseException | None = None


class _Left(SystemExit):
    """Raised in an algorithm that is not to go on; threads end by it in silence."""


class Course:
    """One algorithm: runs in its thread from one wish to the next.

    Args:
        algorithm: Called in the thread with this course, whose ``map`` belongs into the toolbox and
            which is the ``stats``.
        fields: What ``stats`` says it gives.
        random: The state of the random generators to begin with.
    """

    def __init__(
        self,
        algorithm: Callable[[Course], Any],
        fields: Sequence[str],
        random: dict[str, Any],
    ) -> None:
        self.fields = list(fields)
        self.random = random
        self.population: list[Any] = []
        self.wish: _Evaluation | _Recording | _Ended | None = None
        self._algorithm, self._runs = algorithm, False
        self._answers: SimpleQueue[Any] = SimpleQueue()
        self._wishes: SimpleQueue[Any] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="nets_deap-island", daemon=True)

    def go(self, answer: Any = None) -> None:
        """Let the algorithm run up to its next wish."""
        outside = random_states.states()
        random_states.set_states(self.random)
        self._runs = True  # before it does: an interrupt may come at once
        try:
            if self.wish is None:
                self._thread.start()
            else:
                self._answers.put(answer)
            self.wish = self._wishes.get()
            self._runs = False
        finally:
            self.random = random_states.states()
            random_states.set_states(outside)
        if isinstance(self.wish, _Recording):
            self.population = self.wish.population
        if isinstance(self.wish, _Ended) and self.wish.error is not None:
            raise self.wish.error

    def leave(self) -> None:
        """End the algorithm where it is, and its thread, also amid an operator."""
        if not self._thread.is_alive():
            return
        self._answers.put(_Left())
        if self._runs:  # an interrupt has come; the operator may have no end of its own
            ident = ctypes.c_ulong(self._thread.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(_Left))
        self._thread.join(LAST_WAIT)
        if self._thread.is_alive():
            logger.warning("An operator of an island goes on, as nothing can interrupt it.")

    def compile(self, population: list[Any]) -> dict[str, Any]:
        """Record a generation: what the algorithm calls as ``stats.compile``."""
        row: dict[str, Any] = self._ask(_Recording(population))
        return row

    def map(self, function: Callable[..., Any], *iterables: Any) -> Any:
        """Evaluate tickets: what the algorithm calls as ``toolbox.map``."""
        parts = [list(each) for each in iterables]
        size = min(map(len, parts))
        return self._ask(_Evaluation(function, tuple(part[:size] for part in parts)))

    def _ask(self, wish: _Evaluation | _Recording) -> Any:
        """Say what is wanted, and wait for it."""
        self._wishes.put(wish)
        answer = self._answers.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _run(self) -> None:
        """Run the algorithm; what the thread does."""
        ended = _Ended()
        try:
            self._algorithm(self)
        except _Left:
            pass
        except BaseException as error:
            ended = _Ended(error)
        self._wishes.put(ended)


def in_step(
    courses: Sequence[Course],
    evaluate: Callable[..., Any],
    record: Callable[[list[list[Any]]], dict[str, Any]],
) -> None:
    """Run algorithms until all have ended; none is left behind when something is raised.

    Args:
        courses: The algorithms.
        evaluate: The ``map`` that evaluates what all of them want evaluated, as one batch.
        record: Gets all populations once a generation, may change them, and returns the row.
    """
    try:
        for course in courses:
            course.go()
        while running := [c for c in courses if not isinstance(c.wish, _Ended)]:
            asking = [c for c in running if isinstance(c.wish, _Evaluation)]
            if asking:
                for course, values in zip(asking, _together(asking, evaluate), strict=True):
                    course.go(values)
            else:
                row = record([c.population for c in courses])
                for course in running:
                    course.go(row)
    finally:
        for course in courses:
            course.leave()


def _together(asking: Sequence[Course], evaluate: Callable[..., Any]) -> list[list[Any]]:
    """Evaluate what all want, those with the same function as one batch."""
    values: list[list[Any]] = [[] for _ in asking]
    groups: dict[int, list[int]] = {}
    wishes = [course.wish for course in asking]
    for place, wish in enumerate(wishes):
        assert isinstance(wish, _Evaluation)
        plain = not has_arguments(wish.function)
        groups.setdefault(id(unwrap(wish.function) if plain else wish.function), []).append(place)
    for places in groups.values():
        mine = [wish for place in places if isinstance(wish := wishes[place], _Evaluation)]
        joint = [list(chain(*parts)) for parts in zip(*(w.iterables for w in mine), strict=True)]
        found = list(evaluate(mine[0].function, *joint))
        for place, wish in zip(places, mine, strict=True):
            size = len(wish.iterables[0])
            values[place], found = found[:size], found[size:]
    return values


def with_map(toolbox: base.Toolbox, course_map: Callable[..., Any]) -> base.Toolbox:
    """Return a toolbox like another, with its own ``map``."""
    other = base.Toolbox()
    other.__dict__.update(vars(toolbox))
    other.register("map", course_map)
    return other

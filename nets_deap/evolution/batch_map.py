"""``batch_map``: the ``map`` that hands a whole generation to the evaluator at once."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

from nets_deap import _checks
from nets_deap.tickets.ticket import Ticket

Values = tuple[float, ...]


class Batched(ABC):
    """What ``batch_map`` recognises: it evaluates one ticket, or a list together."""

    __slots__ = ("generation",)
    generation: int

    def __call__(self, ticket: Ticket) -> Values:
        """Train one ticket and return its objectives, M plain floats."""
        answers = _answers.get()
        if answers is None:  # not under ``batch_map``
            return self._evaluate([ticket])[0]
        if answers:  # this run of the function is a repetition, and has come this far before
            return answers.pop(0)
        raise _Request(self, ticket)

    @abstractmethod
    def batch(self, tickets: Iterable[Ticket]) -> list[Values]:
        """Evaluate one generation as one batch."""

    @abstractmethod
    def _evaluate(self, tickets: list[Ticket]) -> list[Values]:
        """Evaluate tickets with this generation's minibatches."""

    @abstractmethod
    def _with_survivors(self, tickets: list[Ticket]) -> list[Values]:
        """Evaluate tickets, and with them those that are waiting to be evaluated again."""


class _Request(BaseException):
    """Raised by an evaluator under ``batch_map`` to ask for the training of a ticket.

    It carries control, not an error: as a ``BaseException`` it passes through ``except Exception``
    of the user's function.
    """

    def __init__(self, evaluator: Batched, ticket: Ticket) -> None:
        self.evaluator, self.ticket = evaluator, ticket


# The results for the call that is running, in the order in which it asks; None outside. A context
# variable, so that other threads, and an evaluator called without ``batch_map``, see none.
_answers: ContextVar[list[Values] | None] = ContextVar("nets_deap_answers", default=None)


def batch_map(function: Callable[..., Any], *iterables: Iterable[Any]) -> list[Any]:
    """Map as ``builtins.map`` does, but evaluate all tickets as one batch; a toolbox's ``map``.

    A registered ``Evaluator`` gets the whole list. A function that calls one inside (a decorated
    ``evaluate``) runs up to each of its evaluations, all those are trained as one batch, and it
    runs again with the results; so it should have no side effects before it evaluates. Anything
    else is simply called for each element.

    Returns:
        A list as long as the shortest iterable; empty for no elements.
    """
    inner = unwrap(function)
    if isinstance(inner, Batched):
        if len(iterables) != 1 or (function is not inner and has_arguments(function)):
            raise _checks.bad_value(
                "evaluate", "take tickets only", "map(evaluate, tickets)", "further arguments"
            )
        return inner.batch(iterables[0])
    # A function that calls the evaluator inside cannot be stopped there and go on later, as a
    # coroutine could. So it runs from its start each time, with all answers that are known, until
    # it asks for one that is not: k evaluations inside cost k + 1 runs, and k batches in all.
    calls = list(zip(*iterables, strict=False))
    results: list[Any] = [None] * len(calls)
    answers: list[list[Values]] = [[] for _ in calls]
    waiting = list(range(len(calls)))
    while waiting:
        requests: dict[int, _Request] = {}
        for i in waiting:
            token = _answers.set(list(answers[i]))
            try:
                results[i] = function(*calls[i])
            except _Request as request:
                requests[i] = request
            finally:
                _answers.reset(token)
        waiting = list(requests)
        evaluators = {id(r.evaluator): r.evaluator for r in requests.values()}.values()
        for evaluator in evaluators:
            mine = {i: r.ticket for i, r in requests.items() if r.evaluator is evaluator}
            found = evaluator._with_survivors(list(mine.values()))
            for i, values in zip(mine, found, strict=True):
                answers[i].append(values)
        for evaluator in evaluators:
            evaluator.generation += 1
    return results


def unwrap(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what was registered, from inside any number of partials."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def has_arguments(function: Callable[..., Any]) -> bool:
    """Return whether any of the partials around a function holds arguments."""
    while isinstance(function, functools.partial):
        if function.args or function.keywords:
            return True
        function = function.func
    return False

"""``batch_map``: the ``map`` that hands a whole generation to the evaluator at once."""

from __future__ import annotations

import functools
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nets_deap import _checks
from nets_deap.errors import NetsError
from nets_deap.evolution.carrying import Carrying, Spent, accounts, pass_on, tickets_in
from nets_deap.evolution.coroutines import Calls, calls_here
from nets_deap.tickets.ticket import Ticket

Values = tuple[float, ...]


class Batched(ABC):
    """What ``batch_map`` recognises: it evaluates one ticket, or a list together.

    Attributes:
        key: What it and its copies in other processes are known by.
        around: The function around it through which tickets were evaluated last, such as a
            decorated ``evaluate``; None for itself.
    """

    __slots__ = ("around", "key")
    key: str
    around: Callable[..., Any] | None

    def __call__(self, ticket: Ticket, *more: Any, **options: Any) -> Values:
        """Train one ticket and return its objectives, M plain floats."""
        if more or options:
            raise _further()
        calls = calls_here()
        if calls is None:  # not under ``batch_map``
            alone = self.alone(ticket)
            pass_on(ticket)
            return alone
        answer: Values = calls.ask((self, ticket))
        pass_on(ticket, tickets_in(calls.arguments()))
        return answer

    @property
    @abstractmethod
    def generation(self) -> int:
        """The generation that the next evaluation belongs to."""

    @abstractmethod
    def batch(self, tickets: Iterable[Ticket]) -> list[Values]:
        """Evaluate one generation as one batch."""

    @abstractmethod
    def alone(self, ticket: Ticket) -> Values:
        """Evaluate a ticket of a generation by itself."""

    @abstractmethod
    def together(self, tickets: Sequence[Ticket]) -> list[Values]:
        """Evaluate tickets of a generation, of which there may be more."""

    @abstractmethod
    def open(self, tickets: Sequence[Ticket]) -> None:
        """Take note of which tickets a map is about to evaluate, perhaps one by one."""

    @abstractmethod
    def settle(self, spent: Sequence[Spent]) -> None:
        """Enter what copies of it in other processes have spent."""

    @abstractmethod
    def close(self, generation: int) -> None:
        """Go on to the next generation, unless that one is over already."""


def batch_map(function: Callable[..., Any], *iterables: Iterable[Any]) -> list[Any]:
    """Map as ``builtins.map`` does, but evaluate all tickets as one batch; a toolbox's ``map``.

    A registered ``Evaluator`` gets the whole list. A function that calls one inside (a decorated
    ``evaluate``) runs up to each of its evaluations, all those are trained as one batch, and it
    goes on with the results; so from the second call on it may run in another thread, one call
    at a time. Anything else is simply called for each element.

    One call over an evaluator, or over a function that evaluates, is one generation, with the same
    minibatches however often a call of the function evaluates.

    Returns:
        A list as long as the shortest iterable; empty for no elements.
    """
    inner = unwrap(function)
    if isinstance(inner, Carrying):
        return inner.answers(batch_map, iterables)
    if isinstance(inner, Batched):
        if len(iterables) != 1 or (function is not inner and has_arguments(function)):
            raise _further()
        inner.around = None
        return inner.batch(iterables[0])
    trained: dict[Batched, int] = {}
    known, calls = evaluator_in(function), list(zip(*iterables, strict=False))
    generation = None if known is None else known.generation

    def answer(asked: list[tuple[Batched, Ticket]]) -> list[Values]:
        answers: dict[int, Values] = {}
        for evaluator in dict.fromkeys(evaluator for evaluator, _ in asked):
            places = [i for i, (its, _) in enumerate(asked) if its is evaluator]
            found = evaluator.together([asked[i][1] for i in places])
            trained.setdefault(evaluator, evaluator.generation)
            answers.update(zip(places, found, strict=True))
        return [answers[i] for i in range(len(asked))]

    alone: list[Spent] = []
    try:
        with accounts((ticket for call in calls for ticket in tickets_in(call)), alone):
            results = Calls(function, calls, answer).run()
    finally:
        for spent in alone:
            own = by_key(spent.key)
            if own is not None:
                trained.setdefault(own, spent.generation)
        for evaluator, its in trained.items():
            evaluator.around = function
            evaluator.close(its)
    if known is not None and generation is not None and known not in trained:
        known.close(generation)  # a generation in which nothing had to be trained
    return results


_known: weakref.WeakValueDictionary[str, Batched] = weakref.WeakValueDictionary()


def by_key(key: str) -> Batched | None:
    """Return the evaluator of a key in this process; None where it is gone."""
    return _known.get(key)


def make_known(evaluator: Batched) -> None:
    """Let an evaluator be found by its key, unless another one is."""
    _known.setdefault(evaluator.key, evaluator)


def unwrap(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what was registered, from inside any number of partials."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def evaluator_in(function: Any) -> Batched | None:
    """Return the evaluator that a function wraps, as far as its decorators tell; else None."""
    for _ in range(1000):  # a chain may lead back to itself
        if isinstance(function, Batched):
            return function
        if isinstance(function, functools.partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        else:
            break
    return None


def has_arguments(function: Callable[..., Any]) -> bool:
    """Return whether any of the partials around a function holds arguments."""
    while isinstance(function, functools.partial):
        if function.args or function.keywords:
            return True
        function = function.func
    return False


def _further() -> NetsError:
    """Return the error about arguments beside the ticket."""
    return _checks.bad_value(
        "evaluate",
        "take tickets only",
        "map(evaluate, tickets)",
        "further arguments",
        "Register the evaluator without any, and a map that hands over one ticket a call.",
    )

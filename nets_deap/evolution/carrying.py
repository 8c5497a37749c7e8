"""``Carrying``: a function whose calls, wherever they run, bring home what was learnt and spent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from nets_deap.tickets.ticket import Ticket


@dataclass(frozen=True)
class Spent:
    """One evaluation: whose, of which generation, and what it cost.

    Attributes:
        key: Of the evaluator.
        generation: The generation.
        networks: Networks trained.
        network_steps: Steps x networks.
        diverged: Networks that diverged.
        dense_steps: Multiply-adds, in training steps of the dense network.
    """

    key: str
    generation: int
    networks: int
    network_steps: int
    diverged: int
    dense_steps: float


@dataclass(frozen=True)
class Answer:
    """What a call of a function returned, and brings home.

    Attributes:
        result: What it returned.
        digests: Of the tickets among its arguments, before.
        spent: The evaluations in it.
        learnt: What evaluation has changed in these tickets, where they are copies; else empty.
    """

    result: Any
    digests: tuple[str, ...] = ()
    spent: tuple[Spent, ...] = ()
    learnt: tuple[dict[str, Any], ...] = ()


@dataclass
class Carrying:
    """A function for a map that may run it in other processes, on copies of its arguments.

    Args:
        function: The function.

    Returns (when called):
        An ``Answer``.
    """

    function: Callable[..., Any]
    _home: int = field(default_factory=os.getpid)
    _is_copy: bool = False

    def __call__(self, *args: Any) -> Answer:
        """Call the function, and keep account of what it evaluates."""
        tickets = tickets_in(args)
        digests = tuple(ticket.digest for ticket in tickets)
        spent: list[Spent] = []
        token, given = _spent.set(spent), _given.set(tickets)
        try:
            with accounts(tickets, spent):
                result = self.function(*args)
        finally:
            _spent.reset(token)
            _given.reset(given)
        away = self._is_copy or os.getpid() != self._home
        learnt = [one.evaluation_notes() for one in tickets if away]
        return Answer(result, digests, tuple(spent), tuple(learnt) if spent else ())

    def answers(self, map_: Callable[..., Any], iterables: Iterable[Iterable[Any]]) -> list[Answer]:
        """Return what the calls bring home where a map runs all of them here, and accounts."""
        calls = list(zip(*iterables, strict=False))
        results = map_(self.function, *map(list, zip(*calls, strict=True)))
        digests = [tuple(ticket.digest for ticket in tickets_in(call)) for call in calls]
        return [Answer(*each) for each in zip(results, digests, strict=True)]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_is_copy": True}


def tickets_in(args: Iterable[Any]) -> list[Ticket]:
    """Return the tickets among arguments."""
    return [one for one in args if isinstance(one, Ticket)]


def carried_home(ticket: Ticket) -> list[Spent] | None:
    """Return where to note that a ticket is evaluated, for its map; None where no map called."""
    found = _spent.get()
    if found is None:
        mine = os.getpid(), id(ticket)
        found = next((spent for ids, spent in list(_accounts.values()) if mine in ids), None)
    return found


def pass_on(ticket: Ticket, given: Sequence[Ticket] | None = None) -> None:
    """Let the ticket that a map was given have what was learnt of a copy that was evaluated.

    Args:
        ticket: The one that was evaluated.
        given: Those that the map's call got; None for those of the ``Carrying`` that runs.
    """
    for one in _given.get() if given is None else given:
        if one is not ticket and one.network_key == ticket.network_key:
            one.take_notes(ticket.evaluation_notes())


@contextmanager
def accounts(tickets: Iterable[Ticket], spent: list[Spent]) -> Iterator[None]:
    """Keep account of who evaluates any of some tickets meanwhile, by itself in whatever thread.

    A function that evaluates in a thread of its own, to give up after some time, say, has left the
    context of the map that called it.
    """
    key = object()
    _accounts[key] = {(os.getpid(), id(ticket)) for ticket in tickets}, spent
    try:
        yield
    finally:
        del _accounts[key]


_accounts: dict[object, tuple[set[tuple[int, int]], list[Spent]]] = {}  # of all threads
_spent: ContextVar[list[Spent] | None] = ContextVar("nets_deap_spent", default=None)
_given: ContextVar[Sequence[Ticket]] = ContextVar("nets_deap_given", default=())

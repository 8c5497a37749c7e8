"""``AnyMap``: any ``map`` as a toolbox's, with the numbers and the heritage of ``batch_map``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nets_deap import _checks
from nets_deap.evolution.batch_map import Batched, by_key, evaluator_in, unwrap
from nets_deap.evolution.carrying import Answer, Carrying, Spent, tickets_in


class AnyMap:
    """Lets a map of the user's evaluate tickets one by one, in this process or in others.

    A call of it over an evaluator, or over a function that evaluates, is one generation, as with
    ``nets.batch_map``: each ticket gets the same number. What evaluation learns of a ticket (its
    trained weights) and what it costs comes home from other processes. ``nets.make_toolbox`` puts
    it around whatever is registered as ``map``; a toolbox of one's own takes it as
    ``toolbox.register("map", AnyMap(pool.map))``.

    Args:
        map_: Called as ``map_(function, *lists)``; returns what the calls return, in order, in a
            list or an iterator. Such as ``map``, ``multiprocessing.Pool().map`` or an executor's.

    Returns (when called):
        A list as long as the shortest iterable.

    Raises:
        InvalidTypeError: (when called) The map returns nothing to iterate over, or something else
            than what the function has returned.
        InvalidValueError: It returns fewer or more, or in another order.
    """

    __slots__ = ("map",)

    def __init__(self, map_: Callable[..., Any]) -> None:
        if not callable(map_):
            raise _checks.bad_type("map", "be callable", "such as pool.map", map_)
        self.map = map_

    def __call__(self, function: Callable[..., Any], *iterables: Iterable[Any]) -> list[Any]:
        """Map as the user's map does; what is evaluated is one generation."""
        calls = list(zip(*iterables, strict=False))
        tickets = [ticket for call in calls for ticket in tickets_in(call)]
        known, used = evaluator_in(function), dict[Batched, int]()
        if known is not None:
            known.open(tickets)
            used[known] = known.generation
        columns = list(map(list, zip(*calls, strict=True))) or [[] for _ in iterables]
        digests = [tuple(ticket.digest for ticket in tickets_in(call)) for call in calls]
        answers = _checked(self.map(Carrying(function), *columns), digests)
        away: dict[str, list[Spent]] = {}
        for answer in answers:
            for spent in answer.spent:
                # A clone of the one at hand, made by pickle, has the same key.
                mine = known is not None and spent.key == known.key
                evaluator = known if mine else by_key(spent.key)
                if evaluator is not None and evaluator not in used:
                    evaluator.open(tickets)  # a copy of it may have begun a run
                    used[evaluator] = spent.generation
                if answer.learnt:
                    away.setdefault(spent.key, []).append(spent)
        for call, answer in zip(calls, answers, strict=True):
            for ticket, learnt in zip(tickets_in(call), answer.learnt, strict=False):
                ticket.take_notes(learnt)
        inner = unwrap(function)
        for evaluator, generation in used.items():
            evaluator.around = None if isinstance(inner, Batched) else function
            evaluator.settle(away.get(evaluator.key, ()))
            evaluator.close(generation)
        return [answer.result for answer in answers]


def _checked(found: Any, digests: Sequence[tuple[str, ...]]) -> list[Answer]:
    """Return what a map has returned as a list, if it is what the calls of the function did.

    Args:
        found: What the map has returned.
        digests: Of the tickets of each call.
    """
    if not isinstance(found, Iterable):
        raise _checks.bad_type("map", "return results", "a list or an iterator", found, _WAY)
    answers = list(found)
    for answer in answers:
        if not isinstance(answer, Answer):
            raise _checks.bad_type(
                "map", "return what the function returns", "its results", answer, _WAY
            )
    _checks.length("map(evaluate, tickets)", len(answers), len(digests), "P", _WAY)
    if [answer.digests for answer in answers] != list(digests):
        raise _checks.bad_value(
            "map", "keep the order", "results in the order of the tickets", "another one", _WAY
        )
    return answers


_WAY = (
    "Register one that waits for all results and returns them in order, as pool.map does, or as "
    "lambda f, x: client.gather(client.map(f, x)) does for futures."
)

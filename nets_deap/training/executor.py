"""``Crew``: who trains networks elsewhere, in other processes or on several devices."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from nets_deap.tickets import bits
from nets_deap.training.problem import OnPart, Outcome, Plan, Problem, Start


class Crew(Protocol):
    """Takes the place of an engine in ``dispatch.train``."""

    def train(
        self,
        problem: Problem,
        masks: list[bits.Bytes],
        plan: Plan,
        *,
        engine: str,
        starts: list[Start | None],
        chunk: int | None,
        on_chunk: Callable[[int], None] | None,
        on_part: OnPart,
    ) -> Outcome:
        """Train one network for each mask; ``on_part`` sees each outcome as it comes in."""


_crews: weakref.WeakKeyDictionary[Problem, Crew] = weakref.WeakKeyDictionary()


@contextmanager
def lent(problem: Problem, crew: Crew | None) -> Iterator[None]:
    """Let a crew train whatever is trained of a problem meanwhile; None leaves it as it is."""
    before = _crews.get(problem)
    if crew is not None:
        _crews[problem] = crew
    try:
        yield
    finally:
        if before is None:
            _crews.pop(problem, None)
        else:
            _crews[problem] = before


def set_crew(problem: Problem, crew: Crew) -> None:
    """Let a crew train whatever is trained of a problem, which it must not hold on to."""
    _crews[problem] = crew


def crew_of(problem: Problem) -> Crew | None:
    """Return the crew of a problem, if it has one."""
    return _crews.get(problem)


class Keeper(Protocol):
    """Keeps the outcomes of a call of ``dispatch.train`` as they come in, for one cut short."""

    def watching(self) -> AbstractContextManager[None]:
        """Return what the call is to run in."""

    def begin(
        self, masks: list[bits.Bytes], plan: Plan, starts: list[Start | None]
    ) -> dict[int, Outcome]:
        """Return the outcomes that are kept from an earlier such call, by place."""

    def part(self, places: Sequence[int], outcome: Outcome) -> None:
        """Take what has just been trained."""

    def cut_short(self) -> None:
        """Take note that the call ends before it is done."""


_keepers: weakref.WeakKeyDictionary[Problem, weakref.ref[Keeper]] = weakref.WeakKeyDictionary()


def set_keeper(problem: Problem, keeper: Keeper | None) -> None:
    """Let a keeper see what is trained of a problem, as long as it is in use; None for none."""
    if keeper is None:
        _keepers.pop(problem, None)
    else:
        _keepers[problem] = weakref.ref(keeper)


def keeper_of(problem: Problem) -> Keeper | None:
    """Return the keeper of a problem, if it has one."""
    known = _keepers.get(problem)
    return None if known is None else known()

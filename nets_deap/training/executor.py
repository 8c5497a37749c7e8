"""``Executor``: who trains networks elsewhere, in other processes or on several devices."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from nets_deap.tickets import bits
from nets_deap.training.problem import OnPart, Outcome, Plan, Problem, Start


class Executor(Protocol):
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
        on_part: OnPart,
    ) -> Outcome:
        """Train one network for each mask; ``on_part`` sees each outcome as it comes in."""


_executors: weakref.WeakKeyDictionary[Problem, Executor] = weakref.WeakKeyDictionary()


@contextmanager
def executed_by(problem: Problem, executor: Executor | None) -> Iterator[None]:
    """Let an executor train whatever is trained of a problem meanwhile; None leaves it as it is."""
    before = _executors.get(problem)
    if executor is not None:
        _executors[problem] = executor
    try:
        yield
    finally:
        if before is None:
            _executors.pop(problem, None)
        else:
            _executors[problem] = before


def set_executor(problem: Problem, executor: Executor) -> None:
    """Let an executor train whatever is trained of a problem, which it must not hold on to."""
    _executors[problem] = executor


def executor_of(problem: Problem) -> Executor | None:
    """Return the executor of a problem, if it has one."""
    return _executors.get(problem)


class Journal(Protocol):
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


_journals: weakref.WeakKeyDictionary[Problem, weakref.ref[Journal]] = weakref.WeakKeyDictionary()


def set_journal(problem: Problem, journal: Journal | None) -> None:
    """Let a journal see what is trained of a problem, as long as it is in use; None for none."""
    if journal is None:
        _journals.pop(problem, None)
    else:
        _journals[problem] = weakref.ref(journal)


def journal_of(problem: Problem) -> Journal | None:
    """Return the journal of a problem, if it has one."""
    known = _journals.get(problem)
    return None if known is None else known()

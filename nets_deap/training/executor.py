"""Who trains the networks of a problem elsewhere, and who keeps their outcomes as they come in.

Both are attached to the problem, in this process alone: a copy of it has neither.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from nets_deap.tickets import bits
from nets_deap.training.problem import OnPart, Outcome, Plan, Problem, Start


class Executor(Protocol):
    """Takes the place of an engine in ``dispatch.train``: other processes, or several devices."""

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


@contextmanager
def executed_by(problem: Problem, executor: Executor | None) -> Iterator[None]:
    """Let an executor train whatever is trained of a problem meanwhile; None changes nothing."""
    before = executor_of(problem)
    if executor is not None:
        problem.attached.executor = executor
    try:
        yield
    finally:
        problem.attached.executor = before


def set_executor(problem: Problem, executor: Executor) -> None:
    """Let an executor train whatever is trained of a problem; it must not hold on to it."""
    problem.attached.executor = executor


def executor_of(problem: Problem) -> Executor | None:
    """Return the executor of a problem, if it has one."""
    executor: Executor | None = problem.attached.executor
    return executor


def set_journal(problem: Problem, journal: Journal | None) -> None:
    """Let a journal see what is trained of a problem, as long as it is in use; None for none.

    The problem refers to it weakly: a run that is over keeps nothing of a task that lives on.
    """
    problem.attached.journal = None if journal is None else weakref.ref(journal)


def journal_of(problem: Problem) -> Journal | None:
    """Return the journal of a problem, if it has one."""
    known: weakref.ref[Journal] | None = problem.attached.journal
    return None if known is None else known()

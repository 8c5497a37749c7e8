"""``Keeper``: who keeps outcomes while others are still being trained."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from nets_deap import bits
from nets_deap.training.problem import Outcome, Plan, Problem, Start


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

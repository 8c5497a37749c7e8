"""What the threads of a process share: locks, and settings that they change for a while.

Neither outlives a fork: a child process has only the thread that forked it, and what the others
held there would be held for ever.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class Lock:
    """A lock that a thread may take again while it has it; in a child process it is free."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._owner, self._depth = 0, 0  # the thread inside, and how often
        _all.add(self)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no other thread in meanwhile."""
        self._take(1)
        try:
            yield
        finally:
            self._leave(1)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Let other threads in meanwhile, if this one has the lock."""
        here = self._owner == threading.get_ident()
        depth = self._depth if here else 0
        self._leave(depth)
        try:
            yield
        finally:
            self._take(depth)

    def _take(self, times: int) -> None:
        """Wait until no other thread is inside, and go in so many times."""
        here = threading.get_ident()
        with self._free:
            if times:
                self._free.wait_for(lambda: self._depth == 0 or self._owner == here)
                self._owner, self._depth = here, self._depth + times

    def _leave(self, times: int) -> None:
        """Go out so many times."""
        with self._free:
            self._depth -= times
            self._free.notify_all()

    def forked(self) -> None:
        """Be free in a child process, but for its one thread."""
        self._free = threading.Condition()
        if self._owner != threading.get_ident():
            self._depth = 0


class Shared(Generic[Value]):
    """A setting that belongs to the whole process, in force while a thread is inside.

    Threads that each remembered what was there and put it back would do so in any order, and leave
    another's value for ever. Here those that want the same value hold it together, and the last one
    out puts back what was there before the first. One that wants another value waits for them.

    Args:
        setting: Returns a context manager that sets a value and puts the earlier one back.
    """

    def __init__(self, setting: Callable[[Value], AbstractContextManager[Any]]) -> None:
        self._setting = setting
        self._free = threading.Condition()
        self._holders: list[tuple[int, Value]] = []  # threads, and what they want
        self._set: list[tuple[Value, AbstractContextManager[Any]]] = []
        _all.add(self)

    @contextmanager
    def held(self, value: Value) -> Iterator[None]:
        """Let the setting have a value inside."""
        own = threading.get_ident(), value
        with self._free:
            self._free.wait_for(lambda: self._may(*own))
            if not self._set or self._set[-1][0] != value:
                change = self._setting(value)
                change.__enter__()
                self._set.append((value, change))
            self._holders.append(own)
        try:
            yield
        finally:
            with self._free:
                last = len(self._holders) - 1 - self._holders[::-1].index(own)
                del self._holders[last]
                self._put_back()
                self._free.notify_all()

    def _may(self, thread: int, value: Value) -> bool:
        """Return whether a thread may go in with a value.

        One that is inside already may always: two that waited for each other would wait for ever.
        """
        inside = any(one == thread for one, _ in self._holders)
        return inside or all(other == value for _, other in self._holders)

    def _put_back(self) -> None:
        """Undo what nobody wants any longer, the last first."""
        while self._set and (not self._holders or self._set[-1][0] != self._holders[-1][1]):
            self._set.pop()[1].__exit__(None, None, None)

    def forked(self) -> None:
        """Forget, in a child process, the threads that do not exist there."""
        self._free, here = threading.Condition(), threading.get_ident()
        self._holders = [holder for holder in self._holders if holder[0] == here]
        self._put_back()


_all: weakref.WeakSet[Lock | Shared[Any]] = weakref.WeakSet()


# Random states belong to the whole process: whoever sets them aside, or draws from them what must
# not depend on other threads, holds this until they are back. Training lends it, as its own threads
# may need it.
random_states_lock = Lock()


def _after_fork() -> None:
    """Go through everything in a child process."""
    for one in tuple(_all):
        one.forked()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks either
    os.register_at_fork(after_in_child=_after_fork)

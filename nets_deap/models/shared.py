"""``Shared``: a setting of the whole process that threads change for a while and put back."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")

_all: weakref.WeakSet[Shared[Any]] = weakref.WeakSet()


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

    def _forked(self) -> None:
        """Forget, in a child process, the threads that do not exist there."""
        # Whatever lock they held there is held for ever.
        self._free = threading.Condition()
        here = threading.get_ident()
        self._holders = [holder for holder in self._holders if holder[0] == here]
        self._put_back()


def _after_fork() -> None:
    """Go through all settings in a child process."""
    for shared in tuple(_all):
        shared._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

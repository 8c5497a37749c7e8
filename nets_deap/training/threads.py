"""``share_out``: work that threads share, which stops soon when anything goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from nets_deap.training import interrupt

Item = TypeVar("Item")
Result = TypeVar("Result")


class Stopped(Exception):
    """Raised by work that has seen that it is to stop."""


class Stop:
    """Stops work in other threads."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask all work to stop."""
        self._event.set()

    def check(self) -> None:
        """Raise if work is to stop, or a signal interrupts; to be called every second or so."""
        interrupt.check()
        if self._event.is_set():
            raise Stopped


def share_out(
    work: Callable[[Item, Stop], Result],
    items: Sequence[Item],
    workers: int,
    done: Callable[[Item, Result], None],
    begin: Callable[[], object] = lambda: None,
) -> None:
    """Do the work of all items in threads; hand over each result in the order of the items.

    An exception, of the work, of ``done`` or an interrupt, cancels what has not begun, asks what
    has to stop, and comes through once all threads have.

    Args:
        work: Takes an item and a ``Stop``, whose ``check`` it calls often.
        items: What there is to do.
        workers: Threads.
        done: Called in this thread with each item and its result.
        begin: What each thread begins with.
    """
    stop = Stop()
    with ThreadPoolExecutor(workers, initializer=begin) as pool:
        futures = [pool.submit(work, item, stop) for item in items]
        try:
            for item, future in zip(items, futures, strict=True):
                done(item, future.result())
        except BaseException:
            stop.set()
            for future in futures:
                future.cancel()
            raise

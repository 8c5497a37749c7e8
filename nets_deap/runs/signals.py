"""Signals that ask a run to save and end; the handler does no more than note them."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from nets_deap.training import interrupt

logger = logging.getLogger("nets_deap")

# Ctrl-C; the end of a job; the warning that batch systems send some time before.
ENDINGS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
)


@contextmanager
def listening(*, only_free: bool = False, ctrl_c: bool = False, advice: str = "") -> Iterator[None]:
    """Let the first of these signals interrupt a run where it can be resumed, the second end it.

    Handlers are put back at the end. In other threads than the main one nothing is changed.

    Args:
        only_free: Leave signals alone for which somebody else has a handler; Python has one for
            Ctrl-C.
        ctrl_c: Of scripts, count Python's as none, where what is inside asks often enough whether
            it is to end; at a prompt and in notebooks, whose program goes on, it stays.
        advice: How to go on, told where one of these signals has ended what is inside.

    Raises:
        Interrupted: With ``only_free``, also where a signal came too late for what is inside.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in ENDINGS:
            if not only_free or _is_free(number, ctrl_c=ctrl_c):
                before[number] = signal.signal(number, _note)
    try:
        yield
        if only_free and before:
            interrupt.check()
    except interrupt.Interrupted as stop:
        if stop.signal in before and advice:
            name = signal.Signals(stop.signal).name
            logger.warning("%s: all that is done is saved; go on with %s", name, advice)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if before:
            interrupt.forget()


def _is_free(number: int, *, ctrl_c: bool) -> bool:
    """Return whether nobody has a handler of their own for a signal."""
    held = signal.getsignal(number)
    if ctrl_c and held is signal.default_int_handler:
        shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        return shell is None and not hasattr(sys, "ps1") and not sys.flags.interactive
    return held == signal.SIG_DFL


def _note(number: int, frame: FrameType | None) -> None:
    """Note a signal; end the program if it is the second one."""
    if interrupt.ask(number):
        os._exit(128 + number)

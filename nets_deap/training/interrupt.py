"""The request to interrupt work: set by a signal's handler, looked at where it can be put down.

A signal belongs to the whole process, and its handler may run between any two lines of Python, in
the midst of a write. So the handler only notes the signal here, and work asks for it where nothing
is half done.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

_asked: list[int] = []
_signs: weakref.WeakSet[Sign] = weakref.WeakSet()


class Sign(Protocol):
    """Something that is to be told again and again that this program lives."""

    def beat(self) -> None:
        """Give a sign of life, if it is time for one."""


def tell(sign: Sign) -> None:
    """Have something told that this program lives, for as long as it is in use itself."""
    _signs.add(sign)


class Interrupted(KeyboardInterrupt, SystemExit):
    """Raised where work is put down because a signal asked for it.

    A program that does not catch it ends with 128 + signal, as one that the signal ended.

    Attributes:
        signal: The number of the signal.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(f"interrupted by signal {signal}")
        self.signal, self.code = signal, 128 + signal


def ask(signal: int) -> bool:
    """Note that a signal asks to interrupt; return whether one had asked before."""
    again = bool(_asked)
    _asked.append(signal)
    return again


def forget() -> None:
    """Forget what was asked."""
    _asked.clear()


def asked() -> bool:
    """Return whether work is to be interrupted."""
    return bool(_asked)


def check() -> None:
    """Give signs of life, and raise ``Interrupted`` if a signal has asked for it.

    To be called every second or so.
    """
    for sign in tuple(_signs):
        sign.beat()
    if _asked:
        raise Interrupted(_asked[0])


def _after_fork() -> None:
    """Leave signs and requests to the parent process: what they are about is its own."""
    _signs.clear()
    _asked.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks either
    os.register_at_fork(after_in_child=_after_fork)

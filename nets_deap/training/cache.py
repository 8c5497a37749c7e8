"""``Cache``: what engines keep of a problem from one call to the next.

What all problems of this process keep on one device shares its memory: the least recently used
makes room, whosever it is, and in a shortage everything goes.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from nets_deap.models.shared import Lock

MOST_KEPT = 4

T = TypeVar("T")


@dataclass(eq=False)
class _Kept:
    """A thing that is kept, about what it holds, where, and when it was last asked for."""

    thing: Any
    n_bytes: int
    device: torch.device
    used: int


class Cache(Generic[T]):
    """Keeps what is costly to build, least recently used first to go.

    A copy of a cache is empty: graphs and the memory that they use cannot be copied.

    Attributes:
        lock: Held while a problem trains: calls from several threads take turns.
        facts: What was found out once, by ``problem.once``: small, and never dropped.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, _Kept] = {}
        self.lock = Lock()
        self.facts: dict[Hashable, Any] = {}
        _caches.add(self)

    def get(
        self,
        key: Hashable,
        build: Callable[[], T],
        *,
        n_bytes: int,
        limit: int,
        device: torch.device,
    ) -> T:
        """Return what was built under ``key``, or build it after making room for it.

        What another thread works with at the time may be dropped, too: it lives as long as that.

        Args:
            key: What it is known by.
            build: Called if it is not here.
            n_bytes: About what it will hold.
            limit: Bytes that everything on the device may hold together.
            device: Where it lives.
        """
        with _changing.held():
            if key in self._kept:
                self._kept[key].used = next(_clock)
                found: T = self._kept[key].thing
                return found
            while len(self._kept) >= MOST_KEPT:
                del self._kept[min(self._kept, key=lambda one: self._kept[one].used)]
            while (held := _held_on(device)) and n_bytes + sum(
                cache._kept[one].n_bytes for cache, one in held
            ) > limit:
                cache, oldest = min(held, key=lambda place: place[0]._kept[place[1]].used)
                del cache._kept[oldest]
        thing = build()
        with _changing.held():
            self._kept[key] = _Kept(thing, n_bytes, device, next(_clock))
        return thing

    def keys(self) -> list[Any]:
        """Return what is known here."""
        return list(self._kept)

    def things(self) -> list[T]:
        """Return what is kept here."""
        return [one.thing for one in self._kept.values()]

    def clear(self) -> None:
        """Drop everything but the facts."""
        with _changing.held():
            self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return (Cache, ())


def drop_all(device: torch.device) -> int:
    """Drop what all problems of this process keep on a device; return how many things it was."""
    with _changing.held():
        held = _held_on(device)
        for cache, key in held:
            del cache._kept[key]
        return len(held)


_caches: weakref.WeakSet[Cache[Any]] = weakref.WeakSet()
_changing = Lock()
_clock = itertools.count()


def _held_on(device: torch.device) -> list[tuple[Cache[Any], Hashable]]:
    """Return where everything stands that is kept on a device: cache and key."""
    return [
        (cache, key)
        for cache in tuple(_caches)
        for key, one in cache._kept.items()
        if one.device == device
    ]

"""``Cache``: what engines keep of a problem from one call to the next."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from nets_deap.models.shared import Lock

MOST_KEPT = 4

T = TypeVar("T")


class Cache(Generic[T]):
    """Keeps what is costly to build, least recently used first to go.

    A copy of a cache is empty: graphs and the memory that they use cannot be copied.

    Attributes:
        lock: Held while a problem trains: calls from several threads take turns.
        facts: What was found out once, by ``problem.once``: small, and never dropped.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self.lock = Lock()
        self.facts: dict[Hashable, Any] = {}

    def get(self, key: Hashable, build: Callable[[], T], *, n_bytes: int, limit: int) -> T:
        """Return what was built under ``key``, or build it after making room for it.

        Args:
            key: What it is known by.
            build: Called if it is not here.
            n_bytes: About what it will hold.
            limit: Bytes that everything here may hold together.
        """
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][0]
        while self._kept and (
            len(self._kept) >= MOST_KEPT
            or n_bytes + sum(size for _, size in self._kept.values()) > limit
        ):
            self._kept.popitem(last=False)
        thing = build()
        self._kept[key] = (thing, n_bytes)
        return thing

    def clear(self) -> None:
        """Drop everything but the facts."""
        self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return (Cache, ())

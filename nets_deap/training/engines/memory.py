"""Running out of memory: fewer networks at once, and the one that fits nowhere gives no numbers."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from typing import TypeVar

import torch

from nets_deap.tickets import bits
from nets_deap.training.cache import drop_all
from nets_deap.training.problem import Outcome, Plan, Problem, Start, once, untrained
from nets_deap.training.shortage import is_shortage

logger = logging.getLogger("nets_deap")
Found = TypeVar("Found")

# Chunks that must fit before one of twice as many networks is tried again.
FIRST_WAIT = 8
# Threads are waited for until memory has been the same for so many looks, this far apart.
LOOKS, LOOK_SECONDS, MOST_LOOKS = 5, 0.01, 100


class Capacity:
    """How many networks of a problem fit in memory at once, as far as is known.

    Attributes:
        size: The number; None for as many as an engine takes by itself.
    """

    def __init__(self) -> None:
        self.size: int | None = None
        self._fitted, self._wait, self._full, self._grew = 0, FIRST_WAIT, 0, False

    def portion(self, networks: int) -> int:
        """Return how many networks to hand to the engine before the capacity is looked at again."""
        if self.size is None:
            return networks
        return 1 if self.size == 1 else min(networks, self.size * self._wait)

    def fits(self, networks: int) -> None:
        """Note that networks have been trained; try twice as many after some chunks that fit."""
        if self.size is None:
            return
        self._fitted += networks
        if self._fitted >= self.size * self._wait:
            self.size, self._fitted, self._grew = self.size * 2, 0, True
            if self.size >= self._full:
                self.size = None

    def shrink(self, tried: int) -> None:
        """Note that so many did not fit; after growth, wait twice as long with the next one."""
        if self.size is None:
            self._full = tried
        if self._grew:
            self._wait *= 2
        self.size, self._fitted, self._grew = max(1, tried // 2), 0, False
        logger.warning(
            "Out of memory with %d networks at once; going on with %d.", tried, self.size
        )


@once
def capacity_of(problem: Problem, engine: str) -> Capacity:
    """Return what is known of how many networks of a problem an engine has memory for."""
    return Capacity()


def free(device: torch.device) -> bool:
    """Give back what is kept on a device for speed alone, of all problems; return if any was."""
    dropped = drop_all(device)
    _give_back(device)
    return dropped > 0


def with_room(device: torch.device, work: Callable[[], Found]) -> Found:
    """Return what work gives; in a shortage once more, after what is kept has made room for it."""
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
    free(device)  # by now nothing holds on to the frames of what failed
    return work()


def _give_back(device: torch.device) -> None:
    """Give back what torch holds on a device and does not use."""
    if device.type == "cuda":  # on the CPU chunks stay near the cache and hold little
        _settle(device)
        gc.collect()  # modules of users, and what torch makes of them, hold themselves
        torch.cuda.empty_cache()


def _settle(device: torch.device) -> None:
    """Wait until no other thread lets go of memory any more.

    On CUDA torch goes backward in a thread of its own. Where memory runs out in there, the error
    comes up here at once, while that thread still holds all that it worked with, until it gets its
    turn of Python's lock: all smaller chunks would be tried, and fail, before it does.
    """
    looks: list[int] = []
    for _ in range(MOST_LOOKS):  # others may train meanwhile
        looks.append(torch.cuda.memory_allocated(device))
        if looks[-LOOKS:] == [looks[-1]] * LOOKS:
            return
        time.sleep(LOOK_SECONDS)


class Pieces:
    """Work on networks and examples, piece by piece: smaller ones for good after a shortage.

    Args:
        networks: At most so many at once.
        rows: Examples at once.
        device: Where memory is given back in a shortage.
    """

    def __init__(self, networks: int, rows: int, device: torch.device) -> None:
        self._networks, self._rows, self._device = networks, rows, device

    def of(self, work: Callable[[slice, int], Found], n: int) -> list[Found]:
        """Return what work gives of all pieces of n networks, each with the number of rows."""
        found: list[Found] = []
        first, tried_least = 0, False
        while first < n:
            some, short = slice(first, min(first + self._networks, n)), False
            try:
                found.append(work(some, self._rows))
                first, tried_least = some.stop, False
            except (RuntimeError, MemoryError) as error:
                if not is_shortage(error) or tried_least:
                    raise
                short = True
            if short:  # by now nothing holds on to the frames of what failed
                count = some.stop - first
                tried_least = count == 1 and self._rows == 1
                if tried_least:  # what others keep may be all that is in the way
                    free(self._device)
                    continue
                _give_back(self._device)
                self._networks = max(1, count // 2)
                self._rows = self._rows if count > 1 else self._rows // 2
        return found


def unfit(problem: Problem, packed: bits.Bytes, plan: Plan, start: Start) -> Outcome:
    """Return the outcome of a network that does not fit alone: no numbers, untrained weights."""
    logger.warning(
        "A network of %d kept weights does not fit in memory, even alone; it counts as diverged.",
        bits.count(packed),
    )
    return untrained(problem, packed, plan, start)

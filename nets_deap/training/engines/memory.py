"""Running out of memory: fewer networks at once, and the one that fits nowhere gives no numbers."""

from __future__ import annotations

import logging

import torch

from nets_deap.tickets import bits
from nets_deap.training.problem import Outcome, Plan, Problem, Start, once, untrained

logger = logging.getLogger("nets_deap")

# Chunks that must fit before one of twice as many networks is tried again.
FIRST_WAIT = 8


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


def free(problem: Problem) -> None:
    """Give back what is kept for speed alone."""
    problem.cache.clear()
    if problem.device.type == "cuda":
        torch.cuda.empty_cache()


def unfit(problem: Problem, packed: bits.Bytes, plan: Plan, start: Start) -> Outcome:
    """Return the outcome of a network that does not fit alone: no numbers, untrained weights."""
    logger.warning(
        "A network of %d kept weights does not fit in memory, even alone; it counts as diverged.",
        bits.count(packed),
    )
    return untrained(problem, packed, plan, start)

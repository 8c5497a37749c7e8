"""How the cost of a network-step is timed, and how it grows with P, D and density."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from nets_deap.tickets import bits
from nets_deap.training.task import Task

MOST_STEPS = 4000


def random_masks(task: Task, population: int, density: float) -> list[bits.Bytes]:
    """Return P packed random masks of a density, no two alike below density 1."""
    rng = np.random.default_rng(1)
    size = task.layout.size
    if density >= 1:
        return [bits.pack(np.ones(size, dtype=np.bool_))] * population
    return [bits.pack(rng.random(size) < density) for _ in range(population)]


def enough_steps(clock: Callable[[int], float], seconds: float) -> int:
    """Return how many steps take about ``seconds``; warms up on the way."""
    clock(2)
    short, steps = clock(2), 8
    # What a call costs beside its steps, masks and weights that come and go, must not hide them.
    while (long := clock(steps)) < 2 * short and steps < MOST_STEPS:
        steps = min(4 * steps, MOST_STEPS)
    each = max((long - short) / (steps - 2), 1e-6)
    return int(np.clip(seconds / each, 4, MOST_STEPS))


def rate(clock: Callable[[int], float], steps: int) -> float:
    """Return steps per second in the steady state.

    What every call costs (masks, starts, validation) is in a short and in a long call, and is not
    in their difference.
    """
    short = max(1, steps // 4)
    return (steps - short) / max(clock(steps) - clock(short), 1e-9)


def exponent(costs: Mapping[float, float]) -> float:
    """Return the slope of log cost over log size, by least squares; NaN for fewer than two."""
    if len(costs) < 2:
        return float("nan")
    slope, _ = np.polyfit(np.log(list(costs)), np.log(list(costs.values())), 1)
    return float(slope)

"""What evolution itself costs: stock ``eaMuPlusLambda`` with a free evaluator."""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import dataclass
from typing import Any

from deap import algorithms

from nets_deap import _checks, tasks
from nets_deap.evaluator import Evaluator
from nets_deap.operators import cx_uniform, mut_flip
from nets_deap.toolbox import make_toolbox


@dataclass(frozen=True)
class EvolutionCost:
    """Seconds a generation, one number a generation, of everything but training."""

    population: int
    size: int
    seconds: list[float]

    @property
    def median(self) -> float:
        """Median seconds a generation."""
        return statistics.median(self.seconds)


class _Clock:
    """Takes the time at the end of each generation; used as ``stats=``."""

    def __init__(self) -> None:
        self.fields: list[str] = []
        self.times: list[float] = []

    def compile(self, population: Any) -> dict[str, Any]:
        self.times.append(time.perf_counter())
        return {}


class _FreeEvaluator(Evaluator):
    """An evaluator that trains nothing: a made-up loss that falls with density, and density."""

    __slots__ = ()

    def batch(self, tickets: Any) -> list[tuple[float, ...]]:
        """Return the made-up objectives of all tickets."""
        return [(1 - ticket.density, ticket.density) for ticket in tickets]


def measure(*, population: int = 100, generations: int = 30, plain: bool = False) -> EvolutionCost:
    """Measure stock ``eaMuPlusLambda`` on LeNet-300-100's 266,200 bits without any training.

    Selection, crossover, mutation, cloning, batching: everything of a generation but training.

    Args:
        population: mu and lambda.
        generations: How many to time, >= 1.
        plain: With ``cx_uniform`` and ``mut_flip`` (indpb 1e-3) instead of the toolbox's own
            operators, which look at every kept weight: what DEAP itself costs.
    """
    _checks.whole("population", population)
    _checks.whole("generations", generations)
    task = tasks.lenet(dataset="mnist5k", device="cpu")
    toolbox = make_toolbox(task)
    toolbox.register("evaluate", _FreeEvaluator(task, ("val_loss", "density")))
    if plain:
        toolbox.register("mate", cx_uniform)
        toolbox.register("mutate", mut_flip, indpb=1e-3)
    clock = _Clock()
    state = random.getstate()
    random.seed(0)
    try:
        algorithms.eaMuPlusLambda(
            toolbox.population(n=population),
            toolbox,
            mu=population,
            lambda_=population,
            cxpb=0.3,
            mutpb=0.7,
            ngen=generations,
            stats=clock,
            verbose=False,
        )
    finally:
        random.setstate(state)
    seconds = [b - a for a, b in zip(clock.times, clock.times[1:], strict=False)]
    return EvolutionCost(population, task.layout.size, seconds)

"""What evolution itself costs: a whole generation of it, but for training."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from deap import algorithms
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.cli.bench.bookkeeping import measure_recorder, measure_selection
from nets_deap.cli.bench.operators import cost_table, measure_operators
from nets_deap.cli.bench.tickets import lenet
from nets_deap.evolution.operators import cx_uniform, mut_flip
from nets_deap.evolution.toolbox import make_toolbox
from nets_deap.runs.recorder import Recorder
from nets_deap.tickets.ticket import Ticket
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.cost import ticket_share
from nets_deap.training.problem import METRICS, Outcome, Plan, Start
from nets_deap.training.task import Ledger, Task

# Where training costs least, so that everything else weighs most.
SPARSE = (0.03, 0.07)
SEARCHES: tuple[dict[str, Any], ...] = (
    {"plain": True},
    {},
    {"inherit": "weights"},
    {"density": SPARSE},
    {"inherit": "weights", "density": SPARSE},
)

SELECTED_FROM = 2000  # 1,000 parents and 1,000 offspring


@dataclass(frozen=True)
class EvolutionCost:
    """Seconds a generation, one number a generation, of everything but training.

    Attributes:
        population: mu and lambda.
        size: D, the bits of a ticket.
        operators: Which operators made the children.
        density: Least and greatest density that tickets may have.
        seconds: A number for each generation.
    """

    population: int
    size: int
    operators: str
    density: tuple[float, float]
    seconds: list[float]

    @property
    def median(self) -> float:
        """Median seconds a generation."""
        return statistics.median(self.seconds)


class _UntrainedTask(Task):
    """LeNet-300-100 whose training takes no time: what it would have ended with is made up."""

    def __init__(self, task: Task) -> None:
        self.__dict__.update(task.__dict__, ledger=Ledger())
        self.seconds = 0.0

    def run(
        self,
        tickets: Sequence[Ticket],
        plan: Plan,
        on_chunk: Callable[[int], None] | None = None,
        *,
        starts: Sequence[Start] | None = None,
    ) -> Outcome:
        """Return made-up numbers: losses that rise as density falls, and values near W0."""
        start = time.perf_counter()
        rng = np.random.default_rng(self.ledger.networks)
        initial = self.layout.require_initial()
        values: list[NDArray[Any]] = [initial[ticket.mask] for ticket in tickets]
        losses = [0.2 - 0.05 * np.log(t.density) + 0.02 * rng.random() for t in tickets]
        biases = {n: b.numpy() for n, b in self.problem.initial.items() if n.endswith("bias")}
        outcome = Outcome(
            metrics={name: np.array(losses) for name in METRICS},
            curve_steps=(),
            curve=np.zeros((len(tickets), 0)),
            trained=[
                TrainedState(
                    kept * np.float32(1 + 0.1 * rng.random()),
                    {name: bias.copy() for name, bias in biases.items()},
                )
                for kept in values
            ],
            states=[],
        )
        self.ledger.networks += len(tickets)
        self.ledger.network_steps += len(tickets) * plan.steps
        shares = (ticket_share(self.problem, ticket) for ticket in tickets)
        self.ledger.dense_steps += plan.steps * sum(shares)
        self.seconds += time.perf_counter() - start
        return outcome


class _Clock:
    """Takes the time at the end of each generation, after a recorder; used as ``stats=``."""

    def __init__(self, recorder: Recorder, task: _UntrainedTask) -> None:
        self.fields: list[str] = []
        self.recorder, self.task = recorder, task
        self.times: list[float] = []

    def compile(self, population: Any) -> dict[str, Any]:
        self.recorder.compile(population)
        self.times.append(time.perf_counter() - self.task.seconds)
        return {}


def measure(
    *,
    population: int = 100,
    generations: int = 30,
    plain: bool = False,
    inherit: str = "none",
    density: tuple[float, float] = (0.01, 1.0),
) -> EvolutionCost:
    """Measure stock DEAP on LeNet-300-100's 266,200 bits without the time that training takes.

    Selection, crossover, mutation, cloning, batching, the evaluator, the hall of fame and the
    recorder with a run folder: everything of a generation but training.

    Args:
        population: mu and lambda.
        generations: How many to time, >= 1.
        plain: With ``cx_uniform`` and ``mut_flip`` (indpb 1e-3) instead of the toolbox's own
            operators, which look at every kept weight: what DEAP itself costs.
        inherit: See ``nets.make_toolbox``; with ``"weights"`` by ``eaMuCommaLambda``.
        density: Least and greatest density of all tickets, the first ones spread over it.
    """
    _checks.whole("population", population)
    _checks.whole("generations", generations)
    task = _UntrainedTask(lenet())
    first = None if inherit == "weights" else density
    toolbox = make_toolbox(task, inherit=inherit, density=density, first_density=first)
    if plain:
        toolbox.register("mate", cx_uniform)
        toolbox.register("mutate", mut_flip, indpb=1e-3)
    evolve = algorithms.eaMuPlusLambda if inherit == "none" else algorithms.eaMuCommaLambda
    state = random.getstate()
    random.seed(0)
    try:
        with tempfile.TemporaryDirectory() as folder:
            recorder = Recorder(folder, task=task, progress="none")
            clock = _Clock(recorder, task)
            evolve(
                toolbox.population(n=population),
                toolbox,
                mu=population,
                lambda_=population,
                cxpb=0.3,
                mutpb=0.7,
                ngen=generations,
                stats=clock,
                halloffame=recorder.front,
                verbose=False,
            )
    finally:
        random.setstate(state)
    seconds = [b - a for a, b in zip(clock.times, clock.times[1:], strict=False)]
    names = "cx_uniform and mut_flip" if plain else f"the toolbox's, inherit={inherit!r}"
    return EvolutionCost(population, task.layout.size, names, density, seconds)


def report(*, population: int = 100, generations: int = 30, repeats: int = 9) -> dict[str, Any]:
    """Measure and print operators, selection, recorder and whole generations; some 20 seconds.

    Args:
        population: mu and lambda.
        generations: Of each whole search, >= 1.
        repeats: Calls that each of the other medians is of, >= 1.

    Returns:
        The same numbers as plain data, for JSON.
    """
    costs = measure_operators(repeats=repeats)
    print(f"operators, milliseconds a ticket:\n{cost_table(costs)}")
    selections = measure_selection(tickets=SELECTED_FROM, repeats=repeats)
    print("\nhalf of the tickets selected, milliseconds:")
    for one in selections:
        print(
            f"  {one.selection} of {one.tickets} tickets, {one.objectives} objectives: "
            f"{one.milliseconds:.1f}"
        )
    recorder = measure_recorder(population=population, fresh=min(5, population))
    print(
        f"\nrecorder, a generation of {recorder.population} tickets on the front, "
        f"{recorder.fresh} of them new: {recorder.milliseconds:.1f} ms"
    )
    print("\nevolution without training:")
    found = []
    for how in SEARCHES:
        cost = measure(population=population, generations=generations, **how)
        found.append({**asdict(cost), "median": cost.median})
        print(
            f"  {cost.operators}, densities {cost.density[0]:g} to {cost.density[1]:g}, "
            f"{cost.size} bits, mu = lambda = {cost.population}: "
            f"median {1000 * cost.median:.1f} ms a generation "
            f"(min {1000 * min(cost.seconds):.1f}, max {1000 * max(cost.seconds):.1f}, "
            f"{len(cost.seconds)} generations)"
        )
    return {
        "operators": [asdict(cost) for cost in costs],
        "selection": [asdict(one) for one in selections],
        "recorder": asdict(recorder),
        "evolution": found,
    }

"""What selection costs, and what a recorder costs a generation."""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nets_deap import _checks
from nets_deap.cli.bench.tickets import lenet, made_up_state, made_up_ticket
from nets_deap.evolution.operators import mut_swap, sel_niched, sel_nsga2
from nets_deap.runs.recorder import Recorder
from nets_deap.tickets.fitness import fitness_class
from nets_deap.tickets.layout import MaskLayout
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.task import Task

SELECTIONS = {"sel_nsga2": sel_nsga2, "sel_niched": sel_niched}
LEAST_DENSITY = 0.01

Rng = np.random.Generator


@dataclass(frozen=True)
class SelectionCost:
    """What choosing half of some tickets costs, the median of some calls.

    Attributes:
        selection: Its name.
        tickets: How many there are to choose from.
        objectives: M.
        milliseconds: A call.
    """

    selection: str
    tickets: int
    objectives: int
    milliseconds: float


@dataclass(frozen=True)
class RecorderCost:
    """What a recorder with a run folder costs a generation, the median of some.

    Attributes:
        population: Tickets, all of them on the front.
        fresh: How many of them are new in each generation.
        milliseconds: A generation.
    """

    population: int
    fresh: int
    milliseconds: float


def measure_selection(
    *, tickets: int = 2000, objectives: Sequence[int] = (2, 3), repeats: int = 9
) -> list[SelectionCost]:
    """Measure every selection of half of some tickets of LeNet-300-100.

    Args:
        tickets: How many there are to choose from, >= 2: parents and offspring.
        objectives: Numbers of objectives M, each 2 or 3.
        repeats: Calls that each median is of, >= 1.
    """
    _checks.whole("tickets", tickets, low=2)
    _checks.whole("repeats", repeats)
    layout, rng = lenet().layout, np.random.default_rng(0)
    found = []
    for m in objectives:
        _checks.whole("objectives", m, low=2, high=3)
        population = _front(layout, tickets, rng, m)
        for ticket in population:  # not all on one front
            loss, *others = ticket.fitness.values
            ticket.fitness.values = (loss + 0.2 * float(rng.random()), *others)
        for name, select in SELECTIONS.items():
            seconds = []
            for _ in range(repeats):
                fresh = [copy.deepcopy(ticket) for ticket in population]
                start = time.perf_counter()
                select(fresh, tickets // 2)
                seconds.append(time.perf_counter() - start)
            cost = 1000 * statistics.median(seconds)
            found.append(SelectionCost(name, tickets, m, cost))
    return found


def measure_recorder(
    *, population: int = 100, fresh: int = 5, generations: int = 9
) -> RecorderCost:
    """Measure a recorder that writes a run folder, once its front is full.

    Args:
        population: Tickets, all of them on the front.
        fresh: How many a generation replaces by better ones.
        generations: How many the median is of, >= 1.
    """
    _checks.whole("population", population)
    _checks.whole("fresh", fresh, low=0, high=population)
    _checks.whole("generations", generations)
    task, rng = lenet(), np.random.default_rng(0)
    tickets = _front(task.layout, population, rng, 2)
    with tempfile.TemporaryDirectory() as folder:
        return RecorderCost(
            population,
            fresh,
            1000 * statistics.median(_record(folder, task, tickets, fresh, generations, rng)),
        )


def _record(
    folder: str, task: Task, tickets: list[Ticket], fresh: int, generations: int, rng: Rng
) -> list[float]:
    """Record generations; return the seconds of each but the first, which writes all tickets."""
    recorder, seconds = Recorder(folder, task=task, progress="none"), []
    for generation in range(generations + 1):
        start = time.perf_counter()
        recorder.compile(tickets)
        seconds.append(time.perf_counter() - start)
        tickets = list(tickets)
        for i in rng.choice(len(tickets), fresh, replace=False):
            child = copy.deepcopy(tickets[i])
            mut_swap(child, fraction=0.02, rng=rng)
            child.inherited = made_up_state(child, rng)
            loss, *others = child.fitness.values
            child.fitness.values = (loss - 1e-4 / (generation + 1), *others)
            tickets[i] = child
    return seconds[1:]


def _front(layout: MaskLayout, n: int, rng: Rng, m: int) -> list[Ticket]:
    """Return ``n`` tickets of which none dominates another, log-spaced in density."""
    kind = fitness_class(("val_loss", "density", "third")[:m], (-1.0,) * m, (2.3, 1.0, 1.0)[:m])
    found = []
    for density in np.geomspace(LEAST_DENSITY, 1, n):
        ticket = made_up_ticket(layout, float(density), "own", rng)
        ticket.fitness = kind()
        loss = 0.2 - 0.05 * float(np.log(density))
        ticket.fitness.values = (loss, ticket.density, float(rng.random()))[:m]
        found.append(ticket)
    return found

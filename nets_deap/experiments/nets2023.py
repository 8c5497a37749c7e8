"""The experiment of Neuroevolution Ticket Search (2023), with genomes and a penalised fitness."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from deap import base, tools

from nets_deap import _checks
from nets_deap.evolution.batch_map import batch_map
from nets_deap.evolution.evaluator import Evaluator
from nets_deap.evolution.objectives import penalised, resolve
from nets_deap.evolution.operators import (
    cx_genes,
    elitist,
    init_genomes,
    mut_flip,
    mut_noise,
    mut_one_of,
    mut_prune,
    mut_resample,
    sel_roulette_low,
)
from nets_deap.evolution.ticket_toolbox import TicketToolbox
from nets_deap.experiments.config import SearchConfig
from nets_deap.runs.search.settings import AlgorithmSettings, LimitSettings
from nets_deap.tickets.fitness import fitness_class
from nets_deap.tickets.genome import Genome
from nets_deap.training.task import Task

SELECTIONS: dict[str, Callable[..., Any]] = {
    "tournament": functools.partial(tools.selTournament, tournsize=3),
    "roulette": sel_roulette_low,
}


def toolbox_2023(
    task: Task,
    *,
    target_density: float = 0.2,
    first_density: float | tuple[float, float] = 0.5,
    select: str = "tournament",
    elite: int = 1,
    prune: tuple[float, float] = (0.1, 0.4),
    flips: float | None = None,
    sigma: float = 0.1,
    resample: float = 0.02,
) -> base.Toolbox:
    """Return a toolbox that evolves genomes, masks with weights of their own, as NeTS did.

    The single fitness is ``penalised``: validation loss plus the squared excess over the target
    density, which is global. Registers ``individual``, ``population(n=...)`` (a random mask for
    each genome), ``mate`` (``cx_genes``), ``mutate`` (``mut_prune`` in half of the cases, else
    ``mut_noise``, ``mut_resample`` or ``mut_flip``), ``select`` (towards low fitness, keeping the
    best), ``evaluate`` (trains each genome from its own weights for the recipe's steps) and
    ``map``. Made for ``nets.search(task, toolbox=..., population=5, offspring=5, generations=15)``
    with a recipe of one epoch.

    Args:
        task: What to train on.
        target_density: The density that costs nothing, in (0, 1).
        first_density: Density of the first genomes, in (0, 1]; or an interval to draw from.
        select: ``"tournament"`` (of three) or ``"roulette"`` (``sel_roulette_low``).
        elite: How many of the best always survive, >= 0.
        prune: Interval of the fraction of kept weights that is pruned at once, in (0, 1].
        flips: Probability of a flip for each gate when flipping; None for two flips expected.
        sigma: Of ``mut_noise``, on every second kept weight.
        resample: Probability that ``mut_resample`` draws a kept weight anew, in [0, 1].

    Raises:
        InvalidValueError: An argument is out of range.

    Reference:
        Jackson et al. 2023, Neuroevolution Ticket Search.
    """
    objective = penalised(target_density)
    chosen = SELECTIONS[_checks.choice("select", select, SELECTIONS)]
    _checks.whole("elite", elite, low=0)
    _checks.interval("prune", prune, _checks.density)
    _checks.unless_none(_checks.real, "flips", flips, low=0, high=1)
    _checks.real("sigma", sigma, low=0)
    _checks.real("resample", resample, low=0, high=1)
    worst = objective.reference_for(task.chance_loss, task.dense_ticket(), task)
    kind = fitness_class((objective.name,), (objective.weight,), (worst,))

    def make(mask: Any, layout: Any = None) -> Genome:
        return Genome(mask, layout=layout, fitness=kind())

    def population(n: int) -> list[Genome]:
        return init_genomes(make, task.layout, n, density=first_density)

    def individual() -> Genome:
        return population(1)[0]

    population(0)  # a bad first_density shows here
    mutations = (
        functools.partial(mut_prune, fraction=prune),
        functools.partial(mut_noise, sigma=sigma, indpb=0.5),
        functools.partial(mut_resample, indpb=resample),
        functools.partial(
            mut_flip, indpb=min(1.0, 2 / task.layout.size) if flips is None else flips
        ),
    )
    toolbox = TicketToolbox(Evaluator(task, objective))
    toolbox.register("individual", individual)
    toolbox.register("population", population)
    toolbox.register("mate", cx_genes)
    toolbox.register("mutate", mut_one_of, operators=mutations, weights=(3, 1, 1, 1))
    toolbox.register("select", elitist(chosen, elite))
    toolbox.register("map", batch_map)
    return toolbox


def search_options(task: Task, config: SearchConfig, **options: Any) -> dict[str, Any]:
    """Return the arguments of ``nets.search`` that run this experiment by a configuration.

    Of the configuration count population, offspring, generations, cxpb, mutpb, the limits,
    first_density, prune, flips, sigma (of the noise; 0 leaves the default), and the one objective
    ``penalised:NUMBER``, whose number is the target density.

    Args:
        task: What to train on.
        config: The search's part of a configuration.
        **options: Passed to ``toolbox_2023``.

    Raises:
        InvalidValueError: The objective is another one.
    """
    names: Any = config.objectives
    if len(names) != 1 or not str(names[0]).startswith("penalised:"):
        raise _checks.bad_value(
            "search.objectives", "be the penalised one alone", "('penalised:0.2',)", names
        )
    resolve(names)
    target = float(names[0].partition(":")[2])
    given = {name: getattr(config, name) for name in ("first_density", "prune", "flips")}
    settings = {name: value for name, value in given.items() if value is not None}
    if config.sigma:
        settings["sigma"] = config.sigma
    toolbox = toolbox_2023(task, target_density=target, **{**settings, **options})
    return {"toolbox": toolbox, **config.part(AlgorithmSettings, LimitSettings)}

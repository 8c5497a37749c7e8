"""``make_toolbox``: a DEAP toolbox that is ready to evolve tickets of a task."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from deap import base

from nets_deap import _checks
from nets_deap.evaluator import Evaluator, batch_map
from nets_deap.fitness import fitness_class
from nets_deap.objectives import Objective
from nets_deap.operators import (
    cx_interpolate,
    init_log_spaced,
    keep_density,
    mut_flip,
    mut_layer,
    mut_one_of,
    mut_prune,
    mut_regrow,
    mut_swap,
    sel_nsga2,
)
from nets_deap.operators._common import generator
from nets_deap.operators.init import Distribution
from nets_deap.task import Task
from nets_deap.ticket import Ticket

DEFAULT_OBJECTIVES = ("val_loss", "density")


def make_toolbox(
    task: Task,
    *,
    objectives: str | Objective | Sequence[str | Objective] = DEFAULT_OBJECTIVES,
    density: tuple[float, float] = (0.01, 1.0),
    first_density: tuple[float, float] = (0.3, 1.0),
    distribution: Distribution = "erk",
    prune: tuple[float, float] = (0.2, 0.6),
    flips: float | None = None,
) -> base.Toolbox:
    """Return a ``deap.base.Toolbox`` with everything an evolution of tickets needs.

    Registers ``individual``, ``population(n=...)`` (log-spaced over ``first_density``), ``mate``
    (``cx_interpolate``), ``mutate`` (mostly ``mut_prune``, else swaps, regrowth, one layer's
    density or flips; density is kept within its range), ``select`` (``sel_nsga2``), ``evaluate``
    and ``map``. Register others over them one by one.

    Args:
        task: What to train on.
        objectives: M names or ``nets.Objective``s; see ``nets_deap.objectives``.
        density: Least and greatest density of tickets, in (0, 1].
        first_density: Least and greatest density of the first population, in (0, 1]; the part of
            it within ``density`` counts. Sparser tickets then come from pruning trained ones,
            which finds better ones than drawing sparse masks at random does.
        distribution: How the first tickets spread over layers; see ``operators.layer_counts``.
        prune: Interval of the fraction that ``mut_prune`` draws from.
        flips: Probability of a flip for each bit when flipping; None for two flips expected.
    """
    evaluator = Evaluator(task, objectives)
    low, high = _checks.interval("density", density, _checks.density)
    _checks.interval("prune", prune, _checks.density)
    _checks.unless_none(_checks.real, "flips", flips, low=0, high=1)
    least = len(task.layout.layers) / task.layout.size
    low, high = max(low, least), max(high, least)
    first = _checks.interval("first_density", first_density, _checks.density)
    first_low, first_high = (min(max(end, low), high) for end in first)
    kind = fitness_class(
        tuple(objective.name for objective in evaluator.objectives),
        tuple(objective.weight for objective in evaluator.objectives),
        tuple(o.reference_for(task.chance_loss) for o in evaluator.objectives),
    )

    def make(mask: Any, layout: Any = None) -> Ticket:
        return Ticket(mask, layout=layout, fitness=kind())

    def population(n: int) -> list[Ticket]:
        return init_log_spaced(
            make, task.layout, n, low=first_low, high=first_high, distribution=distribution
        )

    def individual() -> Ticket:
        span = generator(None)
        d = float(np.exp(span.uniform(np.log(first_low), np.log(first_high))))
        return init_log_spaced(
            make, task.layout, 1, low=d, high=d, distribution=distribution, rng=span
        )[0]

    indpb = min(1.0, 2 / task.layout.size) if flips is None else flips
    mutations = (
        functools.partial(mut_prune, fraction=prune),
        functools.partial(mut_swap, fraction=(0.01, 0.3)),
        mut_regrow,
        mut_layer,
        functools.partial(mut_flip, indpb=indpb),
    )
    toolbox = base.Toolbox()
    toolbox.register("individual", individual)
    toolbox.register("population", population)
    toolbox.register("mate", cx_interpolate)
    toolbox.register("mutate", mut_one_of, operators=mutations, weights=(6, 1, 1, 1, 1))
    for name in ("mate", "mutate"):
        toolbox.decorate(name, keep_density(low, high))
    toolbox.register("select", sel_nsga2)
    toolbox.register("evaluate", evaluator)
    toolbox.register("map", batch_map)
    return toolbox

"""``make_toolbox``: a DEAP toolbox that is ready to evolve tickets of a task."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from deap import base

from nets_deap import _checks
from nets_deap.evolution.budget import StepBudget
from nets_deap.evolution.evaluator import Evaluator
from nets_deap.evolution.objectives import Objective
from nets_deap.evolution.operators import (
    cx_average,
    cx_interpolate,
    cx_then_mutate,
    init_log_spaced,
    keep_density,
    mut_flip,
    mut_layer,
    mut_one_of,
    mut_prune,
    mut_regrow,
    mut_shrink,
    mut_swap,
    sel_nsga2,
)
from nets_deap.evolution.operators._common import generator
from nets_deap.evolution.ray_map import check_where, map_for
from nets_deap.tickets.fitness import fitness_class
from nets_deap.tickets.random import Distribution
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.task import Task

DEFAULT_OBJECTIVES = ("val_loss", "density")
Select = Callable[..., list[Any]]
STRUCTURAL = ("multiply_adds", "live_inputs")


def make_toolbox(
    task: Task,
    *,
    objectives: str | Objective | Sequence[str | Objective] = DEFAULT_OBJECTIVES,
    inherit: str = "none",
    density: tuple[float, float] = (0.01, 1.0),
    first_density: tuple[float, float] | None = None,
    distribution: Distribution = "erk",
    prune: tuple[float, float] | None = None,
    flips: float | None = None,
    noise: float | None = None,
    sigma: float | None = None,
    gradient: bool = False,
    reevaluate: bool = False,
    budget: StepBudget | None = None,
    engine: str = "local",
    workers: int | None = None,
    address: str = "local",
    gpus_per_worker: float | None = None,
) -> base.Toolbox:
    """Return a ``deap.base.Toolbox`` with everything an evolution of tickets needs.

    Registers ``individual``, ``population(n=...)`` (log-spaced over ``first_density``), ``mate``,
    ``mutate`` (density is kept within its range), ``select`` (``sel_nsga2``), ``evaluate`` and
    ``map``. Register others over them one by one.

    With ``inherit="none"`` (Baldwinian) each ticket trains from W0; ``mate`` is
    ``cx_interpolate``, ``mutate`` mostly ``mut_prune``, else swaps, regrowth, one layer's density
    or flips. With ``inherit="weights"`` (Lamarckian) the search of a child goes on from its
    parent's trained weights; the ticket is still its mask over W0, and what counts is
    ``task.train(ticket)``, from W0. The first population is dense, ``mate`` is ``cx_average`` and
    ``mutate`` is ``mut_prune``; both prune. Where ``multiply_adds`` or ``live_inputs`` is among
    the objectives and a bit is a weight, ``mutate`` is ``mut_shrink``, also after crossover. Best
    with ``eaMuCommaLambda``: each generation is sparser than the one before, and a
    ``NicheArchive`` as hall of fame keeps the whole front.

    Args:
        task: What to train on.
        objectives: M names, or each a ``nets.Objective``; see ``nets_deap.evolution.objectives``.
        inherit: ``"none"`` or ``"weights"``.
        density: Least and greatest density of tickets, in (0, 1].
        first_density: Least and greatest density of the first population, in (0, 1]; the part of
            it within ``density`` counts. Sparser tickets then come from pruning trained ones,
            which finds better ones than drawing sparse masks at random does. None: 0.3 to 1, or
            dense where weights are inherited.
        distribution: How the first tickets spread over layers; see ``operators.layer_counts``.
        prune: Interval of the fraction that is pruned at once, of the kept weights or for
            ``mut_shrink`` of the multiply-adds. None: 0.2 to 0.6; 0.2 where weights are inherited;
            0.15 to 0.25 for ``mut_shrink``.
        flips: Probability of a flip for each bit when flipping; None for two flips expected.
        noise: Of the saliency; see ``mut_prune``. None: 0.1 where weights are inherited, so that
            the children of one parent differ; else 0.
        sigma: Of the strategy that evolves with the ticket; see ``mut_prune``, ``mut_shrink``.
            None: 0.1 where weights are inherited, 0.2 for ``mut_shrink``; else 0.
        gradient: Measure gradients after training (10 more steps each), and in one mutation of
            three prune by ``|w * gradient|``, in another one of six swap weights for those of
            largest gradient.
        reevaluate: Evaluate survivors again with each generation's offspring, on the same
            minibatches: a lucky draw does not survive for long. It costs as many networks again;
            for algorithms whose parents compete with their offspring.
        budget: Shares steps x networks out over the generations; None trains the recipe's steps.
        engine: Where generations train: ``"local"``, in this process; or ``"ray"``, on workers,
            each with the task's own engine. ``map`` is then a ``nets.RayMap``: close it
            with ``toolbox.map.func.close()``, or it ends with the program.
        workers: See ``nets.RayMap``, which has more options.
        address: See ``nets.RayMap``.
        gpus_per_worker: See ``nets.RayMap``.

    Raises:
        InvalidValueError: An argument is out of range.
        MissingExtraError: Ray is not installed.
    """
    check_where(engine, workers, address, gpus_per_worker)
    evaluator = Evaluator(task, objectives, inherit=inherit, budget=budget, gradients=gradient)
    lamarckian = inherit == "weights"
    names = {objective.name for objective in evaluator.objectives}
    structured = lamarckian and task.layout.unit == "weight" and not names.isdisjoint(STRUCTURAL)
    low, high = _checks.interval("density", density, _checks.density)
    if first_density is None:
        first_density = (1.0, 1.0) if lamarckian else (0.3, 1.0)
    if prune is None:
        prune = (0.15, 0.25) if structured else (0.2, 0.2) if lamarckian else (0.2, 0.6)
    _checks.interval("prune", prune, _checks.density)
    _checks.unless_none(_checks.real, "flips", flips, low=0, high=1)
    if noise is None:
        noise = 0.1 if lamarckian else 0.0
    if sigma is None:
        sigma = 0.2 if structured else 0.1 if lamarckian else 0.0
    _checks.real("noise", noise, low=0)
    _checks.real("sigma", sigma, low=0)
    least, most = task.layout.density_range
    low, high = (min(max(end, least), most) for end in (low, high))
    first = _checks.interval("first_density", first_density, _checks.density)
    first_low, first_high = (min(max(end, low), high) for end in first)
    kind = fitness_class(
        tuple(objective.name for objective in evaluator.objectives),
        tuple(objective.weight for objective in evaluator.objectives),
        tuple(
            o.reference_for(task.chance_loss, task.dense_ticket(), task)
            for o in evaluator.objectives
        ),
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

    mutations: tuple[Callable[..., Any], ...]
    weights: tuple[int, ...]
    toolbox = base.Toolbox()
    toolbox.register("individual", individual)
    toolbox.register("population", population)
    pruning = functools.partial(mut_prune, fraction=prune, noise=noise, sigma=sigma)
    if structured:
        shrinking = functools.partial(mut_shrink, fraction=prune, sigma=sigma)
        toolbox.register("mate", cx_then_mutate, cross=cx_average, mutate=shrinking)
        mutations, weights = (shrinking,), (6,)
    elif lamarckian:
        toolbox.register("mate", cx_average, fraction=prune, noise=noise)
        mutations, weights = (pruning,), (6,)
    else:
        indpb = min(1.0, 2 / task.layout.size) if flips is None else flips
        toolbox.register("mate", cx_interpolate)
        mutations = (
            pruning,
            functools.partial(mut_swap, fraction=(0.01, 0.3)),
            mut_regrow,
            mut_layer,
            functools.partial(mut_flip, indpb=indpb),
        )
        weights = (6, 1, 1, 1, 1)
    if gradient:
        mutations += (
            functools.partial(mut_prune, fraction=prune, by="gradient", noise=noise, sigma=sigma),
            functools.partial(mut_swap, fraction=(0.05, 0.2), grow="gradient"),
        )
        weights += (4, 2)
    toolbox.register("mutate", mut_one_of, operators=mutations, weights=weights)
    for name in ("mate", "mutate"):
        toolbox.decorate(name, keep_density(low, high))
    toolbox.register("select", sel_nsga2)
    toolbox.register("evaluate", evaluator)
    where: dict[str, Any] = {"workers": workers, "address": address}
    toolbox.register("map", map_for(task, engine, gpus_per_worker=gpus_per_worker, **where))
    if reevaluate:
        toolbox.decorate("select", _again(evaluator))
    return toolbox


def _again(evaluator: Evaluator) -> Callable[[Select], Select]:
    """Return a decorator for selection that has the survivors evaluated with the next batch."""

    def decorate(select: Select) -> Select:
        @functools.wraps(select)
        def selected(*args: Any, **kwargs: Any) -> list[Any]:
            survivors = select(*args, **kwargs)
            evaluator.again = list({id(ticket): ticket for ticket in survivors}.values())
            return survivors

        return selected

    return decorate

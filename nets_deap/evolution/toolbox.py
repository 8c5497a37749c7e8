"""``make_toolbox``: a DEAP toolbox that is ready to evolve tickets of a task."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from deap import base

from nets_deap import _checks
from nets_deap.evolution.batch_map import batch_map
from nets_deap.evolution.budget import Budget
from nets_deap.evolution.criterion import criterion, usual_criterion
from nets_deap.evolution.descent import Descent
from nets_deap.evolution.evaluator import Evaluator
from nets_deap.evolution.lineages import Lineages
from nets_deap.evolution.measures import OF_UNITS
from nets_deap.evolution.operators import (
    cx_average,
    cx_interpolate,
    cx_then_mutate,
    init_from,
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
from nets_deap.evolution.settings import (
    OperatorSettings,
    ToolboxSettings,
    takes,
)
from nets_deap.evolution.ticket_toolbox import TicketToolbox
from nets_deap.models.feedforward import feedforward_of
from nets_deap.tickets.fitness import TicketFitness
from nets_deap.tickets.layout import MaskLayout
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.task import Task, check_task

Mutations = tuple[tuple[Callable[..., Any], int], ...]  # each with its weight
# How often lineages start from W0 again, unless somebody says otherwise. On MNIST beginning from W0
# gained 0.7 points at 0.2 % density, and doing it four times 0.4 more.
REWINDS = 4


@takes(ToolboxSettings)
def make_toolbox(task: Task, settings: ToolboxSettings) -> base.Toolbox:
    """Return a ``deap.base.Toolbox`` with everything an evolution of tickets needs.

    Registers ``individual``, ``population(n=...)``, ``mate``, ``mutate`` (density is kept within
    its range), ``select``, ``evaluate`` and ``map``. ``individual(mask)`` makes a ticket of bits of
    your own, to put into a population; without any it draws one. Register others over them one by
    one; see ``TicketToolbox`` for what it does then.

    With ``inherit="weights"`` (Lamarckian) the search of a child goes on from its parent's trained
    weights; the ticket is still its mask over W0, and what counts is ``task.train(ticket)``, from
    W0. The first population is that of a ``Descent``, from dense to the least density. Then
    lineages go on where pruning has begun to hurt: ``mutate`` is ``mut_swap`` with noise, which
    regrows mostly by gradient, and swaps ever fewer weights; ``mate`` averages the trained weights
    of neighbours in density (``cx_near``, ``cx_average``) and then swaps; ``select`` is
    ``sel_lineages``, niches of log density in which the young replace their parents. At the
    beginning, and three times more over the run, all lineages start from W0 again. A
    ``nets.ParetoFront`` as hall of fame keeps the whole front. Where ``multiply_adds`` or
    ``live_inputs`` is among the objectives, a bit is a weight and all layers are fully connected,
    in sequence and maskable, the first population is dense, ``mutate`` is ``mut_shrink``, also
    after crossover by ``cx_average``, and ``select`` is ``sel_nsga2``: best with
    ``eaMuCommaLambda``, where each generation is smaller than the one before.

    With ``inherit="none"`` (Baldwinian) each ticket trains from W0; ``mate`` is
    ``cx_interpolate``, ``mutate`` mostly ``mut_prune``, else swaps, regrowth, one layer's density
    or flips, and ``select`` is ``sel_nsga2``.

    Args:
        task: What to train on.
        **settings: The fields of ``ToolboxSettings``, by keyword.

    Raises:
        InvalidValueError: An argument is out of range; all bad ones are listed together.
        InvalidTypeError: An argument is of the wrong kind, or unknown.
    """
    check_task("make_toolbox's task", task)
    budget = settings.budget
    assert budget is None or isinstance(budget, Budget)  # its check has made one of a number
    evaluator = Evaluator(
        task,
        settings.objectives,
        inherit=settings.inherit,
        budget=budget,
        gradients=bool(settings.gradient),
        memory=settings.memory,
        holdout=settings.holdout,
        rewinds=settings.rewinds or 0,
    )
    if settings.rewinds is None and evaluator.inherit == "weights":
        evaluator.rewinds = 0 if shrinks_tickets(evaluator) else REWINDS
    again = settings.holdout == "folds" if settings.reevaluate is None else settings.reevaluate
    toolbox = TicketToolbox(evaluator, reevaluate=again)
    toolbox.register("map", settings.map or batch_map)
    register_operators(toolbox, evaluator, settings)
    return toolbox


def register_operators(
    toolbox: base.Toolbox, evaluator: Evaluator, settings: OperatorSettings
) -> None:
    """Register what draws, crosses, mutates and selects tickets, over what is there.

    Args:
        toolbox: Gets ``individual``, ``population``, ``mate``, ``mutate`` and ``select``.
        evaluator: What will evaluate them: its objectives and inheritance choose operators.
        settings: Of the operators.
    """
    least, most = evaluator.task.layout.density_range
    low, high = (min(max(end, least), most) for end in settings.density)
    lamarckian = evaluator.inherit == "weights"
    shrinks = shrinks_tickets(evaluator)
    first = settings.first_density or ((1.0, 1.0) if lamarckian else (0.3, 1.0))
    first_low, first_high = (min(max(end, low), high) for end in first)
    _register_first(toolbox, evaluator, first_low, first_high, settings)
    if lamarckian and not shrinks:
        _check_used(settings)
        by = settings.by or usual_criterion(evaluator.task)
        lineages = Lineages(evaluator, low, settings, by)
        if settings.first_density is None:
            make = functools.partial(_ticket, evaluator.fitness())
            fraction = {} if settings.prune is None else {"fraction": settings.prune[1]}
            descent = Descent(evaluator, toolbox.individual, low, make, by=by, **fraction)
            toolbox.register("population", descent)
        for name in ("mate", "mutate", "select"):
            toolbox.register(name, getattr(lineages, name))
    else:
        _register_variation(toolbox, evaluator, settings, shrinks=shrinks)
        toolbox.register("select", sel_nsga2)
    for name in ("mate", "mutate"):
        toolbox.decorate(name, keep_density(low, high))


def _check_used(settings: OperatorSettings) -> None:
    """Refuse what lineages of swaps would ignore."""
    unused = [name for name in ("sigma", "flips") if getattr(settings, name) is not None]
    if settings.first_density is not None and settings.prune is not None:
        unused.append("prune")
    if unused:
        raise _checks.bad_value(
            " and ".join(unused),
            "be left out where lineages go on by swaps",
            "None",
            [getattr(settings, name) for name in unused],
            "They prune in a first descent alone (prune, without first_density), and neither flip "
            "nor have parameters that evolve. Give inherit='none', or register a mutate of your "
            "own with them.",
        )


def _register_first(
    toolbox: base.Toolbox,
    evaluator: Evaluator,
    low: float,
    high: float,
    settings: OperatorSettings,
) -> None:
    """Register what draws the first tickets, with densities between ``low`` and ``high``."""
    make = functools.partial(_ticket, evaluator.fitness())
    layout = evaluator.task.layout
    draw = functools.partial(init_log_spaced, make, layout, distribution=settings.distribution)
    drawn_one = functools.partial(_drawn, draw, low, high)
    toolbox.register("individual", functools.partial(_individual, make, layout, drawn_one))
    seeded = functools.partial(init_from, make, layout)
    toolbox.register("population", _population, drawn=draw, seeded=seeded, low=low, high=high)


def _ticket(fitness: TicketFitness, mask: Any, layout: Any = None) -> Ticket:
    """Return a ticket with a fitness of that class."""
    return Ticket(mask, layout=layout, fitness=type(fitness)())


def _population(
    n: int,
    *,
    drawn: Callable[..., list[Ticket]],
    seeded: Callable[..., list[Ticket]],
    seeds: Any = None,
    **ends: float,
) -> list[Ticket]:
    """Return ``n`` tickets: drawn at random, or found by others; see ``init_from``."""
    return drawn(n, **ends) if seeds is None else seeded(n, seeds=seeds)


def _individual(
    make: Callable[..., Ticket],
    layout: MaskLayout,
    drawn: Callable[[], Ticket],
    mask: Any = None,
) -> Ticket:
    """Return one ticket with a fitness: of a mask, or drawn at random.

    Args:
        make: Gives a ticket of bits its fitness.
        layout: The layout of the mask.
        drawn: Draws one.
        mask: Its bits, (D,) or one a unit (G,): a list, an array, or a ticket of the same layout,
            whose trained weights it inherits. None draws one, its density log-uniform.
    """
    if mask is None:
        return drawn()
    if isinstance(mask, Ticket):
        return init_from(make, layout, 1, seeds=[mask])[0]
    return make(mask, layout=layout)


def _drawn(draw: Callable[..., list[Ticket]], low: float, high: float) -> Ticket:
    """Return one ticket, its density log-uniform between ``low`` and ``high``."""
    rng = generator(None)
    d = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return draw(1, low=d, high=d, rng=rng)[0]


def _register_variation(
    toolbox: base.Toolbox, evaluator: Evaluator, settings: OperatorSettings, *, shrinks: bool
) -> None:
    """Register crossover and mutation, filling in what was left to us."""
    layout = evaluator.task.layout
    prune, noise, sigma = settings.prune, settings.noise, settings.sigma
    if prune is None:
        prune = (0.15, 0.25) if shrinks else (0.2, 0.6)
    if noise is None:
        noise = 0.0
    if sigma is None:
        sigma = 0.2 if shrinks else 0.0
    by = criterion(evaluator.task, settings.by or "magnitude")
    pruning = functools.partial(mut_prune, fraction=prune, noise=noise, sigma=sigma, **by)
    mutations: Mutations
    if shrinks:
        if settings.by not in (None, "magnitude"):
            raise _checks.bad_value(
                "by",
                "be left out where mut_shrink takes inputs and neurons by their norms",
                "'magnitude'",
                settings.by,
                "Leave it out, or take other objectives, such as sparse_multiply_adds.",
            )
        shrinking = functools.partial(mut_shrink, fraction=prune, sigma=sigma)
        toolbox.register("mate", cx_then_mutate, cross=cx_average, mutate=shrinking)
        mutations = ((shrinking, 6),)
    else:
        indpb = min(1.0, 2 / layout.size) if settings.flips is None else settings.flips
        toolbox.register("mate", cx_interpolate)
        mutations = (
            (pruning, 6),
            (functools.partial(mut_swap, fraction=(0.01, 0.3), **by), 1),
            (mut_regrow, 1),
            (mut_layer, 1),
            (functools.partial(mut_flip, indpb=indpb), 1),
        )
    if evaluator.gradients:
        mutations += (
            (functools.partial(pruning, by="gradient", costs=None), 4),
            (functools.partial(mut_swap, fraction=(0.05, 0.2), grow="gradient", **by), 2),
        )
    operators, weights = zip(*mutations, strict=True)
    toolbox.register("mutate", mut_one_of, operators=operators, weights=weights)


def shrinks_tickets(evaluator: Evaluator) -> bool:
    """Return whether tickets evolve by ``mut_shrink``: as objectives want it, where it can."""
    names = {objective.name for objective in evaluator.objectives}
    lamarckian = evaluator.inherit == "weights"
    return lamarckian and not names.isdisjoint(OF_UNITS) and _can_shrink(evaluator.task)


def _can_shrink(task: Task) -> bool:
    """Return whether ``mut_shrink`` can take a task's tickets."""
    whole = feedforward_of(task.problem.model)
    in_a_row = whole is not None and whole.weights == task.problem.layout.names
    return in_a_row and task.layout.unit == "weight"

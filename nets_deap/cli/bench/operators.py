"""What operators cost: milliseconds a ticket, by density and by what the ticket has inherited."""

from __future__ import annotations

import copy
import functools
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nets_deap import _checks
from nets_deap._table import table
from nets_deap.cli.bench.tickets import INHERITED, lenet, made_up_ticket
from nets_deap.evolution import operators
from nets_deap.evolution.operators import keep_density
from nets_deap.tickets.genome import Genome
from nets_deap.tickets.layout import MaskLayout
from nets_deap.tickets.ticket import Ticket

DENSITIES = (1.0, 0.3, 0.05, 0.01)

Operator = Callable[..., Any]
Arguments = dict[str, Any]

# As searches give them.
AVERAGING: Arguments = {"fraction": 0.2, "noise": 0.1}
PRUNING: Arguments = {"noise": 0.1, "sigma": 0.1}
SHRINKING: Arguments = {"fraction": (0.15, 0.25), "sigma": 0.2}
SWAPPING: Arguments = {"fraction": (0.01, 0.3)}
# Every registered operator is measured: with these arguments by the names of the rows, or, if it is
# not named here, with those that it has by itself.
ARGUMENTS: dict[str, dict[str, Arguments]] = {
    "cx_uniform": {"": {}, "indpb=0.1": {"indpb": 0.1}},
    "cx_average": {"": {"fraction": 0.2}, "noise": AVERAGING},
    "mut_flip": {"": {"indpb": 1e-3}, "indpb=0.5": {"indpb": 0.5}},
    "mut_prune": {
        "": {},
        "noise": {"noise": 0.1},
        "noise sigma": PRUNING,
        "by=random": {"by": "random"},
    },
    "mut_swap": {"": SWAPPING},
    "mut_shrink": {"": SHRINKING},
    "mut_noise": {"": {"sigma": 0.1, "indpb": 0.1}},
    "mut_resample": {"": {"indpb": 0.1}},
}
# On tickets that know gradients.
BY_GRADIENT: dict[str, dict[str, Arguments]] = {
    "cx_average": {"by=gradient": AVERAGING},
    "mut_prune": {"by=gradient": {"by": "gradient", **PRUNING}},
    "mut_regrow": {"by=gradient": {"by": "gradient"}},
    "mut_swap": {"by=gradient": {"fraction": (0.05, 0.2), "grow": "gradient"}},
}


@dataclass(frozen=True)
class OperatorCost:
    """What one operator costs a ticket: the median of some calls, in milliseconds.

    Attributes:
        operator: Its name, with arguments that matter.
        density: Of the tickets before.
        inherited: What they have inherited, of ``INHERITED``: nothing, trained values of their own
            mask, or those of an ancestor's mask.
        milliseconds: A ticket; a crossover makes two of them in a call.
    """

    operator: str
    density: float
    inherited: str
    milliseconds: float


def measure_operators(
    *,
    densities: Sequence[float] = DENSITIES,
    inherited: Sequence[str] = INHERITED,
    only: Sequence[str] | None = None,
    repeats: int = 9,
    layout: MaskLayout | None = None,
) -> list[OperatorCost]:
    """Measure every operator on tickets of LeNet-300-100's 266,200 bits, or of another layout.

    The copies that operators work on are made beforehand; what a copy costs is the row ``clone``.

    Args:
        densities: Of the tickets, each in (0, 1].
        inherited: What they have inherited, of ``INHERITED``.
        only: Names of the rows; None for all.
        repeats: Calls that each median is of, >= 1.
        layout: A feedforward one that knows W0; None for LeNet-300-100's.

    Raises:
        InvalidValueError: A name is not known.
    """
    _checks.whole("repeats", repeats)
    for whose in inherited:
        _checks.choice("inherited", whose, INHERITED)
    if layout is None:
        layout = lenet().layout
    plain, genomes = _plain(layout), _rows(operators.GENOME, ARGUMENTS)
    by_gradient = _rows([getattr(operators, name) for name in BY_GRADIENT], BY_GRADIENT)
    known = {**plain, **by_gradient, **genomes}
    names = list(known) if only is None else [_checks.choice("only", n, known) for n in only]
    rng = np.random.default_rng(0)
    found = []
    for density in densities:
        for whose in inherited:
            for group in (plain, by_gradient, genomes):
                make = functools.partial(
                    made_up_ticket,
                    kind=Genome if group is genomes else Ticket,
                    gradients=group is by_gradient,
                )
                parents = [make(layout, density, whose, rng) for _ in range(2)]
                found += [
                    OperatorCost(name, density, whose, _time(name, operator, parents, repeats))
                    for name, operator in group.items()
                    if name in names
                ]
    return found


def cost_table(costs: Sequence[OperatorCost]) -> str:
    """Return the costs as text: an operator a row, density and what was inherited in columns."""
    columns = list(dict.fromkeys((cost.density, cost.inherited) for cost in costs))
    rows: dict[str, dict[tuple[float, str], float]] = {}
    for cost in costs:
        rows.setdefault(cost.operator, {})[cost.density, cost.inherited] = cost.milliseconds
    return table(
        [
            ["density", *(f"{density:g}" for density, _ in columns)],
            ["inherited", *(whose for _, whose in columns)],
            *([name, *(f"{row[column]:.2f}" for column in columns)] for name, row in rows.items()),
        ]
    )


def _time(name: str, operator: Operator, parents: list[Ticket], repeats: int) -> float:
    """Return the median of some calls, in milliseconds a ticket."""
    n = 2 if name.startswith("cx_") else 1
    seconds, state = [], random.getstate()
    for _ in range(repeats + 1):
        tickets = [copy.deepcopy(parent) for parent in parents[:n]]
        start = time.perf_counter()
        operator(*tickets)
        seconds.append(time.perf_counter() - start)
    random.setstate(state)
    return 1000 * statistics.median(seconds[1:]) / n  # the first one fills caches


def _plain(layout: MaskLayout) -> dict[str, Operator]:
    """Return operators on tickets by name: all that there are, and what is made of them."""
    return {
        "clone": copy.deepcopy,
        "init_density": lambda t: operators.init_density(Ticket, layout, density=t.density),
        **_rows((*operators.CROSSOVERS, *operators.MUTATIONS, *operators.NEURONS), ARGUMENTS),
        "cx_then_mutate": functools.partial(
            operators.cx_then_mutate,
            cross=functools.partial(operators.cx_average, **AVERAGING),
            mutate=functools.partial(operators.mut_shrink, **SHRINKING),
        ),
        "mut_one_of": functools.partial(
            operators.mut_one_of,
            operators=[
                functools.partial(operators.mut_prune, **PRUNING),
                functools.partial(operators.mut_swap, **SWAPPING),
            ],
            weights=[6, 1],
        ),
        "keep_density prunes": lambda t: _repair(1e-4, 0.8 * t.density, t),
        "keep_density regrows": lambda t: _repair(min(1.0, 1.2 * t.density), 1.0, t),
    }


def _rows(
    group: Sequence[Operator], arguments: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> dict[str, Operator]:
    """Return operators by name, once for each of the ``arguments`` that they are measured with."""
    return {
        f"{operator.__name__} {more}".rstrip(): functools.partial(operator, **given)
        for operator in group
        for more, given in arguments.get(operator.__name__, {"": {}}).items()
    }


def _repair(low: float, high: float, ticket: Ticket) -> tuple[Ticket]:
    """Bring a ticket's density into a range, after an operator that did nothing."""
    keep_density(low, high)(lambda t: (t,))(ticket)
    return (ticket,)

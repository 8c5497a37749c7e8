"""The Pareto front of a search, and test accuracy after the final training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nets_deap import _checks, _optional
from nets_deap.experiments.final import FinalTraining
from nets_deap.experiments.search import SearchResult
from nets_deap.fronts import costs_of
from nets_deap.runs.rows import objective_names

# Okabe and Ito's colours, which colour-blind readers tell apart.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#999999"


def pareto_front(
    front: Sequence[Any],
    ax: Any = None,
    *,
    population: Sequence[Any] = (),
    objectives: tuple[int, int] = (1, 0),
) -> Any:
    """Draw a front over two of its objectives; a density axis is logarithmic.

    Args:
        front: Evaluated individuals, not empty.
        ax: Where to draw; None for new axes.
        population: Evaluated individuals to show behind the front.
        objectives: Positions of the objectives on the horizontal and the vertical axis. With one
            objective, density is the horizontal axis.

    Returns:
        The ``matplotlib.axes.Axes``.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InvalidValueError: The front is empty or has no such objectives.
    """
    members = list(front)
    if not members:
        raise _checks.bad_value("front", "have members", "at least one", 0)
    costs_of(members)  # raises where one has not been evaluated
    names = objective_names(members[0].fitness)
    ax = _axes() if ax is None else ax
    for i in objectives if len(names) > 1 else ():
        _checks.whole("objectives", i, low=0, high=len(names) - 1)
    x, y = objectives if len(names) > 1 else (None, 0)
    if population:
        points = np.array([_point(individual, x, y) for individual in population])
        ax.scatter(*points.T, s=14, color=GREY, label="population", zorder=2)
    points = np.array(sorted(_point(member, x, y) for member in members))
    style = {"drawstyle": "steps-post"} if len(names) == 2 else {"linestyle": "none"}
    ax.plot(*points.T, color=BLUE, marker="o", markersize=4, label="front", zorder=3, **style)
    x_name, y_name = "density" if x is None else names[x], names[y]
    if x_name == "density":
        ax.set_xscale("log")
    ax.set_xlabel(_label(x_name))
    ax.set_ylabel(_label(y_name))
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    return ax


def final_accuracy(final: FinalTraining, ax: Any = None) -> Any:
    """Draw test accuracy over density after the final training, with random masks and dense.

    Args:
        final: The final training.
        ax: Where to draw; None for new axes.

    Returns:
        The ``matplotlib.axes.Axes``.
    """
    ax = _axes() if ax is None else ax
    density = [row.ticket.density for row in final.rows]
    tickets = [100 * row.trained.test_accuracy for row in final.rows]
    controls = [100 * row.random.test_accuracy for row in final.rows]
    ax.axhline(100 * final.dense.test_accuracy, color=GREEN, linestyle="--", label="dense baseline")
    ax.plot(density, tickets, color=BLUE, marker="o", markersize=4, label="tickets")
    ax.plot(
        density,
        controls,
        color=ORANGE,
        marker="s",
        markersize=4,
        label="random, same layer densities",
    )
    ax.set_xscale("log")
    ax.set_xlabel("density")
    ax.set_ylabel(f"test accuracy after {final.steps} steps from W0 (%)")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    return ax


def save_run_figure(result: SearchResult, final: FinalTraining, path: Path) -> None:
    """Save both drawings side by side as one picture; it is put in place whole."""
    figure = _optional.require("matplotlib.figure", "plots", "Drawing front.png").Figure(
        figsize=(11, 4.2), layout="constrained"
    )
    left, right = figure.subplots(1, 2)
    pareto_front(result.front, left, population=result.population)
    left.set_title("search: objectives after the recipe's steps")
    final_accuracy(final, right)
    right.set_title("final training from W0")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    figure.savefig(part, format="png", dpi=150)
    os.replace(part, path)


def _axes() -> Any:
    """Return new axes of pyplot, so that a notebook shows them."""
    return _optional.require("matplotlib.pyplot", "plots", "Drawing").subplots()[1]


def _point(individual: Any, x: int | None, y: int) -> tuple[float, float]:
    """Return where an individual stands; without an objective for the axis, at its density."""
    values = individual.fitness.values
    return float(individual.density if x is None else values[x]), float(values[y])


def _label(name: str) -> str:
    """Return an axis label for an objective."""
    return name.replace("val_", "validation ").replace("_", " ")

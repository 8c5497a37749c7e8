"""The Pareto front of a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks, _optional
from nets_deap.evolution.archives import inherits
from nets_deap.evolution.fronts import costs_of
from nets_deap.evolution.fronts import knee as knee_of
from nets_deap.evolution.objective_names import objective_names
from nets_deap.experiments.final import FinalTraining
from nets_deap.plots import source, style
from nets_deap.plots.final import final_accuracy, final_accuracy_adds, sought_adds
from nets_deap.plots.kind import kind
from nets_deap.plots.legend import legend
from nets_deap.plots.style import BLUE, GREEN, GREY, ORANGE
from nets_deap.runs.search.search import SearchResult

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Plane:
    """The two objectives that a figure is drawn over.

    Attributes:
        names: Of the horizontal and the vertical one.
        places: Their positions in the fitness; None for density where it is not an objective.
        weights: Their weights, negative where small is good.
        n_objectives: Of the fitness.
    """

    names: tuple[str, str]
    places: tuple[int | None, int]
    weights: tuple[float, float]
    n_objectives: int = 2

    @classmethod
    def of(cls, member: Any, objectives: tuple[int, int]) -> Plane:
        """Return the plane of two objectives of an individual, checked."""
        names, weights = objective_names([member]), member.fitness.weights
        if len(names) == 1:
            return cls(("density", names[0]), (None, 0), (-1.0, weights[0]), 1)
        x, y = (_checks.whole("objectives", i, low=0, high=len(names) - 1) for i in objectives)
        return cls((names[x], names[y]), (x, y), (weights[x], weights[y]), len(names))

    @property
    def over_density(self) -> bool:
        """Whether the horizontal axis is density."""
        return self.names[0] == "density"

    @property
    def signs(self) -> NDArray[np.float64]:
        """What turns points into costs, shape (2,)."""
        found: NDArray[np.float64] = -np.sign(np.array(self.weights))
        return found

    @property
    def steps(self) -> str:
        """The steps of a front: to one side of a member all is as good as that one."""
        return "steps-post" if self.weights[0] < 0 else "steps-pre"

    def look_of(self, points: NDArray[np.float64]) -> dict[str, Any]:
        """How a front (F, 2) is connected: not where it has more objectives, else by steps.

        Straight where one member dominates another, as in a niche archive: no step is attained.
        """
        if self.n_objectives != 2:
            return {"linestyle": "none"}
        x, y = (self.signs * points).T
        order = np.lexsort((y, x))
        return {"drawstyle": self.steps} if (np.diff(y[order]) <= 0).all() else {}

    def points(self, members: Sequence[Any]) -> NDArray[np.float64]:
        """Return where individuals stand, shape (F, 2), from left to right."""
        costs_of(members)  # raises where one has not been evaluated
        x, y = self.places
        found = [
            (one.density if x is None else one.fitness.values[x], one.fitness.values[y])
            for one in members
        ]
        return np.array(sorted(found), dtype=np.float64)

    def mark_dense(self, ax: Any, dense: Any) -> None:
        """Draw a line at the height of the dense network, where it is known."""
        if dense is not None and self.names[1] != "density":
            self.dense_line(ax, float(self.points([dense])[0, 1]))

    def dense_line(self, ax: Any, height: float | None) -> None:
        """Draw the line of the dense network."""
        if height is not None:
            ax.axhline(height, color=GREEN, linestyle="--", zorder=1, label="dense")

    def finish(self, ax: Any) -> None:
        """Scale and name the axes."""
        for axis, name in zip((ax.xaxis, ax.yaxis), self.names, strict=True):
            if name == "density":
                style.density_axis(axis)
            unit = " in %" if name == "density" else ""
            axis.set_label_text(style.label(name) + unit)
        ax.grid(alpha=0.3)


UNMEASURED = "elites of niches, not measured from W0"


@kind(
    "front",
    "The front that the run kept, before all other tickets that survived; of a run that has not "
    "measured it yet the elites of niches.",
)
def pareto_front(
    front: Any,
    ax: Any = None,
    *,
    population: Sequence[Any] = (),
    objectives: tuple[int, int] = (1, 0),
    knee: bool = True,
    dense: Any = None,
) -> Any:
    """Draw a front over two of its objectives; a density axis is logarithmic.

    Args:
        front: Evaluated individuals, not empty; or a run folder, a search's result or a recorder.
            Of a run folder without a front yet the elites of niches are drawn as points, without
            a knee or a line of the dense network: they have not been measured alike.
        ax: Where to draw; None for new axes.
        population: Evaluated individuals to show behind the front; of a run, all that survived
            some generation, unless they inherited weights: those have trained for longer than what
            the front measures.
        objectives: Positions of the objectives on the horizontal and the vertical axis. With one
            objective, density is the horizontal axis.
        knee: Mark the knee of fronts with three members or more.
        dense: The evaluated dense network, for a line at its height; None for a member of front or
            population that keeps every weight, if there is one.

    Returns:
        The ``matplotlib.axes.Axes``.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InvalidValueError: The front is empty or has no such objectives.
    """
    members, behind = source.members_of(front)
    behind = source.finite(population) or behind
    if not members:
        raise _checks.bad_value("front", "have members", "at least one with finite values", 0)
    plane = Plane.of(members[0], objectives)
    ax = style.axes_or_new(ax)
    size = style.marker(0.7)
    if behind:
        ax.scatter(*plane.points(behind).T, s=size**2, color=GREY, label="population", zorder=2)
    points = plane.points(members)
    settled = source.is_settled(front)
    ax.plot(
        *points.T,
        color=BLUE,
        marker="o",
        markersize=size,
        label="front" if settled else UNMEASURED,
        zorder=3,
        **(plane.look_of(points) if settled else {"linestyle": "none"}),
    )
    if knee and settled and len(members) > 2:
        place = plane.points([knee_of(members)])
        ring = {"markerfacecolor": "none", "markeredgecolor": ORANGE, "markeredgewidth": 2}
        ax.plot(*place.T, "o", markersize=style.marker(1.8), label="knee", zorder=4, **ring)
    if settled or dense is not None:
        plane.mark_dense(ax, style.dense_of([*members, *behind]) if dense is None else dense)
    plane.finish(ax)
    legend(ax)
    return ax


def run_figure(result: SearchResult, final: FinalTraining) -> Any:
    """Return a figure with both drawings side by side: the search, and the final training."""
    figures = _optional.require("matplotlib.figure", "plots", "Drawing front.png")
    figure = figures.Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    # Where weights are inherited a population has trained for longer than what the front measures.
    comparable = not any(map(inherits, result.population))
    pareto_front(result.front, left, population=result.population if comparable else ())
    steps = result.front_steps
    left.set_title("search" if steps is None else f"search: after {steps:,} steps from W0")
    (final_accuracy_adds if sought_adds(final) else final_accuracy)(final, right)
    right.set_title(f"final training: {final.steps:,} steps from W0")
    return figure

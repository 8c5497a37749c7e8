"""Fronts over the generations of a run, and what share of runs attains which points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.evolution.fronts import attainment as attained
from nets_deap.experiments.summarise import SPLITS, split_of
from nets_deap.plots import source, style
from nets_deap.plots.kind import kind
from nets_deap.plots.legend import legend
from nets_deap.plots.pareto import Plane

LEVELS = (10, 50, 90)


@kind("fronts", "Fronts over the generations.")
def fronts_over_generations(
    run: Any, ax: Any = None, *, objectives: tuple[int, int] = (1, 0), most: int = 6
) -> Any:
    """Draw the fronts of several generations, early ones light and the last one dark and thick.

    Early ones lie on top: of a niche archive they are parts of the last one. Where weights are
    inherited these are the elites of niches, as the search trained them; the front of the last
    generation, measured from W0, is another quantity and left to ``pareto_front``.

    Args:
        run: A run folder, a search's result or a recorder.
        ax: Where to draw; None for new axes.
        objectives: See ``pareto_front``.
        most: How many generations, evenly spread, with the first and the last; >= 1.

    Returns:
        The ``matplotlib.axes.Axes``.
    """
    history = [one for one in source.history_of(run) if one.front]
    if not history:
        raise _checks.bad_value("run", "have fronts", "a member with finite values", "none")
    settled = all(one.settled for one in history)
    history = [one for one in history if one.settled == settled]
    count = min(_checks.whole("most", most), len(history))
    chosen = np.unique(np.linspace(len(history) - 1, 0, count).round().astype(int))
    plane = Plane.of(history[0].front[0], objectives)
    ax = style.axes_or_new(ax)
    for rank, (i, shade) in enumerate(
        zip(chosen, style.colours_of(len(chosen))[::-1], strict=True)
    ):
        points = plane.points(history[i].front)
        last = i == len(history) - 1
        look = {
            "color": shade,
            "marker": "o",
            "markersize": style.marker(0.6),
            **plane.look_of(points),
        }
        ax.plot(
            *points.T,
            label=str(history[i].number),
            zorder=3 - rank / len(chosen),
            linewidth=1 + 2 * last,
            **look,
        )
    everyone = [member for one in history for member in (*one.population, *one.front)]
    plane.mark_dense(ax, style.dense_of(everyone))
    plane.finish(ax)
    if not settled:
        ax.set_title("elites of niches, weights inherited")
    legend(ax, title="generation", ncols=1 + (len(chosen) > 4))
    return ax


@kind("attainment", "What 10, 50 and 90 % of runs attain.", many=list)
def attainment(
    runs: Any,
    ax: Any = None,
    *,
    objectives: tuple[int, int] = (1, 0),
    levels: Sequence[float] = LEVELS,
    method: str = "evolution",
) -> Any:
    """Draw what 10, 50 and 90 % of runs attain: a point on a line is matched by that share.

    Args:
        runs: Runs of different seeds, each a folder, a search's result or a front; or the folder
            of a comparison, whose seeds are drawn over density and test accuracy.
        ax: Where to draw; None for new axes.
        objectives: See ``pareto_front``.
        levels: Per cent of the runs, each in (0, 100].
        method: Which method of a comparison.

    Returns:
        The ``matplotlib.axes.Axes``.

    Raises:
        InvalidValueError: A front is empty, or runs have different objectives.

    Reference:
        Grunert da Fonseca et al. 2001, Inferential performance assessment of stochastic
        optimisers and the attainment function, https://doi.org/10.1007/3-540-44719-9_15.
    """
    percents = sorted(_checks.real("levels", level, low=0, high=100) for level in levels)
    if source.is_folder(runs):
        plane, fronts, dense = _of_comparison(runs, method)
    else:
        parts = [source.members_of(run) for run in runs]
        if not parts or not all(members for members, _ in parts):
            raise _checks.bad_value("runs", "hold fronts", "one or more, none empty", len(parts))
        plane = Plane.of(parts[0][0][0], objectives)
        for members, _ in parts:
            other = Plane.of(members[0], objectives)
            if other != plane:
                raise _checks.bad_value(
                    "runs",
                    "have the same objectives",
                    " and ".join(plane.names),
                    " and ".join(other.names),
                    "Draw them one by one.",
                )
        fronts = [plane.points(members) for members, _ in parts]
        known = [style.dense_of([*a, *b]) for a, b in parts]
        heights = [plane.points([one])[0, 1] for one in known if one is not None]
        dense = float(np.mean(heights)) if heights and plane.over_density else None
    signs = plane.signs
    surfaces = [signs * s for s in attained([signs * points for points in fronts], percents)]
    ax = style.axes_or_new(ax)
    dashes = ("--", "-", ":")
    for i, (percent, points) in enumerate(zip(percents, surfaces, strict=True)):
        points = points[np.argsort(points[:, 0], kind="stable")]
        middle = percent == percents[len(percents) // 2]
        ax.plot(
            *points.T,
            color=style.BLUE,
            linestyle="-" if middle else dashes[2 * (i > 0)],
            linewidth=2 if middle else 1,
            drawstyle=plane.steps,
            label=f"{percent:g} %",
            zorder=3,
        )
    _shade(ax, surfaces[0], surfaces[-1], plane)
    plane.dense_line(ax, dense)
    plane.finish(ax)
    legend(ax, title=f"attained, of {len(fronts)} run{'s' * (len(fronts) > 1)}")
    return ax


def _shade(ax: Any, first: NDArray[Any], last: NDArray[Any], plane: Plane) -> None:
    """Shade what lies between two surfaces, where both are known."""
    x = np.unique(np.concatenate([first[:, 0], last[:, 0]]))
    heights = [_height(x, points, plane) for points in (first, last)]
    known = np.isfinite(heights[0]) & np.isfinite(heights[1])
    step = plane.steps.removeprefix("steps-")
    ax.fill_between(
        x, *heights, where=known, step=step, color=style.BLUE, alpha=0.15, linewidth=0, zorder=1
    )


def _height(x: NDArray[Any], points: NDArray[Any], plane: Plane) -> NDArray[Any]:
    """Return the best height of a surface at each place; NaN where it attains nothing."""
    sx, sy = plane.signs
    reached = sx * points[None, :, 0] <= sx * x[:, None]
    costs = np.where(reached, sy * points[None, :, 1], np.inf).min(axis=1)
    return np.where(np.isfinite(costs), sy * costs, np.nan)


def _of_comparison(
    folder: str | Path, method: str
) -> tuple[Plane, list[NDArray[Any]], float | None]:
    """Return the fronts of a comparison's seeds, and the mean of the dense networks."""
    from nets_deap.plots.comparison import rows_of_comparison

    rows = rows_of_comparison(folder)
    methods = sorted({row["method"] for row in rows})
    _checks.choice("method", method, methods)
    column = split_of(rows)
    by_seed: dict[Any, list[tuple[float, float]]] = {}
    for row in rows:
        if row["method"] == method:
            by_seed.setdefault(row["seed"], []).append((row["density"], 100 * row[column]))
    plane = Plane(("density", f"{SPLITS[column]} accuracy in %"), (0, 1), (-1.0, 1.0))
    dense = [100 * row[column] for row in rows if row["method"] == "dense"]
    fronts = [np.array(sorted(points)) for points in by_seed.values()]
    return plane, fronts, float(np.mean(dense)) if dense else None

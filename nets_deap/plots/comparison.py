"""Accuracy over density of all methods of a comparison, with intervals over the seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks, _optional
from nets_deap.baselines import Baseline
from nets_deap.experiments.folder import HEAD, by_present_names, results_in
from nets_deap.experiments.setting import snapped
from nets_deap.experiments.statistics import bootstrap_interval, interpolate_front
from nets_deap.experiments.summarise import SPLITS, summarise
from nets_deap.experiments.summary import Summary
from nets_deap.plots import source, style
from nets_deap.plots.kind import kind
from nets_deap.plots.style import BLUE, GREY
from nets_deap.runs.storage.reader import read_json, reading
from nets_deap.training.result import TrainResult

Numbers = NDArray[np.float64]

# Okabe and Ito's other colours, violet for the yellow that is faint on white, then the same with
# dashes, with dashes and dots, and with dots.
LINES = ("-", "--", "-.", ":")
FEW = 10  # methods whose bands can be told apart
COLOURS = ("#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#6B4C9A", "#000000")


@dataclass(frozen=True)
class Line:
    """One method: accuracies (R, K) of R seeds at K densities, in %; NaN where not reached."""

    name: str
    x: Numbers
    accuracy: Numbers

    @property
    def reached(self) -> NDArray[np.bool_]:
        """Whether every seed's front reaches a density, shape (K,)."""
        return np.asarray(np.isfinite(self.accuracy).all(axis=0))

    @property
    def mean(self) -> Numbers:
        """The mean over the seeds, shape (K,)."""
        return np.asarray(self.accuracy.mean(axis=0))

    @property
    def ends(self) -> Numbers:
        """Lower and upper ends of the 95 % intervals where all seeds reach, shape (2, <= K)."""
        columns = self.accuracy.T[self.reached]
        ends: Numbers = np.array([bootstrap_interval(column) for column in columns]).T
        return ends


@kind("comparison", "Accuracy over density of all methods, intervals over the seeds.")
def accuracy_over_density(summary: Any, ax: Any = None, *, below: float = 8.0) -> Any:
    """Draw mean accuracy over log density with 95 % intervals, and the dense network as a line.

    Intervals are bands of a comparison, error bars of results; of one seed there are none. Of more
    than ten methods only the first has a band, as so many would cover each other.

    Args:
        summary: Of a comparison, or its folder; or what methods gave, by name: of each its results,
            as ``baseline.train(task, steps=...)`` and ``task.train_all(tickets)`` return them, or
            a list of such lists, one a seed. ``{"dense": result}`` is the line, or results of one.
            Seeds are compared at the densities of the first one's results.
        ax: Where to draw; None for new axes.
        below: The axis ends so many per cent below the dense network, or a little below the best
            of the worst method if that is less, if some method is worse still, but not all are;
            such lines leave the figure.

    Returns:
        The ``matplotlib.axes.Axes``.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InvalidValueError: There are no results, or they have no accuracy.
        InvalidTypeError: A method has something else than results.
    """
    results = isinstance(summary, Mapping)
    if results:
        lines, dense, split = _of_results(summary)
    else:
        found = summary if isinstance(summary, Summary) else summary_of(summary)
        x = 100 * np.array(found.densities)
        lines = [Line(one.name, x, 100 * one.accuracy) for one in found.methods]
        dense, split = 100 * float(found.dense.mean()), found.split
    ax = style.axes_or_new(ax)
    size = style.marker(0.5)
    for i, one in enumerate(lines):
        look = {"color": BLUE, "linewidth": 2.5, "zorder": 5}
        if i:
            round_, place = divmod(i - 1, len(COLOURS))
            shade, line = COLOURS[place], LINES[round_ % len(LINES)]
            look = {"color": shade, "linewidth": 1.2, "linestyle": line, "zorder": 3}
        ax.plot(one.x, one.mean, marker="o", markersize=size, label=one.name, **look)
        if len(one.accuracy) < 2 or not one.reached.any():
            continue
        at, ends = one.x[one.reached], one.ends
        if results:
            lengths = abs(ends - one.mean[one.reached])
            bars = {"capsize": size, "linewidth": 1, "fmt": "none", "zorder": look["zorder"]}
            ax.errorbar(at, one.mean[one.reached], lengths, ecolor=look["color"], **bars)
        elif not i or len(lines) <= FEW:
            band = {"alpha": 0.2, "linewidth": 0}
            ax.fill_between(at, *ends, color=look["color"], zorder=1, **band)
    if dense is not None:
        ax.axhline(dense, color=GREY, linestyle=":", label=f"dense {dense:.2f} %")
        tops = [np.nanmax(one.mean, initial=0) for one in lines]
        bands = [one.ends.max() for one in lines if len(one.accuracy) > 1 and one.reached.any()]
        high = max(dense, *tops, *bands)
        # Of each method one point at least is seen.
        bottom = min(dense - below, *(top - 0.05 * (high - top) for top in tops if top > 0))
        if ax.get_ylim()[0] < bottom and dense - below <= max(tops):
            ax.set_ylim(bottom, high + 0.05 * (high - bottom))
    ax.set(xscale="log", xlabel="density in %", ylabel=f"{split} accuracy in %")
    if results:
        style.log_axis(ax.xaxis)
    else:
        ax.set_xticks(x, [f"{tick:.2g}" for tick in x])
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    style.legend_above(ax)  # so many methods leave no corner free
    return ax


def _of_results(given: Mapping[str, Any]) -> tuple[list[Line], float | None, str]:
    """Return the lines of what methods gave, the accuracy of the dense network, and the split."""
    seeds = {str(name): _seeds_of(str(name), one) for name, one in given.items()}
    every = [result for some in seeds.values() for one in some for result in one]
    column, split = next(
        (
            (name, split)
            for name, split in SPLITS.items()
            if every and all(np.isfinite(getattr(one, name)) for one in every)
        ),
        ("", ""),
    )
    if not column:
        expected = "one or more results with an accuracy on test or validation data"
        got = f"{len(every)} results"
        raise _checks.bad_value("summary", "hold accuracies", expected, got)
    lines, whole = [], []
    for name, some in seeds.items():
        fronts = [[(r.density, 100 * getattr(r, column)) for r in one] for one in some]
        if name == "dense" or all(density == 1 for front in fronts for density, _ in front):
            whole += [height for front in fronts for _, height in front]
            continue
        x = np.unique([density for density, _ in fronts[0]])[::-1]
        at = [[snapped(density, x) for density, _ in front] for front in fronts]
        heights = [[height for _, height in front] for front in fronts]
        rows = [interpolate_front(a, h, x) for a, h in zip(at, heights, strict=True)]
        lines.append(Line(name, 100 * x, np.array(rows)))
    return lines, float(np.mean(whole)) if whole else None, split


def _seeds_of(name: str, given: Any) -> list[list[TrainResult]]:
    """Return the results of a method, a list for each seed."""
    if isinstance(given, Baseline):
        trained = [level.trained for level in given.levels]
        given = given if None in trained else trained
    listed = [given] if isinstance(given, TrainResult) else given
    if isinstance(listed, (list, tuple)) and listed:
        if all(isinstance(one, TrainResult) for one in listed):
            return [[*listed]]
        if not any(isinstance(one, TrainResult) for one in listed):
            return [_seeds_of(name, one)[0] for one in listed]
    hint = "Train a baseline's tickets: baseline.train(task, steps=...)."
    expected = "results of training, or a list of them for each seed"
    raise _checks.bad_type(name, "be what a method gave", expected, given, hint)


def rows_of_comparison(folder: str | Path) -> list[dict[str, Any]]:
    """Return the finished rows of a comparison, seed by seed.

    Raises:
        InvalidValueError: The folder holds no comparison, or none of its results is finished.
        FileAccessError: A file cannot be read.
    """
    path = source.reader_of(folder).path
    files = results_in(path)
    if not files:
        raise _checks.bad_value(
            "run", "be the folder of a comparison", f"{HEAD} and finished results", str(path)
        )
    rows: list[dict[str, Any]] = []
    for file in files:
        plain = read_json(file)
        with reading(file):
            found = by_present_names(plain)
            for row in found:
                int(row["seed"]), str(row["method"]) + ""
                tested = row["test_accuracy"]
                float(row["density"]), float(row["val_accuracy"] if tested is None else tested)
            rows += found
    return sorted(rows, key=lambda row: int(row["seed"]))


def summary_of(folder: str | Path) -> Summary:
    """Summarise what is finished in the folder of a comparison."""
    rows = rows_of_comparison(folder)
    head = _checks.path("folder", folder) / HEAD
    plain = read_json(head)
    with reading(head):
        return summarise(rows, [float(level) for level in plain["densities"]])


def comparison_figure(summary: Summary) -> Any:
    """Return the figure of a comparison; the best methods fill the height."""
    figures = _optional.require("matplotlib.figure", "plots", "Drawing comparison.png")
    figure = figures.Figure(figsize=(9, 6), layout="constrained")
    accuracy_over_density(summary, figure.subplots())
    return figure

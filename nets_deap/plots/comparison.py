"""Accuracy over density of all methods of a comparison, with bands over the seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nets_deap import _checks, _optional
from nets_deap.experiments.folder import HEAD, by_present_names, results_in
from nets_deap.experiments.statistics import bootstrap_interval
from nets_deap.experiments.summarise import summarise
from nets_deap.experiments.summary import Summary
from nets_deap.plots import source, style
from nets_deap.plots.kind import kind
from nets_deap.plots.style import BLUE, GREY
from nets_deap.runs.storage.reader import read_json, reading

# Okabe and Ito's other colours, then the same with dashes, with dashes and dots, and with dots.
LINES = ("-", "--", "-.", ":")
COLOURS = ("#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")


@kind("comparison", "Accuracy over density of all methods, bands over the seeds.")
def accuracy_over_density(
    summary: Summary | str | Path, ax: Any = None, *, below: float = 8.0
) -> Any:
    """Draw mean test accuracy over log density with 95 % bands, and the dense network as a line.

    Args:
        summary: Of a comparison, or its folder.
        ax: Where to draw; None for new axes.
        below: The axis ends so many per cent below the dense network, if some method is worse
            still, but not all are; such lines leave the figure.

    Returns:
        The ``matplotlib.axes.Axes``.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    if not isinstance(summary, Summary):
        summary = summary_of(summary)
    ax = style.axes_or_new(ax)
    x, size = 100 * np.array(summary.densities), style.marker(0.5)
    for i, one in enumerate(summary.methods):
        look = {"color": BLUE, "linewidth": 2.5, "zorder": 5}
        if i:
            round_, place = divmod(i - 1, len(COLOURS))
            shade, line = COLOURS[place], LINES[round_ % len(LINES)]
            look = {"color": shade, "linewidth": 1.2, "linestyle": line, "zorder": 3}
        mean = 100 * one.accuracy.mean(axis=0)
        ax.plot(x, mean, marker="o", markersize=size, label=one.name, **look)
        if len(one.seeds) > 1 and one.reached.any():
            ends = np.array([bootstrap_interval(column) for column in one.accuracy.T[one.reached]])
            band = {"alpha": 0.2, "linewidth": 0}
            ax.fill_between(x[one.reached], *(100 * ends.T), color=look["color"], zorder=1, **band)
    dense = 100 * float(summary.dense.mean())
    ax.axhline(dense, color=GREY, linestyle=":", label=f"dense {dense:.2f} %")
    tops = [100 * np.nanmax(one.accuracy.mean(axis=0), initial=0) for one in summary.methods]
    if ax.get_ylim()[0] < dense - below <= max(tops):
        top = max(dense, *tops)
        ax.set_ylim(dense - below, top + 0.05 * (top - dense + below))
    ax.set(xscale="log", xlabel="density in %", ylabel=f"{summary.split} accuracy in %")
    ticks = [f"{tick:.2g}" for tick in x]
    ax.set_xticks(x, ticks)
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    # Above: so many methods leave no corner free.
    columns = style.legend_columns(ax)
    ax.legend(frameon=False, ncols=columns, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax


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
                float(row["density"]), float(row["test_accuracy"])
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

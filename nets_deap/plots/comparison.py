"""Accuracy over density of all methods of a comparison, with bands over the seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nets_deap import _optional
from nets_deap.experiments.summary import Summary
from nets_deap.plots.pareto import BLUE, GREY
from nets_deap.statistics import bootstrap_interval

# Okabe and Ito's other colours, then the same with dashes.
COLOURS = ("#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")


def accuracy_over_density(summary: Summary, ax: Any = None, *, below: float = 8.0) -> Any:
    """Draw mean test accuracy over log density with 95 % bands, and the dense network as a line.

    Args:
        summary: Of a comparison.
        ax: Where to draw; None for new axes.
        below: The axis ends so many per cent below the dense network, if some method is worse
            still; such lines leave the figure.

    Returns:
        The ``matplotlib.axes.Axes``.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    if ax is None:
        pyplot = _optional.require("matplotlib.pyplot", "plots", "draw figures")
        ax = pyplot.subplots(figsize=(8, 5), layout="constrained")[1]
    x = 100 * np.array(summary.densities)
    for i, one in enumerate(summary.methods):
        style = {"color": BLUE, "linewidth": 2.5, "zorder": 5}
        if i:
            shade, line = COLOURS[(i - 1) % len(COLOURS)], "-" if i <= len(COLOURS) else "--"
            style = {"color": shade, "linewidth": 1.2, "linestyle": line, "zorder": 3}
        mean = 100 * one.accuracy.mean(axis=0)
        ax.plot(x, mean, marker="o", markersize=3, label=one.name, **style)
        if len(one.seeds) > 1 and np.isfinite(one.accuracy).all():
            ends = np.array([bootstrap_interval(column) for column in one.accuracy.T])
            band = {"alpha": 0.2, "linewidth": 0}
            ax.fill_between(x, *(100 * ends.T), color=style["color"], zorder=1, **band)
    dense = 100 * float(summary.dense.mean())
    ax.axhline(dense, color=GREY, linestyle=":", label=f"dense {dense:.2f} %")
    if ax.get_ylim()[0] < dense - below:
        ax.set_ylim(bottom=dense - below)
    ax.set(xscale="log", xlabel="density in %", ylabel="test accuracy in %")
    ticks = [f"{tick:.2g}" for tick in x]
    ax.set_xticks(x, ticks)
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    ax.legend(fontsize="small", ncols=2, loc="lower right")
    return ax


def save_comparison(summary: Summary, path: Path) -> None:
    """Save the figure of a comparison; the best methods fill the height."""
    pyplot = _optional.require("matplotlib.pyplot", "plots", "draw figures")
    figure, ax = pyplot.subplots(figsize=(9, 6), layout="constrained")
    accuracy_over_density(summary, ax)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)

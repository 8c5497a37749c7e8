"""Learning curves of tickets beside the dense network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nets_deap import _checks
from nets_deap.experiments.final import FinalTraining
from nets_deap.plots import source, style
from nets_deap.plots.kind import kind
from nets_deap.runs.storage.paths import CURVES
from nets_deap.runs.storage.reader import reading
from nets_deap.training.result import TrainResult

Curve = tuple[float, list[float]]
# Names in the legend, three in a row with the dense one; shades tell of those between.
NAMED = 8


@kind("curves", "Learning curves of tickets and dense.")
def learning_curves(trained: Any, ax: Any = None, *, dense: TrainResult | None = None) -> Any:
    """Draw the validation loss over the steps of training, from W0.

    Args:
        trained: The folder of a run that had a final training; a final training; or results of
            ``task.train_all(tickets, points=20)``.
        ax: Where to draw; None for new axes.
        dense: The dense network's result beside results; what is given otherwise brings its own.

    Returns:
        The ``matplotlib.axes.Axes``.

    Raises:
        InvalidValueError: There are no curves: no final training, or no ``points``.
    """
    steps, curves, baseline = _curves(trained, dense)
    if not steps or not curves or any(len(losses) != len(steps) for _, losses in curves):
        raise _checks.bad_value(
            "trained",
            "hold learning curves",
            "a final training, or results of task.train_all(..., points=20)",
            str(trained) if source.is_folder(trained) else type(trained).__name__,
        )
    ax = style.axes_or_new(ax)
    ordered = sorted(curves, reverse=True)
    shades, named = style.colours_of(len(curves)), style.spread_over(len(curves), NAMED)
    for i, (shade, (density, losses)) in enumerate(zip(shades, ordered, strict=True)):
        name = f"{100 * density:.3g} %" if i in named else None
        ax.plot(steps, losses, color=shade, marker=".", linewidth=1, label=name, zorder=3)
    if baseline:
        look = {"color": style.GREEN, "linestyle": "--", "zorder": 4}
        ax.plot(steps, baseline, label="dense", **look)
    ax.set(xlabel="steps from W0", ylabel="validation loss")
    drawn = [loss for _, losses in curves for loss in losses] + baseline
    if min(drawn) > 0:
        style.log_axis(ax.yaxis)
    ax.grid(alpha=0.3)
    # Above: the lines of sparse and dense tickets leave no corner free.
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
    ax.legend(frameon=False, ncols=3, title="validation loss by density", **place)
    return ax


def _curves(trained: Any, dense: TrainResult | None) -> tuple[list[int], list[Curve], list[float]]:
    """Return steps, pairs of density and losses, and the dense network's losses."""
    if isinstance(trained, FinalTraining):
        return _read(trained.curves())
    if source.is_folder(trained):
        reader = source.reader_of(trained)
        if not reader.holds(CURVES):
            return [], [], []
        plain = reader.curves()
        with reading(reader.path / CURVES):
            return _read(plain)
    one = isinstance(trained, TrainResult)
    results: Sequence[TrainResult] = [trained] if one else list(trained)
    steps = [step for step, _ in results[0].curve] if results else []
    curves = [(one.density, [loss for _, loss in one.curve]) for one in results]
    return steps, curves, [] if dense is None else [loss for _, loss in dense.curve]


def _read(plain: Any) -> tuple[list[int], list[Curve], list[float]]:
    """Take curves apart; a loss that is not finite is left out of its line."""
    curves = [(float(one["density"]), _numbers(one["val_loss"])) for one in plain["tickets"]]
    return [int(step) for step in plain["steps"]], curves, _numbers(plain["dense"])


def _numbers(losses: Sequence[Any]) -> list[float]:
    """Return losses as floats."""
    found: list[float] = np.array(losses, dtype=np.float64).tolist()
    return found

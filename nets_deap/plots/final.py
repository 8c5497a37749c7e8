"""Test accuracy after the final training, over density and over multiply-adds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.evolution.objective_names import objective_names
from nets_deap.experiments.final import FinalTraining
from nets_deap.plots import source, style
from nets_deap.plots.kind import kind
from nets_deap.plots.legend import legend
from nets_deap.plots.style import BLUE, GREEN, GREY, ORANGE
from nets_deap.runs.storage.paths import FRONT
from nets_deap.runs.storage.reader import reading

Numbers = NDArray[np.float64]

# Columns of a front's table after a final training.
ACCURACIES = ("test_accuracy", "random_test_accuracy", "chain_test_accuracy")
ALWAYS = ("density", "test_accuracy", "random_test_accuracy")
SHARES = ("multiply_adds_share", "chain_multiply_adds_share")
COMPACT = ("compact_share", "random_compact_share", "chain_compact_share")
FINAL = ("density", *ACCURACIES, *SHARES, *COMPACT)
# The objective that is worth a figure over what it counts.
ADDS = "multiply_adds"


@kind("accuracy", "Accuracy after the final training, from W0.")
def final_accuracy(final: FinalTraining | str | Path, ax: Any = None) -> Any:
    """Draw test accuracy over density after the final training, with random masks and dense.

    Args:
        final: The final training, or the folder of a run that had one.
        ax: Where to draw; None for new axes.

    Returns:
        The ``matplotlib.axes.Axes``.

    Raises:
        InvalidValueError: The run had no final training.
    """
    rows, dense, steps = _final_rows(final)
    ax = style.axes_or_new(ax)
    _draw_final(ax, [rows["density"]] * 3, rows, dense, steps)
    ax.set_xlabel("density in %")
    return ax


@kind("accuracy-adds", "The same over multiply-adds, where layers' weights differ in them.")
def final_accuracy_adds(final: FinalTraining | str | Path, ax: Any = None) -> Any:
    """Draw test accuracy over multiply-adds after the final training, as ``final_accuracy`` does.

    Those of the kept weights, as a share of the dense network's: what sparse training costs. A
    weight of a convolution counts at every position of its output. Of a search with the objective
    ``"multiply_adds"`` those that are left once dead units are gone, each mask by its own.

    Args:
        final: See ``final_accuracy``.
        ax: See ``final_accuracy``.

    Returns:
        The ``matplotlib.axes.Axes``.

    Raises:
        InvalidValueError: The run had no final training, or its shares are the densities.
    """
    rows, dense, steps = _final_rows(final)
    compact = [rows[name] for name in COMPACT]
    if sought_adds(final) and np.isfinite(compact[:2]).all():
        ax = style.axes_or_new(ax)
        _draw_final(ax, compact, rows, dense, steps)
        ax.set_xlabel("multiply-adds without dead units in % of dense")
        return ax
    ours, theirs = rows["multiply_adds_share"], rows["chain_multiply_adds_share"]
    if not np.isfinite(ours).all() or np.allclose(ours, rows["density"]):
        raise _checks.bad_value(
            "final",
            "have multiply-adds that are not as its densities",
            "layers whose weights are used differently often, and a final training that notes it",
            "none noted" if not np.isfinite(ours).all() else "the densities",
            "Draw 'accuracy'.",
        )
    ax = style.axes_or_new(ax)
    _draw_final(ax, [ours, ours, theirs], rows, dense, steps)
    ax.set_xlabel("multiply-adds of kept weights in % of dense")
    return ax


def _draw_final(
    ax: Any, over: list[Numbers], rows: dict[str, Numbers], dense: float, steps: int
) -> None:
    """Draw the accuracies of a final training: of members, random masks and the chain.

    ``over`` has where each of the three stands.
    """
    x, controls_x, chain_x = over
    tickets, controls, chain = (rows[name] for name in ACCURACIES)
    size = {"markersize": style.marker(0.7)}
    ax.axhline(dense, color=GREEN, linestyle="--", label="dense baseline")
    ax.plot(x, tickets, color=BLUE, marker="o", label="tickets", **size)
    if np.isfinite(chain).all():
        name = "chain of pruning, equal cost"
        ax.plot(chain_x, chain, color=GREY, marker="^", label=name, **size)
    name = "random, same layer densities"
    ax.plot(controls_x, controls, color=ORANGE, marker="s", label=name, **size)
    style.density_axis(ax.xaxis)
    ax.set_ylabel(f"test accuracy after\n{steps:,} steps from W0 in %")
    ax.grid(alpha=0.3)
    legend(ax)


def sought_adds(final: FinalTraining | str | Path) -> bool:
    """Return whether multiply-adds were an objective of the search before a final training."""
    if isinstance(final, FinalTraining):
        return any(ADDS in objective_names([row.ticket]) for row in final.rows)
    return any(ADDS in row for row in source.reader_of(final, FRONT).front())


def _final_rows(final: FinalTraining | str | Path) -> tuple[dict[str, Numbers], float, int]:
    """Return what a final training found for its members, by column of a front's table.

    And the accuracy of dense, and the steps. Accuracies are in %; NaN for what there is not.
    """
    if isinstance(final, FinalTraining):
        rows = [
            [
                one.ticket.density,
                one.trained.test_accuracy,
                one.random.test_accuracy,
                math.nan if one.pruned is None else one.pruned.test_accuracy,
                one.share,
                math.nan if one.pruned_share is None else one.pruned_share,
                one.compact,
                one.random_compact,
                math.nan if one.pruned_compact is None else one.pruned_compact,
            ]
            for one in final.rows
        ]
        dense, steps = final.dense.test_accuracy, final.steps
    else:
        trained = [
            row for row in source.reader_of(final, FRONT).front() if row.get("test_accuracy")
        ]
        if not trained:
            raise _checks.bad_value(
                "final",
                "have had a final training",
                f"a {FRONT} with test accuracies, as nets-deap run leaves it",
                str(final),
            )
        with reading(_checks.path("final", final) / FRONT):
            rows = [
                # Of what is not always measured blank, or no column at all.
                [float(row[n] if n in ALWAYS else row.get(n) or math.nan) for n in FINAL]
                for row in trained
            ]
            dense = float(trained[0]["dense_test_accuracy"])
            steps = int(trained[0]["final_steps"])
    columns = dict(zip(FINAL, np.array(rows).T, strict=True))
    for name in ACCURACIES:
        columns[name] *= 100
    return columns, 100 * dense, steps

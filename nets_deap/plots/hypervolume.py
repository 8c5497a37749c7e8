"""The hypervolume of a search over what it has cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nets_deap import _checks
from nets_deap.plots import source, style
from nets_deap.plots.kind import kind
from nets_deap.plots.legend import legend
from nets_deap.runs.storage.paths import LOG
from nets_deap.runs.storage.reader import reading

# Columns of a log, by what is said of the axis.
COSTS = {"dense steps": "dense_steps", "steps": "network_steps", "seconds": "seconds"}
LABELS = {"dense steps": "multiply-adds in dense steps", "steps": "steps x networks"}


@kind(
    "hypervolume",
    "Hypervolume over what it has cost.",
    many=lambda folders: {str(f): f for f in folders},
)
def hypervolume(runs: Any, ax: Any = None, *, cost: str | None = None) -> Any:
    """Draw the hypervolume after each generation over what was spent by then.

    Args:
        runs: A run folder, a search's result, a recorder or a logbook; or several by name, a
            mapping.
        ax: Where to draw; None for new axes.
        cost: ``"dense steps"`` (multiply-adds, in training steps of the dense network),
            ``"steps"`` (steps x networks) or ``"seconds"``; None for dense steps, or for steps
            where a run of an earlier version did not count them.

    Returns:
        The ``matplotlib.axes.Axes``.

    Raises:
        InvalidValueError: A run has no log, or does not know that cost.
        FileAccessError: A log is damaged.
    """
    named = dict(runs) if isinstance(runs, Mapping) else {"": runs}
    logs = {name: source.log_of(run) for name, run in named.items()}
    axis = _axis(logs, cost)
    lines = []
    for name, run in named.items():
        rows = logs[name]
        where = _checks.path("run", run) / LOG if source.is_folder(run) else Path()
        with reading(where):
            lines.append(
                (
                    name,
                    [float(row[COSTS[axis]]) for row in rows],
                    [float(row["hypervolume"]) for row in rows],
                )
            )
    ax = style.axes_or_new(ax)
    for i, (name, spent, volume) in enumerate(lines):
        look = {"color": style.COLOURS[i % len(style.COLOURS)], "marker": ".", "zorder": 3}
        ax.plot(spent, volume, label=style.plain(name), linestyle=style.dash(i), **look)
    ax.set(xlabel=LABELS.get(axis, axis), ylabel="hypervolume")
    style.large_numbers(ax.xaxis)
    ax.grid(alpha=0.3)
    if isinstance(runs, Mapping):
        legend(ax)
    return ax


def _axis(logs: Mapping[str, list[dict[str, Any]]], cost: str | None) -> str:
    """Return the cost to draw over: the one that is asked for, else one that all runs know."""
    unknown = [name for name, rows in logs.items() if any("dense_steps" not in r for r in rows)]
    if cost is None:
        return "steps" if unknown else "dense steps"
    chosen = _checks.choice("cost", cost, COSTS)
    if chosen == "dense steps" and unknown:
        raise _checks.bad_value(
            "cost",
            "be known of every run",
            "dense steps in the log of each",
            f"none in {unknown[0] or 'the run'}",
            "It was recorded before they were counted: draw it over cost='steps'.",
        )
    return chosen

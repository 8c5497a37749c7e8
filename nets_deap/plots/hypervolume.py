"""The hypervolume of a search over what it has cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nets_deap import _checks
from nets_deap.plots import source, style
from nets_deap.plots.kind import kind
from nets_deap.runs.storage.paths import LOG
from nets_deap.runs.storage.reader import reading


@kind(
    "hypervolume",
    "Hypervolume over steps x networks.",
    many=lambda folders: {str(f): f for f in folders},
)
def hypervolume(runs: Any, ax: Any = None) -> Any:
    """Draw the hypervolume after each generation over the steps x networks spent by then.

    Args:
        runs: A run folder, a search's result, a recorder or a logbook; or several by name, a
            mapping.
        ax: Where to draw; None for new axes.

    Returns:
        The ``matplotlib.axes.Axes``.

    Raises:
        InvalidValueError: A run has no log.
        FileAccessError: A log is damaged.
    """
    named = dict(runs) if isinstance(runs, Mapping) else {"": runs}
    lines = []
    for name, run in named.items():
        rows = source.log_of(run)
        where = _checks.path("run", run) / LOG if source.is_folder(run) else Path()
        with reading(where):
            lines.append(
                (
                    name,
                    [float(row["network_steps"]) for row in rows],
                    [float(row["hypervolume"]) for row in rows],
                )
            )
    ax = style.axes_or_new(ax)
    for i, (name, cost, volume) in enumerate(lines):
        look = {"color": style.COLOURS[i % len(style.COLOURS)], "marker": ".", "zorder": 3}
        ax.plot(cost, volume, label=style.plain(name), linestyle=style.dash(i), **look)
    ax.set(xlabel="steps x networks", ylabel="hypervolume")
    style.large_numbers(ax.xaxis)
    ax.grid(alpha=0.3)
    if isinstance(runs, Mapping):
        ax.legend(frameon=False)
    return ax

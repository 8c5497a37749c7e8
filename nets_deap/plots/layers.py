"""Density of each layer: along a front, and over the generations of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.errors import NetsError
from nets_deap.plots import source, style
from nets_deap.plots.kind import kind


@kind("layers", "Density of each layer along the front.")
def layer_densities(front: Any, ax: Any = None) -> Any:
    """Draw the density of each layer over that of the whole ticket, both logarithmic.

    A layer above the dotted line is denser than the whole, one below it sparser. Empty layers are
    left out.

    Args:
        front: Tickets, a run folder, a search's result or a recorder.
        ax: Where to draw; None for new axes.

    Returns:
        The ``matplotlib.axes.Axes``.
    """
    names, whole, parts = _of_front(front)
    order = np.argsort(whole, kind="stable")
    ax = style.axes_or_new(ax)
    _lines(ax, names, whole[order], parts[order])
    ax.plot(
        whole[order],
        whole[order],
        color=style.GREY,
        linestyle=":",
        marker=".",
        label="whole",
        zorder=2,
    )
    style.density_axis(ax.xaxis)
    style.density_axis(ax.yaxis)
    ax.set(xlabel="density of the ticket in %", ylabel="density of a layer in %")
    ax.grid(alpha=0.3)
    style.legend_of_layers(ax, len(names))
    return ax


@kind("layers-time", "Density of each layer over the generations.")
def layer_densities_over_time(run: Any, ax: Any = None) -> Any:
    """Draw the median density of each layer over the front, generation by generation.

    Args:
        run: A run folder, a search's result or a recorder.
        ax: Where to draw; None for new axes.

    Returns:
        The ``matplotlib.axes.Axes``.
    """
    history = source.history_of(run)
    names = history[-1].layers
    if not names:
        raise _without_layers(run)
    history = [one for one in history if one.front]
    if not all(one.settled for one in history):
        # The last one has the front that was measured: fewer tickets than the elites before it.
        history = [one for one in history if not one.settled] or history
    if not history:
        raise _checks.bad_value("run", "have fronts", "a member with finite values", "none")
    parts = [np.median([m.layers for m in one.front], axis=0) for one in history]
    whole = [float(np.median([member.density for member in one.front])) for one in history]
    numbers = np.array([one.number for one in history])
    ax = style.axes_or_new(ax)
    _lines(ax, names, numbers, np.array(parts))
    ax.plot(numbers, whole, color=style.GREY, linestyle=":", marker=".", label="whole", zorder=2)
    style.density_axis(ax.yaxis)
    style.whole_numbers(ax.xaxis)
    kept = "front" if all(one.settled for one in history) else "tickets kept"
    ax.set(xlabel="generation", ylabel=f"density in %, median of the {kept}")
    ax.grid(alpha=0.3)
    style.legend_of_layers(ax, len(names))
    return ax


def _lines(ax: Any, names: Sequence[str], x: NDArray[Any], parts: NDArray[Any]) -> None:
    """Draw a line for each layer, parts (N, L); what is 0 has no place on the axis."""
    graded = len(names) > len(style.COLOURS)
    shades = style.colours_of(len(names)) if graded else style.COLOURS
    width = 0.25 if graded else 0.4
    for i, name in enumerate(names):
        heights = np.where(parts[:, i] > 0, parts[:, i], np.nan)
        ax.plot(
            x,
            heights,
            color=shades[i],
            marker=style.MARKERS[i % len(style.MARKERS)],
            markersize=style.marker(0.6),
            linewidth=1,
            label=style.plain(
                style.shortened(name.removesuffix(".weight"), ax.figure, width, "legend.fontsize")
            ),
            zorder=3,
        )


def _of_front(front: Any) -> tuple[tuple[str, ...], NDArray[Any], NDArray[Any]]:
    """Return names of layers, densities of members (F,) and of their layers (F, L)."""
    members: list[Any] = []
    if source.is_folder(front):
        history = source.reader_of(front).history()
        if history and history[-1].layers:
            members = list(history[-1].front)
            names, parts = history[-1].layers, [member.layers for member in members]
    if not members:
        members = list(source.tickets_of(front))
        if not all(ticket.has_layout for ticket in members):
            raise _without_layers(front)
        names = tuple(members[0].layer_densities)
        parts = [tuple(ticket.layer_densities.values()) for ticket in members]
    if any(len(part) != len(names) for part in parts):
        raise _without_layers(front)
    return names, np.array([member.density for member in members]), np.array(parts)


def _without_layers(given: Any) -> NetsError:
    """Return the message that there are no layers to draw."""
    return _checks.bad_value(
        "front",
        "have layers",
        "tickets of a task, or a run of such",
        str(given) if source.is_folder(given) else type(given).__name__,
    )

"""A small network as a drawing: its units, and the weights between them that a ticket keeps."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks, _optional
from nets_deap.plots import source, style
from nets_deap.plots.kind import kind
from nets_deap.tickets.live import gates_of, live_units
from nets_deap.tickets.ticket import Ticket

# Units of a layer that all are drawn; of more only those that are alive, while these are so many.
MOST, MOST_ALIVE = 64, 256
NEGATIVE, PRUNED = "#D55E00", "#CCCCCC"
WIDEST = 3.5
# Columns whose names fit beside each other in the smallest figure.
NAMED = 4


@kind("wiring", "A small network and its kept weights, at the knee.")
def wiring(ticket: Any, ax: Any = None) -> Any:
    """Draw a small network: a column of units for each layer, a line for each weight.

    Kept weights are blue where they are positive initially, orange where they are negative, the
    wider the larger; black where initial weights are not known. Pruned ones are pale. A unit is
    filled if it lies on a path of kept weights from an input to an output; outputs always are. Of
    networks with more than 64 units in a layer only these are drawn, and the kept weights between
    them.

    Args:
        ticket: A ticket of a fully connected network, its file, or a run, whose front's
            knee is drawn.
        ax: Where to draw; None for new axes.

    Returns:
        The ``matplotlib.axes.Axes``.

    Raises:
        InvalidValueError: The layout is not feedforward, or a layer has more than 64 units of which
            more than 256 are alive.
    """
    chosen = source.ticket_of(ticket)
    layout, mask = chosen.layout.weights, chosen.mask
    live = live_units(layout, mask)
    gates = list(gates_of(layout, mask))
    sizes = [len(units) for units in live]
    large = max(sizes) > MOST
    if large:
        sizes = [int(units.sum()) for units in live]
        if max(sizes) > MOST_ALIVE:
            raise _checks.bad_value(
                "ticket",
                "be of a small network",
                f"at most {MOST} units a layer, or {MOST_ALIVE} that are alive",
                sizes,
                "Draw larger ones with mask_matrix.",
            )
    collections = _optional.require("matplotlib.collections", "plots", "draw figures")
    ax = style.axes_or_new(ax)
    heights = [(np.arange(size) + 0.5) / size for size in sizes]
    initial = _initial(chosen)
    parts: list[NDArray[Any] | None] = [None] * len(gates)
    if initial is not None:
        parts = list(layout.split(initial).values())
    if large:
        spans = [np.ix_(after, before) for before, after in itertools.pairwise(live)]
        parts = [
            None if part is None else part.reshape(kept.shape)[span]
            for part, kept, span in zip(parts, gates, spans, strict=True)
        ]
        gates = [kept[span] for kept, span in zip(gates, spans, strict=True)]
        live = tuple(units[units] for units in live)
    for i, (kept, part) in enumerate(zip(gates, parts, strict=True)):
        for places, look in (
            (np.argwhere(~kept & ~large), {"colors": PRUNED, "linewidths": 0.5, "zorder": 1}),
            (np.argwhere(kept), {**_look(kept, part, initial), "zorder": 2}),
        ):
            lines = [[(i, heights[i][b]), (i + 1, heights[i + 1][a])] for a, b in places]
            ax.add_collection(collections.LineCollection(lines, **look))
    size = style.marker(0.5 if large else 1.5) ** 2
    for i, units in enumerate(live):
        face = ["black" if alive else "white" for alive in units]
        x = np.full(len(units), i)
        ax.scatter(x, heights[i], s=size, c=face, edgecolors=style.GREY, zorder=3, clip_on=False)
    alive = "live " if large else ""
    names = ["input", *["neuron"] * (len(sizes) - 2), "output"]
    labels = [f"{n} {alive}{name}{'s' * (n != 1)}" for n, name in zip(sizes, names, strict=True)]
    if len(sizes) > NAMED:
        labels = [f"{n}" for n in sizes]
        ax.set_xlabel("units of each layer, from inputs to outputs")
    ax.set_xticks(range(len(sizes)), labels)
    ax.set(yticks=[], xlim=(-0.3, len(sizes) - 0.7), ylim=(1, 0))
    ax.tick_params(length=0)
    ax.set_frame_on(False)
    ax.set_title(f"{chosen.kept:,} of {chosen.n_weights:,} weights, {100 * chosen.density:.3g} %")
    return ax


def _initial(ticket: Ticket) -> NDArray[Any] | None:
    """Return the initial weights (D,), the ticket's own or W0; None where they are not known."""
    own = ticket.own_values()
    if own is None:
        return ticket.layout.weights.initial
    values: NDArray[Any] = np.zeros(ticket.n_weights, dtype=own.dtype)
    values[ticket.mask] = own
    return values


def _look(
    kept: NDArray[np.bool_], part: NDArray[Any] | None, initial: NDArray[Any] | None
) -> dict[str, Any]:
    """Return colours and widths of a layer's kept weights, row by row."""
    if part is None or initial is None:
        return {"colors": "black", "linewidths": 1.0}
    largest = float(np.abs(initial).max()) or 1.0
    values = part[kept]
    return {
        "colors": [style.BLUE if value > 0 else NEGATIVE for value in values],
        "linewidths": 0.5 + (WIDEST - 0.5) * np.abs(values) / largest,
    }

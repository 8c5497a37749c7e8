"""How much the masks of a front have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from nets_deap import _checks
from nets_deap.plots import source, style
from nets_deap.plots.kind import kind
from nets_deap.tickets import bits

# Up to so many members their overlaps are written into the picture.
WRITTEN = 8


@kind("overlap", "Overlap of the front's masks.")
def overlap(front: Any, ax: Any = None, *, most: int = 20) -> Any:
    """Draw the overlap ``|A and B| / |A or B|`` of each two masks, densest first.

    Args:
        front: Tickets of one layout, a run folder, a search's result or a recorder.
        ax: Where to draw; None for new axes.
        most: How many members, evenly spread, with both ends; >= 1.

    Returns:
        The ``matplotlib.axes.Axes``.

    Reference:
        Jaccard 1912, The distribution of the flora in the alpine zone,
        https://doi.org/10.1111/j.1469-8137.1912.tb05611.x.
    """
    tickets = source.tickets_of(front)
    count = min(_checks.whole("most", most), len(tickets))
    chosen = [tickets[i] for i in np.linspace(0, len(tickets) - 1, count).round().astype(int)]
    masks = [ticket.packed_mask for ticket in chosen]
    shares = np.array([[bits.overlap(one, other) for other in masks] for one in masks])
    ax = style.axes_or_new(ax)
    style.picture(ax, shares, "overlap of masks", vmin=0, vmax=1)
    names = [f"{100 * ticket.density:.3g}" for ticket in chosen]
    # Few enough ticks for the smallest figure.
    every = max(1, -(-count // 10))
    places = range(0, count, every)
    ax.set_xticks(places, names[::every], rotation=90)
    ax.set_yticks(places, names[::every])
    ax.set(xlabel="density in %", ylabel="density in %")
    if count <= WRITTEN:
        for (y, x), share in np.ndenumerate(shares):
            colour = "black" if share > 0.5 else "white"
            ax.text(x, y, f"{share:.2f}", ha="center", va="center", color=colour, size="small")
    return ax

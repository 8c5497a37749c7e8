"""Where a ticket comes from: its ancestors over generations and density."""

from __future__ import annotations

from typing import Any

from nets_deap import _checks
from nets_deap.evolution.fronts import knee
from nets_deap.plots import source, style
from nets_deap.plots.kind import kind
from nets_deap.plots.legend import legend
from nets_deap.runs.storage.history import SHORT, Generation, Member


@kind("genealogy", "Ancestors of the front's knee.")
def genealogy(run: Any, ax: Any = None, *, ticket: Any = None) -> Any:
    """Draw the ancestors of a ticket: each where it first appeared, lines from its parents.

    A parent is a ticket whose training a child started out from, as saliency or with its weights:
    one after mutation, two after crossover. Others of the population are grey.

    Args:
        run: A run folder, a search's result or a recorder.
        ax: Where to draw; None for new axes.
        ticket: A ticket of the run, or the start of its digest; None for the last front's knee.

    Returns:
        The ``matplotlib.axes.Axes``.

    Raises:
        InvalidValueError: The run never held such a ticket.
    """
    history = source.history_of(run)
    first = _first(history)
    digest = _digest(ticket, history)
    if digest not in first:
        raise _checks.bad_value("ticket", "have lived in the run", "one of its digests", digest)
    line = ancestors(digest, first)
    ax = style.axes_or_new(ax)
    others = [(n, member.density) for name, (n, member) in first.items() if name not in line]
    if others:
        size = style.marker(0.4) ** 2
        ax.scatter(*zip(*others, strict=True), s=size, color="#CCCCCC", label="others", zorder=1)
    label: str | None = "parent"
    for name in line:
        number, member = first[name]
        for parent in member.parents:
            if parent in line:
                then, older = first[parent]
                ends = (then, number), (older.density, member.density)
                ax.plot(*ends, color=style.BLUE, linewidth=0.8, label=label, zorder=2)
                label = None
    places = [(first[name][0], first[name][1].density) for name in line if name != digest]
    if places:
        ax.scatter(
            *zip(*places, strict=True),
            s=style.marker(0.8) ** 2,
            color=style.BLUE,
            label="ancestor",
            zorder=3,
        )
    number, member = first[digest]
    size = style.marker(1.4)
    look = {"color": style.ORANGE, "marker": "D", "linestyle": "none", "zorder": 4}
    ax.plot([number], [member.density], markersize=size, label="ticket", **look)
    style.density_axis(ax.yaxis)
    style.whole_numbers(ax.xaxis)
    ax.set(xlabel="generation", ylabel="density in %")
    ax.set_title(f"ticket {digest[:8]}, {100 * member.density:.3g} %")
    ax.grid(alpha=0.3)
    legend(ax)
    return ax


def ancestors(digest: str, first: dict[str, tuple[int, Member]]) -> list[str]:
    """Return a ticket and all its ancestors that the run has noted, nearest first."""
    found, waiting = [], [digest]
    while waiting:
        name = waiting.pop(0)
        if name in first and name not in found:
            found.append(name)
            waiting += first[name][1].parents
    return found


def _first(history: list[Generation]) -> dict[str, tuple[int, Member]]:
    """Return when each ticket first appeared."""
    first: dict[str, tuple[int, Member]] = {}
    for one in history:
        for member in (*one.population, *one.front):
            first.setdefault(member.digest, (one.number, member))
    return first


def _digest(ticket: Any, history: list[Generation]) -> str:
    """Return the start of the digest of a ticket."""
    if ticket is None:
        found: str = knee(history[-1].front).digest
        return found
    digest = ticket if isinstance(ticket, str) else ticket.digest
    return str(digest)[:SHORT]

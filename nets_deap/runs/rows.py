"""Rows of tables: objectives by name, and a front as rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def objective_names(fitness: Any) -> tuple[str, ...]:
    """Return the objectives' names of a fitness, or made-up ones."""
    return getattr(fitness, "names", ()) or tuple(
        f"objective_{i}" for i in range(len(fitness.weights))
    )


def named_values(fitness: Any) -> dict[str, float]:
    """Return the values of a fitness by the objectives' names."""
    return dict(zip(objective_names(fitness), fitness.values, strict=True))


def front_rows(front: Sequence[Any]) -> list[dict[str, Any]]:
    """Return a front as rows, densest first: digest, kept weights, density, objectives."""
    rows = []
    for ticket in sorted(front, key=lambda t: (-t.kept, t.fitness.values, t.digest)):
        row = {"ticket": ticket.digest[:16], "kept": ticket.kept, "density": ticket.density}
        values = named_values(ticket.fitness)
        rows.append({**row, **{name: v for name, v in values.items() if name not in row}})
    return rows

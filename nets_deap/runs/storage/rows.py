"""Rows of tables: objectives by name, a front as rows, the spread of a generation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


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


def spread(population: Sequence[Any], names: Sequence[str]) -> dict[str, float]:
    """Return least, mean and greatest value of each objective."""
    row = {}
    values = np.array([individual.fitness.values for individual in population])
    for name, column in zip(names, values.T, strict=True):
        row[f"{name}_min"] = float(column.min())
        row[f"{name}_mean"] = float(column.mean())
        row[f"{name}_max"] = float(column.max())
    return row


def facts_shown(row: Mapping[str, Any], fitness: Any) -> dict[str, Any]:
    """Return what progress shows of a generation's row: the best values, and the front."""
    best = {
        f"best {name}": row[f"{name}_{'min' if weight < 0 else 'max'}"]
        for name, weight in zip(objective_names(fitness), fitness.weights, strict=True)
    }
    return {**best, "front": row["front_size"], "hypervolume": row["hypervolume"]}

"""Rows of tables: objectives by name, a front as rows, the spread of a generation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap.evolution.fronts import is_finite


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


def spread(population: Sequence[Any], names: Sequence[str]) -> dict[str, float | None]:
    """Return least, mean and greatest value of each objective, None where there are none.

    Individuals with a value that is not finite do not count.
    """
    row: dict[str, float | None] = {}
    values = np.array([one.fitness.values for one in population if is_finite(one)])
    columns = values.T if len(values) else [values] * len(names)
    for name, column in zip(names, columns, strict=True):
        known = len(column) > 0
        row[f"{name}_min"] = float(column.min()) if known else None
        row[f"{name}_mean"] = _mean(column) if known else None
        row[f"{name}_max"] = float(column.max()) if known else None
    return row


def _mean(column: NDArray[np.float64]) -> float:
    """Return the mean of numbers whose sum may be beyond the greatest one."""
    with np.errstate(over="ignore"):
        mean = float(column.mean())
    return mean if math.isfinite(mean) else float((column / len(column)).sum())


def best_so_far(
    rows: Iterable[Mapping[str, Any]], fitness: Any, before: Mapping[str, float]
) -> dict[str, float]:
    """Return the best value of each objective, by its name, in rows of a log and before them."""
    best = dict(before)
    for name, weight in zip(objective_names(fitness), fitness.weights, strict=True):
        column, choose = (f"{name}_min", min) if weight < 0 else (f"{name}_max", max)
        known = [row[column] for row in rows if row.get(column) is not None]
        if known:
            best[name] = choose([*known, best[name]] if name in best else known)
    return best


def facts_shown(
    row: Mapping[str, Any], fitness: Any, best: Mapping[str, float], *, settled: bool
) -> dict[str, Any]:
    """Return what progress shows of a generation: the best values so far, and how many are kept.

    Args:
        row: Of the log.
        fitness: Of an individual, for the objectives' names and directions.
        best: See ``best_so_far``.
        settled: Whether what is kept is a front already; else it is a ticket for each niche of
            density, of which the end makes the front.
    """
    facts: dict[str, Any] = {}
    for name, weight in zip(objective_names(fitness), fitness.weights, strict=True):
        value = best.get(name)
        if name == "density" and weight < 0 and value is not None:
            facts["density to"] = f"{100 * value:.2g} %"
        else:
            facts[f"best {name}"] = value
    facts["front" if settled else "niches"] = row["front_size"]
    return {**facts, "hypervolume": row["hypervolume"]}

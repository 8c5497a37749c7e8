"""Rows of tables: objectives by name, a front as rows, the spread of a generation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap.evolution.fronts import is_finite
from nets_deap.evolution.objective_names import objective_names


def named_values(individual: Any, names: Sequence[str] = ()) -> dict[str, float]:
    """Return the values of an individual by the objectives' names, its own if none are given."""
    return dict(zip(names or objective_names([individual]), individual.fitness.values, strict=True))


def front_rows(front: Sequence[Any], names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return a front as rows, densest first: digest, kept weights, density, objectives."""
    rows = []
    for ticket in sorted(front, key=lambda t: (-t.kept, t.fitness.values, t.digest)):
        row = {"ticket": ticket.digest[:16], "kept": ticket.kept, "density": ticket.density}
        values = named_values(ticket, names)
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
    rows: Iterable[Mapping[str, Any]], directions: Mapping[str, float], before: Mapping[str, float]
) -> dict[str, float]:
    """Return the best value of each objective, by its name, in rows of a log and before them.

    Args:
        rows: Of the log.
        directions: The weight of each objective, by name.
        before: The best values before.
    """
    best = dict(before)
    for name, weight in directions.items():
        column, choose = (f"{name}_min", min) if weight < 0 else (f"{name}_max", max)
        known = [row[column] for row in rows if row.get(column) is not None]
        if known:
            best[name] = choose([*known, best[name]] if name in best else known)
    return best


def facts_shown(
    row: Mapping[str, Any], directions: Mapping[str, float], best: Mapping[str, float]
) -> dict[str, Any]:
    """Return what progress shows of a generation: the best values so far, and how many are kept.

    Args:
        row: Of the log; it has ``niches`` where what is kept is a ticket for each niche of density,
            of which the end makes the front.
        directions: The weight of each objective, by name.
        best: See ``best_so_far``.
    """
    facts: dict[str, Any] = {}
    for name, weight in directions.items():
        value = best.get(name)
        if name == "density" and weight < 0 and value is not None:
            facts["density to"] = f"{100 * value:.2g} %"
        else:
            facts[f"best {name}"] = value
    kept = {"niches": row["niches"]} if "niches" in row else {"front": row["front_size"]}
    return {**facts, **kept, "hypervolume": row["hypervolume"]}

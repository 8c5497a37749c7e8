"""Rows of tables: objectives by name, a front as rows, the spread of a generation, a log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nets_deap.errors import FileAccessError


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


def log_rows(path: Path) -> list[dict[str, Any]]:
    """Read a ``log.jsonl``; a last line that was cut off, as a kill may leave it, is left out.

    Raises:
        FileAccessError: The file cannot be read, or another line is not a row.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise FileAccessError(
            f"run must be a run folder: cannot read {path} ({error.strerror}). "
            "Give the folder that a recorder or 'nets-deap run' wrote."
        ) from error
    except ValueError as error:
        raise FileAccessError(f"{path} must be a text file: {error}.") from error
    rows = []
    for i, line in enumerate(lines):
        try:
            row = json.loads(line) if line else None
            if row is not None:
                rows.append({**row, "generation": row["generation"] + 0})
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if i == len(lines) - 1:
                break
            raise FileAccessError(
                f"{path} must hold a generation a line: line {i + 1} is none ({error!r})."
            ) from error
    return rows

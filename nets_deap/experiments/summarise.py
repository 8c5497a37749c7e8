"""``summarise``: from the rows of a comparison to its summary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap.evolution.fronts import hypervolume
from nets_deap.experiments.methods import EVOLUTION, EVOLUTION_ADDS, METHODS
from nets_deap.experiments.setting import NEAR, snapped
from nets_deap.experiments.statistics import bootstrap_interval, interpolate_front, wilcoxon
from nets_deap.experiments.summary import SHARES, MethodSummary, Summary, Test

Row = dict[str, Any]

# Columns of rows, by what is said of them.
SPLITS = {"test_accuracy": "test", "val_accuracy": "validation"}

# Hypervolumes reach to an error of 20 %, or of twice the dense network's where that is more: on a
# hard task an accuracy below 80 % may be good.
REFERENCE_ERROR, TIMES_DENSE = 0.2, 2.0

# Shares of the dense network's multiply-adds over which the hypervolume is taken.
GRID: NDArray[np.float64] = 0.8 ** np.arange(21, dtype=np.float64)


def summarise(rows: Sequence[Row], densities: Sequence[float]) -> Summary:
    """Summarise the rows of a comparison.

    Args:
        rows: One for each ticket; the method ``dense`` gives the dense baseline.
        densities: K levels, densest first.
    """
    levels = tuple(densities)
    present = {row["method"] for row in rows}
    column = split_of(rows)
    dense = np.array([row[column] for row in rows if row["method"] == "dense"])
    worst = min(1.0, max(REFERENCE_ERROR, TIMES_DENSE * (1 - dense.mean()) if len(dense) else 0.0))
    methods = tuple(_one(name, rows, levels, column, worst) for name in METHODS if name in present)
    by_name = {one.name: one for one in methods}
    ours, small = by_name.get(EVOLUTION), by_name.get(EVOLUTION_ADDS)
    return Summary(
        densities=levels,
        methods=methods,
        tests=tuple(
            _test(ours, one, np.array(levels), worst)
            for one in methods
            if ours is not None and one is not ours and one.seeds == ours.seeds
            if (ours.reached & one.reached).any()
        ),
        adds_tests={
            one.name: wilcoxon(small.adds_hypervolume, one.adds_hypervolume)
            for one in methods
            if small is not None
            and one is not small
            and one.seeds == small.seeds
            and np.isfinite([small.adds_hypervolume, one.adds_hypervolume]).all()
        },
        dense=dense,
        final_steps=rows[0]["final_steps"],
        split=SPLITS[column],
        reference_error=float(worst),
    )


def split_of(rows: Sequence[Row]) -> str:
    """Return the column of the accuracies that methods are compared by: test, if all rows have it.

    A task without a test split is compared on validation data, by which searches have chosen.
    """
    return next(name for name in SPLITS if all(row[name] is not None for row in rows))


def _one(
    name: str, rows: Sequence[Row], densities: Sequence[float], column: str, worst: float
) -> MethodSummary:
    """Summarise one method, with hypervolumes up to the ``worst`` error."""
    own = [row for row in rows if row["method"] == name]
    seeds = tuple(dict.fromkeys(row["seed"] for row in own))
    accuracy, volumes, adds_accuracy, adds_volumes, above = [], [], [], [], set()
    whole = max((row["multiply_adds"] or 0 for row in rows), default=0)
    size = max((row.get("kept", 0) for row in rows if row["method"] == "dense"), default=0)
    for seed in seeds:
        part = [row for row in own if row["seed"] == seed]
        places = np.array([row["density"] for row in part])
        heights = np.array([row[column] for row in part])
        levels = [snapped(place, densities, size) for place in places.tolist()]
        accuracy.append(interpolate_front(levels, heights, densities))
        above |= {i for i, level in enumerate(densities) if level > max(levels) * NEAR}
        volumes.append(_volume(accuracy[-1], np.array(densities), worst))
        if any(row["multiply_adds"] is None for row in part):
            adds_accuracy.append(np.full(len(SHARES), np.nan))
            adds_volumes.append(np.nan)
            continue
        # A disconnected network needs none, but it cannot be drawn on a logarithmic axis.
        shares = np.array([max(row["multiply_adds"], 1) / whole for row in part])
        chosen = _by_validation(shares, np.array([row["val_accuracy"] for row in part]))
        adds_accuracy.append(interpolate_front(shares[chosen], heights[chosen], SHARES))
        at_grid = interpolate_front(shares[chosen], heights[chosen], GRID)
        adds_volumes.append(_volume(at_grid, GRID, worst))
    return MethodSummary(
        name=name,
        seeds=seeds,
        accuracy=np.array(accuracy),
        hypervolume=np.array(volumes),
        adds_accuracy=np.array(adds_accuracy),
        adds_hypervolume=np.array(adds_volumes),
        search_steps=float(np.mean([row["search_steps"] for row in own])),
        search_dense_steps=float(np.mean([row.get("search_dense_steps", np.nan) for row in own])),
        search_seconds=float(np.mean([row["search_seconds"] for row in own])),
        above=tuple(sorted(above)),
    )


def _by_validation(
    sizes: NDArray[np.float64], accuracies: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return the members that no smaller one matches or beats on the validation split."""
    order = np.lexsort((-accuracies, sizes))
    before = np.maximum.accumulate(np.concatenate([[-np.inf], accuracies[order][:-1]]))
    found: NDArray[np.int64] = order[accuracies[order] > before]
    return found


def _volume(accuracies: NDArray[np.float64], sizes: NDArray[np.float64], worst: float) -> float:
    """Return the area dominated in the plane of error in per cent and log10 of sizes in (0, 1].

    At fixed sizes, NaN where they are not reached: a front of more members would otherwise gain
    from the noise of each.
    """
    reached = np.isfinite(accuracies)
    accuracies, sizes = accuracies[reached], sizes[reached]
    costs = np.stack([100 * (1 - accuracies), np.log10(sizes)], axis=1)
    return hypervolume(costs, (100 * worst, 0.0))


def _test(
    ours: MethodSummary, other: MethodSummary, densities: NDArray[np.float64], worst: float
) -> Test:
    """Compare evolution with a baseline on the levels that both reach."""
    both = ours.reached & other.reached
    mine, theirs = ours.accuracy[:, both], other.accuracy[:, both]
    difference = mine.mean(axis=1) - theirs.mean(axis=1)
    volumes = ([_volume(row, densities[both], worst) for row in one] for one in (mine, theirs))
    # One seed shows no spread: an interval would look certain.
    low, high = bootstrap_interval(difference) if len(difference) > 1 else (math.nan, math.nan)
    return Test(
        other.name,
        wilcoxon(mine.mean(axis=1), theirs.mean(axis=1)),
        wilcoxon(*volumes),
        float(difference.mean()),
        low,
        high,
        int(both.sum()),
    )

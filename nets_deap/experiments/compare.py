"""``compare``: evolution and every baseline, paired by seed, measured alike, and resumable."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nets_deap import _checks
from nets_deap.baselines import Baseline
from nets_deap.evolution.budget import STEPS
from nets_deap.evolution.measured import Measured
from nets_deap.evolution.measures import multiply_adds
from nets_deap.evolution.operators import layer_counts
from nets_deap.experiments.config import Config
from nets_deap.experiments.folder import ComparisonFolder
from nets_deap.experiments.methods import EVOLUTION, METHODS, usual_methods
from nets_deap.experiments.presets import PRESETS
from nets_deap.experiments.run import build_task
from nets_deap.experiments.setting import NEAR, Setting
from nets_deap.experiments.summarise import summarise
from nets_deap.experiments.summary import Summary
from nets_deap.runs.storage.folder import csv_text
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.task import Task

# After 10 to 28 rounds of pruning a fifth: 10.7, 6.9, 4.4, 2.8, 1.8, 1.2, 0.74, 0.47, 0.30 and
# 0.19 %.
DENSITIES = tuple(0.8**level for level in range(10, 29, 2))
Row = dict[str, Any]


def compare(
    config: Config,
    path: str | Path,
    *,
    seeds: Sequence[int],
    budget: float,
    methods: Sequence[str] | None = None,
    densities: Sequence[float] | None = None,
    on_done: Callable[[str], None] | None = None,
) -> Summary:
    """Run methods over seeds, each once, and summarise them.

    For each seed all methods share model, W0, data and the minibatches of the final training.
    What a folder holds already, finished, is not run again; so an interrupted comparison goes on,
    and a finished one is summarised anew at once.

    Args:
        config: A preset: task, recipe, search and final training.
        path: The folder: ``comparison.json``, ``results/*.json``, ``rows.csv``, ``summary.txt``
            and ``summary.json``.
        seeds: One or more seeds >= 0.
        budget: Of the search, in the preset's ``search.budget_unit``; some methods get a stated
            multiple of it.
        methods: Names of ``METHODS``; None for all that take what the preset's tickets gate.
        densities: Levels in (0, 1), in any order; None for those of ``DENSITIES`` that the preset's
            search reaches.
        on_done: Called with a line for each method and seed.

    Returns:
        The summary over everything that the folder holds for these methods and seeds.

    Raises:
        InvalidValueError: An argument is out of range, or the folder holds another comparison.
        FileAccessError: The folder cannot be read or written.
    """
    given = usual_methods(config.task.unit) if methods is None else methods
    chosen = [_checks.choice("methods", name, METHODS) for name in given]
    levels = levels_of(reached_by(config) if densities is None else densities)
    if config.search.budget_unit == STEPS:
        _checks.whole("budget", budget)
    _checks.real("budget", budget, low=0, open_low=True)
    if not chosen or not levels or not len(seeds) or len(set(seeds)) < len(seeds):
        raise _checks.bad_value(
            "compare", "have work", "methods, densities and distinct seeds", [chosen, [*seeds]]
        )
    # Evolution first: same-layers needs its tickets.
    chosen = sorted(set(chosen), key=list(METHODS).index)
    numbers = [_checks.whole("seeds", seed, low=0) for seed in seeds]
    folder = ComparisonFolder(path, _identity(config, budget, levels))
    if "same-layers" in chosen and EVOLUTION not in chosen:
        missing = [seed for seed in numbers if not folder.has(seed, EVOLUTION)]
        if missing:
            raise _checks.bad_value(
                "methods",
                "name evolution before same-layers",
                "the evolved tickets of each seed",
                f"none for {missing}",
                "Add evolution to the methods.",
            )
    for seed in numbers:
        waiting = [name for name in ("dense", *chosen) if not folder.has(seed, name)]
        if not waiting:
            continue
        task = build_task(replace(config, seed=seed))
        for level in levels:
            layer_counts(task.layout, level)  # raises before anything is trained
        for name in waiting:
            rows = _measure(task, config, name, budget, levels, folder)
            folder.put(seed, name, rows)
            if on_done is not None:
                on_done(_line(seed, name, rows))
    rows = [
        row for seed in numbers for name in ("dense", *chosen) for row in folder.get(seed, name)
    ]
    summary = summarise(rows, levels)
    folder.write_text("rows.csv", csv_text(rows))
    folder.write_text("summary.txt", summary.text() + "\n")
    folder.write_text("summary.json", json.dumps(summary.as_dict(), indent=2) + "\n")
    return summary


def reached_by(config: Config) -> tuple[float, ...]:
    """Return the usual density levels, as far down as a configuration's search goes."""
    low = min(config.search.density) / NEAR
    return tuple(level for level in DENSITIES if level >= low) or DENSITIES[:1]


def levels_of(densities: Sequence[float]) -> tuple[float, ...]:
    """Return distinct density levels in (0, 1), densest first."""
    limits: Any = {"low": 0, "high": 1, "open_low": True, "open_high": True}
    distinct = {_checks.real("densities", density, **limits) for density in densities}
    return tuple(sorted(distinct, reverse=True))


def find(
    task: Task,
    config: Config,
    name: str,
    budget: float,
    densities: tuple[float, ...],
    evolved: Sequence[Ticket] = (),
) -> tuple[Baseline, float]:
    """Run one method; return what it found and the seconds of its search.

    ``budget`` is what it may spend itself.
    """
    method = METHODS[_checks.choice("method", name, METHODS)]
    setting = Setting(task, config, budget, densities, evolved)
    start = time.perf_counter()
    found = replace(method.find(setting, budget), name=method.name)
    return found, time.perf_counter() - start


def rows_of(task: Task, config: Config, name: str, found: Baseline, seconds: float) -> list[Row]:
    """Train everything a method found from W0 and return a row for each ticket."""
    results = found.train(task, config.final.steps)
    return [
        {
            "seed": task.seed,
            "method": name,
            "density": level.ticket.density,
            "kept": level.ticket.kept,
            "multiply_adds": int(multiply_adds(Measured(level.ticket, {}, 0, task=task))),
            "test_accuracy": result.test_accuracy,
            "test_loss": result.test_loss,
            "val_accuracy": result.val_accuracy,
            "search_steps": found.search_steps,
            "search_dense_steps": round(found.search_dense_steps, 3),
            "search_seconds": round(seconds, 2),
            "final_steps": config.final.steps,
            "ticket": level.ticket.digest[:16],
        }
        for level, result in zip(found.levels, results, strict=True)
    ]


def _measure(
    task: Task,
    config: Config,
    name: str,
    budget: float,
    densities: tuple[float, ...],
    folder: ComparisonFolder,
) -> list[Row]:
    """Run and train one method for one seed."""
    if name == "dense":
        from nets_deap.baselines import Level

        found, seconds = Baseline.of("dense", [Level(task.dense_ticket())]), 0.0
    else:
        evolved = folder.tickets(task.seed, task.layout) if name == "same-layers" else []
        share = budget * METHODS[name].budgets
        share = round(share) if config.search.budget_unit == STEPS else share
        found, seconds = find(task, config, name, share, densities, evolved)
    if name == EVOLUTION:
        folder.put_tickets(task.seed, found.tickets, task)
    return rows_of(task, config, name, found, seconds)


def _identity(config: Config, budget: float, densities: tuple[float, ...]) -> dict[str, Any]:
    """Return what must be the same for results to belong to one comparison."""
    plain = config.as_dict()
    plain["task"] = {k: v for k, v in plain["task"].items() if k not in ("data_dir", "device")}
    plain["final"] = {"steps": config.final.steps}
    del plain["seed"], plain["about"]
    adds = asdict(PRESETS["lenet-adds"].search)  # what evolution-adds runs, whatever the preset
    return {"config": plain, "adds": adds, "budget": budget, "densities": list(densities)}


def _line(seed: int, name: str, rows: Sequence[Row]) -> str:
    """Return a line of progress."""
    first = rows[0]
    costs = f"{first['search_steps']:>7} steps {first['search_dense_steps']:>7.0f} dense steps"
    accuracy = ", ".join(f"{100 * r['test_accuracy']:.2f} @ {100 * r['density']:.2f}" for r in rows)
    return f"seed {seed}  {name:<14} {costs}  {accuracy} %"

"""``compare``: evolution and every baseline, paired by seed, measured alike, and resumable."""

from __future__ import annotations

import json
import logging
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nets_deap import _checks
from nets_deap.baselines import Baseline
from nets_deap.errors import InvalidValueError
from nets_deap.evolution.budget import STEPS, Budget
from nets_deap.evolution.measured import Measured
from nets_deap.evolution.measures import multiply_adds
from nets_deap.evolution.operators import layer_counts
from nets_deap.experiments.compared import (
    check_same_task,
    check_seed,
    compared,
    identity,
    levels_of,
    said_once,
    source,
    unit_of,
    usual_levels,
)
from nets_deap.experiments.config import Config
from nets_deap.experiments.final import POINTS, overtrained
from nets_deap.experiments.folder import ComparisonFolder
from nets_deap.experiments.methods import EVOLUTION, METHODS, usual_methods
from nets_deap.experiments.run import build_task
from nets_deap.experiments.setting import Setting
from nets_deap.experiments.summarise import split_of, summarise
from nets_deap.experiments.summary import Summary
from nets_deap.runs.progress import Progress
from nets_deap.runs.storage.folder import csv_text
from nets_deap.runs.storage.history import SHORT
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.task import Task

logger = logging.getLogger("nets_deap")

Row = dict[str, Any]


@_checks.signed
def compare(
    make_task: Callable[..., Task] | str | Config,
    path: str | Path | None = None,
    *,
    seeds: int | Sequence[int] = 10,
    methods: Sequence[str] | None = None,
    densities: Sequence[float] | None = None,
    budget: float | None = None,
    settings: Mapping[str, Any] | None = None,
    on_done: Callable[[str], None] | None = None,
) -> Summary:
    """Run evolution and baselines over seeds, paired by seed, and summarise what they find.

    For each seed all methods share model, W0, data and the minibatches of the final training.
    What a folder holds already, finished, is not run again; so an interrupted comparison goes on,
    and a finished one is summarised anew at once. The table is ``print(summary)``, the figure
    ``nets.plots.accuracy_over_density(summary)``.

    Args:
        make_task: A function that takes the seed and returns a ``nets.Task`` of that seed; what
            names one, ``"FILE.py:FUNCTION"``; or a preset's name or configuration.
        path: The folder: ``comparison.json``, ``results/*.json``, ``rows.csv``, ``summary.txt``
            and ``summary.json``; None keeps nothing.
        seeds: How many, from 0 on; or one or more seeds >= 0.
        methods: Names of ``METHODS``; None for all that take what the tickets gate, less those that
            the task is not for, each with a line.
        densities: Levels in (0, 1), in any order; None for those of ``DENSITIES`` that the search
            reaches.
        budget: Of the search, in its ``search.budget_unit``, dense steps by default; some methods
            get a stated multiple of it. None for the preset's, or 20 times the recipe's steps.
        settings: Fields by dotted names, as ``nets-deap compare --set`` has them, such as
            ``{"search.population": 24, "final.steps": 2000}``; final trainings take 5 times the
            recipe's steps if nothing else is set.
        on_done: Called with a line for each method and seed; None writes it to standard error.

    Returns:
        The summary over everything that the folder holds for these methods and seeds.

    Raises:
        InvalidValueError: An argument is out of range, the folder holds another comparison, or the
            task has no accuracy.
        InvalidTypeError: ``make_task`` makes no task.
        FileAccessError: The folder cannot be read or written.
    """
    if path is None:
        with tempfile.TemporaryDirectory() as there:
            return compare(
                make_task,
                there,
                seeds=seeds,
                methods=methods,
                densities=densities,
                budget=budget,
                settings=settings,
                on_done=on_done,
            )
    numbers = [*range(seeds)] if isinstance(seeds, int) else [*seeds]
    numbers = [_checks.whole("seeds", seed, low=0) for seed in numbers]
    config = compared(make_task, numbers, settings or {})
    given = usual_methods(unit_of(config)) if methods is None else methods
    chosen = [_checks.choice("methods", name, METHODS) for name in given]
    for name in chosen:
        METHODS[name].require()
    levels = levels_of(usual_levels(config) if densities is None else densities)
    spent = config.search.budget if budget is None else budget
    unit = config.search.budget_unit
    if spent is None:
        raise _checks.bad_value("budget", "be given", f"a number of {unit}", None)
    assert not isinstance(spent, Budget)  # a configuration takes it apart
    if unit == STEPS:
        _checks.whole("budget", spent)
    _checks.real("budget", spent, low=0, open_low=True)
    if not chosen or not levels or not numbers or len(set(numbers)) < len(numbers):
        raise _checks.bad_value(
            "compare", "have work", "methods, densities and distinct seeds", [chosen, numbers]
        )
    # Evolution first: same-layers needs its tickets.
    chosen = sorted(set(chosen), key=list(METHODS).index)
    folder = ComparisonFolder(path, identity(config, spent, levels), source(config))
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
    tell = Progress("lines").line if on_done is None else on_done
    with said_once():
        seen: dict[str, int] = {}  # seeds, by initial weights
        for seed in numbers:
            waiting = [name for name in ("dense", *chosen) if not folder.has(seed, name)]
            if not waiting:
                continue
            task = build_task(replace(config, seed=seed))
            check_seed(task, config, seen)
            check_same_task(task, folder, [n for n in ("dense", *chosen) if folder.has(seed, n)])
            for level in levels:
                layer_counts(task.layout, level)  # raises before anything is trained
            for name in waiting:
                try:
                    rows = _measure(task, config, name, spent, levels, folder)
                except InvalidValueError as error:
                    if methods is not None or name in ("dense", EVOLUTION):
                        raise
                    tell(f"seed {seed}  {name:<14} left out: {error}")
                    continue
                folder.put(seed, name, rows)
                tell(_line(seed, name, rows))
    rows = [
        row
        for seed in numbers
        for name in ("dense", *chosen)
        if folder.has(seed, name)
        for row in folder.get(seed, name)
    ]
    summary = summarise(rows, levels)
    folder.write_text("rows.csv", csv_text(rows))
    folder.write_text("summary.txt", summary.text() + "\n")
    folder.write_text("summary.json", json.dumps(summary.as_dict(), indent=2) + "\n")
    return summary


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
    if name == "dense":
        tickets = [level.ticket for level in found.levels]
        results = task.train_all(tickets, steps=config.final.steps, points=POINTS)
        if text := overtrained(results[0], config.final.steps):
            logger.warning("Seed %d: %s", task.seed, text)
    else:
        results = found.train(task, config.final.steps)
    return [
        {
            "seed": task.seed,
            "method": name,
            "density": level.ticket.density,
            "kept": level.ticket.kept,
            "multiply_adds": int(multiply_adds(Measured.untrained(level.ticket, task))),
            "test_accuracy": _known(result.test_accuracy),
            "test_loss": _known(result.test_loss),
            "val_accuracy": result.val_accuracy,
            "search_steps": found.search_steps,
            "search_dense_steps": round(found.search_dense_steps, 3),
            "search_seconds": round(seconds, 2),
            "final_steps": config.final.steps,
            "ticket": level.ticket.digest[:SHORT],
            "task": task.fingerprint[:SHORT],
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


def _known(number: float) -> float | None:
    """Return a number; None where there is none, as without a test split."""
    return None if math.isnan(number) else number


def _line(seed: int, name: str, rows: Sequence[Row]) -> str:
    """Return a line of progress."""
    first = rows[0]
    costs = f"{first['search_steps']:>7} steps {first['search_dense_steps']:>7.0f} dense steps"
    column = split_of(rows)
    accuracy = ", ".join(f"{100 * r[column]:.2f} @ {100 * r['density']:.2f}" for r in rows)
    return f"seed {seed}  {name:<14} {costs}  {accuracy} %"

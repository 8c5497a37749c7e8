"""What a comparison compares: its configuration, its density levels, and what sets it apart."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from nets_deap import _checks
from nets_deap.errors import InvalidValueError
from nets_deap.evolution.operators import layer_counts
from nets_deap.experiments.config import Config
from nets_deap.experiments.folder import ComparisonFolder
from nets_deap.experiments.own import begun, configuration
from nets_deap.experiments.own_task import OwnTask, record_of
from nets_deap.experiments.presets import PRESETS
from nets_deap.experiments.run import build_task
from nets_deap.experiments.setting import NEAR
from nets_deap.runs.storage.history import SHORT
from nets_deap.training.recipe import name_of
from nets_deap.training.task import Task

# A seed that nobody gives.
OTHER = 2**31 - 3
# After 10 to 28 rounds of pruning a fifth: 10.7, 6.9, 4.4, 2.8, 1.8, 1.2, 0.74, 0.47, 0.30 and
# 0.19 %.
DENSITIES = tuple(0.8**level for level in range(10, 29, 2))


def compared(make_task: Any, seeds: Sequence[int], settings: Mapping[str, Any]) -> Config:
    """Return the configuration that a comparison is asked for with."""
    if isinstance(make_task, Config):
        return make_task.override(settings)
    own = {"seed": seeds[0] if seeds else 0, **settings}
    if isinstance(make_task, str):
        return configuration(make_task, own)
    if not callable(make_task):
        expected = "a function that takes the seed and returns a nets.Task, or a preset's name"
        raise _checks.bad_type("make_task", "make a task for each seed", expected, make_task)
    return begun(record_of(make_task), own)


def unit_of(config: Config) -> str:
    """Return what one bit of a task's tickets gates."""
    if isinstance(config.task, OwnTask):
        return build_task(config).layout.unit
    return config.task.unit


def usual_levels(config: Config) -> list[float]:
    """Return the usual levels that a configuration reaches, of one's own task those it can have."""
    usual = [*reached_by(config)]
    if not isinstance(config.task, OwnTask):
        return usual
    layout, possible = build_task(config).layout, []
    for level in usual:
        with contextlib.suppress(InvalidValueError):  # so few weights leave a layer empty
            layer_counts(layout, level)
            possible.append(level)
    return possible


def reached_by(config: Config) -> tuple[float, ...]:
    """Return the usual density levels, as far down as a configuration's search goes."""
    low = min(config.search.density) / NEAR
    return tuple(level for level in DENSITIES if level >= low) or DENSITIES[:1]


def levels_of(densities: Sequence[float]) -> tuple[float, ...]:
    """Return distinct density levels in (0, 1), densest first."""
    limits: Any = {"low": 0, "high": 1, "open_low": True, "open_high": True}
    distinct = {_checks.real("densities", density, **limits) for density in densities}
    return tuple(sorted(distinct, reverse=True))


def identity(config: Config, budget: float, densities: tuple[float, ...]) -> dict[str, Any]:
    """Return what must be the same for results to belong to one comparison."""
    plain = config.as_dict()
    if isinstance(config.task, OwnTask):
        del plain["task"]["sha256"]  # beside it; a comment makes no other comparison
    else:
        plain["task"] = {k: v for k, v in plain["task"].items() if k not in ("data_dir", "device")}
    plain["final"] = {"steps": config.final.steps}
    del plain["seed"], plain["about"]
    adds = asdict(PRESETS["lenet-adds"].search)  # what evolution-adds runs, whatever the preset
    return {"config": plain, "adds": adds, "budget": budget, "densities": list(densities)}


def source(config: Config) -> dict[str, Any]:
    """Return the digest of the file of one's own task."""
    return {"sha256": config.task.digest} if isinstance(config.task, OwnTask) else {}


@contextlib.contextmanager
def said_once() -> Iterator[None]:
    """Let what is said of the task of one seed be said once, not again of each seed's."""
    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        before = len(said)
        said.add(record.getMessage())
        return len(said) > before

    logger = logging.getLogger("nets_deap")
    logger.addFilter(is_new)
    try:
        yield
    finally:
        logger.removeFilter(is_new)


def check_seed(task: Task, config: Config, seen: dict[str, int]) -> None:
    """Refuse initial weights that no seed fixes, and warn of those that seeds share.

    Args:
        task: Of one seed.
        config: What has made it.
        seen: Seeds so far by their initial weights; takes this one in.
    """
    digest, held = task.layout.weights.initial_digest, len(seen)
    if not held and isinstance(config.task, OwnTask):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(OTHER)  # as where something else has drawn from it before
            again = config.task.make(task.seed).layout.weights.initial_digest
        if again != digest:
            raise _checks.bad_value(
                "make_task",
                "make the same initial weights again for the same seed",
                digest[:SHORT],
                again[:SHORT],
                "Begin it with torch.manual_seed(seed).",
            )
    if seen.setdefault(digest, task.seed) != task.seed:
        logging.getLogger("nets_deap").warning(
            "Seeds %d and %d begin with the same initial weights: intervals over seeds then say "
            "nothing of other ones. Begin make_task with torch.manual_seed(seed).",
            seen[digest],
            task.seed,
        )


def check_same_task(task: Task, folder: ComparisonFolder, done: Sequence[str]) -> None:
    """Refuse a task without an accuracy, and another one than results of its seed were found on."""
    if not task.has_accuracy:
        raise _checks.bad_value(
            "the task",
            "have an accuracy to compare by",
            "cross_entropy or binary_cross_entropy",
            f"the loss {name_of(task.recipe.loss)}",
            "Compare losses by nets.baselines and task.train_all.",
        )
    for name in done:
        held = {row.get("task", task.fingerprint[:SHORT]) for row in folder.get(task.seed, name)}
        if held != {task.fingerprint[:SHORT]}:
            raise _checks.bad_value(
                "the task",
                f"be that of {name} with seed {task.seed}",
                f"fingerprint {', '.join(sorted(held))}",
                task.fingerprint[:SHORT],
                f"It has changed since {folder.path} was begun: choose another folder.",
            )

"""What a comparison compares: its configuration, its density levels, and what sets it apart."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nets_deap import _checks
from nets_deap.errors import InvalidValueError
from nets_deap.evolution.operators import layer_counts
from nets_deap.experiments.config import Config
from nets_deap.experiments.own import begun, configuration
from nets_deap.experiments.own_task import OwnTask, record_of
from nets_deap.experiments.presets import PRESETS
from nets_deap.experiments.run import build_task
from nets_deap.experiments.setting import NEAR

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

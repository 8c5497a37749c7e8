"""Configurations of tasks of one's own, see ``OwnTask``: what is not set follows from the task."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from nets_deap import _checks
from nets_deap.errors import CallOrderError
from nets_deap.experiments.config import Config
from nets_deap.experiments.own_task import OwnTask, is_reference, loaded
from nets_deap.experiments.presets import preset
from nets_deap.names import HEAD, NEURON

if TYPE_CHECKING:
    from nets_deap.training.task import Task

logger = logging.getLogger("nets_deap")

# In lengths of the recipe: what the search may cost, and how long its front is trained from W0. The
# presets' are 10 to 50 and 3 to 15.
SEARCH_BUDGET, FINAL_STEPS = 20, 5
# Neurons, filters and heads are few, and networks of them as dear as they are large: so much goes
# into few generations, and trained networks go on to the end. (Five BatchNorm convolutions of 96
# filters on 3,500 digits, at half and a tenth of the multiply-adds: 93 and 93 %; by what single
# weights are evolved with, 60 generations of 40 trained for seven steps each, 92 % at half, and
# random masks were better than most of its tickets.)
STRUCTURED: Mapping[str, Any] = MappingProxyType(
    {
        "objectives": ("val_loss", "multiply_adds"),
        "population": 12,
        "generations": 5,
        "prune": (0.15, 0.15),
        "rewinds": 0,
    }
)


def begun(make: OwnTask, settings: Mapping[str, Any]) -> Config:
    """Return the configuration of a task of one's own.

    Args:
        make: What makes the task, which is built for its recipe.
        settings: Fields by dotted names, as ``Config.override`` takes them. What is not set of
            recipe, budget and final training follows from the task; of neurons, filters and heads
            the search, too.

    Raises:
        InvalidValueError: Unknown names or bad values; all are listed together.
    """
    first = {n: v for n, v in settings.items() if n == "seed" or n.startswith("task.")}
    blank = Config(about=f"the task of {make.source}", task=make).override(first)
    task = _built(_make_of(blank), blank.seed)
    config = replace(
        blank,
        recipe=task.recipe,
        search=replace(
            blank.search,
            budget=SEARCH_BUDGET * task.steps,
            **(STRUCTURED if task.layout.unit in (NEURON, HEAD) else {}),
        ),
        final=replace(blank.final, steps=FINAL_STEPS * task.steps),
    )
    return config.override({n: v for n, v in settings.items() if n not in first})


def configuration(name: str, settings: Mapping[str, Any]) -> Config:
    """Return the configuration of a preset, or of a task of one's own by its reference."""
    if is_reference(name):
        return begun(loaded(name), settings)
    return preset(name).override(settings)


def begun_in_python(more: str = "") -> CallOrderError:
    """Return the error for a run whose task the command line cannot make."""
    return CallOrderError(
        f"The run was begun in Python, with a task that only Python knows{more}: resume it there, "
        "with nets.resume(path, task=task) or nets.search(task, path=path, resume=True)."
    )


def taken_up(
    held: Mapping[str, Any], settings: Mapping[str, Any], folder: Path | None = None
) -> Config:
    """Return the configuration of a run that was begun with a task of one's own.

    Args:
        held: What ``OwnTask.as_dict`` gave then.
        settings: All other fields by dotted names.
        folder: The run's, of which no file is run.

    Raises:
        CallOrderError: Only the program that began the run has the function.
        InvalidValueError: The function is not where it was, or lies in the folder.
    """
    source, sha256, arguments = str(held["source"]), held.get("sha256"), held.get("arguments")
    place = source.rpartition(":")[0]
    if not is_reference(source) or place == "__main__" or "<" in source:
        raise begun_in_python(f" ({source})")
    if folder is not None and folder.resolve() in Path(place).resolve().parents:
        # Whoever passes a run folder on could pass a program along.
        rule = "lie outside of the run folder"
        raise _checks.bad_value("the file of the task", rule, "a file elsewhere", place)
    make = loaded(source)
    if sha256 not in (None, make.digest):
        logger.warning(
            "%s has changed since this run began: it goes on only with the same task.", place
        )
    own = {f"task.{name}": value for name, value in (arguments or {}).items()}
    # A loss that is a function comes with the task; here is its name alone.
    return begun(make, {**own, **{n: v for n, v in settings.items() if n != "recipe.loss"}})


def _make_of(config: Config) -> OwnTask:
    """Return what makes the task of a configuration whose task is one's own."""
    assert isinstance(config.task, OwnTask)
    return config.task


def own_task(config: Config) -> Task:
    """Return the task of a configuration whose task is one's own, with the recipe set there."""
    task = _built(_make_of(config), config.seed)
    return task.with_recipe(replace(config.recipe, loss=task.recipe.loss))


# The last one alone: a configuration builds the task for its recipe, and who has it then asks for
# the task. A file that is read again makes another ``OwnTask``.
@functools.lru_cache(maxsize=1)
def _built(make: OwnTask, seed: int) -> Task:
    """Return the task of a seed as its function makes it."""
    return make.make(seed)

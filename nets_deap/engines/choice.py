"""Where generations are trained, by name: in this process, or on workers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from nets_deap import _checks
from nets_deap.batching import batch_map
from nets_deap.task import Task
from nets_deap.training import ENGINES

WHERE = ("local", "ray")


def check_where(engine: object, workers: object, address: object, gpus: object = None) -> str:
    """Return the name of where to train, if the options fit it.

    Raises:
        InvalidValueError: An unknown name, or options of workers without them.
    """
    hint = ""
    if engine in ENGINES:
        hint = f"What trains the networks there is set of the task: nets.Task(engine={engine!r})."
    name = _checks.choice("engine", engine, WHERE, hint)
    given = {
        "workers": workers is not None,
        "address": address != "local",
        "gpus_per_worker": gpus is not None,
    }
    beside = [option for option, is_given in given.items() if is_given]
    if name == "local" and beside:
        raise _checks.bad_value("engine", "have workers", "'ray'", name, f"Or leave out {beside}.")
    return name


def map_for(
    task: Task,
    engine: str,
    *,
    workers: int | None = None,
    address: str = "local",
    gpus_per_worker: float | None = None,
) -> Callable[..., list[Any]]:
    """Return the ``map`` of a toolbox: ``batch_map``, or a ``RayMap``, which can be closed."""
    if check_where(engine, workers, address, gpus_per_worker) == "local":
        return batch_map
    from nets_deap.engines.ray_map import RayMap

    return RayMap(task, workers=workers, address=address, gpus_per_worker=gpus_per_worker)


def trained_by(
    task: Task,
    engine: str,
    *,
    workers: int | None = None,
    address: str = "local",
    gpus_per_worker: float | None = None,
) -> AbstractContextManager[Any]:
    """Return a context in which everything that trains on a task does so where it is said."""
    found: Any = map_for(
        task, engine, workers=workers, address=address, gpus_per_worker=gpus_per_worker
    )
    return nullcontext() if found is batch_map else found

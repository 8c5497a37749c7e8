"""``RayMap``: a toolbox's ``map`` that hands each generation to workers of Ray."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch

from nets_deap import _checks
from nets_deap.errors import CallOrderError
from nets_deap.evolution.batch_map import batch_map
from nets_deap.names import ENGINES
from nets_deap.training.device import plain_states_kept
from nets_deap.training.executor import executed_by
from nets_deap.training.task import Task
from nets_deap.training.workers.ray_executor import RayCrew
from nets_deap.training.workers.ray_options import Terms, Traffic
from nets_deap.training.workers.ray_session import Session
from nets_deap.training.workers.transfer import n_bytes

logger = logging.getLogger("nets_deap")


class RayMap:
    """Trains each generation on workers, with the results of one process to float rounding.

    Register it as a toolbox's ``map``, and stock DEAP runs as before; leave it by ``close``, or use
    it as a context. Inside of ``with``, everything else that trains on the task goes to the
    workers, too: ``task.train_all``, baselines, ``nets.search``. Each worker trains with the task's
    own engine.

    A generation goes out in chunks that take 0.1 to 1 s by measured speed, the longest first, and
    what comes back is the same for any number of workers, any chunks and any losses. In float64 it
    is the same to the last digit on the same kind of device with the compiled engine.

    A worker that dies, hangs or loses its node is replaced, and its chunk tried again in halves; a
    network that fails alone ``retries`` + 1 times counts as diverged, with a warning. When no
    worker is left, what is finished is saved, and the error says how to go on.

    Args:
        task: What to train on.
        workers: How many; None for as many as fit on the machine or the cluster.
        cpus_per_worker: Threads of each.
        gpus_per_worker: GPUs of each; a part, such as 0.25, shares one. 0 trains on the CPU; None
            for what the task's device is.
        address: ``"local"`` starts Ray on this machine (or uses the one that this process is
            connected to), and ends it in ``close``, where no other ``RayMap`` uses it any more;
            ``"auto"`` or ``"host:port"`` is a cluster.
        retries: How often a network that failed alone is tried again.
        silence: Seconds without a sign of life after which a worker counts as lost.
        slowness: A chunk that takes so many times as long as expected, and longer than
            ``silence``, counts as lost.
        start_seconds: How long to wait for a first worker.

    Raises:
        MissingExtraError: Ray is not installed.
        InvalidValueError: An argument is out of range, or nothing has room for a worker.
        InvalidTypeError: The task holds something that cannot be sent to other processes.
        CallOrderError: No cluster answers, or this process is connected to another one.
    """

    def __init__(
        self,
        task: Task,
        *,
        workers: int | None = None,
        cpus_per_worker: int = 1,
        gpus_per_worker: float | None = None,
        address: str = "local",
        retries: int = 2,
        silence: float = 60.0,
        slowness: float = 20.0,
        start_seconds: float = 300.0,
    ) -> None:
        if not isinstance(task, Task):
            raise _checks.bad_type("task", "be a task", "a nets.Task", task)
        cpus = _checks.whole("cpus_per_worker", cpus_per_worker)
        gpus = float(task.device.type == "cuda") if gpus_per_worker is None else gpus_per_worker
        gpus = _checks.real("gpus_per_worker", gpus, low=0)
        wanted = _checks.unless_none(_checks.whole, "workers", workers)
        _checks.whole("retries", retries, low=0)
        for name, value in (
            ("silence", silence), ("slowness", slowness), ("start_seconds", start_seconds),
        ):  # fmt: skip
            _checks.real(name, value, low=0, open_low=True)
        here = {"CPU": float(_cpus()), "GPU": float(torch.cuda.device_count())}
        local = wanted or _room(here, cpus, gpus)
        with plain_states_kept():  # Ray draws ports from Python's own
            self._session = Session(
                address, cpus=local * cpus, gpus=int(here["GPU"]), store=n_bytes(task.problem)
            )
        try:
            room = _room(self._session.resources, cpus, gpus)
            self.workers = wanted or room
            if room < 1:
                raise _checks.bad_value(
                    "gpus_per_worker" if gpus else "cpus_per_worker",
                    "leave room for a worker",
                    f"{cpus} CPUs and {gpus:g} GPUs within what Ray has",
                    self._session.resources,
                )
            if room < self.workers:
                logger.warning("There is room for %d of %d workers now.", room, self.workers)
            terms = Terms(self.workers, cpus, gpus, retries, silence, slowness, start_seconds)
            self._crew: RayCrew | None = RayCrew(task.problem, self._session, terms)
        except BaseException:
            self._session.close()
            raise
        self._task = task
        self._inside = ExitStack()

    @property
    def crew(self) -> RayCrew:
        """The workers; raises CallOrderError once they are closed."""
        if self._crew is None:
            raise CallOrderError("The workers are closed. Make a new nets.RayMap.")
        return self._crew

    @property
    def traffic(self) -> Traffic:
        """What has been trained, moved, lost and condemned so far."""
        return self.crew.traffic

    def __call__(self, function: Callable[..., Any], *iterables: Iterable[Any]) -> list[Any]:
        """Map as ``batch_map`` does; what is trained of the task goes to the workers."""
        with executed_by(self._task.problem, self.crew):
            return batch_map(function, *iterables)

    def __enter__(self) -> RayMap:
        self._inside.enter_context(executed_by(self._task.problem, self.crew))
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, and Ray if it was started here; a second call does nothing."""
        crew, self._crew = self._crew, None
        self._inside.close()
        if crew is not None:
            with plain_states_kept():
                crew.close()
                self._session.close()


def _cpus() -> int:
    """Return the CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _room(resources: dict[str, float], cpus: int, gpus: float) -> int:
    """Return how many workers fit."""
    most = resources.get("CPU", 0.0) // cpus
    if gpus:
        most = min(most, resources.get("GPU", 0.0) // gpus)
    return int(most)


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


__all__ = ["RayMap"]

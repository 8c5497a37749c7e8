"""``RayMap``: a toolbox's ``map`` that hands each generation to workers of Ray."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, NoReturn

import torch

from nets_deap import _checks
from nets_deap.errors import CallOrderError, InvalidTypeError
from nets_deap.evolution.batch_map import batch_map
from nets_deap.training.device import plain_states_kept
from nets_deap.training.executor import executed_by
from nets_deap.training.task import Task, check_task
from nets_deap.training.workers.ray_executor import RayExecutor
from nets_deap.training.workers.ray_options import RayOptions, Traffic
from nets_deap.training.workers.ray_session import RaySession
from nets_deap.training.workers.transfer import n_bytes

logger = logging.getLogger("nets_deap")


@_checks.signed
class RayMap:
    """Trains each generation on workers, with the results of one process to float rounding.

    It is a toolbox's ``map``, and stock DEAP runs as before; leave it by ``close``, or use it as a
    context. Inside of ``with``, everything else that trains on the task goes to the workers, too:
    ``task.train_all``, baselines, ``nets.search``. Each worker trains with the task's own engine.

    A generation goes out in chunks that take 0.1 to 1 s by measured speed, the longest first, and
    what comes back is the same for any number of workers, any chunks and any losses. In float64 it
    is the same to the last digit on the same kind of device with the compiled engine.

    A worker that dies, hangs or loses its node is replaced, and its chunk tried again in halves; a
    network that fails alone ``retries`` + 1 times counts as diverged, with a warning. When no
    worker is left, what is finished is saved, and the error says how to go on.

    Example:
        .. code-block:: python

            with nets.RayMap(task, workers=4) as workers:
                toolbox = nets.make_toolbox(task, map=workers)
                result = nets.search(task, map=workers)
                print(workers.traffic)

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

    Attributes:
        workers: How many there are to be.

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
        check_task("task", task)
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
        local = wanted or _capacity(here, cpus, gpus)
        with plain_states_kept():  # Ray draws ports from Python's own
            self._session = RaySession(
                address, cpus=local * cpus, gpus=int(here["GPU"]), store=n_bytes(task.problem)
            )
        try:
            capacity = _capacity(self._session.resources, cpus, gpus)
            self.workers = wanted or capacity
            if capacity < 1:
                raise _checks.bad_value(
                    "gpus_per_worker" if gpus else "cpus_per_worker",
                    "leave room for a worker",
                    f"{cpus} CPUs and {gpus:g} GPUs within what Ray has",
                    self._session.resources,
                )
            if capacity < self.workers:
                logger.warning("There is room for %d of %d workers now.", capacity, self.workers)
            options = RayOptions(
                self.workers, cpus, gpus, retries, silence, slowness, start_seconds
            )
            self._executor = RayExecutor(task.problem, self._session, options)
        except BaseException:
            self._session.close()
            raise
        self._task, self._closed = task, False
        self._inside = ExitStack()

    @property
    def executor(self) -> RayExecutor:
        """The workers; raises CallOrderError once they are closed."""
        if self._closed:
            raise CallOrderError("The workers are closed. Make a new nets.RayMap.")
        return self._executor

    @property
    def traffic(self) -> Traffic:
        """What has been trained, moved, lost and given up so far; also once they are closed."""
        return self._executor.traffic

    def __call__(self, function: Callable[..., Any], *iterables: Iterable[Any]) -> list[Any]:
        """Map as ``batch_map`` does; what is trained of the task goes to the workers."""
        with executed_by(self._task.problem, self.executor):
            return batch_map(function, *iterables)

    def __enter__(self) -> RayMap:
        self._inside.enter_context(executed_by(self._task.problem, self.executor))
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return (
            f"<RayMap of {self.workers} workers, {state}: {self.traffic.networks} networks "
            f"trained, {self.traffic.lost} workers lost>"
        )

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be pickled or copied: the workers belong to this process."""
        raise InvalidTypeError(
            "map must stay in its process: expected something that can be pickled or copied, got a "
            "RayMap, whose workers belong to this process. Make one where it is used."
        )

    def close(self) -> None:
        """End the workers, and Ray if it was started here; a second call does nothing."""
        self._inside.close()
        if not self._closed:
            self._closed = True
            with plain_states_kept():
                self._executor.close()
                self._session.close()


def _cpus() -> int:
    """Return the CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _capacity(resources: dict[str, float], cpus: int, gpus: float) -> int:
    """Return how many workers fit."""
    most = resources.get("CPU", 0.0) // cpus
    if gpus:
        most = min(most, resources.get("GPU", 0.0) // gpus)
    return int(most)

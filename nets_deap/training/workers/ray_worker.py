"""``Worker``: what runs in a process of Ray; it holds the problem and trains what it is sent."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from nets_deap.tickets import bits
from nets_deap.training.device import limit_memory, pick_device
from nets_deap.training.engines.dispatch import train
from nets_deap.training.problem import Outcome, Plan, Start
from nets_deap.training.workers.transfer import SharedProblem, owned

# Terminals and SLURM send these to whole groups of processes. The driver decides what they mean; a
# worker that died of them would be lost with a chunk that the driver wants to finish or save.
IGNORED_SIGNALS = ("SIGINT", "SIGUSR1")


class Order(NamedTuple):
    """A chunk: packed masks (P, bytes), plan, starts, and how; see ``dispatch.train``.

    One thing to send costs the driver less than five.
    """

    masks: bits.Bytes
    plan: Plan
    starts: list[Start]
    engine: str
    chunk: int | None


class Trained(NamedTuple):
    """What came of a chunk: outcome, seconds, those on CPUs, and what was logged meanwhile."""

    outcome: Outcome
    seconds: float
    cpu_seconds: float
    logged: list[tuple[int, str]]


class Worker:
    """Holds one problem and trains chunks of its networks.

    Args:
        shared: The problem; its data stay in the memory that all workers of a node share.
        device: ``"cpu"`` or ``"cuda"``.
        threads: Of torch, on the CPU.
        gpus: Of which share of a GPU it takes the memory, where that is less than one.
    """

    def __init__(self, shared: SharedProblem, device: str, threads: int, gpus: float = 1.0) -> None:
        for name in IGNORED_SIGNALS:
            with contextlib.suppress(ValueError):  # not in the main thread
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        self._threads, self._warm = threads, False
        place = pick_device(device)
        if place.type == "cuda" and gpus < 1:
            limit_memory(place, gpus)
        self.problem = shared.on(place)
        self._logged: list[tuple[int, str]] = []
        logging.getLogger("nets_deap").addHandler(_Collector(self._logged))

    def node(self) -> str:
        """Return the node that this runs on; an answer means that chunks can come."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def train(self, order: Order) -> Trained:
        """Train the networks of a chunk."""
        # Ray may call from another thread each time, and torch has a number for each thread.
        torch.set_num_threads(self._threads)
        plan, masks, starts = order.plan, list(order.masks.copy()), owned(order.starts)
        options: dict[str, Any] = {"engine": order.engine, "chunk": order.chunk}
        if not self._warm:
            # Imports and compilation, which only a first training pays, would tell the driver that
            # networks are slow: one step first, which is not in the seconds.
            train(self.problem, masks[:1], replace(plan, steps=1), starts=starts[:1], **options)
            self._warm = True
        self._logged.clear()
        begin, used = time.perf_counter(), time.process_time()
        outcome = train(self.problem, masks, plan, starts=starts, **options)
        seconds, used = time.perf_counter() - begin, time.process_time() - used
        return Trained(outcome, seconds, used, list(self._logged))


def worker_class(ray: Any) -> type:
    """Return the class of workers with a sign of life; Ray's decorator needs Ray to be there."""

    class RayWorker(Worker):
        """A worker that answers while it trains."""

        # In a group, and so a thread, of its own: it answers as long as the process runs at all.
        @ray.method(concurrency_group="pulse")  # type: ignore[untyped-decorator]
        def pulse(self) -> None:
            """Answer."""

    return RayWorker


class _Collector(logging.Handler):
    """Collects what is logged, for the driver to log it where the user sees it."""

    def __init__(self, logged: list[tuple[int, str]]) -> None:
        super().__init__(logging.WARNING)
        self._logged = logged

    def emit(self, record: logging.LogRecord) -> None:
        """Collect one record."""
        self._logged.append((record.levelno, record.getMessage()))

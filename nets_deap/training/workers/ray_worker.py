"""``Worker``: what runs in a process of Ray; it holds the problem and trains what it is sent."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from nets_deap.tickets import bits
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.engines.dispatch import train
from nets_deap.training.problem import Outcome, Plan, Start
from nets_deap.training.workers.transfer import Crate

# A worker ends when its driver says so; these are sent to whole groups of processes.
UNHEARD = ("SIGINT", "SIGUSR1")


class About(NamedTuple):
    """What a worker says of itself when it is ready."""

    pid: int
    node: str
    device: str


class Order(NamedTuple):
    """A chunk: packed masks (P, bytes), plan, starts, and how; see ``dispatch.train``.

    One thing to send costs the driver less than five.
    """

    packed: bits.Bytes
    plan: Plan
    starts: list[Start | None]
    engine: str
    chunk: int | None


class Trained(NamedTuple):
    """What came of a chunk: outcome, seconds, those on CPUs, and what was logged meanwhile."""

    outcome: Outcome
    seconds: float
    cpu_seconds: float
    said: list[tuple[int, str]]


class Worker:
    """Holds one problem and trains chunks of its networks.

    Args:
        crate: The problem; its data stay in the memory that all workers of a node share.
        device: ``"cpu"`` or ``"cuda"``.
        threads: Of torch, on the CPU.
        node: Where Ray says that this is.
    """

    def __init__(self, crate: Crate, device: str, threads: int, node: str = "") -> None:
        for name in UNHEARD:
            with contextlib.suppress(ValueError):  # not in the main thread
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        torch.set_num_threads(threads)
        self._threads, self._warm = threads, False
        self._problem = crate.open(torch.device(device))
        self._said: list[tuple[int, str]] = []
        logging.getLogger("nets_deap").addHandler(_Keep(self._said))

    def ready(self) -> About:
        """Return who this is; an answer means that chunks can come."""
        import ray

        node = ray.get_runtime_context().get_node_id()
        return About(os.getpid(), node, str(self._problem.device))

    def pulse(self) -> None:
        """Answer, in a thread of its own: the process runs."""

    def memory(self) -> dict[str, int]:
        """Return bytes of this process: resident, and its share of what it shares (PSS)."""
        return memory_of(os.getpid())

    def shared(self) -> tuple[int, str]:
        """Return the bytes of the training inputs, and what memory they lie in, on Linux."""
        inputs = self._problem.train[0]
        return int(inputs.nbytes), mapping_of(inputs.data_ptr())

    def train(self, order: Order) -> Trained:
        """Train the networks of a chunk.

        What a first training costs beside, imports and compilation, is not in the seconds.
        """
        torch.set_num_threads(self._threads)  # a number for each thread of the process
        plan, masks = order.plan, [np.array(row) for row in order.packed]
        own = [None if start is None else _own(start) for start in order.starts]
        options: dict[str, Any] = {"engine": order.engine, "chunk": order.chunk}
        if not self._warm:
            train(self._problem, masks[:1], replace(plan, steps=1), starts=own[:1], **options)
            self._warm = True
        self._said.clear()
        begin, used = time.perf_counter(), time.process_time()
        outcome = train(self._problem, masks, plan, starts=own, **options)
        seconds, used = time.perf_counter() - begin, time.process_time() - used
        return Trained(outcome, seconds, used, list(self._said))


class _Keep(logging.Handler):
    """Keeps what is logged, for the driver to log it where the user sees it."""

    def __init__(self, said: list[tuple[int, str]]) -> None:
        super().__init__(logging.WARNING)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        self._said.append((record.levelno, record.getMessage()))


def own_outcome(outcome: Outcome) -> Outcome:
    """Return an outcome on memory of its own: what Ray hands over is read-only, and held open."""
    return Outcome(
        metrics={name: np.array(vector) for name, vector in outcome.metrics.items()},
        curve_steps=outcome.curve_steps,
        curve=np.array(outcome.curve),
        trained=[_own(state) for state in outcome.trained],
        states=[{n: t.clone() for n, t in state.items()} for state in outcome.states],
    )


def n_bytes(outcome: Outcome) -> int:
    """Return the bytes of an outcome's arrays."""
    arrays: list[Any] = [*outcome.metrics.values(), outcome.curve]
    arrays += [tensor for state in outcome.states for tensor in state.values()]
    return sum(int(array.nbytes) for array in arrays) + sum(map(start_bytes, outcome.trained))


def start_bytes(start: Start) -> int:
    """Return the bytes of a start's arrays."""
    if start is None:
        return 0
    return int(start.values.nbytes) + sum(int(array.nbytes) for array in start.unmasked.values())


def memory_of(pid: int) -> dict[str, int]:
    """Return bytes of a process on Linux: ``rss``, and ``pss``, where shared pages count once."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        lines = [line.split() for line in file]
    facts = {words[0].rstrip(":").lower(): int(words[1]) * 1024 for words in lines[1:]}
    return {name: facts[name] for name in ("rss", "pss")}


def mapping_of(address: int) -> str:
    """Return the name of the mapping that an address of this process lies in, on Linux."""
    with open("/proc/self/maps", encoding="ascii", errors="replace") as file:
        for line in file:
            begin, end = (int(part, 16) for part in line.split()[0].split("-"))
            if begin <= address < end:
                return " ".join(line.split()[1:2] + line.split()[5:])
    return ""


def _own(start: TrainedState) -> TrainedState:
    """Return weights on memory of their own."""
    return TrainedState(
        np.array(start.values), {name: np.array(array) for name, array in start.unmasked.items()}
    )

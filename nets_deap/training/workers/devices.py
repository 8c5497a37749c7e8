"""``DeviceExecutor``: one process trains on several devices at once, a thread for each."""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from nets_deap import _checks
from nets_deap.tickets import bits
from nets_deap.training import interrupt
from nets_deap.training.device import pick_device, threads_allowed, threads_limited
from nets_deap.training.engines.dispatch import train
from nets_deap.training.executor import set_executor, set_journal
from nets_deap.training.problem import OnPart, Outcome, Plan, Problem, Start
from nets_deap.training.workers.call import Call, works_of
from nets_deap.training.workers.speed import Speed, Work, balanced
from nets_deap.training.workers.transfer import copied

TICK = 0.2  # seconds between two looks at signals

Parts = queue.SimpleQueue[tuple[list[int], Outcome]]


Device = str | torch.device


def pick_devices(device: Device | Sequence[Device]) -> list[torch.device]:
    """Return one device or several: ``"cuda:all"``, or a list of names or of torch's devices.

    Raises:
        InvalidValueError: As ``pick_device`` does; or devices of different types, or none.
    """
    if isinstance(device, str) and device == "cuda:all":
        count = max(1, torch.cuda.device_count())
        return [pick_device(f"cuda:{number}") for number in range(count)]
    if isinstance(device, Device):
        return [pick_device(device)]
    each: list[Any] = [*device] if isinstance(device, (list, tuple)) else [device]
    for one in each:
        if not isinstance(one, Device):
            expected = "a name or a torch.device, or a list of them"
            raise _checks.bad_type("device", "be a device", expected, one)
    found = [pick_device(name) for name in each]
    if len({one.type for one in found}) != 1:
        raise _checks.bad_value("device", "be of one type", "CUDA devices, or 'cpu'", device)
    return found


def share_between(problem: Problem, devices: Sequence[torch.device]) -> None:
    """Let several devices train whatever is trained of a problem; one device needs nothing."""
    if len(devices) > 1:
        set_executor(problem, DeviceExecutor(problem, devices))


class DeviceExecutor:
    """Trains the networks of a problem on several devices, a share by measured speed on each.

    A device gets its whole share at once, unlike a worker of Ray: an engine fills a GPU with as
    many networks as fit, and no thread is ever lost.

    Args:
        problem: What to train. It is copied to each device, and not kept.
        devices: Two or more; one may be named twice.
    """

    def __init__(self, problem: Problem, devices: Sequence[torch.device]) -> None:
        self._copies = [copied(problem, device) for device in devices]
        self.speed = Speed()

    def train(
        self,
        problem: Problem,
        masks: list[bits.Bytes],
        plan: Plan,
        *,
        engine: str,
        starts: list[Start],
        chunk: int | None,
        on_part: OnPart,
    ) -> Outcome:
        """Train one network for each mask; see ``training.executor.Executor``."""
        call = Call(problem, masks, plan, engine, starts, chunk, on_part)
        works = works_of(problem, masks, plan)
        costs = [self.speed.predict(work) or 1.0 for work in works]
        shares = balanced(costs, [self.speed.pace(n) for n in range(len(self._copies))])
        parts: Parts = queue.SimpleQueue()
        threads = max(1, threads_allowed() // len(self._copies))
        with ThreadPoolExecutor(len(self._copies)) as pool:
            futures = {
                n: pool.submit(self._train_share, call, n, _Relay(share, parts), threads)
                for n, share in enumerate(shares)
                if share
            }
            # Journal and progress are called from here alone: they are not made for threads, and
            # signals arrive in the main one.
            while not (all(future.done() for future in futures.values()) and parts.empty()):
                interrupt.check()
                for future in futures.values():
                    if future.done():
                        future.result()  # raises what the thread has raised
                try:
                    part = parts.get(timeout=TICK)
                except queue.Empty:
                    continue
                call.keep(*part)
        for n, future in futures.items():
            outcome, seconds = future.result()
            self.speed.observe(Work.total(works[place] for place in shares[n]), seconds, n)
            for place, alone in zip(shares[n], outcome.split(), strict=True):
                if place not in call.found:  # it fits in no memory, and came in no part
                    call.keep([place], alone)
        return call.outcome()

    def _train_share(
        self, call: Call, n: int, relay: _Relay, threads: int
    ) -> tuple[Outcome, float]:
        """Train a device's networks in a thread of its own; return the seconds, too."""
        problem, share, begin = self._copies[n], relay.share, time.perf_counter()
        on_gpu = problem.device.type == "cuda"
        set_journal(problem, relay)
        with torch.cuda.device(problem.device) if on_gpu else threads_limited(threads):
            outcome = train(
                problem,
                [call.masks[place] for place in share],
                call.plan,
                engine=call.engine,
                starts=[call.starts[place] for place in share],
                chunk=call.chunk,
            )
        return outcome, time.perf_counter() - begin


class _Relay:
    """A journal that hands what a thread has trained to the thread that keeps it."""

    def __init__(self, share: list[int], parts: Parts) -> None:
        self.share, self._parts = share, parts

    def watching(self) -> AbstractContextManager[None]:
        """Return nothing to run in: the other thread listens."""
        return nullcontext()

    def begin(self, masks: list[bits.Bytes], plan: Plan, starts: list[Start]) -> dict[int, Outcome]:
        """Return nothing: what was kept of an earlier call is not in the share."""
        return {}

    def part(self, places: Sequence[int], outcome: Outcome) -> None:
        """Hand an outcome on, under its places among all networks."""
        self._parts.put(([self.share[place] for place in places], outcome))

    def cut_short(self) -> None:
        """Do nothing: the other thread takes note of that."""

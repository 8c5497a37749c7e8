"""``DeviceCrew``: one process trains on several devices at once, a thread for each."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from nets_deap import _checks
from nets_deap.tickets import bits
from nets_deap.training import interrupt
from nets_deap.training.device import pick_device
from nets_deap.training.engines.dispatch import train
from nets_deap.training.executor import set_executor, set_journal
from nets_deap.training.problem import OnPart, Outcome, Plan, Problem, Start
from nets_deap.training.workers.speed import Speed, Work
from nets_deap.training.workers.transfer import moved

TICK = 0.2


def pick_devices(device: str | Sequence[str]) -> list[torch.device]:
    """Return one device or several: ``"cuda:all"``, or a list of names.

    Raises:
        InvalidValueError: As ``pick_device`` does; or devices of different types, or none.
    """
    if device == "cuda:all":
        count = max(1, torch.cuda.device_count())
        return [pick_device(f"cuda:{number}") for number in range(count)]
    if isinstance(device, str):
        return [pick_device(device)]
    if not isinstance(device, (list, tuple)):
        raise _checks.bad_type("device", "be a device", "a name or a list of names", device)
    found = [pick_device(name) for name in device]
    if len({one.type for one in found}) != 1:
        raise _checks.bad_value("device", "be of one type", "CUDA devices, or 'cpu'", device)
    return found


def balanced(costs: Sequence[float], paces: Sequence[float]) -> list[list[int]]:
    """Share networks between devices so that all end at about the same time.

    The costliest first, each to the device that would then be done first. The longest share takes
    at most 4/3 of the best possible, for devices alike.

    Args:
        costs: Of each network.
        paces: Seconds of each device for a cost of one.

    Returns:
        Places of each device's networks, ascending; some may be empty.

    Reference:
        Graham 1969, Bounds on multiprocessing timing anomalies,
        https://doi.org/10.1137/0117039
    """
    shares: list[list[int]] = [[] for _ in paces]
    loads = [0.0] * len(paces)
    for place in sorted(range(len(costs)), key=lambda i: -costs[i]):
        ends = [(load + costs[place]) * pace for load, pace in zip(loads, paces, strict=True)]
        n = ends.index(min(ends))
        shares[n].append(place)
        loads[n] += costs[place]
    return [sorted(share) for share in shares]


class DeviceCrew:
    """Trains the networks of a problem on several devices, a share by measured speed on each.

    Args:
        problem: What to train. It is copied to each device, and not kept.
        devices: Two or more; one may be named twice.
    """

    def __init__(self, problem: Problem, devices: Sequence[torch.device]) -> None:
        self.replicas = [moved(problem, device) for device in devices]
        self.speed = Speed()

    def train(
        self,
        problem: Problem,
        masks: list[bits.Bytes],
        plan: Plan,
        *,
        engine: str,
        starts: list[Start | None],
        chunk: int | None,
        on_part: OnPart,
    ) -> Outcome:
        """Train one network for each mask; see ``training.executor.Executor``."""
        works = [Work.of(mask, problem.layout.size, plan.steps) for mask in masks]
        known = [self.speed.expect(work) for work in works]
        costs = [1.0 if cost is None else cost for cost in known]
        paces = [self.speed.pace(n) for n in range(len(self.replicas))]
        shares = balanced(costs, paces)
        parts: queue.SimpleQueue[tuple[list[int], Outcome]] = queue.SimpleQueue()
        threads = max(1, torch.get_num_threads() // len(self.replicas))

        def work(n: int) -> tuple[Outcome, float]:
            replica, share, begin = self.replicas[n], shares[n], time.perf_counter()
            if replica.device.type == "cpu":
                torch.set_num_threads(threads)  # of this thread alone
            relay = _Relay(share, parts)
            set_journal(replica, relay)
            on_gpu = replica.device.type == "cuda"
            with torch.cuda.device(replica.device) if on_gpu else nullcontext():
                outcome = train(
                    replica,
                    [masks[i] for i in share],
                    plan,
                    engine=engine,
                    starts=[starts[i] for i in share],
                    chunk=chunk,
                )
            return outcome, time.perf_counter() - begin

        seen: set[int] = set()

        def tell(places: list[int], outcome: Outcome) -> None:
            seen.update(places)
            on_part(places, outcome)

        found: dict[int, Outcome] = {}
        with ThreadPoolExecutor(len(self.replicas)) as pool:
            futures = {pool.submit(work, n): n for n, share in enumerate(shares) if share}
            _wait(futures, parts, tell)
            for future, n in futures.items():
                outcome, seconds = future.result()
                self.speed.note(Work.total(works[i] for i in shares[n]), seconds, n)
                found.update(zip(shares[n], outcome.split(), strict=True))
        for place in sorted(set(found) - seen):  # what did not fit in memory
            tell([place], found[place])
        return Outcome.concatenate([found[i] for i in range(len(masks))])


class _Relay:
    """A keeper that hands what a thread has trained to the thread that keeps it."""

    def __init__(self, share: list[int], parts: Any) -> None:
        self._share, self._parts = share, parts

    def watching(self) -> AbstractContextManager[None]:
        """Return nothing to run in: the other thread listens."""
        return nullcontext()

    def begin(
        self, masks: list[bits.Bytes], plan: Plan, starts: list[Start | None]
    ) -> dict[int, Outcome]:
        """Nothing is kept here."""
        return {}

    def part(self, places: Sequence[int], outcome: Outcome) -> None:
        """Hand an outcome on, under its places among all networks."""
        self._parts.put(([self._share[place] for place in places], outcome))

    def cut_short(self) -> None:
        """The other thread takes note of that."""


def _wait(
    futures: dict[Future[tuple[Outcome, float]], int],
    parts: queue.SimpleQueue[tuple[list[int], Outcome]],
    tell: Callable[[list[int], Outcome], None],
) -> None:
    """Tell what comes in until all threads are done; the first error comes through."""
    while not (all(future.done() for future in futures) and parts.empty()):
        interrupt.check()
        for future in futures:
            if future.done():
                future.result()
        try:
            tell(*parts.get(timeout=TICK))
        except queue.Empty:
            continue


def share_between(problem: Problem, devices: Sequence[torch.device]) -> None:
    """Let several devices train whatever is trained of a problem; one device needs nothing."""
    if len(devices) > 1:
        set_executor(problem, DeviceCrew(problem, devices))

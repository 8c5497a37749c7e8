"""How training scales with workers: throughput, overhead of chunks, bytes, and a model of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from nets_deap import _checks
from nets_deap.cli.bench.scaling_model import ScalingModel
from nets_deap.evolution.operators import random_mask
from nets_deap.evolution.ray_map import RayMap
from nets_deap.tickets.random import layer_counts
from nets_deap.training import tasks
from nets_deap.training.device import threads_limited
from nets_deap.training.executor import executed_by
from nets_deap.training.problem import Plan
from nets_deap.training.workers.ray_session import Session
from nets_deap.training.workers.transfer import n_bytes

DENSITY = 0.05
QUIET = 0.9
HEAD = (
    "workers  tickets/s  of one  chunk s    busy   CPU ms  over. ms  driver ms  bytes out  and back"
)
TABLE = ((1, 1), (2, 1), (4, 1), (8, 1), (8, 2), (8, 8), (8, 32))


@dataclass(frozen=True)
class Scaling:
    """What was measured with one number of workers.

    Attributes:
        workers: How many, one thread each; 0 for this process, on one thread, without Ray.
        rates: Tickets a second, one a repeat.
        overhead: Seconds of a chunk beside its training.
        driver: Seconds of the driver for each ticket.
        chunk_seconds: Mean training of a chunk.
        busy: Share of the time that workers train.
        cpu: Seconds on a CPU for each ticket.
        cpu_share: Of the time that workers train; less than 1 where others use the cores.
        bytes_out: To a worker, for each ticket.
        bytes_back: From a worker, for each ticket.
    """

    workers: int
    rates: list[float]
    overhead: float = 0.0
    driver: float = 0.0
    chunk_seconds: float = 0.0
    busy: float = 0.0
    cpu: float = 0.0
    cpu_share: float = 0.0
    bytes_out: float = 0.0
    bytes_back: float = 0.0

    @property
    def rate(self) -> float:
        """Median tickets a second."""
        return statistics.median(self.rates)


def measure(
    workers: Sequence[int],
    *,
    tickets: int = 64,
    steps: int = 1500,
    repeats: int = 5,
    device: str = "cpu",
) -> list[Scaling]:
    """Train the same tickets of LeNet-300-100 with each number of workers, interleaved.

    Args:
        workers: Numbers of workers.
        tickets: How many train, at 5 % density.
        steps: Of each.
        repeats: Interleaved; the first one of all is not counted, it warms up.
        device: ``"cpu"``, one thread a worker, or ``"cuda"``, one GPU a worker.

    Returns:
        One for this process alone, then one for each number of workers.
    """
    for n in workers:
        _checks.whole("workers", n)
    _checks.whole("repeats", repeats)
    task = tasks.lenet(dataset="mnist5k", device=device)
    rng = np.random.default_rng(0)
    counts = layer_counts(task.layout, DENSITY)
    population = [
        task.ticket(random_mask(task.layout, counts, rng))
        for _ in range(_checks.whole("tickets", tickets))
    ]
    plan = Plan(_checks.whole("steps", steps), seed=1)
    gpus = int(task.device.type == "cuda") * sum(workers)
    session = Session("local", cpus=sum(workers), gpus=gpus, store=n_bytes(task.problem))
    crews = {n: RayMap(task, workers=n) for n in workers}
    rates: dict[int, list[float]] = {n: [] for n in (0, *workers)}
    try:
        for repeat in range(-1, repeats):
            for n in rates:
                begin = time.perf_counter()
                with executed_by(task.problem, crews[n].crew if n else None), threads_limited(1):
                    task.run(population, plan)
                if repeat >= 0:
                    rates[n].append(tickets / (time.perf_counter() - begin))
                elif n:  # imports, compilation and the first guesses are over
                    crews[n].crew.traffic = type(crews[n].traffic)()
        return [Scaling(0, rates[0]), *(_summary(n, tickets, rates[n], crews[n]) for n in workers)]
    finally:
        for crew in crews.values():
            crew.close()
        session.close()


def _summary(n: int, tickets: int, rates: list[float], crew: RayMap) -> Scaling:
    """Return what was measured with some workers."""
    traffic = replace(crew.traffic)
    return Scaling(
        n,
        rates,
        overhead=(traffic.chunk_seconds - traffic.worker_seconds) / traffic.chunks,
        driver=traffic.driver_seconds / traffic.networks,
        chunk_seconds=traffic.worker_seconds / traffic.chunks,
        busy=traffic.worker_seconds / (n * sum(tickets / rate for rate in rates)),
        cpu=traffic.cpu_seconds / traffic.networks,
        cpu_share=traffic.cpu_seconds / traffic.worker_seconds,
        bytes_out=traffic.bytes_out / traffic.networks,
        bytes_back=traffic.bytes_back / traffic.networks,
    )


def report(
    say: Callable[[str], None], *, workers: Sequence[int], device: str = "cpu", **options: Any
) -> dict[str, Any]:
    """Measure, say a table and the model's predictions, and return everything as plain data.

    Args:
        say: Takes each line.
        workers: Numbers of workers, two at least.
        device: See ``measure``.
        **options: See ``measure``.
    """
    if len(set(workers)) < 2:
        raise _checks.bad_value(
            "workers", "show how throughput grows", "two numbers, such as 1,2", list(workers)
        )
    rows = measure(workers, device=device, **options)
    say("LeNet-300-100 at 5 %, medians; workers of one thread or GPU each")
    say(HEAD)
    one = rows[1].rate / rows[1].workers
    for row in rows:
        name = str(row.workers) if row.workers else "no Ray"
        more = (
            f"{row.chunk_seconds:>6.2f}  {100 * row.busy:>4.0f} %  {1e3 * row.cpu:>7.1f}  "
            f"{1e3 * row.overhead:>8.1f}  {1e3 * row.driver:>7.3f}  {row.bytes_out:>9,.0f}  "
            f"{row.bytes_back:>10,.0f}"
        )
        say(f"{name:>7}  {row.rate:>9.2f}  {row.rate / one:>6.2f}  {more if row.workers else ''}")
    say("(busy: of the workers' time; CPU, driver, bytes: of a ticket; overhead: of a chunk)")
    if device != "cuda" and min(row.cpu_share for row in rows[1:]) < QUIET:
        say("WARNING: workers wait for CPUs that other programs use; no rate here is good")
    last = rows[-1]
    model = ScalingModel.fit(
        {row.workers: row.rate for row in rows[1:]},
        driver_seconds=max(row.driver for row in rows[1:]),
        ticket_bytes=last.bytes_out + last.bytes_back,
    )
    say(
        f"\nmodel: {model.rate:.2f} w / (1 + {model.contention:.3f} (w - 1)) tickets/s for w "
        f"workers of a node, at most {1 / model.driver_seconds:,.0f} for one driver"
    )
    off = model.off({row.workers: row.rates for row in rows[1:]})
    say(
        f"off by {100 * model.error:.1f} % from the medians at most, by {100 * off:.1f} % from a "
        "single measurement"
    )
    if len(rows) < 4:
        say("(two numbers of workers cannot contradict it: give three, such as --workers 1,2,4)")
    say("workers a node  nodes  predicted tickets/s  limited by")
    predicted = []
    for w, n in TABLE:
        rate, limit = model.predict(w, n)
        predicted.append({"workers": w, "nodes": n, "rate": rate, "limit": limit})
        say(f"{w:>14}  {n:>5}  {rate:>19,.1f}  {limit}")
    say("(a node with as many free cores or GPUs as workers; 10 Gbit/s between nodes)")
    return {
        "rows": [asdict(row) for row in rows],
        "model": {**asdict(model), "off": off},
        "predicted": predicted,
    }

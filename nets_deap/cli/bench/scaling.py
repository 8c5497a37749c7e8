"""How training scales with workers: throughput, overhead of chunks, bytes, and a model of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from nets_deap import _checks
from nets_deap._table import table
from nets_deap.cli.bench.scaling_model import ScalingModel
from nets_deap.evolution.operators import random_mask
from nets_deap.evolution.ray_map import RayMap
from nets_deap.tickets.random import layer_counts
from nets_deap.training import tasks
from nets_deap.training.device import threads_limited
from nets_deap.training.executor import executed_by
from nets_deap.training.problem import Plan
from nets_deap.training.workers.ray_session import RaySession
from nets_deap.training.workers.transfer import n_bytes

DENSITY = 0.05
QUIET = 0.9
PREDICTED = ((1, 1), (2, 1), (4, 1), (8, 1), (8, 2), (8, 8), (8, 32))


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


# Of workers; this process alone has none of these.
COLUMNS: dict[str, Callable[[Scaling], str]] = {
    "chunk s": lambda row: f"{row.chunk_seconds:.2f}",
    "busy": lambda row: f"{100 * row.busy:.0f} %",
    "CPU ms": lambda row: f"{1e3 * row.cpu:.1f}",
    "over. ms": lambda row: f"{1e3 * row.overhead:.1f}",
    "driver ms": lambda row: f"{1e3 * row.driver:.3f}",
    "bytes out": lambda row: f"{row.bytes_out:,.0f}",
    "and back": lambda row: f"{row.bytes_back:,.0f}",
}


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
    session = RaySession("local", cpus=sum(workers), gpus=gpus, store=n_bytes(task.problem))
    maps = {n: RayMap(task, workers=n) for n in workers}
    rates: dict[int, list[float]] = {n: [] for n in (0, *workers)}
    try:
        for repeat in range(-1, repeats):
            for n in rates:
                begin = time.perf_counter()
                with executed_by(task.problem, maps[n].executor if n else None), threads_limited(1):
                    task.run(population, plan)
                if repeat >= 0:
                    rates[n].append(tickets / (time.perf_counter() - begin))
                elif n:  # imports, compilation and the first guesses are over
                    maps[n].executor.traffic = type(maps[n].traffic)()
        return [Scaling(0, rates[0]), *(_summary(n, tickets, rates[n], maps[n]) for n in workers)]
    finally:
        for ray_map in maps.values():
            ray_map.close()
        session.close()


def _summary(n: int, tickets: int, rates: list[float], ray_map: RayMap) -> Scaling:
    """Return what was measured with some workers."""
    traffic = replace(ray_map.traffic)
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


def report(*, workers: Sequence[int], device: str = "cpu", **options: Any) -> dict[str, Any]:
    """Measure, print a table and the model's predictions, and return everything as plain data.

    Args:
        workers: Numbers of workers, two at least.
        device: See ``measure``.
        **options: See ``measure``.
    """
    if len(set(workers)) < 2:
        raise _checks.bad_value(
            "workers", "show how throughput grows", "two numbers, such as 1,2", list(workers)
        )
    rows = measure(workers, device=device, **options)
    print("LeNet-300-100 at 5 %, medians; workers of one thread or GPU each")
    one = rows[1].rate / rows[1].workers
    cells = [["workers", "tickets/s", "of one", *COLUMNS]]
    for row in rows:
        more = [cell(row) if row.workers else "" for cell in COLUMNS.values()]
        name = str(row.workers) if row.workers else "no Ray"
        cells.append([name, f"{row.rate:.2f}", f"{row.rate / one:.2f}", *more])
    print(table(cells, left=()))
    print("(busy: of the workers' time; CPU, driver, bytes: of a ticket; overhead: of a chunk)")
    if device != "cuda" and min(row.cpu_share for row in rows[1:]) < QUIET:
        print("WARNING: workers wait for CPUs that other programs use; no rate here is good")
    last = rows[-1]
    model = ScalingModel.fit(
        {row.workers: row.rate for row in rows[1:]},
        driver_seconds=max(row.driver for row in rows[1:]),
        ticket_bytes=last.bytes_out + last.bytes_back,
    )
    print(
        f"\nmodel: {model.rate:.2f} w / (1 + {model.contention:.3f} (w - 1)) tickets/s for w "
        f"workers of a node, at most {1 / model.driver_seconds:,.0f} for one driver"
    )
    off = model.off({row.workers: row.rates for row in rows[1:]})
    print(
        f"off by {100 * model.error:.1f} % from the medians at most, by {100 * off:.1f} % from a "
        "single measurement"
    )
    if len(rows) < 4:
        print("(two numbers of workers cannot contradict it: give three, such as --workers 1,2,4)")
    predicted: list[dict[str, Any]] = []
    cells = [["workers a node", "nodes", "predicted tickets/s", "limited by"]]
    for w, n in PREDICTED:
        rate, limit = model.predict(w, n)
        predicted.append({"workers": w, "nodes": n, "rate": rate, "limit": limit})
        cells.append([str(w), str(n), f"{rate:,.1f}", limit])
    print(table(cells, left=(3,)))
    print("(a node with as many free cores or GPUs as workers; 10 Gbit/s between nodes)")
    return {
        "rows": [asdict(row) for row in rows],
        "model": {**asdict(model), "off": off},
        "predicted": predicted,
    }

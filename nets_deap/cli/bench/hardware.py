"""The machine that a benchmark runs on: its name, its measured limits, the memory in use."""

from __future__ import annotations

import functools
import platform
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nets_deap.training.precision import products

PRODUCT_SIZES = {"cpu": (256, 512, 1024, 2048), "cuda": (4096, 8192)}
COPY_BYTES = {"cpu": 2**28, "cuda": 2**32}
CACHE_BYTES = 2**18  # what a thread copies within the cache of its own core
SAMPLE_SECONDS = 0.01


@dataclass(frozen=True)
class Limits:
    """What the machine reaches at best.

    Attributes:
        flops: Floating-point operations a second, in matrix products.
        memory: Bytes a second that a large copy reads and writes.
        cache: The same within the cores' own caches; None on a GPU.
    """

    flops: float
    memory: float
    cache: float | None = None

    @property
    def bytes(self) -> float:
        """Bytes a second that no step can move faster: on the CPU what the caches give."""
        return self.memory if self.cache is None else max(self.memory, self.cache)


def measure_limits(device: torch.device, precision: str = "float32") -> Limits:
    """Measure matrix products in a precision, and copies; of products the fastest size counts.

    On the CPU the compiled engine's own product counts as well, where numba is installed, because
    it may be faster than torch's.
    """
    rates, dtype = [], torch.bfloat16 if precision == "bf16" else torch.float32
    with products(precision):
        for n in PRODUCT_SIZES[device.type]:
            a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
            rates.append(2 * n**3 / median_seconds(functools.partial(torch.mm, a, b), device))
    memory = _copy_rate(COPY_BYTES[device.type], device)
    if device.type == "cuda":
        return Limits(max(rates), memory)
    if precision == "float32" and find_spec("numba") is not None:
        rates.append(_own_product_rate())
    return Limits(max(rates), memory, _cache_rate())


def _copy_rate(n_bytes: int, device: torch.device) -> float:
    """Return the bytes a second that a copy reads and writes."""
    source = torch.randn(n_bytes // 4, device=device)
    target = torch.empty_like(source)
    return 2 * n_bytes / median_seconds(lambda: target.copy_(source), device)


def _cache_rate() -> float:
    """Return what all threads together copy within their caches, in bytes a second."""

    def work() -> None:
        source, target = np.ones(CACHE_BYTES, np.uint8), np.zeros(CACHE_BYTES, np.uint8)
        for _ in range(200):
            np.copyto(target, source)

    return 200 * 2 * CACHE_BYTES * torch.get_num_threads() / _together(work)


def _own_product_rate() -> float:
    """Return the rate of the compiled engine's product, all threads together."""
    from nets_deap.training.engines.cpu.engine import product_to_time

    product, operations = product_to_time()

    def work() -> None:
        for _ in range(100):
            product()

    return 100 * operations * torch.get_num_threads() / _together(work)


def _together(work: Callable[[], None]) -> float:
    """Return the median seconds of work that every thread does at once."""
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        return median_seconds(
            lambda: list(pool.map(lambda _: work(), range(threads))), torch.device("cpu")
        )


def median_seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Return the median seconds of a repeated piece of work, warmed up."""
    seconds = []
    for _ in range(12):
        settle(device)
        start = time.perf_counter()
        work()
        settle(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])


def settle(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe(device: torch.device) -> dict[str, Any]:
    """Return what the machine is, as plain data."""
    facts = {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": version("torch"),
        "device": str(device),
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def _processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


@dataclass
class Peak:
    """The most memory that was in use, in bytes; None where the system does not tell."""

    bytes: float | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Watch memory while the block runs: on CUDA what torch holds, else the resident process."""
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.bytes = float(torch.cuda.max_memory_allocated(device))
        return
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            now = _resident()
            peak.bytes = now if peak.bytes is None or now is None else max(now, peak.bytes)
            done.wait(SAMPLE_SECONDS)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def _resident() -> float | None:
    """Return the resident memory of this process in bytes; None where /proc is not there."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return 1024.0 * int(line.split()[1])
    except OSError:
        pass
    return None

"""The machine that a benchmark runs on: its name, its measured limits, the memory in use."""

from __future__ import annotations

import platform
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PRODUCT_SIZE = {"cpu": 1024, "cuda": 8192}
COPY_BYTES = {"cpu": 2**28, "cuda": 2**32}
SAMPLE_SECONDS = 0.01


@dataclass(frozen=True)
class Limits:
    """What the machine reaches at best: operations and bytes a second."""

    flops: float
    bytes: float


def measure_limits(device: torch.device, dtype: torch.dtype = torch.float32) -> Limits:
    """Measure the rate of a large matrix product and of a large copy (bytes read + written)."""
    n = PRODUCT_SIZE[device.type]
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    source = torch.randn(COPY_BYTES[device.type] // 4, device=device)
    target = torch.empty_like(source)
    product = _fastest(lambda: torch.mm(a, b), device)
    copy = _fastest(lambda: target.copy_(source), device)
    return Limits(flops=2 * n**3 / product, bytes=2 * source.numel() * 4 / copy)


def _fastest(work: Any, device: torch.device) -> float:
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

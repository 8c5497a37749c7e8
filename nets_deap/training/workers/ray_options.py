"""``Terms``: how a crew works; ``Traffic``: what it has done."""

from __future__ import annotations

from dataclasses import dataclass

RESUME = (
    "What is finished is kept where the run has a folder; go on with nets-deap resume RUN or "
    "nets.resume, with any number of workers."
)


@dataclass
class Traffic:
    """What a crew has done: counts, bytes of tickets and outcomes, seconds.

    ``driver_seconds`` are those that the driver's own thread spends on a CPU, ``cpu_seconds`` those
    of the workers; ``worker_seconds`` is the time that chunks train, ``chunk_seconds`` with their
    way there and back.
    """

    chunks: int = 0
    networks: int = 0
    bytes_out: int = 0
    bytes_back: int = 0
    driver_seconds: float = 0.0
    worker_seconds: float = 0.0
    cpu_seconds: float = 0.0
    chunk_seconds: float = 0.0
    lost: int = 0
    condemned: int = 0


@dataclass(frozen=True)
class Terms:
    """How a crew works; see ``RayMap``."""

    workers: int
    cpus: int
    gpus: float
    retries: int
    silence: float
    slowness: float
    start_seconds: float

    @property
    def device(self) -> str:
        """Where workers train."""
        return "cuda" if self.gpus else "cpu"

    @property
    def most_losses(self) -> int:
        """Workers that may be lost one after the other without a chunk done in between."""
        return 10 + 2 * self.workers


def in_a_line(error: Exception) -> str:
    """Return what Ray says of an error, in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [line for line in lines if ": " not in line[:16]]
    return " ".join(kept)[:300] or type(error).__name__

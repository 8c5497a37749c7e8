"""``RayOptions``: how workers of Ray are treated; ``Traffic``: what they have done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RayOptions:
    """How many workers, and how they are treated; ``RayMap`` explains and checks each."""

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
        """Workers that may be lost one after the other without a chunk done in between.

        A chunk done starts the count anew, and the halves of a poisoned chunk are done in between:
        so many in a row mean that no worker can live, such as where the node has no memory left.
        """
        return 10 + 2 * self.workers


@dataclass
class Traffic:
    """What workers have done: counts, bytes of tickets and outcomes, seconds.

    Attributes:
        chunks: Chunks that came back.
        networks: Networks in them.
        bytes_out: Masks and starts that went to workers.
        bytes_back: Outcomes that came back.
        driver_seconds: Of the driver's own thread, on a CPU.
        worker_seconds: In which chunks train.
        cpu_seconds: Of the workers, on CPUs.
        chunk_seconds: As ``worker_seconds``, with the way there and back.
        lost: Workers that were lost.
        failed: Networks that failed alone too often, and count as diverged.
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
    failed: int = 0

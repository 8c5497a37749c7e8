"""``Speed``: how long chunks of networks take, learnt from those that have been trained."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from nets_deap import _checks
from nets_deap.tickets import bits

REMEMBERED = 64
NEWEST = 0.3  # weight of the newest chunk in a worker's pace
DOUBT = 0.01
FASTEST = 1e-6  # seconds; no chunk takes less


class Work(NamedTuple):
    """What there is to do: networks, their steps, and steps x density, summed over networks."""

    networks: int
    steps: float
    kept: float

    @classmethod
    def of(cls, mask: bits.Bytes, size: int, steps: int) -> Work:
        """Return the training of one network: its packed mask, of ``size`` bits, for so long."""
        return cls(1, steps, steps * bits.count(mask) / size)

    @classmethod
    def total(cls, parts: Iterable[Work]) -> Work:
        """Return the work of a chunk."""
        networks, steps, kept = 0, 0.0, 0.0
        for part in parts:
            networks, steps, kept = (
                networks + part.networks,
                steps + part.steps,
                kept + part.kept,
            )
        return cls(networks, steps, kept)


class Speed:
    """Seconds of a chunk = a + b steps + c steps x density, none of them negative.

    The fit is of the last ``REMEMBERED`` chunks, by relative error. Workers differ: each has a
    pace, its seconds over those of the fit.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[Work, float]] = deque(maxlen=REMEMBERED)
        self._paces: dict[Hashable, float] = {}
        self._fit: tuple[float, float, float] | None = None
        self.largest = 0

    def note(self, work: Work, seconds: float, worker: Hashable = None) -> None:
        """Take note that a worker, or one without a name, took so many seconds for a chunk."""
        seconds = max(FASTEST, _checks.real("seconds", seconds, low=0))
        expected = self.expect(work)
        if expected is not None and worker is not None:
            ratio = min(16.0, max(1 / 16, seconds / max(FASTEST, expected)))
            before = self._paces.get(worker, 1.0)
            self._paces[worker] = (1 - NEWEST) * before + NEWEST * ratio
        pace = self._paces.get(worker, 1.0)
        self._seen.append((work, seconds / pace))
        self._fit = None
        self.largest = max(self.largest, work.networks)

    def pace(self, worker: Hashable) -> float:
        """Return how much longer than the fit a worker takes; 1 where nothing is known."""
        return self._paces.get(worker, 1.0)

    def forget(self, worker: Hashable) -> None:
        """Forget a worker that is gone."""
        self._paces.pop(worker, None)

    def expect(self, work: Work, worker: Hashable = None) -> float | None:
        """Return the seconds that a chunk will take; None before anything was measured."""
        if not self._seen:
            return None
        each, steps, kept = self._coefficients()
        seconds = each + steps * work.steps + kept * work.kept
        return max(FASTEST, seconds) * self.pace(worker)

    @property
    def overhead(self) -> float:
        """Seconds of a chunk that do not depend on what it holds; 0 before anything is known."""
        return self._coefficients()[0] if self._seen else 0.0

    def _coefficients(self) -> tuple[float, float, float]:
        """Return the fit, made when first asked for."""
        if self._fit is None:
            times = np.array([seconds for _, seconds in self._seen])
            rows = np.array([(1.0, work.steps, work.kept) for work, _ in self._seen])
            scale = rows.max(axis=0)
            scale[scale == 0] = 1.0
            known = rows / scale / times[:, None]
            # Where chunks are alike, their networks cost something, and being a chunk does not.
            doubt = np.array([[DOUBT / times.mean(), 0.0, 0.0]])
            found, _ = nnls(np.vstack([known, doubt]), np.append(np.ones(len(times)), 0.0))
            a, b, c = (found / scale).tolist()
            self._fit = (a, b, c)
        return self._fit


def portion(
    works: list[Work],
    speed: Speed,
    *,
    workers: int,
    worker: Hashable = None,
    least: float = 0.1,
    most: float = 1.0,
) -> int:
    """Return how many of the next networks make a good chunk for a worker.

    It takes about ``most`` seconds, less towards the end so that all workers end together, and
    never less than ``least`` if there is enough left. Until something is measured, and then by
    doubling, chunks stay small: an unknown network might take an hour.

    Args:
        works: What is left, in the order in which it will be done, each one network.
        speed: What has been measured.
        workers: How many share it, >= 1.
        worker: For whom the chunk is.
        least: Seconds.
        most: Seconds.
    """
    if not works:
        return 0
    cap = max(1, 2 * speed.largest, -(-len(works) // (8 * workers)))
    all_of_it = speed.expect(Work.total(works))
    if all_of_it is None:
        return min(len(works), max(1, -(-len(works) // (8 * workers))))
    target = min(most, max(least, all_of_it / (2 * workers))) / speed.pace(worker)
    total, taken = Work(0, 0.0, 0.0), 0
    for work in works[:cap]:
        total = Work.total((total, work))
        seconds = speed.expect(total)
        assert seconds is not None
        if taken and seconds > target:
            break
        taken += 1
    return taken

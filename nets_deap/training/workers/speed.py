"""``Speed``: how long chunks of networks take, learnt from those that have been trained."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from nets_deap import _checks

WINDOW = 64  # chunks that the fit is of
SMOOTHING = 0.3  # weight of the newest chunk in a worker's pace
PENALTY = 0.01  # on the seconds of a chunk that do not depend on what it holds
LEAST_SECONDS = 1e-6  # no chunk takes less
SHORTEST, LONGEST = 0.1, 1.0  # seconds that a good chunk takes


class Work(NamedTuple):
    """What there is to do: networks, their steps, and steps x density, summed over networks."""

    networks: int
    steps: float
    kept: float

    @classmethod
    def total(cls, parts: Iterable[Work]) -> Work:
        """Return the work of a chunk, of one network at least."""
        networks, steps, kept = zip(*parts, strict=True)
        return cls(sum(networks), sum(steps), sum(kept))


class Speed:
    """Seconds of a chunk = a + b steps + c steps x density, none of them negative.

    The fit is of the last ``WINDOW`` chunks, by relative error. Workers differ: each has a pace,
    its seconds over those of the fit.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[Work, float]] = deque(maxlen=WINDOW)
        self._paces: dict[Hashable, float] = {}
        self._fit: tuple[float, float, float] | None = None
        self.largest = 0

    def observe(self, work: Work, seconds: float, worker: Hashable = None) -> None:
        """Learn that a worker, or one without a name, took so many seconds for a chunk."""
        seconds = max(LEAST_SECONDS, _checks.real("seconds", seconds, low=0))
        predicted = self.predict(work)
        if predicted is not None and worker is not None:
            # Bounded, as one chunk during which the machine slept should not rule for long.
            ratio = min(16.0, max(1 / 16, seconds / predicted))
            self._paces[worker] = (1 - SMOOTHING) * self.pace(worker) + SMOOTHING * ratio
        # What a worker of pace 1 would have taken: so workers that differ share one fit.
        self._seen.append((work, seconds / self.pace(worker)))
        self._fit = None
        self.largest = max(self.largest, work.networks)

    def pace(self, worker: Hashable) -> float:
        """Return how much longer than the fit a worker takes; 1 where nothing is known."""
        return self._paces.get(worker, 1.0)

    def forget(self, worker: Hashable) -> None:
        """Forget a worker that is gone."""
        self._paces.pop(worker, None)

    def predict(self, work: Work, worker: Hashable = None) -> float | None:
        """Return the seconds that a chunk will take; None before anything was measured."""
        if not self._seen:
            return None
        overhead, step, kept = self._coefficients()
        seconds = overhead + step * work.steps + kept * work.kept
        return max(LEAST_SECONDS, seconds) * self.pace(worker)

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
            # Rows over their seconds should give 1 each: the error is relative, and chunks of
            # 10 ms count as much as those of 1 s.
            relative = rows / scale / times[:, None]
            # Where all chunks are alike, the three columns say the same. The penalty on the first
            # decides then that networks cost something, and being a chunk does not.
            penalty = np.array([[PENALTY / times.mean(), 0.0, 0.0]])
            found, _ = nnls(np.vstack([relative, penalty]), np.append(np.ones(len(times)), 0.0))
            overhead, step, kept = (found / scale).tolist()
            self._fit = (overhead, step, kept)
        return self._fit


def portion(works: list[Work], speed: Speed, *, workers: int, worker: Hashable = None) -> int:
    """Return how many of the next networks make a good chunk for a worker.

    It takes about ``LONGEST`` seconds, less towards the end so that all workers end together, and
    never less than ``SHORTEST`` if there is enough left. Until something is measured, and then by
    doubling, chunks stay small: an unknown network might take an hour.

    Args:
        works: What is left, in the order in which it will be done, each one network.
        speed: What has been measured.
        workers: How many share it, >= 1.
        worker: For whom the chunk is.
    """
    if not works:
        return 0
    first = -(-len(works) // (8 * workers))
    all_of_it = speed.predict(Work.total(works))
    if all_of_it is None:
        return first
    # Two rounds for each worker are left: with one, the slowest would end long after the others.
    target = min(LONGEST, max(SHORTEST, all_of_it / (2 * workers))) / speed.pace(worker)
    most = min(len(works), max(2 * speed.largest, first))
    total = works[0]
    for n in range(1, most):
        total = Work.total((total, works[n]))
        seconds = speed.predict(total)
        assert seconds is not None
        if seconds > target:
            return n
    return most


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

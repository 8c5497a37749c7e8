"""``Chunks``: the networks of a call in portions for workers, and those to be tried again."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Sequence

from nets_deap.training.workers.speed import Speed, Work, portion

Chunk = tuple[int, ...]  # places of networks among the masks of a call


class Chunks:
    """The networks of one call, cut into chunks; those that fail are halved and tried again.

    A chunk that was lost with its worker may hold the network that killed it: a poison, such as a
    mask for which a kernel crashes. Halving finds it in log2(chunk) losses, and all its neighbours
    are trained. Outcomes do not change: an engine trains a network the same in any company.

    Args:
        works: The work of each network, by place.
        speed: How long chunks take.
        workers: How many workers share the networks, >= 1.
        retries: How often a network that failed alone is tried again, >= 0.
    """

    def __init__(
        self, works: Sequence[Work], speed: Speed, *, workers: int, retries: int = 2
    ) -> None:
        self._works, self._speed = list(works), speed
        self._workers, self._retries = workers, retries
        # The longest first: what is left at the end is short, and workers end together.
        self._fresh = sorted(
            range(len(works)), key=lambda i: (works[i].kept, works[i].steps), reverse=True
        )
        self._again: deque[Chunk] = deque()
        self._failures: Counter[int] = Counter()

    def work(self, chunk: Chunk) -> Work:
        """Return the work of a chunk."""
        return Work.total(self._works[place] for place in chunk)

    def take(self, worker: Hashable = None) -> Chunk:
        """Return the next chunk for a worker; empty if there is none now."""
        if self._fresh:
            left = [self._works[place] for place in self._fresh]
            n = portion(left, self._speed, workers=self._workers, worker=worker)
            chunk, self._fresh = tuple(self._fresh[:n]), self._fresh[n:]
            return chunk
        # After all others: each of these may cost another worker, which takes seconds to replace.
        return self._again.popleft() if self._again else ()

    def again(self, chunk: Chunk) -> None:
        """Have a chunk tried again as it is: what became of it was not its fault."""
        self._again.append(chunk)

    def failed(self, chunk: Chunk) -> bool:
        """Have a chunk that failed tried again in halves.

        Returns:
            Whether it is given up instead: one network, which has failed alone ``retries`` + 1
            times. Only what fails alone counts: in company, another one may have been the reason.
        """
        if len(chunk) > 1:
            middle = len(chunk) // 2
            self._again.extend((chunk[:middle], chunk[middle:]))
            return False
        self._failures.update(chunk)
        if self._failures[chunk[0]] > self._retries:
            return True
        self._again.append(chunk)
        return False

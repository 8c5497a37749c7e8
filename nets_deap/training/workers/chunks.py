"""``Assignments``: who trains what, what is done, and what must be tried again."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence

from nets_deap.training.workers.speed import Speed, Work, portion

Piece = tuple[int, ...]


class Assignments:
    """The networks of one call, cut into chunks; those that fail are halved and tried again.

    A chunk that was lost with its worker may hold the network that killed it. Its halves are tried
    again, and so on down to single networks; one that fails alone more than ``retries`` times is
    condemned, and nothing else is.

    Args:
        works: The work of each network, by place.
        speed: What chunks take; learns from those that are done.
        workers: How many workers share the networks, >= 1.
        retries: How often a network that failed alone is tried again, >= 0.
        most: Networks in a chunk, at most; None for as many as take the right time.
    """

    def __init__(
        self,
        works: Sequence[Work],
        speed: Speed,
        *,
        workers: int,
        retries: int = 2,
        most: int | None = None,
    ) -> None:
        self.works, self._speed = list(works), speed
        self.workers, self._retries, self._most = workers, retries, most
        # The longest first: what is left at the end is short, and workers end together.
        self._fresh = sorted(range(len(works)), key=lambda i: tuple(works[i])[:0:-1], reverse=True)
        self._again: deque[Piece] = deque()
        self._out: set[Piece] = set()
        self._failures: dict[int, int] = {}
        self.condemned: list[int] = []
        self.halved = 0

    @property
    def finished(self) -> bool:
        """Whether every network is done or condemned."""
        return not (self._fresh or self._again or self._out)

    @property
    def waiting(self) -> bool:
        """Whether a worker that is free could do something."""
        return bool(self._fresh or self._again)

    def work(self, piece: Piece) -> Work:
        """Return the work of a chunk."""
        return Work.total(self.works[i] for i in piece)

    def take(self, worker: Hashable = None) -> Piece:
        """Return the next chunk for a worker, and count it as handed out; empty for none."""
        if self._fresh:
            n = portion(
                [self.works[i] for i in self._fresh],
                self._speed,
                workers=self.workers,
                worker=worker,
            )
            n = n if self._most is None else min(n, self._most)
            piece, self._fresh = tuple(self._fresh[:n]), self._fresh[n:]
        elif self._again:
            piece = self._again.popleft()
        else:
            return ()
        self._out.add(piece)
        return piece

    def done(self, piece: Piece, seconds: float, worker: Hashable = None) -> None:
        """Count a chunk as done, which took a worker so many seconds."""
        self._out.remove(piece)
        self._speed.note(self.work(piece), seconds, worker)

    def failed(self, piece: Piece, *, blame: bool = True) -> list[int]:
        """Count a chunk as failed; return the networks that are condemned for it.

        Args:
            piece: The chunk.
            blame: Whether what it holds may be the reason; else it is tried again as it is.
        """
        self._out.remove(piece)
        if not blame:
            self._again.append(piece)
            return []
        if len(piece) > 1:
            self.halved += 1
            middle = len(piece) // 2
            self._again.extend((piece[:middle], piece[middle:]))
            return []
        place = piece[0]
        self._failures[place] = self._failures.get(place, 0) + 1
        if self._failures[place] <= self._retries:
            self._again.append(piece)
            return []
        self.condemned.append(place)
        return [place]

    def tried(self, place: int) -> int:
        """Return how often a network has failed alone."""
        return self._failures.get(place, 0)

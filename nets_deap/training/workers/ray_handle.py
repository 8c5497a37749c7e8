"""``WorkerHandle``: one worker as its driver sees it, from its start to its end."""

from __future__ import annotations

import time
from typing import Any

from nets_deap.training.workers.chunks import Chunk
from nets_deap.training.workers.ray_worker import Order, Trained

PULSES = 4  # in the time after which silence means that it is lost


class WorkerHandle:
    """A worker: it starts until its node is known, is busy while it has a chunk, and else idle.

    Two things tell that it hangs, and each sees what the other cannot. A process that was stopped,
    or whose node has gone, gives no sign of life (``pulse``) for ``silence`` seconds, however long
    its chunk may take. A process that runs but does not get on, such as in an endless loop of the
    user's module, answers every pulse, and exceeds the time limit of its chunk.

    Args:
        ray: The module.
        actor: Ray's handle of the worker.
        number: Which worker it is, from 0; one that replaces another has a number of its own.

    Attributes:
        actor: Ray's handle of the worker.
        node: Where it runs; empty until it is ready.
        chunk: The chunk that it trains; empty where it is not busy.
        fresh: Whether it has trained nothing yet: a first chunk takes longer than others.
        answer: What it is to answer next, as Ray's reference; None while it is idle.
        pulse: The sign of life that it was asked for, as Ray's reference; None for none.
        since: When it was sent its last chunk, by ``time.monotonic``.
    """

    def __init__(self, ray: Any, actor: Any, number: int) -> None:
        self._ray, self.actor, self.number = ray, actor, number
        self.node = ""
        self.chunk: Chunk = ()
        self.fresh = True
        self.answer: Any = actor.node.remote()
        self.pulse: Any = None
        self.since = self._heard = time.monotonic()
        self._limit: float | None = None

    @property
    def idle(self) -> bool:
        """Whether it is ready for a chunk."""
        return bool(self.node) and not self.chunk

    def send(self, chunk: Chunk, limit: float | None, order: Order) -> None:
        """Hand a chunk over, to be done within ``limit`` seconds; None for any time."""
        self.since = self._heard = time.monotonic()
        self.chunk, self._limit = chunk, limit
        self.answer = self.actor.train.remote(order)

    def read(self) -> Trained | None:
        """Return what came of its chunk, None if it has become ready; or raise what Ray says."""
        answer, self.answer = self.answer, None
        found = self._ray.get(answer)
        self._heard = time.monotonic()
        if not self.node:
            self.node = found
            return None
        self.chunk, self.fresh = (), False
        trained: Trained = found
        return trained

    def listen(self, silence: float) -> None:
        """Ask a busy worker for a sign of life, if it is time."""
        quiet = time.monotonic() - self._heard
        if self.chunk and self.pulse is None and quiet >= silence / PULSES:
            self.pulse = self.actor.pulse.remote()

    def beat(self) -> None:
        """Take note of a sign of life; where it is none, the chunk's own answer says so."""
        try:
            self._ray.get(self.pulse)
            self._heard = time.monotonic()
        except self._ray.exceptions.RayError:
            pass
        self.pulse = None

    def overdue(self, silence: float) -> str:
        """Return why a busy worker counts as lost; empty if it does not."""
        now = time.monotonic()
        if self.chunk and self._limit is not None and now - self.since > self._limit:
            return f"it has not finished within {self._limit:.1f} s"
        # Only after a pulse was asked for: the driver itself may have been busy elsewhere so long.
        if self.chunk and self.pulse is not None and now - self._heard > silence:
            return f"it has not answered for {now - self._heard:.1f} s"
        return ""

    def end(self) -> None:
        """Kill it, stopped or not."""
        try:
            self._ray.kill(self.actor, no_restart=True)
        except Exception:  # Ray itself may be gone, and the worker with it
            return

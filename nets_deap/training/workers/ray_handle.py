"""``Hand``: one worker as its driver sees it, from its start to its end."""

from __future__ import annotations

import time
from typing import Any

from nets_deap.training.workers.chunks import Piece
from nets_deap.training.workers.ray_worker import About, Order

STARTING, IDLE, BUSY = "starting", "idle", "busy"
PULSES = 4  # in the time after which silence means that it is lost


class Hand:
    """A worker: what it does, since when, and until when it may take.

    Args:
        ray: The module.
        actor: Its handle.
        number: Which worker it is, from 0; one that replaces another has a number of its own.

    Attributes:
        state: ``"starting"``, ``"idle"`` or ``"busy"``.
        ref: What it is to answer next; None while it is idle.
        piece: The chunk that it has.
        about: Who it is, once it is ready.
        fresh: Whether it has trained nothing yet: a first chunk takes longer than others.
    """

    def __init__(self, ray: Any, actor: Any, number: int) -> None:
        self._ray, self._actor, self.number = ray, actor, number
        self.state = STARTING
        self.piece: Piece = ()
        self.about: About | None = None
        self.fresh = True
        self.ref: Any = actor.ready.remote()
        self.pulse: Any = None
        self.since = self.heard = time.monotonic()
        self._until: float | None = None

    def send(self, piece: Piece, limit: float | None, order: Order) -> None:
        """Hand a chunk over, to be done within ``limit`` seconds; None for any time."""
        self.since = self.heard = time.monotonic()
        self._until = None if limit is None else self.since + limit
        self.state, self.piece = BUSY, piece
        self.ref = self._actor.train.remote(order)

    def answered(self) -> Any:
        """Return what it answers, or raise what Ray says; it is idle then."""
        found = self._ray.get(self.ref)
        if self.state == STARTING:
            self.about = found
        self.heard = time.monotonic()
        self.state, self.ref = IDLE, None
        return found

    def listen(self, silence: float) -> None:
        """Ask a busy worker for a sign of life, if it is time."""
        quiet = time.monotonic() - self.heard
        if self.state == BUSY and self.pulse is None and quiet >= silence / PULSES:
            self.pulse = self._actor.pulse.remote()

    def beat(self) -> None:
        """Take note of a sign of life; where it is none, the chunk's own answer says so."""
        try:
            self._ray.get(self.pulse)
            self.heard = time.monotonic()
        except self._ray.exceptions.RayError:
            pass
        self.pulse = None

    def overdue(self, silence: float) -> str:
        """Return why a busy worker counts as lost; empty if it does not."""
        if self.state != BUSY:
            return ""
        now = time.monotonic()
        if self._until is not None and now > self._until:
            return f"it has not finished within {self._until - self.since:.1f} s"
        if self.pulse is not None and now - self.heard > silence:
            return f"it has not answered for {now - self.heard:.1f} s"
        return ""

    def end(self) -> None:
        """Kill it, stopped or not."""
        try:
            self._ray.kill(self._actor, no_restart=True)
        except Exception:  # Ray itself may be gone, and the worker with it
            return

    def ask(self, question: str) -> Any:
        """Call one of an idle worker's other methods."""
        return getattr(self._actor, question).remote()

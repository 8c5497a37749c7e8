"""``RayCrew``: trains the networks of a problem on workers, and replaces those that are lost."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nets_deap.errors import CallOrderError, ExecutorLostError, NetsError
from nets_deap.tickets import bits
from nets_deap.training import interrupt
from nets_deap.training.engines.dispatch import pick_engine
from nets_deap.training.problem import OnPart, Outcome, Plan, Problem, Start, untrained
from nets_deap.training.workers.chunks import Assignments, Piece
from nets_deap.training.workers.ray_handle import BUSY, IDLE, STARTING, Hand
from nets_deap.training.workers.ray_options import RESUME, Terms, Traffic, in_a_line
from nets_deap.training.workers.ray_session import Session
from nets_deap.training.workers.ray_worker import (
    Order,
    Trained,
    Worker,
    n_bytes,
    own_outcome,
    start_bytes,
)
from nets_deap.training.workers.speed import Speed, Work
from nets_deap.training.workers.transfer import Crate

logger = logging.getLogger("nets_deap")

QUIET_START = 20.0  # seconds without any worker, after which that is said
TICK = 0.2  # seconds between two looks at signals and times
LONGEST_WAIT = 10.0  # seconds before a worker is replaced, where all are lost again and again


@dataclass
class _Call:
    """One call of ``train``."""

    problem: Problem
    masks: list[bits.Bytes]
    plan: Plan
    starts: list[Start | None]
    engine: str
    chunk: int | None
    on_part: OnPart
    book: Assignments
    found: dict[int, Outcome] = field(default_factory=dict)


class RayCrew:
    """Workers in processes of Ray, all holding one problem.

    Args:
        problem: What to train; its data go to each node once.
        session: The Ray to use.
        terms: How many workers, and how they are treated.
    """

    def __init__(self, problem: Problem, session: Session, terms: Terms) -> None:
        self.terms, self.traffic, self.speed = terms, Traffic(), Speed()
        self._session, self._ray = session, session.ray
        self._crate = session.put(Crate.of(problem))
        self._actors = self._ray.remote(
            num_cpus=terms.cpus,
            num_gpus=terms.gpus,
            max_restarts=0,
            max_task_retries=0,
            concurrency_groups={"pulse": 1},
            scheduling_strategy="SPREAD",
        )(_with_pulse(self._ray))
        self.hands: list[Hand] = []
        self._started, self._losses, self._not_before = 0, 0, 0.0
        self._reason, self._ready, self._told = "none has started", False, False
        self._said: set[tuple[int, str]] = set()
        self._fill()

    def train(
        self,
        problem: Problem,
        masks: list[bits.Bytes],
        plan: Plan,
        *,
        engine: str,
        starts: list[Start | None],
        chunk: int | None,
        on_part: OnPart,
    ) -> Outcome:
        """Train one network for each mask; see ``training.executor.Executor``.

        Raises:
            ExecutorLostError: No worker is left and none can be started.
            CallOrderError: Ray was shut down.
        """
        if not self._session.alive:
            raise CallOrderError("Ray was shut down. Make a new nets.RayMap.")
        begin, alone = time.thread_time(), time.monotonic()
        works = [Work.of(mask, problem.layout.size, plan.steps) for mask in masks]
        terms = self.terms
        if terms.device == problem.device.type:  # the same on all nodes, or an error
            engine = pick_engine(engine, problem)
        book = Assignments(works, self.speed, workers=terms.workers, retries=terms.retries)
        call = _Call(problem, masks, plan, starts, engine, chunk, on_part, book)
        try:
            while not book.finished:
                interrupt.check()
                self._fill()
                self._hand_out(call)
                self._read(call, self._wait())
                self._dismiss(call)
                if any(hand.state != STARTING for hand in self.hands):
                    alone = time.monotonic()
                else:
                    self._still_alone(time.monotonic() - alone)
        except BaseException:
            for hand in [hand for hand in self.hands if hand.state == BUSY]:
                self._drop(hand)
            raise
        self.traffic.driver_seconds += time.thread_time() - begin
        return Outcome.concatenate([call.found[i] for i in range(len(masks))])

    def close(self) -> None:
        """End all workers and let go of the data."""
        for hand in list(self.hands) if self._session.alive else ():
            self._drop(hand)
        self._crate = None

    def _still_alone(self, seconds: float) -> None:
        """Warn that no worker is ready, and at last give up."""
        if seconds > QUIET_START and not self._told:
            self._told = True
            logger.warning(
                "No worker is ready after %.0f s; free in Ray: %s, taken by others or by workers "
                "that start.", seconds, self._session.free,
            )  # fmt: skip
        if seconds > self.terms.start_seconds:
            what = f"no worker was ready within {seconds:.3g} s"
            raise self._lost(f"{what}, with {self._session.free} free in Ray")

    def _fill(self) -> None:
        """Start workers until there are as many as there should be."""
        if time.monotonic() < self._not_before:
            return
        while len(self.hands) < self.terms.workers:
            actor = self._actors.remote(self._crate, self.terms.device, self.terms.cpus)
            self.hands.append(Hand(self._ray, actor, self._started))
            self._started += 1

    def _hand_out(self, call: _Call) -> None:
        """Give each worker that is free a chunk."""
        for hand in self.hands:
            piece = call.book.take(hand.number) if hand.state == IDLE else ()
            if not piece:
                continue
            expected = self.speed.expect(call.book.work(piece), hand.number)
            limit = None
            if expected is not None and not hand.fresh:
                limit = max(self.terms.silence, self.terms.slowness * expected)
            starts = [call.starts[i] for i in piece]
            packed = np.stack([call.masks[i] for i in piece])
            hand.send(piece, limit, Order(packed, call.plan, starts, call.engine, call.chunk))
            self.traffic.bytes_out += packed.nbytes + sum(map(start_bytes, starts))

    def _wait(self) -> set[Any]:
        """Return the answers that have come, after a moment if there are none."""
        for hand in self.hands:
            hand.listen(self.terms.silence)
        refs = [ref for hand in self.hands for ref in (hand.ref, hand.pulse) if ref is not None]
        if not refs:
            time.sleep(TICK)
            return set()
        ready, _ = self._ray.wait(refs, num_returns=1, timeout=TICK)
        if ready:  # and what has come with it
            ready, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0)
        return set(ready)

    def _read(self, call: _Call, ready: set[Any]) -> None:
        """Take what workers have answered."""
        errors = self._ray.exceptions
        for hand in list(self.hands):
            if hand.pulse in ready:
                hand.beat()
            if hand.ref not in ready:
                continue
            piece, before = hand.piece, hand.state
            try:
                answer = hand.answered()
            except errors.RayTaskError as error:  # the worker lives on
                hand.state, hand.ref = IDLE, None
                self._raised(call, piece, error)
            except errors.RayError as error:
                if getattr(error, "actor_init_failed", False) and not self._ready:
                    self._reason = str(error)
                    raise self._lost("a worker could not be made") from None
                # What cannot be reached is no fault of what it was training.
                there = not isinstance(error, errors.ActorUnavailableError)
                self._gone(call, hand, in_a_line(error), blame=there)
            else:
                self._ready, hand.fresh = True, before == STARTING
                if before == BUSY:
                    self._take(call, hand, piece, answer)

    def _take(self, call: _Call, hand: Hand, piece: Piece, answer: Trained) -> None:
        """Take what a chunk gave."""
        self._losses, self._not_before = 0, 0.0
        for level, text in answer.said:
            if (level, text) not in self._said:
                self._said.add((level, text))
                logger.log(level, "%s", text)
        outcome = own_outcome(answer.outcome)
        call.book.done(piece, answer.seconds, hand.number)
        traffic = self.traffic
        traffic.chunks, traffic.networks = traffic.chunks + 1, traffic.networks + len(piece)
        traffic.bytes_back += n_bytes(outcome)
        traffic.worker_seconds += answer.seconds
        traffic.cpu_seconds += answer.cpu_seconds
        traffic.chunk_seconds += time.monotonic() - hand.since
        self._keep(call, piece, outcome)

    def _keep(self, call: _Call, piece: Piece, outcome: Outcome) -> None:
        """Keep an outcome, and tell who wants to know."""
        call.found.update(zip(piece, outcome.split(), strict=True))
        call.on_part(piece, outcome)

    def _raised(self, call: _Call, piece: Piece, error: Any) -> None:
        """Try a chunk again whose training raised, unless nothing has ever been trained."""
        cause = getattr(error, "cause", error)
        if isinstance(cause, NetsError) or (len(piece) == 1 and not self.traffic.networks):
            raise cause from error
        logger.warning("A chunk of %d networks failed: %r.", len(piece), cause)
        self._failed(call, piece, repr(cause))

    def _failed(self, call: _Call, piece: Piece, why: str, blame: bool = True) -> None:
        """Try a chunk again; what has failed alone too often gets no numbers."""
        for place in call.book.failed(piece, blame=blame):
            self.traffic.condemned += 1
            logger.warning(
                "A network of %d kept weights failed %d times alone (%s); it counts as diverged.",
                bits.count(call.masks[place]), call.book.tried(place), why,
            )  # fmt: skip
            outcome = untrained(call.problem, call.masks[place], call.plan, call.starts[place])
            self._keep(call, (place,), outcome)

    def _dismiss(self, call: _Call) -> None:
        """End workers that take too long or do not answer."""
        for hand in list(self.hands):
            why = hand.overdue(self.terms.silence)
            if why:
                self._gone(call, hand, why)

    def _gone(self, call: _Call, hand: Hand, why: str, blame: bool = True) -> None:
        """Count a worker as lost; its chunk goes to others."""
        self.traffic.lost += 1
        self._losses, self._reason = self._losses + 1, why
        here = hand.about is None or hand.about.node in self._session.nodes
        what = "starting" if hand.state == STARTING else f"training {len(hand.piece)} networks"
        logger.warning(
            "Worker %d was lost while %s (%s)%s; another one takes its place.",
            hand.number, what, why, "" if here else ", and its node with it",
        )  # fmt: skip
        self._drop(hand)
        if hand.piece and hand.state == BUSY:
            self._failed(call, hand.piece, f"its worker was lost: {why}", blame=blame and here)
        if self._losses > self.terms.most_losses:
            raise self._lost(f"{self._losses} were lost one after the other")
        if self._losses > self.terms.workers:
            wait = 0.1 * 2 ** (self._losses - self.terms.workers)
            self._not_before = time.monotonic() + min(LONGEST_WAIT, wait)

    def _drop(self, hand: Hand) -> None:
        """End a worker and forget it."""
        hand.end()
        self.hands.remove(hand)
        self.speed.forget(hand.number)

    def _lost(self, what: str) -> ExecutorLostError:
        """Return the error that ends a run."""
        return ExecutorLostError(
            f"All workers are lost: {what}; the last one because {self._reason}. {RESUME}"
        )


def _with_pulse(ray: Any) -> type:
    """Return the class of workers whose sign of life has a thread of its own."""

    class RayWorker(Worker):
        """A worker that answers while it trains."""

        @ray.method(concurrency_group="pulse")  # type: ignore[untyped-decorator]
        def pulse(self) -> None:
            """Answer."""

    return RayWorker

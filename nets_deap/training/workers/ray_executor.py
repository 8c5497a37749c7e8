"""``RayExecutor``: trains networks on workers of Ray, and replaces workers that are lost.

What Ray offers for this is not enough. Its retries of a task would send a poison from worker to
worker, each killed in turn; its pools never replace an actor that died; and it waits without end
for a process that hangs. So workers are actors that Ray neither restarts nor retries, and this
file decides: which chunk goes where, when a worker counts as lost, and what is tried again.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from nets_deap.errors import CallOrderError, ExecutorLostError, NetsError
from nets_deap.tickets import bits
from nets_deap.training import interrupt
from nets_deap.training.engines.dispatch import pick_engine
from nets_deap.training.problem import OnPart, Outcome, Plan, Problem, Start, untrained
from nets_deap.training.workers.call import Call, works_of
from nets_deap.training.workers.chunks import Chunk, Chunks
from nets_deap.training.workers.ray_handle import WorkerHandle
from nets_deap.training.workers.ray_options import RayOptions, Traffic
from nets_deap.training.workers.ray_session import RaySession
from nets_deap.training.workers.ray_worker import Order, Trained, worker_class
from nets_deap.training.workers.speed import Speed
from nets_deap.training.workers.transfer import SharedProblem, n_bytes, owned

logger = logging.getLogger("nets_deap")

QUIET_START = 20.0  # seconds without any worker, after which that is logged
TICK = 0.2  # seconds between two looks at signals and times
LONGEST_WAIT = 10.0  # seconds before a worker is replaced, where all are lost again and again


@dataclass
class _RayCall(Call):
    """A call, cut into chunks."""

    chunks: Chunks


class RayExecutor:
    """Workers in processes of Ray, all holding one problem.

    Args:
        problem: What to train; its data go to each node once.
        session: The Ray to use.
        options: How many workers, and how they are treated.
    """

    def __init__(self, problem: Problem, session: RaySession, options: RayOptions) -> None:
        self.options, self.traffic, self.speed = options, Traffic(), Speed()
        self._session, self._ray = session, session.ray
        self._shared = session.put(SharedProblem.of(problem))
        self._worker_class = self._ray.remote(
            num_cpus=options.cpus,
            num_gpus=options.gpus,
            max_restarts=0,
            max_task_retries=0,
            concurrency_groups={"pulse": 1},
            scheduling_strategy="SPREAD",
        )(worker_class(self._ray))
        self.handles: list[WorkerHandle] = []
        self._started = 0  # workers, those that were lost with them
        self._losses, self._not_before = 0, 0.0  # since a chunk was last done; of the next start
        self._reason = "none has started"  # of the last loss
        self._any_ready, self._warned = False, False
        self._logged: set[tuple[int, str]] = set()
        self._start_workers()

    def train(
        self,
        problem: Problem,
        masks: list[bits.Bytes],
        plan: Plan,
        *,
        engine: str,
        starts: list[Start],
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
        begin, last_seen = time.thread_time(), time.monotonic()
        options = self.options
        # Once and here, so the same on all nodes: they may differ, and "auto" with them.
        if options.device == problem.device.type:
            engine = pick_engine(engine, problem)
        works = works_of(problem, masks, plan)
        chunks = Chunks(works, self.speed, workers=options.workers, retries=options.retries)
        call = _RayCall(problem, masks, plan, engine, starts, chunk, on_part, chunks)
        try:
            while not call.finished:
                interrupt.check()
                self._start_workers()
                self._hand_out(call)
                self._read(call, self._wait())
                self._replace_overdue(call)
                if any(handle.node for handle in self.handles):
                    last_seen = time.monotonic()
                else:
                    self._check_start(time.monotonic() - last_seen)
        except BaseException:
            # What is under way is of no use any more, and a worker cannot be told to stop: end it.
            for handle in [handle for handle in self.handles if handle.chunk]:
                self._drop(handle)
            raise
        self.traffic.driver_seconds += time.thread_time() - begin
        return call.outcome()

    def close(self) -> None:
        """End all workers and let go of the data."""
        for handle in list(self.handles) if self._session.alive else ():
            self._drop(handle)
        self._shared = None

    def _start_workers(self) -> None:
        """Start workers until there are as many as there should be."""
        if time.monotonic() < self._not_before:
            return
        while len(self.handles) < self.options.workers:
            how = self.options
            actor = self._worker_class.remote(self._shared, how.device, how.cpus, how.gpus)
            self.handles.append(WorkerHandle(self._ray, actor, self._started))
            self._started += 1

    def _check_start(self, seconds: float) -> None:
        """Warn that no worker has been ready for so long, and at last give up."""
        if seconds > QUIET_START and not self._warned:
            self._warned = True
            logger.warning(
                "No worker is ready after %.0f s; free in Ray: %s, taken by others or by workers "
                "that start.", seconds, self._session.free,
            )  # fmt: skip
        if seconds > self.options.start_seconds:
            what = f"no worker was ready within {seconds:.3g} s"
            raise self._lost(f"{what}, with {self._session.free} free in Ray")

    def _hand_out(self, call: _RayCall) -> None:
        """Give each worker that is idle a chunk."""
        for handle in self.handles:
            chunk = call.chunks.take(handle.number) if handle.idle else ()
            if not chunk:
                continue
            expected = self.speed.predict(call.chunks.work(chunk), handle.number)
            # No limit before there is a measure: a first chunk may compile for minutes. Never less
            # than ``silence``: 20 times a chunk of 0.1 s is what a busy machine can do to it.
            limit = None
            if expected is not None and not handle.fresh:
                limit = max(self.options.silence, self.options.slowness * expected)
            masks = np.stack([call.masks[place] for place in chunk])
            starts = [call.starts[place] for place in chunk]
            handle.send(chunk, limit, Order(masks, call.plan, starts, call.engine, call.chunk))
            self.traffic.bytes_out += masks.nbytes + n_bytes(starts)

    def _wait(self) -> set[Any]:
        """Return the answers that have come, after a moment if there are none."""
        for handle in self.handles:
            handle.listen(self.options.silence)
        refs = [ref for h in self.handles for ref in (h.answer, h.pulse) if ref is not None]
        if not refs:
            time.sleep(TICK)
            return set()
        ready, _ = self._ray.wait(refs, num_returns=1, timeout=TICK)
        if ready:  # and what has come with it
            ready, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0)
        return set(ready)

    def _read(self, call: _RayCall, ready: set[Any]) -> None:
        """Take what workers have answered."""
        errors = self._ray.exceptions
        for handle in list(self.handles):
            if handle.pulse in ready:
                handle.beat()
            if handle.answer not in ready:
                continue
            chunk = handle.chunk
            try:
                trained = handle.read()
            except errors.RayError as error:
                if chunk and isinstance(error, errors.RayTaskError):
                    handle.chunk = ()  # its training raised; the worker lives on
                    self._raised(call, chunk, error)
                    continue
                if getattr(error, "actor_init_failed", False) and not self._any_ready:
                    self._reason = str(error)
                    raise self._lost("a worker could not be made") from None
                # That it cannot be reached is not the fault of what it was training.
                there = not isinstance(error, errors.ActorUnavailableError)
                self._gone(call, handle, _in_a_line(error), blame=there)
            else:
                self._any_ready = True
                if trained is not None:
                    self._take(call, handle, chunk, trained)

    def _take(self, call: _RayCall, handle: WorkerHandle, chunk: Chunk, trained: Trained) -> None:
        """Take what came of a chunk."""
        self._losses, self._not_before = 0, 0.0
        for entry in trained.logged:
            if entry not in self._logged:  # each worker warns once, and the user should see one
                self._logged.add(entry)
                logger.log(*entry)
        outcome = owned(trained.outcome)
        self.speed.observe(call.chunks.work(chunk), trained.seconds, handle.number)
        traffic = self.traffic
        traffic.chunks, traffic.networks = traffic.chunks + 1, traffic.networks + len(chunk)
        traffic.bytes_back += n_bytes(outcome)
        traffic.worker_seconds += trained.seconds
        traffic.cpu_seconds += trained.cpu_seconds
        traffic.chunk_seconds += time.monotonic() - handle.since
        call.keep(chunk, outcome)

    def _raised(self, call: _RayCall, chunk: Chunk, error: Any) -> None:
        """Try a chunk again whose training raised, unless nothing has ever been trained."""
        cause = getattr(error, "cause", error)
        # The package's own errors say what the user must change. And where the very first network
        # fails alone, all will: the user's model or loss is wrong, not one mask.
        if isinstance(cause, NetsError) or (len(chunk) == 1 and not self.traffic.networks):
            raise cause from error
        logger.warning("A chunk of %d networks failed: %r.", len(chunk), cause)
        self._failed(call, chunk, repr(cause))

    def _failed(self, call: _RayCall, chunk: Chunk, why: str) -> None:
        """Try a chunk again; a network that has failed alone too often gets no numbers."""
        if not call.chunks.failed(chunk):
            return
        place, times = chunk[0], self.options.retries + 1
        self.traffic.failed += 1
        logger.warning(
            "A network of %d kept weights failed %d times alone (%s); it counts as diverged.",
            bits.count(call.masks[place]), times, why,
        )  # fmt: skip
        call.keep(chunk, untrained(call.problem, call.masks[place], call.plan, call.starts[place]))

    def _replace_overdue(self, call: _RayCall) -> None:
        """End workers that take too long or do not answer."""
        for handle in list(self.handles):
            if why := handle.overdue(self.options.silence):
                self._gone(call, handle, why)

    def _gone(self, call: _RayCall, handle: WorkerHandle, why: str, blame: bool = True) -> None:
        """Count a worker as lost; its chunk goes to others.

        Args:
            call: What it was working for.
            handle: The worker.
            why: As a clause, for warnings.
            blame: Whether what it was training may be the reason. It is not where the node is gone.
        """
        self.traffic.lost += 1
        self._losses, self._reason = self._losses + 1, why
        here = not handle.node or handle.node in self._session.nodes
        what = f"training {len(handle.chunk)} networks" if handle.node else "starting"
        logger.warning(
            "Worker %d was lost while %s (%s)%s; another one takes its place.",
            handle.number, what, why, "" if here else ", and its node with it",
        )  # fmt: skip
        self._drop(handle)
        if handle.chunk and blame and here:
            self._failed(call, handle.chunk, f"its worker was lost: {why}")
        elif handle.chunk:
            call.chunks.again(handle.chunk)
        if self._losses > self.options.most_losses:
            raise self._lost(f"{self._losses} were lost one after the other")
        # All of them in a row: the cause may pass, such as a node that restarts or memory that
        # another program takes, and starting at once would use up the losses in seconds.
        if self._losses > self.options.workers:
            wait = 0.1 * 2 ** (self._losses - self.options.workers)
            self._not_before = time.monotonic() + min(LONGEST_WAIT, wait)

    def _drop(self, handle: WorkerHandle) -> None:
        """End a worker and forget it."""
        handle.end()
        self.handles.remove(handle)
        self.speed.forget(handle.number)

    def _lost(self, what: str) -> ExecutorLostError:
        """Return the error that ends a run."""
        return ExecutorLostError(
            f"All workers are lost: {what}; the last one because {self._reason}. What is finished "
            "is kept where the run has a folder; go on with nets-deap resume RUN or nets.resume, "
            "with any number of workers."
        )


def _in_a_line(error: Exception) -> str:
    """Return what Ray says of an error, in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [line for line in lines if ": " not in line[:16]]  # not the fields of its table
    return " ".join(kept)[:300] or type(error).__name__

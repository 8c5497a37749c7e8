"""``Recorder``: what goes into ``stats=`` of any DEAP algorithm to log, save, show and stop.

One file: one class, of which a third is what its caller reads, and all else a step of ``compile``.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from deap import tools

from nets_deap import _checks
from nets_deap.errors import CallOrderError
from nets_deap.evolution.archives import ParetoFront, is_measurable
from nets_deap.evolution.budget import Budget
from nets_deap.evolution.evaluator import Evaluator, evaluator_for, evaluator_of
from nets_deap.evolution.fronts import costs_of, hypervolume, is_finite
from nets_deap.evolution.objective_names import objective_names
from nets_deap.runs.checkpoint import random_states
from nets_deap.runs.checkpoint.saver import Saver
from nets_deap.runs.checkpoint.snapshot import Moment, Snapshot
from nets_deap.runs.facts import facts_of
from nets_deap.runs.gap import Gap
from nets_deap.runs.limits import Limits, SearchStopped, divergence
from nets_deap.runs.progress import Progress
from nets_deap.runs.storage import history
from nets_deap.runs.storage.folder import RunFolder
from nets_deap.runs.storage.reader import RunReader
from nets_deap.runs.storage.rows import best_so_far, facts_shown, front_rows, spread
from nets_deap.tickets.ticket import Ticket
from nets_deap.training import interrupt
from nets_deap.training.task import Task, Totals, check_task

logger = logging.getLogger("nets_deap")

Callback = Callable[["Recorder", dict[str, Any]], object]


def checked(callbacks: Iterable[Callback]) -> list[Callback]:
    """Return callbacks as a list.

    Raises:
        InvalidTypeError: One of them cannot be called.
    """
    # A function alone is the usual slip, which "not iterable" would not explain.
    if callable(callbacks) or not isinstance(callbacks, Iterable):
        raise _checks.bad_type("callbacks", "be a list", "functions in a list", callbacks)
    found = list(callbacks)
    for one in found:
        if not callable(one):
            raise _checks.bad_type("callbacks", "be functions", "(recorder, row) -> None", one)
    return found


@_checks.signed
class Recorder:
    """Records a search once a generation; give it to an algorithm as ``stats=``.

    Writes the run folder, which is complete after every generation: configuration, log, front, the
    front's tickets, and a checkpoint for ``nets.resume``; the folder is held against other programs
    until the recorder is closed or gone. Keeps its own front over all generations in ``front`` and
    its own log in ``logbook``, so that nothing is lost when it stops an algorithm.

    Where weights are inherited what it keeps is a ticket for each niche of density, and becomes
    a front when it is measured from W0: at the end of the run. That is known where somebody has
    said how many generations there will be: ``generations``, or the plan of the evaluator's
    ``Budget``. Else ``close()`` ends the run, or the end of ``with nets.Recorder(...) as
    recorder:`` without an exception. A program that ends before has all its generations saved, and
    its run can be resumed.

    Args:
        path: The run folder; None writes nothing.
        task: The task; its ledger gives the cost. With ``nets.Task(guard=)`` the log has, of the
            best of the front, ``guard_loss`` and ``selection_gap``; see ``runs.gap``.
        generations: How many generations there will be after the first population: for the time
            left, and to know the end. None for as many as the evaluator's budget is planned for.
        reference: Reference point of the hypervolume, M values; None for the objectives' own, or
            for a fitness without any the worst values of the first population.
        progress: ``"auto"``, ``"bar"``, ``"lines"`` or ``"none"``; or what shows it already.
        patience: Stop after so many generations without a larger hypervolume.
        max_steps: Stop once so many steps x networks are spent.
        max_dense_steps: Stop once so many multiply-adds are spent, in training steps of the dense
            network.
        max_seconds: Stop once so many seconds are spent.
        overwrite: Replace an earlier run in the folder.
        config: More facts for ``config.json``.
        archive: Keeps the front; None for a ``ParetoFront``.
        callbacks: Called as ``callback(recorder, row)`` after each generation has been written,
            with a copy of its row of ``logbook``.

    Raises:
        InvalidValueError: The folder holds something; an argument is out of range.
        FolderInUseError: Another program writes into the folder.
        FileAccessError: The folder cannot be written.
        SearchStopped: (from ``compile``) a limit is reached, or more than half of a generation
            diverged; catch it around the algorithm.
        CallOrderError: (from ``compile``) it has recorded another run before.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        task: Task,
        generations: int | None = None,
        reference: Sequence[float] | None = None,
        progress: str | Progress = "auto",
        patience: int | None = None,
        max_steps: int | None = None,
        max_dense_steps: float | None = None,
        max_seconds: float | None = None,
        overwrite: bool = False,
        config: Mapping[str, Any] | None = None,
        archive: tools.HallOfFame | None = None,
        callbacks: Iterable[Callback] = (),
    ) -> None:
        check_task("task", task)
        self._limits = Limits(patience, max_steps, max_seconds, max_dense_steps)
        _checks.unless_none(_checks.whole, "generations", generations, low=0)
        self.reference = (
            None if reference is None else [_checks.real("reference", r) for r in reference]
        )
        if not isinstance(progress, Progress):
            progress = Progress(progress, generations)
        self.progress = progress
        self.task, self.callbacks = task, checked(callbacks)
        self._gap = Gap(task)
        self.front = ParetoFront() if archive is None else archive
        self.logbook = tools.Logbook()
        self.generation = -1
        self.facts: dict[str, Any] = facts_of(task, self._limits.as_dict(), config or {})
        self.folder: RunFolder | None = None
        self._saver: Saver | None = None
        self.beside: Callable[[], Any] | None = None  # more to save: plain data and arrays
        self._resumed: Snapshot | None = None
        self._stopped: str | None = None
        self._changed = False
        self._start = time.monotonic()
        # Before the run, and before its generation.
        self._spent = self._before = task.ledger.totals()
        self._last: list[Any] = []  # the last generation
        self._lost: list[Any] = []  # of it who has no finite values
        self._closed, self._owner = False, os.getpid()
        self._elites = False  # whether what is kept becomes a front only when it is measured
        self._measurer: Evaluator | None = None  # by whom
        self._settled: int | None = None  # the generation whose front has been
        self._names: tuple[str, ...] = ()  # of the objectives
        self._best: dict[str, float] | None = None  # of the objectives, to be shown
        self.lived: list[history.Generation] = []
        if path is not None:
            self._keep_in(RunFolder(path, overwrite=overwrite))
            self._write_config()

    def __repr__(self) -> str:
        path = None if self.folder is None else str(self.folder.path)
        many = self.generation + 1
        kept = repr(self.front) if self.is_settled else f"{len(self.front.items)} elites of niches"
        return f"Recorder({many} generation{'s' * (many != 1)}, {kept}, path={path!r})"

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close(ended=error is None)
        if error is not None and self._saver is not None:
            self._saver.tell()

    def close(self) -> None:
        """End the run: measure its front, save it, and let other programs have the run folder.

        Where generations are left of those that were planned, or an exception is under way, the run
        has not ended: then it is only saved, and can be resumed.
        """
        self._close(ended=sys.exc_info()[1] is None)

    def _close(self, *, ended: bool) -> None:
        """Save what is not saved yet; first bring the run to its end, if it has one now."""
        if os.getpid() != self._owner:  # a child process: the run is its parent's
            return
        planned = self.progress.generations
        ended = ended and self.generation >= 0 and not self._closed
        ended = ended and (planned is None or self.generation >= planned)
        measured = False
        try:
            if ended:
                self.settle()
            measured = ended
        finally:
            self._closed = True
            self.progress.close()
            if self._saver is not None:
                self._saver.close(ended=measured and planned is None and self._stopped is None)
            if self.folder is not None:
                self.folder.close()

    @property
    def fields(self) -> list[str]:
        """The columns that DEAP's algorithms show of the log."""
        kept = "niches" if self._keeps_elites() else "front_size"
        return [kept, "hypervolume", "network_steps", "dense_steps", "diverged", "seconds"]

    @property
    def is_settled(self) -> bool:
        """Whether what it keeps is written down as a front, measured where that is needed."""
        return not self._elites or self._settled == self.generation

    @property
    def can_measure(self) -> bool:
        """Whether what it keeps is a front, or known to an evaluator that measures it."""
        return not self._elites or self._measurer is not None

    def _keeps_elites(self) -> bool:
        """Return whether what it keeps becomes a front only at the end."""
        evaluator = evaluator_of(self.task)
        inherited = evaluator is not None and evaluator.inherit == "weights"
        return self._elites or (inherited and isinstance(self.front, ParetoFront))

    @property
    def history(self) -> list[history.Generation]:
        """Who lived in each generation so far."""
        return self.lived if self.folder is None else RunReader(self.folder.path).history()

    def compile(self, population: Sequence[Any]) -> dict[str, Any]:
        """Take note of a generation; called by the algorithm after selection.

        Returns:
            The generation's row of the log, for the algorithm's own logbook.
        """
        if not len(population):
            raise _checks.bad_value("population", "have members", "at least one", 0)
        if self._resumed is not None:
            before, self._resumed = self._resumed, None
            if before.is_population(population):
                return self._go_on(before, population)
        if self._is_another_run(population):
            raise CallOrderError(
                f"a recorder records one run: this one has recorded {self.generation + 1} "
                "generations of a run, and what it gets now is the first population of another. "
                "Make a new nets.Recorder for each run, with a path of its own, and a new front."
            )
        if self.folder is not None:
            self.folder.check()
        self._last = list(population)
        names = self._names_of(population)
        evaluator = evaluator_of(self.task)
        if evaluator is not None:  # where tickets have been evaluated one by one
            evaluator.end_generation()
            self._meet(evaluator, population)
        self.generation += 1
        self._note_lost(population)
        # Other archives than ours would take what is not finite for good, or for all there is.
        self.front.update([one for one in population if is_finite(one)])
        self._note_measurer(population)
        self._note_origin()
        self._fix_reference(population, names)
        row = self._row(population, names)
        self.logbook.record(gen=self.generation, **row)
        settled = not self._elites
        lived = history.generation_of(
            self.generation, population, self.front.items, names, settled=settled
        )
        if self.folder is None:
            self.lived.append(lived)
        else:
            self.folder.append_generation(lived)
            self.folder.append_row({"generation": self.generation, **row})
            self.folder.write_front(front_rows(self.front.items, names), settled=settled)
            self.folder.write_tickets([t for t in self.front.items if t.has_layout], names)
        self._show(row, population[0].fitness)
        self._stopped = reason = self._reason(row)
        if self._saver is not None:
            last = reason is not None or self.generation == self.progress.generations
            changed, self._changed = self._changed, False
            if changed:
                self._write_config()
            self._saver.save(self._moment(population), now=last or changed or interrupt.asked())
        self._call_back(row)
        return self._end(row, reason, population)

    def _meet(self, evaluator: Evaluator, population: Sequence[Any]) -> None:
        """Tell an evaluator who lives, and how long the run is; enter what it spent ahead of it."""
        evaluator.residents = list(population)
        evaluator.overrun = weakref.WeakMethod(self._end_overrun)
        if self.progress.generations is None and evaluator.budget is not None:
            self.progress.generations = evaluator.budget.generations
        if self.progress.generations is not None:
            evaluator.planned = self.progress.generations
        ahead, evaluator.ahead = evaluator.ahead, None
        seconds, evaluator.ahead_seconds = evaluator.ahead_seconds, 0.0
        if self.generation < 0 and ahead is not None and self._spent[0] >= ahead[1][0]:
            each = zip(self._spent, *ahead, strict=True)
            self._spent = tuple(now - (after - before) for now, before, after in each)  # type: ignore[assignment]
            self._start -= seconds
            self.progress.began_by(self._start)

    def _end_overrun(self, budget: Budget) -> None:
        """Stop an algorithm that goes on after the generations that its budget was planned for."""
        if self.generation == budget.generations:
            why = f"it was planned for {budget.generations} generations"
            reason = f"{_is_spent(budget)}: {why}, and the algorithm's ngen is larger"
            self._end({}, reason, self._last)

    def _go_on(self, before: Snapshot, population: Sequence[Any]) -> dict[str, Any]:
        """Pass over the population that the run had when it was interrupted."""
        self._last = list(population)
        self._lost = [one for one in population if not is_finite(one)]
        evaluator = evaluator_of(self.task)
        if evaluator is not None:  # an algorithm has evaluated nothing by now, as its first batch
            before.set_evaluator(evaluator)
            self._meet(evaluator, population)
            self.measure_by(evaluator)
        random_states.set_states(before.random)  # what made the toolbox may have drawn from them
        last = self.logbook[-1] if self.logbook else {}  # rows may have been given up
        row = {name: value for name, value in last.items() if name != "gen"}
        return self._end(row, self._stopped, population)

    def _end(
        self, row: dict[str, Any], reason: str | None, population: Sequence[Any]
    ) -> dict[str, Any]:
        """Stop the algorithm if there is a reason to; else return the generation's row."""
        if reason is not None or self.generation == self.progress.generations:
            self.settle()
        if reason is not None:
            self.progress.line(f"stopped after generation {self.generation}: {reason}")
            self.progress.close()
            raise SearchStopped(reason, list(population), self.logbook)
        if self.generation == self.progress.generations:
            self.progress.close()
        interrupt.check()
        return row

    def _show(self, row: Mapping[str, Any], fitness: Any) -> None:
        """Show a generation; the first time the whole log, as that of a run that goes on."""
        new = self.logbook if self._best is None else [row]
        directions = dict(zip(self._names, fitness.weights, strict=True))
        self._best = best_so_far(new, directions, self._best or {})
        self.progress.show(self.generation, facts_shown(row, directions, self._best))

    def settle(self) -> None:
        """Measure the front alike, where that takes a training from W0, and write it down as such.

        Called at the end of a run, by itself where it knows how many generations there are, and by
        ``close``.
        """
        last = self._last or ([] if self._resumed is None else self._resumed.population)
        if self.is_settled or not last or self._measurer is None:
            return
        assert isinstance(self.front, ParetoFront)
        members = self.front.members
        self._tell_front(members)
        lived = history.generation_of(self.generation, last, members, self._names)
        if self.folder is None:
            self.lived[-1] = lived
        else:
            # The history at last: by it a run that is taken up knows that the rest is there.
            self.folder.write_tickets([t for t in members if t.has_layout], self._names)
            self.folder.write_front(front_rows(members, self._names))
            history.cut_off(self.folder.path, self.generation - 1)
            self.folder.append_generation(lived)
        self._settled = self.generation

    def _tell_front(self, members: Sequence[Any]) -> None:
        """Show who is on the front, now that all are measured alike."""
        steps = None if self._measurer is None else self._measurer.steps_of_front
        after = "" if steps is None else f", measured after {steps:,} steps from W0"
        high = None if self._measurer is None else self._measurer.active_below
        if high is not None and any(one.density > high for one in members):
            after += (
                f"; evolved up to {100 * high:.3g} % density, above it as the descent left them"
            )
        self.progress.line(f"front: {len(members)} tickets that none dominates{after}")

    def _is_another_run(self, population: Sequence[Any]) -> bool:
        """Return whether a population has nothing to do with the last one.

        Later generations share members or masks with the one before, or have parents, which tickets
        get where our evaluator trains them. Where another does, only a run that has ended counts:
        one that was closed, or has all of its generations.
        """
        known = {id(one) for one in self._last} | {one.digest for one in self._last}
        if not known or any(id(one) in known or one.digest in known for one in population):
            return False
        ends = self.progress.generations
        ended = self._closed or (ends is not None and self.generation >= ends)
        ours = all(one.trained is not None or one.diverged for one in population)
        return (ended or ours) and not any(one.parent_digests for one in population)

    def _names_of(self, population: Sequence[Any]) -> tuple[str, ...]:
        """Return the objectives' names, which stay those of the first generation."""
        if len(self._names) != len(population[0].fitness.weights):
            self._names = objective_names(population, self.task)
        return self._names

    def _note_measurer(self, population: Sequence[Any]) -> None:
        """Hold what measures the front in the end: a program may let its toolbox go before."""
        if not isinstance(self.front, ParetoFront):
            return
        keepers = (one for one in (*population, *self.front.items) if is_measurable(one))
        first = next(keepers, None)
        if first is not None:
            self._elites = True
            self._hold(evaluator_for(first))

    def measure_by(self, evaluator: Evaluator | None) -> None:
        """Let an evaluator measure tickets that a checkpoint held, which know of none."""
        if evaluator is None or evaluator.inherit != "weights" or self._measurer is evaluator:
            return
        signs = [objective.weight > 0 for objective in evaluator.objectives]
        kept = [one for one in self.front.items if isinstance(one, Ticket)]
        if not isinstance(self.front, ParetoFront) or any(
            [weight > 0 for weight in one.fitness.weights] != signs for one in kept
        ):
            return
        self._hold(evaluator)
        for one in kept:
            one.note_evaluator(evaluator.key)

    def _hold(self, evaluator: Evaluator | None) -> None:
        """Keep what measures the front for as long as somebody has that, with or without us."""
        if evaluator is not None and evaluator is not self._measurer:
            self._measurer = evaluator
            weakref.finalize(self.front, lambda _: None, evaluator).atexit = False

    def _note_lost(self, population: Sequence[Any]) -> None:
        """Count individuals as diverged to which an evaluation of the user's gave no finite value.

        They stop no run: who evaluates may mean them, as a penalty say.
        """
        costs_of(population)  # raises where one has not been evaluated
        seen = {id(one) for one in self._lost}
        self._lost = [one for one in population if not is_finite(one)]
        new = sum(id(one) not in seen for one in self._lost)
        if new:
            logger.warning(
                "%d of %d individuals have values that are not finite; they count as diverged and "
                "stay out of the front", new, len(population)
            )  # fmt: skip
            self.task.ledger.diverged += new
            networks, steps, diverged, dense = self._before
            self._before = networks, steps, diverged + new, dense

    def _note_origin(self) -> None:
        """Give the tickets on the front that are new there the origin of this generation."""
        new = [one for one in self.front.items if isinstance(one, Ticket) and not one.origin]
        if new:
            origin = self.task.origin(generation=self.generation)
            for ticket in new:
                ticket.origin = origin

    def _call_back(self, row: dict[str, Any]) -> None:
        """Give a row to the callbacks; what they draw from global generators changes no run."""
        if not self.callbacks:
            return
        states = random_states.states()
        try:
            for callback in list(self.callbacks):
                callback(self, {"gen": self.generation, **row})
        finally:
            random_states.set_states(states)

    def _moment(self, population: Sequence[Any]) -> Moment:
        """Return what a checkpoint could hold of the run as it is now."""
        return Moment(
            task=self.task,
            generation=self.generation,
            facts=self.facts,
            recorder=self._state(),
            population=list(population),
            archive=self.front,
            beside=None if self.beside is None else self.beside(),
        )

    def _state(self) -> dict[str, Any]:
        """Return what a checkpoint holds of the recorder itself, as plain data."""
        return {
            **self._limits.as_dict(),
            "generations": self.progress.generations,
            "reference": self.reference,
            "best": list(self._limits.best),
            "spent": list(self._spent),
            "before": list(self._before),
            "seconds": time.monotonic() - self._start,
            "stopped": self._stopped,
            "names": list(self._names),
            "ended": False,
        }

    def adopt(
        self,
        folder: RunFolder,
        snapshot: Snapshot,
        rows: Any,
        *,
        changed: bool,
        settled: bool,
    ) -> None:
        """Go on with a run that another recorder has begun.

        Args:
            folder: Its folder.
            snapshot: What its checkpoint holds; its tickets have been made.
            rows: The log so far.
            changed: Whether the facts are other ones, to be written with the next generation.
            settled: Whether the folder holds the front of this generation, measured.
        """
        held, ledger = snapshot.recorder, self.task.ledger
        then = snapshot.ledger()
        if not ledger.networks:
            vars(ledger).update(vars(then))
        now, was = ledger.totals(), then.totals()
        # Whatever else the task has spent in this process is not the run's.
        self._spent, self._before = (_moved(held[name], was, now) for name in ("spent", "before"))
        self.generation, self.facts = snapshot.generation, snapshot.facts
        self._stopped, self._changed = held["stopped"], changed
        self.reference = held["reference"]
        generation, volume = held["best"]
        self._limits.best = generation, volume
        self._names = tuple(held.get("names") or ())  # older ones have none
        self._elites = snapshot.inherit == "weights" and isinstance(self.front, ParetoFront)
        self._settled = self.generation if settled else None
        self._start = time.monotonic() - held["seconds"]
        self.progress.go_on(self.generation, held["seconds"])
        for row in rows:
            self.logbook.record(
                gen=row["generation"], **{n: row[n] for n in row if n != "generation"}
            )
        self._keep_in(folder)
        self._resumed = snapshot

    def _keep_in(self, folder: RunFolder) -> None:
        """Write into a folder from now on, with checkpoints."""
        searched = "search" in self.facts
        self.folder = folder
        self._saver = Saver(folder, self.task, self.generation + 1, searched=searched)
        # Also when the program ends, however Python ends it; not in its child processes.
        weakref.finalize(self, self._saver.let_go)

    def _row(self, population: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
        """Return the numbers of this generation."""
        networks, steps, diverged, dense = self.task.ledger.since(self._spent)
        return {
            "evaluations": networks,
            "network_steps": steps,
            "dense_steps": round(dense, 3),
            "diverged": diverged,
            "niches" if self._elites else "front_size": len(self.front.items),
            "hypervolume": 0.0
            if self.reference is None
            else hypervolume(costs_of(self.front.items), self._costs_of_reference(population)),
            "seconds": round(time.monotonic() - self._start, 3),
            **self._gap.columns(list(self.front.items)),
            **spread(population, names),
        }

    def _fix_reference(self, population: Sequence[Any], names: Sequence[str]) -> None:
        """Fix the hypervolume's reference point at the first generation with finite values."""
        first = self.generation == 0
        if self.reference is None:
            own = getattr(population[0].fitness, "reference", ())
            finite = [one for one in population if is_finite(one)]
            # What diverged has no value of its own, and the volume would be that of its worst.
            some = [one for one in finite if not getattr(one, "diverged", False)] or finite
            costs = costs_of(some)
            if not own and not len(costs):
                return
            if not own:
                weights = np.asarray(population[0].fitness.weights)
                own = -np.sign(weights) * (costs.max(axis=0) / np.abs(weights))
            self.reference, first = [float(r) for r in own], True
        if first:
            _checks.length("reference", len(self.reference), len(names), "M")
            self.facts["hypervolume_reference"] = dict(zip(names, self.reference, strict=True))
            self._write_config()

    def _costs_of_reference(self, population: Sequence[Any]) -> list[float]:
        """Return the reference point as costs, in the scale of DEAP's weighted values."""
        assert self.reference is not None
        weights = population[0].fitness.weights
        return [-w * r for w, r in zip(weights, self.reference, strict=True)]

    def _reason(self, row: Mapping[str, Any]) -> str | None:
        """Return why to stop now, if at all."""
        before, self._before = self._before, self.task.ledger.totals()
        networks, _, diverged, _ = self.task.ledger.since(before)
        return (
            divergence(diverged, networks, self.task.recipe.lr)
            or self._limits.reached(self.generation, row)
            or self._spent_up()
        )

    def _spent_up(self) -> str | None:
        """Return that a budget has too little left for another generation."""
        evaluator = evaluator_of(self.task)
        budget = None if evaluator is None else evaluator.budget
        if budget is None or not budget.ends_before(self.generation + 1):
            return None
        return _is_spent(budget)

    def _write_config(self) -> None:
        """Write everything that was set."""
        if self.folder is not None:
            self.folder.write_config(self.facts)


def _is_spent(budget: Budget) -> str:
    """Return in words that nothing of a budget is left."""
    return f"the budget of {budget.total:g} {budget.unit} is spent"


def _moved(held: Sequence[float], was: Totals, now: Totals) -> Totals:
    """Return totals that a checkpoint holds, as those of a task that has spent more since.

    Checkpoints of before have no dense steps: those begin at 0 there.
    """
    networks, steps, diverged, *dense = held
    return (
        int(networks) + now[0] - was[0],
        int(steps) + now[1] - was[1],
        int(diverged) + now[2] - was[2],
        sum(dense) + now[3] - was[3],
    )

"""Taking up a run where its newest checkpoint left it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deap import tools

from nets_deap import _checks
from nets_deap._table import Brief
from nets_deap.errors import FileAccessError, NetsError, RunChangedError, RunFileError
from nets_deap.evolution.evaluator import evaluator_of
from nets_deap.runs.checkpoint import random_states
from nets_deap.runs.checkpoint.checkpoints import Checkpoints
from nets_deap.runs.checkpoint.diff import differences
from nets_deap.runs.checkpoint.snapshot import Snapshot
from nets_deap.runs.recorder import Recorder
from nets_deap.runs.storage import history
from nets_deap.runs.storage.folder import RunFolder
from nets_deap.runs.storage.plain import BROKEN
from nets_deap.runs.storage.reader import UNSETTLED, RunReader
from nets_deap.runs.storage.rows import front_rows
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.task import Task
from nets_deap.training.versions import versions

logger = logging.getLogger("nets_deap")


@dataclass(frozen=True, repr=False)
class Resumed(Brief):
    """A run that can go on.

    Attributes:
        population: The population after the last generation that was saved.
        front: The hall of fame, which the recorder fills. Of inherited weights it is measured from
            W0 when it is read, as during the run; where the objectives are one's own, make the
            toolbox of the task first.
        logbook: The log so far.
        generation: The last generation that was saved.
        remaining: Generations that are left, the algorithm's ``ngen``; None where the recorder was
            not told how many there will be.
        recorder: Goes on recording; the algorithm's ``stats``.
        task: The task.
        beside: What ``recorder.beside`` gave.
    """

    population: list[Ticket]
    front: tools.HallOfFame
    logbook: tools.Logbook
    generation: int
    remaining: int | None
    recorder: Recorder
    task: Task
    beside: Any = None

    def __repr__(self) -> str:
        inside = f"generation {self.generation}, remaining={self.remaining}, {self.recorder!r}"
        return f"{type(self).__name__}({inside})"


def newest(path: Path) -> Snapshot | None:
    """Return the newest checkpoint of a run; None where there is none.

    Raises:
        RunFileError: There are some, and none can be read.
    """
    found = Checkpoints(path).newest()
    if found is None:
        return None
    with _naming(path):
        return Snapshot(found.content, found.unpacker)


def take_up(
    folder: RunFolder,
    snapshot: Snapshot,
    task: Task,
    *,
    archive: tools.HallOfFame | None = None,
    generations: int | None = None,
    progress: str = "auto",
    force: bool = False,
) -> Resumed:
    """Go on with a run: set all random states, and cut off what was written after the checkpoint.

    Args:
        folder: Its folder, held against others.
        snapshot: Its checkpoint.
        task: The same task as then.
        archive: An empty hall of fame to fill, where it was of a class of the user's own.
        generations: How many there will be in all, to go on for longer than planned; None for as
            many as planned.
        progress: See ``Recorder``.
        force: Go on although something has changed.

    Raises:
        InvalidValueError: It has had more generations already.
        RunChangedError: Configuration, data, model or initial weights have changed.
        RunFileError: A file does not hold what it should.
    """
    reader = RunReader(folder.path)
    config = reader.config()
    with _naming(folder.path):
        changed = _compare(snapshot.facts, config, task, force=force)
    if changed:
        snapshot.facts = {**config, "task": json.loads(json.dumps(task.as_dict()))}
    if generations is not None:
        _checks.whole("generations", generations, low=snapshot.generation)
        snapshot.facts = _planned(snapshot.facts, generations)
    with _naming(folder.path):
        planned = snapshot.recorder["generations"]
        total = planned if generations is None else generations
        population = snapshot.read_tickets(task.layout)
        front = snapshot.archive(archive)
        state = snapshot.recorder
        recorder = Recorder(
            task=task,
            generations=total,
            patience=state["patience"],
            max_steps=state["max_steps"],
            max_dense_steps=state.get("max_dense_steps"),
            max_seconds=state["max_seconds"],
            progress=progress,
            archive=front,
        )
        with folder.writing():
            snapshot.truncate_logs(folder.path, force=force)
            history.cut_off(folder.path, snapshot.generation)
            rows = reader.sound_log()[0] if force else reader.log()
        settled = snapshot.inherit is not None and _has_front_of(reader, snapshot.generation)
        recorder.adopt(folder, snapshot, rows, changed=changed or total != planned, settled=settled)
        evaluator = evaluator_of(task)
        if evaluator is None:
            evaluator = snapshot.measurer(task)
        else:
            snapshot.set_evaluator(evaluator)
        recorder.measure_by(evaluator)
        if not recorder.can_measure:
            logger.warning(
                "The front of %s cannot be measured yet: %s. Make the toolbox or the evaluator of "
                "its objectives for the task before you read it.", folder.path, UNSETTLED
            )  # fmt: skip
        random_states.set_states(snapshot.random)
    with folder.writing():
        checkpoints = Checkpoints(folder.path)
        checkpoints.sweep()
        checkpoints.drop_after(snapshot.generation)
        if recorder.is_settled and settled:
            folder.keep_tickets()
        else:
            names = state.get("names") or ()  # older ones have none
            folder.write_front(front_rows(front.items, names), settled=recorder.is_settled)
            folder.sync_tickets([t for t in front.items if t.has_layout], names)
    return Resumed(
        population=population,
        front=front,
        logbook=recorder.logbook,
        generation=snapshot.generation,
        remaining=None if total is None else max(0, total - snapshot.generation),
        recorder=recorder,
        task=task,
        beside=snapshot.beside,
    )


def _has_front_of(reader: RunReader, generation: int) -> bool:
    """Return whether a folder holds the front that was measured after a generation."""
    try:
        lived = reader.history()
    except FileAccessError:
        return False
    last = lived[-1] if lived else None
    return last is not None and last.number == generation and last.settled and reader.is_settled()


def _compare(
    then: Mapping[str, Any], config: Mapping[str, Any], task: Task, *, force: bool
) -> bool:
    """Refuse to go on with something else than what was begun; return whether something is."""
    now = json.loads(json.dumps(task.as_dict()))
    layout = differences(
        *({n: f[n] for n in ("layers", "initial_digest")} for f in (then["task"], now))
    )
    if layout:
        raise RunChangedError(
            "task must have the layers and initial weights of the run, as its masks belong to "
            f"them: {'; '.join(layout)}. Build the same model from the same seed."
        )
    # A run may have been made longer just before it was cut off.
    facts = (_planned(each, 0) for each in (then, config))
    edited = {"config.json: " + line for line in differences(*facts)}
    changed = [*differences(then["task"], now), *sorted(edited)]
    if changed and not force:
        raise RunChangedError(
            f"the run must go on as it was begun, but {'; '.join(changed)}. Put that back, or go "
            "on with force=True (--force): the result is then no longer that of one "
            "uninterrupted run, and earlier fitness values are compared with new ones."
        )
    if changed:
        logger.warning(
            "The run goes on although %s: its result is not that of one uninterrupted run, and "
            "earlier fitness values are compared with new ones.",
            "; ".join(changed),
        )
    updated = differences(then["versions"], versions())
    if updated:
        logger.warning("Results may differ in rounding from here on: %s.", "; ".join(updated))
    return bool(changed)


def _planned(facts: Mapping[str, Any], generations: int) -> dict[str, Any]:
    """Return a run's facts with another number of generations."""
    found: dict[str, Any] = json.loads(json.dumps(facts))
    for part in (found.get("search"), (found.get("config") or {}).get("search")):
        if isinstance(part, dict) and "generations" in part:
            part["generations"] = generations
    return found


class _naming:
    """Raises what is wrong with a checkpoint's content as an error that names the folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, RunFileError):
            raise RunFileError(f"the checkpoint in {self._path} cannot be used: {error}") from error
        if isinstance(error, BROKEN) and not isinstance(error, NetsError):
            raise RunFileError(
                f"the checkpoint in {self._path} cannot be used: {error!r}."
            ) from error

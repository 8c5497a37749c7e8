"""``resume``: go on with an interrupted run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deap import tools

from nets_deap import _checks
from nets_deap.errors import CallOrderError, NetsError, RunFileError
from nets_deap.evolution.budget import STEPS
from nets_deap.experiments.config import Config
from nets_deap.experiments.own import begun_in_python, taken_up
from nets_deap.runs.resume import Resumed, newest, take_up
from nets_deap.runs.storage.folder import RunFolder
from nets_deap.runs.storage.reader import RunReader
from nets_deap.training.task import Task, check_task


@_checks.signed
def resume(
    path: str | Path,
    *,
    task: Task | None = None,
    archive: tools.HallOfFame | None = None,
    generations: int | None = None,
    progress: str = "auto",
    force: bool = False,
) -> Resumed:
    """Go on with a run whose recorder had a folder, exactly where its newest checkpoint left it.

    Give what comes back to the same algorithm with a toolbox made as before: ``run.population``,
    ``ngen=run.remaining``, ``stats=run.recorder``, ``halloffame=run.front``. The result is that of
    the uninterrupted run.

    Python's, NumPy's and torch's global random states are set to what they were. Nothing in the
    folder is executed; the task of a run that was begun with a function of one's own is made by
    that function, in a file elsewhere.

    Args:
        path: The run folder.
        task: The same task as then; None builds it from the configuration of ``nets-deap run``, or
            by the function that was named there.
        archive: An empty hall of fame of the class that the recorder had, where it is none of
            ``nets.ParetoFront``, ``nets.NicheArchive`` and DEAP's own.
        generations: How many there will be in all, to go on for longer than planned, also with
            a run that is finished; None for as many as planned.
        progress: See ``nets.Recorder``.
        force: Go on although the configuration has changed or rows of the log are lost, or although
            another machine has written into the folder in the last ten minutes.

    Raises:
        InvalidValueError: It has had more than ``generations`` already.
        RunChangedError: Configuration, data, model or initial weights have changed.
        RunFileError: A checkpoint is of a newer schema, or none can be read.
        FolderInUseError: Another program writes into the folder.
        CallOrderError: The run has no checkpoint yet, or is a search on islands.
    """
    facts = RunReader(path).config()
    if task is None:
        from nets_deap.experiments.run import build_task

        task = build_task(config_of(facts, _checks.path("path", path)))
    else:
        check_task("task", task)
    folder = RunFolder.taken_up(path, force=force)
    try:
        snapshot = newest(folder.path)
        if snapshot is None:
            raise CallOrderError(
                f"{path} holds no checkpoint: the run was interrupted in its first generation. "
                "Start it again with overwrite=True (--overwrite)."
            )
        if snapshot.beside is not None:
            raise CallOrderError(
                f"{path} holds a search on islands, which only all together can go on: call "
                "nets.search(task, ..., islands=..., resume=True) with the arguments it had."
            )
        return take_up(
            folder,
            snapshot,
            task,
            archive=archive,
            generations=generations,
            progress=progress,
            force=force,
        )
    except BaseException:
        folder.close()
        raise


def config_of(facts: Mapping[str, Any], folder: Path | None = None) -> Config:
    """Return the configuration of a run that ``nets-deap run`` began.

    Args:
        facts: What its ``config.json`` holds.
        folder: The run folder, of which no file is executed.

    Raises:
        CallOrderError: It was begun in Python.
        InvalidValueError: The function that makes its task is not where it was.
        RunFileError: It is not a valid configuration.
    """
    plain = facts.get("config")
    if not isinstance(plain, dict):
        raise begun_in_python()
    settings: dict[str, Any] = {}
    own = plain.get("task")
    own = own if isinstance(own, dict) and "source" in own else None
    for section, value in plain.items():
        if section == "task" and own is not None:
            continue
        if isinstance(value, dict):
            settings.update({f"{section}.{n}": _field(v) for n, v in value.items()})
        elif section != "about":
            settings[section] = value
    if settings.get("search.budget") is not None:  # before there were units, it was steps
        settings.setdefault("search.budget_unit", STEPS)
    if own is not None:
        return taken_up(own, settings, folder)
    try:
        return Config(about=str(plain.get("about", ""))).override(settings)
    except (NetsError, TypeError, ValueError, AttributeError) as error:
        raise RunFileError(f"config.json is not a valid configuration: {error}") from error


def _field(value: Any) -> Any:
    """Return a field as a configuration has it: JSON has no tuples."""
    return tuple(map(_field, value)) if isinstance(value, list) else value

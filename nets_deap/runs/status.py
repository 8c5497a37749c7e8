"""``status``: how far a run is, and how it is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nets_deap import _checks
from nets_deap._table import table
from nets_deap.errors import FileAccessError, NetsError, RunFileError
from nets_deap.runs.checkpoint.checkpoints import Checkpoints
from nets_deap.runs.storage.lock import holder, is_held
from nets_deap.runs.storage.paths import CONFIG, LOG, again
from nets_deap.runs.storage.plain import BROKEN
from nets_deap.runs.storage.reader import RunReader

UNKNOWN = "ended or stopped"


@dataclass(frozen=True)
class Status:
    """What can be told of a run from its folder.

    Attributes:
        state: ``"running"``, ``"finished"``, ``"stopped"`` (by a limit), ``"interrupted"``, or
            ``"ended or stopped"`` where nobody has said how many generations there will be.
        generation: The last one in the log; -1 for none.
        generations: How many there will be after the first population; None if unknown.
        seconds: Spent until then.
        left: Seconds that the other generations will take at this pace; None if unknown.
        checkpoint: The generation of the newest checkpoint that is whole; None for none.
        age: Seconds since that was saved.
        front: What the run keeps: a front, or elites that become one.
        health: A line for each thing that is not as it should be.
        advice: What to do next.
    """

    state: str
    generation: int
    generations: int | None
    seconds: float
    left: float | None
    checkpoint: int | None
    age: float | None
    front: str
    health: list[str]
    advice: str

    def text(self) -> str:
        """Return it as lines."""
        of = "" if self.generations is None else f" of {self.generations}"
        left = "" if not self.left else f", about {_duration(self.left)} left"
        saved = "none"
        if self.checkpoint is not None and self.age is not None:
            saved = f"generation {self.checkpoint}, {_duration(self.age)} ago"
        state = self.state
        if state == UNKNOWN:
            state = f"ended, or stopped, after generation {self.generation}"
            state += "; how many were planned is not known"
        rows = [
            ("state", state),
            ("generation", f"{'none yet' if self.generation < 0 else self.generation}{of}"),
            ("time", f"{_duration(self.seconds)}{left}"),
            ("checkpoint", saved),
            *([("front", self.front)] if self.front else []),
            *(("health", line) for line in self.health or ["good"]),
        ]
        return "\n".join([table(rows, left=(0, 1)), *([self.advice] if self.advice else [])])


def status(path: str | Path) -> Status:
    """Return how far the run in a folder is; nothing in it is changed.

    Raises:
        FileAccessError: It is not a run folder.
        RunFileError: Its configuration is damaged.
    """
    folder = _checks.path("path", path)
    facts = RunReader(folder).config()
    try:
        return _status(folder, facts, path)
    except BROKEN as error:
        if isinstance(error, NetsError):
            raise
        raise RunFileError(f"the log or a checkpoint in {path} is none: {error!r}.") from error


def table_of_runs(path: Path) -> str:
    """Return a table with a line for each run in a folder; nothing where it holds none."""
    if not path.is_dir() or RunReader(path).holds(CONFIG):
        return ""
    rows = [("run", "state", "generation", "time", "left")]
    for folder in sorted(one for one in path.iterdir() if RunReader(one).holds(CONFIG)):
        try:
            found = status(folder)
        except NetsError:
            rows.append((str(folder), "damaged: see 'nets-deap status' of it", "", "", ""))
            continue
        of = "" if found.generations is None else f" of {found.generations}"
        left = "" if not found.left else _duration(found.left)
        state = found.state.partition(" (")[0]
        generation = f"{max(found.generation, 0)}{of}"
        rows.append((str(folder), state, generation, _duration(found.seconds), left))
    return table(rows, left=(0, 1)) if len(rows) > 1 else ""


def _status(folder: Path, facts: dict[str, Any], path: str | Path) -> Status:
    """Return how far a run is, from files that may be damaged."""
    reader, checkpoints = RunReader(folder), Checkpoints(folder)
    rows, sound = reader.sound_log()
    health = [] if sound else [f"{LOG} has a torn line, which resuming removes"]
    row = rows[-1] if rows else {}
    found, problems = checkpoints.find()
    content, age = {}, None
    if found is not None:
        content, age = found.content, max(0.0, time.time() - found.file.stat().st_mtime)
    recorder = content.get("recorder", {})
    total = recorder.get("generations")
    generation = int(row.get("generation", -1))
    seconds = float(row.get("seconds", 0.0))
    left = None
    if total is not None and generation >= 0:
        left = seconds / (generation + 1) * max(0, total - generation)
    if row.get("diverged"):
        # An evaluation of the user's may train nothing, or not here.
        trained = row.get("evaluations", 0)
        of = f" of {trained} networks" if trained >= row["diverged"] else " evaluations"
        health.append(f"{row['diverged']}{of} have diverged")
    ended = recorder.get("ended") and generation == content.get("generation")
    done = generation >= 0 and (
        (total is not None and generation >= total)
        or recorder.get("stopped") is not None
        or bool(ended)
    )
    settled = reader.is_settled()
    done = done and settled
    final = reader.has_final_training() or "config" not in facts
    running = is_held(folder)
    state = "finished" if done and final else "interrupted"
    if not done and generation >= 0 and total is None:
        state = UNKNOWN
    if recorder.get("stopped"):
        health.append(f"stopped by a limit: {recorder['stopped']}")
        state = "stopped" if final else state
    how = f"nets-deap resume {path}"
    if "config" not in facts:  # only Python knows its task
        how = f"{again(Path(path), searched='search' in facts)} in Python"
    advice = "" if done and final else f"go on with: {how}"
    if not settled and not running:
        advice += "; its front is measured at its end, or when that is read"
    saved = content.get("generation", -1)
    if not running and -1 < saved < generation:
        lost = f"generation{'s' * (generation > saved + 1)} {saved + 1}"
        lost += f" to {generation}" if generation > saved + 1 else ""
        health.append(f"{lost}: not saved, and made again by resuming")
    if running:
        held = holder(folder)
        who = "" if held is None else f" (process {held['pid']} on {held['host']})"
        state, advice = f"running{who}", ""
    return Status(
        state=state,
        generation=generation,
        generations=total,
        seconds=seconds,
        left=0.0 if done else left,
        checkpoint=content.get("generation"),
        age=age,
        front=_kept(reader) if generation >= 0 else "",
        health=[*map(str, problems), *health],
        advice=advice,
    )


def _kept(reader: RunReader) -> str:
    """Return what a run keeps, in words; nothing where its table is lost."""
    try:
        many = len(reader.front())
    except FileAccessError:
        return ""
    if reader.is_settled():
        return f"{many} ticket{'s' * (many != 1)}"
    return f"none yet: {many} elites of niches, as the search trained them, not measured from W0"


def _duration(seconds: float) -> str:
    """Format a duration."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"

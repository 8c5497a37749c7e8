"""What lies in a run folder: names, and that under them are files and folders of its own.

The one place that names them. ``storage.reader`` knows what they hold, ``storage.folder`` writes.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from nets_deap.errors import FileAccessError, RunFileError

CONFIG, LOG, LOG_TABLE, HISTORY = "config.json", "log.jsonl", "log.csv", "history.jsonl"
FRONT, CURVES, FIGURE = "front.csv", "curves.json", "front.png"
NICHES = "niches.csv"  # in place of the front, until that has been measured from W0
FILES = CONFIG, LOG, LOG_TABLE, HISTORY, FRONT, NICHES, CURVES, FIGURE
TICKETS, CHECKPOINTS, LOCK = "tickets", "checkpoints", ".lock"
PARTIAL = "unfinished.npz"  # as earlier versions called it: a generation under way goes on
OWN = re.compile(r"\.lock|\..*\.part")  # what runs leave while they run, or when they die
CONFIG_BYTES = 2**25
_CHECKPOINT = re.compile(r"[0-9]{8,15}\.npz")  # the generation
_TICKET = re.compile(r"[0-9a-f]{16}\.safetensors")  # the start of the digest


def again(path: Path, *, searched: bool = False) -> str:
    """Return the call that goes on with a run of a recorder, or of ``nets.search``."""
    if searched:
        return f"nets.search(task, path={str(path)!r}, resume=True)"
    return f"nets.resume({str(path)!r}, task=task)"


def check_own(path: Path) -> None:
    """Raise if something under a name of a run is not a file or folder of this run folder.

    A link may lead anywhere, and what is written or cut off through it is then lost there; of a
    pipe nothing may ever come.

    Raises:
        RunFileError: There is such a thing, or a configuration too large to be one.
        FileAccessError: The folder cannot be looked at.
    """
    inside = (f"{CHECKPOINTS}/{PARTIAL}", *(f"{CHECKPOINTS}/{p.name}" for p in _saved(path)))
    try:
        for name in (*FILES, LOCK):
            _check(path / name, stat.S_ISREG, "file")
        for name in (TICKETS, CHECKPOINTS):
            _check(path / name, stat.S_ISDIR, "folder")
        for name in inside:
            _check(path / name, stat.S_ISREG, "file")
        if (path / CONFIG).exists() and (path / CONFIG).stat().st_size > CONFIG_BYTES:
            raise RunFileError(f"{path / CONFIG} is too large for a configuration of a run.")
    except OSError as error:
        raise FileAccessError(f"path must be a folder to look at: {path} ({error}).") from error


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the checkpoints in their folder, newest first; other files there are not a run's."""
    found = [path for path in _entries(folder) if _CHECKPOINT.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.stem), reverse=True)


def tickets_in(folder: Path) -> list[Path]:
    """Return the tickets that a run wrote into a folder; other files there are not a run's."""
    return [path for path in _entries(folder) if _TICKET.fullmatch(path.name)]


def _saved(path: Path) -> list[Path]:
    """Return the checkpoints of a run folder, unless they are somewhere else."""
    folder = path / CHECKPOINTS
    return [] if folder.is_symlink() else checkpoints_in(folder)


def _entries(folder: Path) -> Iterator[Path]:
    """Yield what lies in a folder; nothing if there is none."""
    if folder.is_dir():
        yield from folder.iterdir()


def _check(path: Path, is_kind: Callable[[int], bool], word: str) -> None:
    """Raise unless a path is of a kind, or nothing is there."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not is_kind(mode):
        raise RunFileError(
            f"{path} must be a {word} of the run itself: got a link or something else. Put the "
            f"{word} in its place, or remove it."
        )

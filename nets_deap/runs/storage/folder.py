"""``RunFolder``: the files of one run, each written whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nets_deap import _checks
from nets_deap._atomic import sweep, write
from nets_deap.errors import FileAccessError, NetsError
from nets_deap.runs.storage.history import SHORT, Generation, line_of
from nets_deap.runs.storage.lock import Lock
from nets_deap.runs.storage.paths import (
    CHECKPOINTS,
    CONFIG,
    FILES,
    FRONT,
    HISTORY,
    LOG,
    LOG_TABLE,
    NICHES,
    OWN,
    PARTIAL,
    TICKETS,
    check_own,
    checkpoints_in,
    tickets_in,
)
from nets_deap.runs.storage.reader import RunReader
from nets_deap.tickets import files
from nets_deap.tickets.genome import Genome


class RunFolder:
    """A folder that holds one run.

    ``config.json`` (everything that was set, versions, seeds), ``log.jsonl`` and ``log.csv`` (a row
    a generation), ``front.csv`` or, until that is measured, ``niches.csv``, ``front.png``,
    ``tickets/*.safetensors`` and ``checkpoints/*.npz``. One program at a time writes into it.

    Args:
        path: The folder; made with its parents if it is not there.
        overwrite: Replace the files of an earlier run; other files in the folder stay.

    Raises:
        InvalidValueError: It holds something already and ``overwrite`` is off.
        FolderInUseError: Another program writes into it.
        FileAccessError: It cannot be made or written.
    """

    locked = True  # whether a new one is held against others
    _lock: Lock | None = None

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self.path = _checks.path("path", path).absolute()  # the program may go elsewhere
        self._written: dict[str, tuple[float, ...]] = {}
        try:
            entries = sorted(self.path.iterdir()) if self.path.exists() else []
            held = [entry.name for entry in entries if not OWN.fullmatch(entry.name)]
            if held and not overwrite:
                raise _checks.bad_value(
                    "path",
                    "be a new or empty folder",
                    "no files",
                    f"{self.path} with {', '.join(held[:5])}",
                    "To go on with the run in it: resume=True in nets.search, nets.resume(path, "
                    "task=task), or 'nets-deap resume'. Else choose another folder, or lose the "
                    "earlier run by overwrite=True (--overwrite).",
                )
            self._make()
            check_own(self.path)
            if self.locked:
                self._lock = Lock(self.path)
            sweep(self.path)
            if held:
                self._remove_earlier_run()
        except OSError as error:
            raise self._unwritable(error) from error

    @classmethod
    def existing(cls, path: str | Path) -> RunFolder:
        """Return a folder that a run has already made; nothing in it is touched."""
        folder = cls.__new__(cls)
        folder.path = _checks.path("path", path).absolute()
        folder._written = {}
        return folder

    @classmethod
    def taken_up(cls, path: str | Path, *, force: bool = False) -> RunFolder:
        """Return the folder of a run that is to go on, held against others.

        Args:
            path: The folder.
            force: Take it also from another machine that gave a sign of life lately.

        Raises:
            FileAccessError: There is none, or it cannot be written.
            FolderInUseError: Another program writes into it.
        """
        folder = cls.existing(path)
        with folder.writing():
            if not folder.path.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "there is no such folder")
            check_own(folder.path)
            folder._lock = Lock(folder.path, force=force)
            sweep(folder.path)
            sweep(folder.path / TICKETS)
        return folder

    def check(self) -> None:
        """Give a sign of life.

        Raises:
            FolderInUseError: Another program has taken the folder over.
        """
        if self._lock is not None:
            with self.writing():
                self._lock.check()

    @property
    def is_held(self) -> bool:
        """Whether it is held against others, and still there."""
        return self._lock is not None and self._lock.is_ours and self.path.exists()

    def close(self) -> None:
        """Let others have the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Return in words what goes wrong with files inside."""
        try:
            yield
        except NetsError:
            raise
        except OSError as error:
            raise self._unwritable(error) from error

    @classmethod
    def beside(cls, target: Path) -> RunFolder:
        """Return the folder that a file is to be written in, made if it is not there.

        Raises:
            FileAccessError: It cannot be made or written.
        """
        folder = cls.existing(target.parent)
        try:
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, f"{target} is a folder, not a file")
            folder._make()
        except OSError as error:
            raise folder._unwritable(error) from error
        return folder

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file."""
        self.write_text(name, json.dumps(content, indent=2) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a text file, whole or not at all."""
        self.write_bytes(name, text.encode())

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write any file likewise."""
        with self.writing():
            write(self.path / name, content)

    def append(self, name: str, line: str) -> None:
        """Add a line to a text file."""
        with self.writing(), (self.path / name).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def write_config(self, facts: Mapping[str, Any]) -> None:
        """Write everything that was set."""
        self.write_json(CONFIG, facts)

    def append_generation(self, generation: Generation) -> None:
        """Add who lived in a generation to the history."""
        self.append(HISTORY, line_of(generation))

    def append_row(self, row: Mapping[str, Any]) -> None:
        """Add a generation to the log, in both its forms."""
        self.append(LOG, json.dumps(row))
        table = self.path / LOG_TABLE
        if table.exists():  # begun by an earlier version, it may have fewer columns
            with table.open(encoding="utf-8") as file:
                columns = file.readline().strip().split(",")
            row = {name: row.get(name, "") for name in columns}
        lines = csv_text([row]).splitlines()
        if not table.exists():
            self.append(LOG_TABLE, lines[0])
        self.append(LOG_TABLE, lines[1])

    def write_front(self, rows: Sequence[Mapping[str, Any]], *, settled: bool = True) -> None:
        """Write the table of what the run keeps; of no members its first columns.

        Args:
            rows: See ``rows.front_rows``.
            settled: Whether that is a front; else it is elites of niches, which become one.
        """
        name, other = (FRONT, NICHES) if settled else (NICHES, FRONT)
        self.write_text(name, csv_text(rows) if rows else "ticket,kept,density\n")
        # After the other one is there: where both are, as a kill may leave it, nothing is settled.
        with self.writing():
            (self.path / other).unlink(missing_ok=True)

    def write_tickets(self, tickets: Sequence[Any], names: Sequence[str] = ()) -> None:
        """Make ``tickets/`` hold exactly these tickets, each under the start of its digest.

        With the names of their objectives, for a fitness that does not know them.
        """
        folder = self.path / TICKETS
        with self.writing():
            folder.mkdir(exist_ok=True)
            wanted = {f"{ticket.digest[:SHORT]}.safetensors": ticket for ticket in tickets}
            for name, ticket in wanted.items():
                # The same mask can come back with other values, from another generation.
                held = _held_by(ticket)
                if self._written.get(name) != held:
                    own = isinstance(ticket, Genome)  # whose weights nobody else knows
                    record = files.Record.of(ticket.export() if own else ticket, names)
                    files.write(folder / name, record, include_initial=own)
                    self._written[name] = held
            for name in self._written.keys() - wanted.keys():
                (folder / name).unlink(missing_ok=True)
                del self._written[name]

    def sync_tickets(self, tickets: Sequence[Any], names: Sequence[str] = ()) -> None:
        """Write these tickets anew, and remove all others that a run has written."""
        self.keep_tickets()
        self.write_tickets(tickets, names)

    def keep_tickets(self) -> None:
        """Leave the tickets that are there until others are written."""
        self._written = {path.name: () for path in tickets_in(self.path / TICKETS)}

    def _make(self) -> None:
        """Make the folder, and see whether files can be written there."""
        self.path.mkdir(parents=True, exist_ok=True)
        probe = self.path / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()

    def _remove_earlier_run(self) -> None:
        """Remove the files of an earlier run, and nothing else; refuse if there was none."""
        if not RunReader(self.path).is_run():
            raise _checks.bad_value(
                "path",
                "hold an earlier run to overwrite",
                "a config.json that a run wrote",
                f"{self.path} without one",
                "Choose another folder; nothing was removed.",
            )
        for name in FILES:
            (self.path / name).unlink(missing_ok=True)
        for path in tickets_in(self.path / TICKETS):
            path.unlink()
        for path in checkpoints_in(self.path / CHECKPOINTS):
            path.unlink()
        (self.path / CHECKPOINTS / PARTIAL).unlink(missing_ok=True)
        for folder in (self.path / TICKETS, self.path / CHECKPOINTS):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def _unwritable(self, error: OSError) -> FileAccessError:
        """Return the message that the folder cannot be written."""
        advice = "Choose another place."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "What was saved is whole: make room, and go on with the run."
        return FileAccessError(
            f"path must be a writable folder: cannot write in {self.path} ({error.strerror}). "
            f"{advice}"
        )


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV with a header; columns are those of all rows, in order."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _held_by(ticket: Any) -> tuple[float, ...]:
    """Return the numbers that the file of a ticket holds."""
    state = ticket.trained
    more = () if state is None else (state.steps, *state.metrics.values())
    return (*ticket.fitness.values, *more)

"""``RunFolder``: the files of one run, each written whole or not at all."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nets_deap import _checks
from nets_deap.errors import FileAccessError

FILES = (
    *("config.json", "log.jsonl", "log.csv", "history.jsonl"),
    *("front.csv", "curves.json", "front.png"),
)
TICKETS = "tickets"


class RunFolder:
    """A folder that holds one run.

    ``config.json`` (everything that was set, versions, seeds), ``log.jsonl`` and ``log.csv`` (a row
    a generation), ``front.csv``, ``front.png`` and ``tickets/*.safetensors``.

    Args:
        path: The folder; made with its parents if it is not there.
        overwrite: Replace the files of an earlier run; other files in the folder stay.

    Raises:
        InvalidValueError: It holds something already and ``overwrite`` is off.
        FileAccessError: It cannot be made or written.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._written: dict[str, tuple[float, ...]] = {}
        try:
            held = sorted(entry.name for entry in self.path.iterdir()) if self.path.exists() else []
            if held and not overwrite:
                raise _checks.bad_value(
                    "path",
                    "be a new or empty folder",
                    "no files",
                    f"{self.path} with {', '.join(held[:5])}",
                    "Choose another folder, or overwrite the earlier run with overwrite=True "
                    "(--overwrite).",
                )
            self._make()
            if held:
                self._remove_earlier_run()
        except OSError as error:
            raise self._unwritable(error) from error

    @classmethod
    def existing(cls, path: str | Path) -> RunFolder:
        """Return a folder that a run has already made; nothing in it is touched."""
        folder = cls.__new__(cls)
        folder.path = Path(path)
        folder._written = {}
        return folder

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
        """Write a text file: a temporary file first, then put in place."""
        self.write_bytes(name, text.encode())

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write any file likewise."""
        target = self.path / name
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            part.write_bytes(content)
            os.replace(part, target)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise self._unwritable(error) from error

    def append(self, name: str, line: str) -> None:
        """Add a line to a text file."""
        try:
            with (self.path / name).open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise self._unwritable(error) from error

    def append_row(self, row: Mapping[str, Any]) -> None:
        """Add a generation to ``log.jsonl`` and ``log.csv``."""
        self.append("log.jsonl", json.dumps(row))
        lines = csv_text([row]).splitlines()
        if not (self.path / "log.csv").exists():
            self.append("log.csv", lines[0])
        self.append("log.csv", lines[1])

    def write_front(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write ``front.csv``."""
        self.write_text("front.csv", csv_text(rows))

    def write_tickets(self, tickets: Sequence[Any]) -> None:
        """Make ``tickets/`` hold exactly these tickets, each under the start of its digest."""
        folder = self.path / TICKETS
        try:
            folder.mkdir(exist_ok=True)
            wanted = {f"{ticket.digest[:16]}.safetensors": ticket for ticket in tickets}
            for name, ticket in wanted.items():
                # The same mask can come back with other values, from another generation.
                if self._written.get(name) != ticket.fitness.values:
                    ticket.save(folder / name)
                    self._written[name] = ticket.fitness.values
            for name in self._written.keys() - wanted.keys():
                (folder / name).unlink(missing_ok=True)
                del self._written[name]
        except FileAccessError:
            raise
        except OSError as error:
            raise self._unwritable(error) from error

    def _make(self) -> None:
        """Make the folder, and see whether files can be written there."""
        self.path.mkdir(parents=True, exist_ok=True)
        probe = self.path / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()

    def _remove_earlier_run(self) -> None:
        """Remove the files of an earlier run, and nothing else; refuse if there was none."""
        try:
            facts = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
            facts["versions"]["nets_deap"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _checks.bad_value(
                "path",
                "hold an earlier run to overwrite",
                "a config.json that a run wrote",
                f"{self.path} without one",
                "Choose another folder; nothing was removed.",
            ) from error
        for name in FILES:
            (self.path / name).unlink(missing_ok=True)
        for entry in (self.path / TICKETS).glob("*.safetensors"):
            if re.fullmatch(r"[0-9a-f]{16}", entry.stem):
                entry.unlink()
        if (self.path / TICKETS).is_dir() and not any((self.path / TICKETS).iterdir()):
            (self.path / TICKETS).rmdir()

    def _unwritable(self, error: OSError) -> FileAccessError:
        """Word that the folder cannot be written."""
        return FileAccessError(
            f"path must be a writable folder: cannot write in {self.path} ({error.strerror}). "
            "Choose another place."
        )


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV with a header; columns are those of all rows, in order."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()

"""``ComparisonFolder``: the results of a comparison, one file for each method and seed."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nets_deap import _checks
from nets_deap.errors import FileAccessError
from nets_deap.runs.storage import schema
from nets_deap.runs.storage.folder import RunFolder
from nets_deap.runs.storage.paths import TICKETS
from nets_deap.runs.storage.reader import read_json, reading
from nets_deap.tickets.layout import MaskLayout
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.task import Task

logger = logging.getLogger("nets_deap")

HEAD, RESULTS = "comparison.json", "results"


class ComparisonFolder(RunFolder):
    """A folder that holds one comparison, finished or not.

    A result is a file that is written whole once its method is done for its seed; what is there is
    finished.

    Args:
        path: The folder; made with its parents if it is not there.
        identity: What must be the same for results to belong together.
        beside: What is noted and may change; that it has is told.

    Raises:
        InvalidValueError: It holds another comparison, or something else.
        FileAccessError: It cannot be read or written.
    """

    locked = False

    def __init__(
        self, path: str | Path, identity: Mapping[str, Any], beside: Mapping[str, Any] | None = None
    ) -> None:
        self.path = _checks.path("path", path)
        plain = json.loads(json.dumps(identity))
        if (self.path / HEAD).exists():
            held = self._read(HEAD)
            held = schema.renamed(held) if isinstance(held, dict) else {}
            different = [key for key in plain if held.get(key) != plain[key]]
            if different:
                raise _checks.bad_value(
                    "path",
                    "hold the same comparison or nothing",
                    ", ".join(
                        f"{key} = {_changed(plain[key], held.get(key))}" for key in different
                    ),
                    str(self.path),
                    "Choose another folder, or compare with the settings of this one.",
                )
            self._written = {}
            if any(held.get(name, value) != value for name, value in (beside or {}).items()):
                logger.warning(
                    "The file of the task has changed since %s was begun: results of other seeds "
                    "count only if it makes the same tasks.", self.path
                )  # fmt: skip
        else:
            super().__init__(path)
            self.write_json(HEAD, {**plain, **(beside or {})})
        try:
            for name in (RESULTS, TICKETS):
                (self.path / name).mkdir(exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def has(self, seed: int, method: str) -> bool:
        """Return whether a result is there."""
        return (self.path / self._held(seed, method)).exists()

    def put(self, seed: int, method: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a finished result."""
        self.write_json(self._name(seed, method), list(rows))

    def get(self, seed: int, method: str) -> list[dict[str, Any]]:
        """Read a finished result."""
        return by_present_names(self._read(self._held(seed, method)))

    def put_tickets(self, seed: int, tickets: Sequence[Ticket], task: Task | None = None) -> None:
        """Save the tickets that evolution found for a seed, densest first.

        Args:
            seed: The seed.
            tickets: The tickets.
            task: That they were found on, for those that have no origin yet.
        """
        folder = self.path / TICKETS / f"seed{seed}"
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.safetensors"):
            old.unlink()
        for i, ticket in enumerate(tickets):
            known = None if ticket.origin else task
            ticket.save(folder / f"{i:02d}-{ticket.digest[:16]}.safetensors", task=known)

    def tickets(self, seed: int, layout: MaskLayout) -> list[Ticket]:
        """Load the tickets that evolution found for a seed, with the layout of its task."""
        files = sorted((self.path / TICKETS / f"seed{seed}").glob("*.safetensors"))
        return [Ticket(Ticket.load(file).gates, layout=layout) for file in files]

    def _name(self, seed: int, method: str) -> str:
        """Return the file of a result."""
        return f"{RESULTS}/seed{seed}-{method}.json"

    def _held(self, seed: int, method: str) -> str:
        """Return the file that a result is in, which may have the method's older name."""
        names = [method, *(old for old, now in schema.METHODS.items() if now == method)]
        files = [self._name(seed, name) for name in names]
        return next((file for file in files if (self.path / file).exists()), files[0])

    def _read(self, name: str) -> Any:
        """Read a JSON file."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FileAccessError(
                f"{self.path / name} must be readable JSON: {error}. Remove the file to have it "
                "made again."
            ) from error


def config_in(path: Path, replicate: str) -> dict[str, Any] | None:
    """Return what a comparison was made with, for tickets of one seed, as a run keeps it.

    Args:
        path: The folder of the comparison, or any other.
        replicate: The name of the seed's folder of tickets.

    Returns:
        Its ``config``; None where the folder holds no comparison, or none with such tickets.

    Raises:
        FileAccessError: What was written about the comparison is damaged.
    """
    seed = replicate.removeprefix("seed")
    if not (path / HEAD).exists() or not seed.isdecimal():
        return None
    with reading(path / HEAD):
        held = schema.renamed(read_json(path / HEAD))
        return {"config": {**held["config"], "seed": int(seed)}}


def results_in(path: Path) -> list[Path]:
    """Return the files of all finished results in the folder of a comparison, if it is one."""
    return sorted((path / RESULTS).glob("seed*-*.json")) if (path / HEAD).exists() else []


def by_present_names(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a result of any version, with the methods' present names."""
    known = schema.METHODS
    return [
        {**row, "method": known[row["method"]]} if row.get("method") in known else dict(row)
        for row in rows
    ]


def _changed(wanted: Any, held: Any, place: str = "") -> str:
    """Name what differs, with both values."""
    if isinstance(wanted, dict) and isinstance(held, dict):
        keys = [key for key in {**wanted, **held} if held.get(key) != wanted.get(key)]
        return ", ".join(
            _changed(wanted.get(k), held.get(k), f"{place}.{k}".strip(".")) for k in keys
        )
    return f"{place} {wanted} (there: {held})".strip()

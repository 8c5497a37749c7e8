"""``RunReader``: what the files of a run folder hold; whoever asks about a run asks it."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from nets_deap import _checks
from nets_deap.errors import FileAccessError, NetsError, RunFileError
from nets_deap.runs.storage import schema
from nets_deap.runs.storage.history import Generation, generation_from
from nets_deap.runs.storage.paths import (
    CONFIG,
    CURVES,
    FRONT,
    HISTORY,
    LOG,
    NICHES,
    TICKETS,
    again,
    check_own,
)
from nets_deap.runs.storage.plain import BROKEN
from nets_deap.tickets.ticket import Ticket

logger = logging.getLogger("nets_deap")

T = TypeVar("T")
Row = dict[str, Any]


# What a run keeps until its end, where weights are inherited.
UNSETTLED = (
    "its tickets are elites of niches of density as the search trained them, not yet measured from "
    "W0"
)


class RunReader:
    """Reads the files of a run, finished or not; changes nothing and takes no lock.

    Checkpoints are apart: ``checkpoint.checkpoints`` reads them.

    Every method raises ``FileAccessError`` where its file is not there, cannot be read or does not
    hold what a run writes, if nothing else is said.

    Args:
        path: The run folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = _checks.path("path", path)

    def holds(self, name: str) -> bool:
        """Return whether a file of that name is there."""
        return (self.path / name).exists()

    def is_run(self) -> bool:
        """Return whether a run has begun here, of any version."""
        try:
            self.facts()["versions"]["nets_deap"]
        except (NetsError, *BROKEN):
            return False
        return True

    def facts(self) -> dict[str, Any]:
        """Return what ``config.json`` holds, by the present names, whoever wrote it."""
        path = self.path / CONFIG
        text = self.text(CONFIG)
        with reading(path):
            found = json.loads(text)
            if not isinstance(found, dict):
                raise FileAccessError(f"{path} must hold an object.")
            return schema.renamed(found)

    def config(self) -> dict[str, Any]:
        """Return everything that was set, by the present names.

        Raises:
            FileAccessError: It is not there.
            RunFileError: It is not the configuration of a run.
        """
        check_own(self.path)
        text = self.text(CONFIG)
        try:
            facts = schema.renamed(json.loads(text))
            facts["versions"]["nets_deap"], facts["task"]["fingerprint"]
            return facts
        except BROKEN as error:
            raise RunFileError(
                f"{self.path / CONFIG} is not a configuration of a run: {error!r}."
            ) from error

    def log(self) -> list[Row]:
        """Return a row a generation."""
        return self._lines(LOG, _row)

    def sound_log(self) -> tuple[list[Row], bool]:
        """Return the rows that are whole, none where there is no log, and whether all are."""
        if not self.holds(LOG):
            return [], True
        rows, torn = _taken_apart(self.text(LOG, errors="replace"), _row)
        return rows, not torn

    def history(self) -> list[Generation]:
        """Return who lived in each generation, in order; nobody where that was not written down.

        Of a generation that is there twice, as a run that was taken up may leave it, the last one
        counts.
        """
        if not self.holds(HISTORY):
            return []
        found = self._lines(HISTORY, generation_from, "Remove the file to do without.")
        last = {generation.number: generation for generation in found}
        return [last[number] for number in sorted(last)]

    def is_settled(self) -> bool:
        """Return whether what the run keeps is a front, and not elites of niches that become one.

        Runs of versions before wrote elites as a front while they went on.
        """
        return not self.holds(NICHES)

    @property
    def kept(self) -> str:
        """The name of the table of what the run keeps."""
        return FRONT if self.is_settled() else NICHES

    def front(self) -> list[dict[str, str]]:
        """Return the rows of the table of what the run keeps, densest first, as text."""
        name = self.kept
        with reading(self.path / name):
            return list(csv.DictReader(io.StringIO(self.text(name), newline="")))

    def warn_unsettled(self) -> None:
        """Warn where what the run keeps is read in place of a front, and is not one yet."""
        if not self.is_settled():
            logger.warning("%s has no front yet: %s. %s", self.path, UNSETTLED, self.how_to_settle)

    @property
    def how_to_settle(self) -> str:
        """What to do for a front."""
        return (
            f"recorder.close() measures them where the search ran, and so does reading "
            f"{again(self.path)}.front."
        )

    def has_final_training(self) -> bool:
        """Return whether the front's table holds what ``nets-deap run`` measures at its end."""
        return self.holds(FRONT) and "final_steps" in self._columns()

    def curves(self) -> Any:
        """Return the learning curves of the final training, as ``FinalTraining.curves`` gives."""
        return read_json(self.path / CURVES)

    def tickets(self) -> list[Ticket]:
        """Load the front's tickets; none where there are none yet.

        Raises:
            TicketFileError: One is damaged.
        """
        files = sorted((self.path / TICKETS).glob("*.safetensors"))
        return [Ticket.load(file) for file in files]

    def text(self, name: str, *, errors: str = "strict") -> str:
        """Return the text of a file."""
        path = self.path / name
        try:
            return path.read_text(encoding="utf-8", errors=errors)
        except OSError as error:
            raise FileAccessError(
                f"run must be a run folder: cannot read {path} ({error.strerror}). "
                "Give the folder that a recorder or 'nets-deap run' wrote."
            ) from error
        except ValueError as error:
            raise FileAccessError(f"{path} must be a text file: {error}.") from error

    def _columns(self) -> list[str]:
        """Return the columns of the front's table."""
        return self.text(FRONT, errors="replace").partition("\n")[0].split(",")

    def _lines(self, name: str, parse: Callable[[Any], T], hint: str = "") -> list[T]:
        """Return what the lines of a file hold; a last one that a kill cut off is left out."""
        text = self.text(name)
        found, torn = _taken_apart(text, parse)
        # A line that was written whole ends with a line feed: without one the last piece of the
        # text is the cut-off line, with one it is empty.
        torn.pop(text.count("\n") + 1, None)
        for number, error in torn.items():
            raise FileAccessError(
                f"{self.path / name} must hold a generation a line: line {number} is none "
                f"({error!r}). {hint}".rstrip()
            ) from error
        return found


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    with reading(path):
        return json.loads(path.read_text(encoding="utf-8"))


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Return in words what goes wrong while a file is read, or what it holds is taken apart.

    Raises:
        FileAccessError: Whatever went wrong.
    """
    try:
        yield
    except NetsError:
        raise
    except OSError as error:
        raise FileAccessError(f"{path} must be a readable file: {error.strerror}.") from error
    except (*BROKEN, csv.Error) as error:
        raise FileAccessError(f"{path} does not hold what a run writes: {error!r}.") from error


def _taken_apart(text: str, parse: Callable[[Any], T]) -> tuple[list[T], dict[int, Exception]]:
    """Return what the lines of JSON in a text hold, and what is wrong with others, by number."""
    found: list[T] = []
    torn: dict[int, Exception] = {}
    for number, line in enumerate(text.split("\n"), 1):
        try:
            if line:
                found.append(parse(json.loads(line)))
        except BROKEN as error:
            torn[number] = error
    return found, torn


def _row(plain: Mapping[str, Any]) -> Row:
    """Return a row of a log, which is of a generation."""
    return {**plain, "generation": plain["generation"] + 0}

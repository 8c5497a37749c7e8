"""What figures are made of: read from run folders, or taken from live objects."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nets_deap import _checks
from nets_deap.errors import FileAccessError, NetsError
from nets_deap.runs.storage.history import SHORT, Generation, read_history
from nets_deap.runs.storage.rows import log_rows
from nets_deap.tickets.ticket import Ticket

CONFIG, LOG, FRONT, CURVES = "config.json", "log.jsonl", "front.csv", "curves.json"


def is_folder(run: Any) -> bool:
    """Return whether a run is given as its folder."""
    return isinstance(run, (str, Path))


def history_of(run: Any) -> list[Generation]:
    """Return the generations of a run: a folder, a search's result, a recorder, or themselves.

    Raises:
        InvalidValueError: There are none.
    """
    if is_folder(run):
        found = read_history(check_folder(run))
    else:
        found = list(getattr(run, "history", run))
    if not found or not all(isinstance(one, Generation) for one in found):
        raise _checks.bad_value(
            "run",
            "hold its history",
            "a folder with history.jsonl, a search's result or a recorder",
            str(run) if is_folder(run) else f"{type(run).__name__} without one",
            "Runs of earlier versions wrote none.",
        )
    return found


def members_of(front: Any) -> tuple[list[Any], list[Any]]:
    """Return the members of a front, and all others that its run has noted.

    Args:
        front: Evaluated individuals, a run folder, a search's result or a recorder.
    """
    if is_folder(front):
        history = read_history(check_folder(front))
        if history:
            return list(history[-1].front), _others(history, history[-1].front)
        return list(tickets_of(front)), []
    if hasattr(front, "front"):
        return list(front.front), _others(list(getattr(front, "history", ())), front.front)
    return list(front), []


def tickets_of(front: Any) -> list[Ticket]:
    """Return tickets, densest first: of a run folder, a result, a recorder or a front.

    Raises:
        InvalidValueError: There are none.
    """
    if is_folder(front):
        files = sorted((check_folder(front) / "tickets").glob("*.safetensors"))
        found = [Ticket.load(file) for file in files]
    elif isinstance(front, Ticket):
        found = [front]
    else:
        found = list(getattr(front, "front", front))
    if not found or not all(isinstance(one, Ticket) for one in found):
        raise _checks.bad_value(
            "front", "hold tickets", "a run folder with tickets, or tickets", _shown(front)
        )
    return sorted(found, key=lambda ticket: (-ticket.kept, ticket.digest))


def ticket_of(ticket: Any) -> Ticket:
    """Return one ticket: itself, of a file, or of a run the knee of its front."""
    from nets_deap.evolution.fronts import knee

    if isinstance(ticket, Ticket):
        return ticket
    if is_folder(ticket) and Path(ticket).is_file():
        return Ticket.load(ticket)
    tickets = tickets_of(ticket)
    found: Ticket = knee(tickets) if all(_evaluated(one) for one in tickets) else tickets[-1]
    return found


def log_of(run: Any) -> list[dict[str, Any]]:
    """Return the rows of a run's log: of its folder, its result, its recorder or a logbook."""
    if is_folder(run):
        path = check_folder(run) / LOG
        if not path.exists():
            raise _checks.bad_value("run", f"hold {LOG}", "a file that runs write", str(run))
        rows = log_rows(path)
    else:
        rows = [dict(row) for row in getattr(run, "logbook", run)]
    if not rows:
        raise _checks.bad_value("run", "have a log", "a row a generation", _shown(run))
    return rows


def front_rows_of(folder: str | Path) -> list[dict[str, str]]:
    """Return the rows of ``front.csv``."""
    path = check_folder(folder) / FRONT
    with reading(path), path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def config_of(folder: str | Path) -> dict[str, Any]:
    """Return what ``config.json`` holds."""
    found = json_of(check_folder(folder) / CONFIG)
    if not isinstance(found, dict):
        raise FileAccessError(f"{Path(folder) / CONFIG} must hold an object.")
    return found


def json_of(path: Path) -> Any:
    """Read a JSON file."""
    with reading(path):
        return json.loads(path.read_text(encoding="utf-8"))


def check_folder(folder: str | Path) -> Path:
    """Return the path of a folder that is there."""
    path = Path(folder)
    if not path.is_dir():
        raise _checks.bad_value("run", "be a run folder", "a folder that is there", str(path))
    return path


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Return in words what goes wrong while a file is read, or what it holds is taken apart."""
    try:
        yield
    except NetsError:
        raise
    except FileNotFoundError as error:
        raise _checks.bad_value(
            "run", f"hold {path.name}", "a file that runs write", str(path.parent)
        ) from error
    except OSError as error:
        raise FileAccessError(f"{path} must be a readable file: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, csv.Error) as error:
        raise FileAccessError(f"{path} does not hold what a run writes: {error!r}.") from error


def _others(history: list[Generation], front: Any) -> list[Any]:
    """Return whom a run has noted besides its front, each once."""
    seen = {member.digest: member for one in history for member in (*one.population, *one.front)}
    for member in front:
        seen.pop(member.digest[:SHORT], None)
    return list(seen.values())


def _evaluated(ticket: Ticket) -> bool:
    """Return whether a ticket has a fitness."""
    return bool(getattr(ticket.fitness, "valid", False))


def _shown(given: Any) -> str:
    """Return how an error shows what was given."""
    return str(given) if is_folder(given) else type(given).__name__

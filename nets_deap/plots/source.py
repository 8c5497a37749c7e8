"""What figures are made of: read from run folders, or taken from live objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nets_deap import _checks
from nets_deap.evolution.fronts import is_finite, knee
from nets_deap.runs.picks import members_of as members_with_fitness
from nets_deap.runs.storage.history import SHORT, Generation
from nets_deap.runs.storage.paths import HISTORY, LOG
from nets_deap.runs.storage.reader import RunReader
from nets_deap.tickets.ticket import Ticket


def is_folder(run: Any) -> bool:
    """Return whether a run is given as its folder."""
    return isinstance(run, (str, Path))


def history_of(run: Any) -> list[Generation]:
    """Return the generations of a run: a folder, a search's result, a recorder, or themselves.

    Raises:
        InvalidValueError: There are none.
    """
    held = getattr(run, "history", run)
    found = reader_of(run).history() if is_folder(run) else _listed(held)
    if not found or not all(isinstance(one, Generation) for one in found):
        raise _checks.bad_value(
            "run",
            "hold its history",
            f"a folder with {HISTORY}, a search's result or a recorder",
            str(run) if is_folder(run) else f"{type(run).__name__} without one",
            "Runs of earlier versions wrote none.",
        )
    return found


def members_of(front: Any) -> tuple[list[Any], list[Any]]:
    """Return the members of a front, and all others that its run has noted.

    Those with a value that is not finite have no place in a figure, and are left out. So are all
    others where the front has been measured from W0, and they have not: weights that are inherited
    have trained for longer.

    Args:
        front: Evaluated individuals, a run folder, a search's result, a recorder, or results of
            training.

    Raises:
        InvalidTypeError: It is nothing of these.
        InvalidValueError: Who is on it has not been evaluated.
    """
    if is_folder(front):
        history = reader_of(front).history()
        if history:
            return list(history[-1].front), _others(alike(history), history[-1].front)
        return list(tickets_of(front)), []
    members = finite(front)
    return members, _others(alike(list(getattr(front, "history", ()))), members)


def alike(history: Sequence[Generation]) -> list[Generation]:
    """Return the generations in which tickets were measured as those of the last front are."""
    return list(history) if all(one.settled == history[-1].settled for one in history) else []


def is_settled(front: Any) -> bool:
    """Return whether what a run folder keeps is a front; of anything else it is, or is made one."""
    return not is_folder(front) or reader_of(front).is_settled()


def finite(individuals: Any) -> list[Any]:
    """Return evaluated individuals whose values are all finite; see ``runs.picks.members_of``."""
    return [one for one in members_with_fitness(individuals) if is_finite(one)]


def tickets_of(front: Any) -> list[Ticket]:
    """Return tickets, densest first: of a run folder, a result, a recorder or a front.

    Raises:
        InvalidValueError: There are none.
    """
    if is_folder(front):
        found = reader_of(front).tickets()
    elif isinstance(front, Ticket):
        found = [front]
    else:
        found = _listed(getattr(front, "front", getattr(front, "tickets", front)))
    if not found or not all(isinstance(one, Ticket) for one in found):
        raise _checks.bad_value(
            "front", "hold tickets", "a run folder with tickets, or tickets", _shown(front)
        )
    return sorted(found, key=lambda ticket: (-ticket.kept, ticket.digest))


def ticket_of(ticket: Any) -> Ticket:
    """Return one ticket: itself, of a file, or of a run the knee of its front."""
    if isinstance(ticket, Ticket):
        return ticket
    if is_folder(ticket) and _checks.path("ticket", ticket).is_file():
        return Ticket.load(ticket)
    tickets = tickets_of(ticket)
    found: Ticket = knee(tickets) if all(_evaluated(one) for one in tickets) else tickets[-1]
    return found


def log_of(run: Any) -> list[dict[str, Any]]:
    """Return the rows of a run's log: of its folder, its result, its recorder or a logbook."""
    if is_folder(run):
        rows = reader_of(run, LOG).log()
    else:
        given = _listed(getattr(run, "logbook", run))
        rows = [dict(row) for row in given if isinstance(row, Mapping)]
    if not rows:
        raise _checks.bad_value("run", "have a log", "a row a generation", _shown(run))
    return rows


def reader_of(run: str | Path, *names: str) -> RunReader:
    """Return the reader of a run folder.

    Args:
        run: The folder.
        names: Files of a run that are needed.

    Raises:
        InvalidValueError: There is no such folder, or it lacks one of the files.
    """
    reader = RunReader(run)
    if not reader.path.is_dir():
        raise _checks.bad_value(
            "run", "be a run folder", "a folder that is there", str(reader.path)
        )
    for name in names:
        if not reader.holds(name):
            raise _checks.bad_value("run", f"hold {name}", "a file that runs write", str(run))
    return reader


def _others(history: list[Generation], front: Any) -> list[Any]:
    """Return whom a run has noted besides its front, each once."""
    seen = {member.digest: member for one in history for member in (*one.population, *one.front)}
    for member in front:
        seen.pop(member.digest[:SHORT], None)
    return list(seen.values())


def _listed(given: Any) -> list[Any]:
    """Return what something holds one by one; nothing where it is no collection."""
    return list(given) if isinstance(given, Iterable) else []


def _evaluated(ticket: Ticket) -> bool:
    """Return whether a ticket has a fitness."""
    return bool(getattr(ticket.fitness, "valid", False))


def _shown(given: Any) -> str:
    """Return how an error shows what was given."""
    return str(given) if is_folder(given) else type(given).__name__

"""Halls of fame as plain data and back: the kinds that can be kept in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import eq
from typing import Any

from deap import tools

from nets_deap import _checks
from nets_deap.errors import RunFileError
from nets_deap.evolution.archives import NicheArchive, ParetoFront
from nets_deap.runs.storage.schema import name_of

_ARGUMENTS: dict[type, tuple[str, ...]] = {
    ParetoFront: (),
    NicheArchive: ("width", "by"),
    tools.ParetoFront: (),
    tools.HallOfFame: ("maxsize",),
}
_KINDS = {name_of(kind): kind for kind in _ARGUMENTS}


def plain_of(archive: tools.HallOfFame) -> dict[str, Any]:
    """Return the kind of an archive as JSON; another class needs to be given again on resuming."""
    kind = type(archive)
    known = kind in _ARGUMENTS and (kind is NicheArchive or archive.similar is eq)
    return {
        "class": name_of(kind),
        "known": known,
        "arguments": {name: getattr(archive, name) for name in _ARGUMENTS[kind]} if known else {},
    }


def fill(
    archive: tools.HallOfFame | None, plain: Mapping[str, Any], tickets: Sequence[Any]
) -> tools.HallOfFame:
    """Return an archive with the members that it had.

    Args:
        archive: An archive of the same class to fill; None makes one.
        plain: What ``plain_of`` gave, and the numbers of its members as ``items``.
        tickets: All tickets by number.

    Raises:
        InvalidValueError: None is given where it cannot be made, or one of another class.
    """
    name = plain["class"]
    if archive is None:
        kind = _KINDS.get(name) if plain["known"] is True else None
        if kind is None:
            raise _checks.bad_value(
                "archive", "be given", f"an empty {name}, as the run had it", None
            )
        options = {key: plain["arguments"][key] for key in _ARGUMENTS[kind]}
        archive = kind(**options)
    elif name_of(type(archive)) != name:
        raise _checks.bad_value(
            "archive", "be of the class that it had", name, name_of(type(archive))
        )
    items = [tickets[number] for number in plain["items"]]
    if not all(item.fitness is not None and item.fitness.valid for item in items):
        raise RunFileError("a member of the hall of fame has no fitness")
    archive.items = items
    archive.keys = [item.fitness for item in reversed(items)]
    return archive

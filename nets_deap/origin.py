"""``origin_of``: where a ticket comes from, as plain data for its file."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import nets_deap
from nets_deap.task import Task
from nets_deap.ticket import Ticket

PACKAGES = ("deap", "moocore", "numpy", "torch")


def origin_of(task: Task, *, generation: int | None = None) -> dict[str, Any]:
    """Return what a reader needs to find a ticket's task again, as plain data.

    Args:
        task: The task that the ticket was found on.
        generation: The generation in which it was first on the front; None where there was none.

    Returns:
        ``initial_seed`` (of W0; None where the caller made the model), ``model_digest``, ``data``
        (name and digest), ``recipe``, ``seed`` (of the task), ``fingerprint``, ``generation`` and
        ``versions``.
    """
    facts = {
        "initial_seed": task.initial_seed,
        "model_digest": task.model_digest,
        "data": {"name": task.name, "digest": task.data_digest},
        "recipe": task.recipe.as_dict(),
        "seed": task.seed,
        "fingerprint": task.fingerprint,
        "generation": generation,
        "versions": versions(),
    }
    plain: dict[str, Any] = json.loads(json.dumps(facts))  # as a file gives it back
    return plain


def note_origin(members: Iterable[Any], task: Task, generation: int) -> None:
    """Give the tickets among some members, if they have no origin yet, that of a generation."""
    new = [member for member in members if isinstance(member, Ticket) and not member.origin]
    if new:
        origin = origin_of(task, generation=generation)
        for ticket in new:
            ticket.origin = origin


def versions() -> dict[str, str]:
    """Return the versions of this package, of Python and of what results depend on."""
    own = {"nets_deap": nets_deap.__version__, "python": platform.python_version()}
    return own | {name: version(name) for name in PACKAGES}

"""Files of runs that earlier versions wrote, brought to what the present one writes.

The one place that knows old names; the API knows the present ones only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nets_deap.errors import RunFileError
from nets_deap.runs.storage.plain import BROKEN

Content = dict[str, Any]

# Of checkpoints. 1: classes of this package by their modules, engines and methods by older names;
# 2: what the package holds of a ticket among the attributes that programs have set on it;
# 3: trained states without scores of candidates, and without memory of pruned weights.
SCHEMA = 4

ENGINES = {"stacked": "vmap", "one_by_one": "loop", "threaded": "loop", "layered": "batched"}
METHODS = {"chain": "finetune"}
HOME = "nets_deap"


class NewerSchema(RunFileError):
    """A file is of a schema that this version does not know."""


def name_of(kind: type) -> str:
    """Return what a class is called in files: those of this package without modules.

    Modules move; a file that names them could then not be read any more.
    """
    return _without_modules(f"{kind.__module__}.{kind.__qualname__}")


def renamed(facts: Mapping[str, Any]) -> Content:
    """Return what ``config.json`` of any version holds, by the present names.

    It has no schema, as no old name means anything else today.
    """
    found = dict(facts)
    if "task" in found:
        found["task"] = _with_engine(found["task"])
    if isinstance(found.get("config"), Mapping):
        found["config"] = renamed(found["config"])  # which has a task of its own
    return found


def migrated(content: Mapping[str, Any], name: str) -> Content:
    """Return content of a checkpoint as of the present schema.

    Raises:
        RunFileError: It has no schema, a newer one, or is not of the one that it names.
    """
    found = dict(content)
    schema = found.get("schema")
    if type(schema) is not int or schema < 1:
        raise RunFileError(f"{name} has no schema.")
    if schema > SCHEMA:
        raise NewerSchema(
            f"{name} must be of schema {SCHEMA} or older: got {schema}. Update nets_deap to read "
            "it."
        )
    try:
        for step in range(schema, SCHEMA):
            found = {**MIGRATIONS[step](found), "schema": step + 1}
    except BROKEN as error:
        raise RunFileError(f"{name} does not hold what its schema says: {error!r}.") from error
    return found


def _second(content: Content) -> Content:
    """Return content of schema 1 as of schema 2."""
    if "facts" not in content:  # of outcomes within a generation, which name nothing
        return content
    return {
        **content,
        "facts": renamed(content["facts"]),
        "tickets": [_with_class(ticket) for ticket in content["tickets"]],
        "archive": _with_class(content["archive"]),
    }


def _third(content: Content) -> Content:
    """Return content of schema 2 as of schema 3."""
    if "tickets" not in content:
        return content
    return {**content, "tickets": [_taken_apart(ticket) for ticket in content["tickets"]]}


def _fourth(content: Content) -> Content:
    """Return content of schema 3 as of schema 4."""
    if "learnt" not in content:
        return content
    unknown = dict.fromkeys(("scores", "pruned", "remembered"))
    return {
        **content,
        "learnt": [{"dict": {**one["dict"], **unknown}} for one in content["learnt"]],
    }


# What makes content of a schema that of the next one.
MIGRATIONS: dict[int, Callable[[Content], Content]] = {1: _second, 2: _third, 3: _fourth}

# What the package holds of a ticket: its name in schema 2, and what it is where it is not there.
_HELD: dict[str, tuple[str, Any]] = {
    "size": ("_size", None),
    "packed": ("_packed", None),
    "layout_key": ("_layout_key", None),
    "unit": ("unit", "weight"),
    "adaptation": ("strategy", {"dict": {}}),
    "evaluations": ("evaluations", 0),
    "diverged": ("diverged", False),
    "parent_digests": ("parents", {"tuple": []}),
    "origin": ("origin", {"dict": {}}),
}


def _kind_of(plain: Any) -> Any:
    """Return the kind of a packed value."""
    return list(plain) if isinstance(plain, dict) else type(plain)


def _taken_apart(ticket: Mapping[str, Any]) -> Content:
    """Return a ticket of schema 2 with what the package holds of it apart from attributes."""
    attributes = dict(ticket["attributes"])
    own = {}
    for name, (old, missing) in _HELD.items():
        # A program may have had data of its own under that name, of another kind.
        is_ours = missing is None or _kind_of(attributes.get(old)) == _kind_of(missing)
        own[name] = attributes.pop(old) if is_ours else missing
    if "_weights" in attributes:  # of a genome
        own["weights"] = attributes.pop("_weights")
    fitness = ticket["fitness"]
    if fitness is not None:
        others = dict(fitness["attributes"])
        fitness = {**fitness, "wvalues": others.pop("wvalues", {"tuple": []}), "attributes": others}
    return {**ticket, "own": own, "attributes": attributes, "fitness": fitness}


def _with_engine(task: Any) -> Any:
    """Return the facts of a task with its engine by its present name."""
    if not isinstance(task, Mapping) or not isinstance(task.get("engine"), str):
        return task
    return {**task, "engine": ENGINES.get(task["engine"], task["engine"])}


def _with_class(plain: Mapping[str, Any]) -> Content:
    """Return a ticket or an archive with its class named as it is now."""
    return {**plain, "class": _without_modules(plain["class"])}


def _without_modules(name: str) -> str:
    """Return the full name of a class of this package without modules, of another as it is."""
    return f"{HOME}.{name.rpartition('.')[2]}" if name.startswith(f"{HOME}.") else name

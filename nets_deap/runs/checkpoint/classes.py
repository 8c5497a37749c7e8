"""Classes of what checkpoints hold: found by name among those of the program, never made."""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import numpy as np
from deap import base, creator

from nets_deap.errors import RunFileError
from nets_deap.runs.storage.schema import name_of
from nets_deap.tickets.attributes import is_taken

# Bases of DEAP's creator: how their content is taken, and put into a new one.
CONTAINERS: dict[type, Callable[[Any], Any]] = {
    list: list,
    dict: dict,
    set: set,
    array.array: list,
    np.ndarray: np.array,
}


def class_named(name: str, parent: type) -> Any:
    """Return the class of that name among the subclasses of another, which exist already.

    Raises:
        RunFileError: This program has made none of that name.
    """
    kinds, found = [parent], []
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if name_of(kind) == name:
            found.append(kind)
    if not found:
        raise RunFileError(
            f"the individuals are of the class {name}, which this program has not made; make it "
            "before the run is read, for a command in the file of --preset FILE.py:FUNCTION"
        )
    # A class of DEAP's creator that has been made again stands for the earlier one.
    last = getattr(creator, name.rpartition(".")[2], None)
    return last if last in found else found[-1]


def hides(kind: type, name: str) -> bool:
    """Return whether an attribute would hide what a class of tickets or fitnesses does."""
    mine = any(name in vars(each) for each in kind.__mro__ if each.__module__ == base.__name__)
    return name.startswith("__") or mine or is_taken(kind, name)


def is_created(kind: type) -> bool:
    """Return whether a class is of DEAP's creator."""
    return type(kind) is creator.MetaCreator


def fresh_attributes(kind: type) -> dict[str, type]:
    """Return the attributes that DEAP's creator makes for each object of a class, by name."""
    found: dict[str, type] = {}
    for each in reversed(kind.__mro__):
        if is_created(each):
            made: dict[str, Any] = each.reduce_args[2]  # type: ignore[attr-defined]
            found |= {name: of for name, of in made.items() if isinstance(of, type)}
    return found


def created(parent: str, name: str, content: Any) -> Any:
    """Return an object of a class that DEAP's creator has made of a container."""
    plain = next((each for each in CONTAINERS if each.__name__ == parent), None)
    if plain is None:
        raise RunFileError(f"{parent} is no container")
    kind = class_named(name, plain)
    if not is_created(kind):
        raise RunFileError(f"{name} is not of DEAP's creator")
    if plain is np.ndarray:
        return content.view(kind)
    if plain is array.array:
        return kind.__new__(kind, content)
    found = kind.__new__(kind)
    put: Any = list.extend if plain is list else plain.update  # type: ignore[attr-defined]
    put(found, content)
    return found

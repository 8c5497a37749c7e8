"""Tickets as plain data and back, with who is whom: the same object stays the same object."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from deap import base, creator

from nets_deap.errors import RunFileError
from nets_deap.runs.storage.plain import Packer, Unpacker, Unstorable
from nets_deap.runs.storage.schema import name_of
from nets_deap.tickets import bits
from nets_deap.tickets.fitness import TicketFitness, fitness_class
from nets_deap.tickets.layout import MaskLayout, known_layout
from nets_deap.tickets.ticket import Ticket
from nets_deap.tickets.trained import TrainedState

logger = logging.getLogger("nets_deap")

# Held elsewhere, or worked out again from what is held.
_APART = frozenset(("_layout", "_trained", "fitness", "_kept", "_digest"))
# The fields of a trained state by their names in checkpoints, which are older than those here.
_FIELDS = {
    "digest": "digest",
    "steps": "steps",
    "values": "values",
    "packed": "packed",
    "slopes": "gradients",
    "grown": "candidates",
    "metrics": "metrics",
    "others": "unmasked",
}


class TicketWriter:
    """Turns tickets into plain data; a ticket that comes again, or shares its weights, once.

    Args:
        packer: Takes the arrays.
    """

    def __init__(self, packer: Packer) -> None:
        self.packer = packer
        self.tickets: list[dict[str, Any]] = []
        self.trained: list[dict[str, Any]] = []
        self._known: dict[int, tuple[Any, int]] = {}

    def add(self, ticket: Ticket) -> int:
        """Return the number of a ticket."""
        if id(ticket) not in self._known:
            number = len(self.tickets)
            self._known[id(ticket)] = ticket, number
            self.tickets.append({})
            self.tickets[number] = self._ticket(ticket)
        return self._known[id(ticket)][1]

    def _ticket(self, ticket: Ticket) -> dict[str, Any]:
        """Return one ticket as JSON."""
        state = ticket.inherited
        return {
            "class": name_of(type(ticket)),
            "fitness": self._fitness(ticket.fitness),
            "learnt": None if state is None else self._add_trained(state),
            "attributes": self._attributes(ticket, _APART),
        }

    def _fitness(self, fitness: Any) -> dict[str, Any] | None:
        """Return a fitness as JSON."""
        if fitness is None:
            return None
        kind: dict[str, Any] = {"class": name_of(type(fitness))}
        if isinstance(fitness, TicketFitness):
            kind = {n: list(getattr(fitness, n)) for n in ("names", "weights", "reference")}
        return {**kind, "attributes": self._attributes(fitness, frozenset())}

    def _add_trained(self, state: TrainedState) -> int:
        """Return the number of a trained state."""
        if id(state) not in self._known:
            self._known[id(state)] = state, len(self.trained)
            plain = {key: getattr(state, name) for key, name in _FIELDS.items()}
            self.trained.append(self.packer.pack(plain))
        return self._known[id(state)][1]

    def _attributes(self, thing: Any, apart: frozenset[str]) -> dict[str, Any]:
        """Return an object's own attributes as JSON, without those that are not plain data."""
        found = {}
        for name, value in vars(thing).items():
            if name in apart:
                continue
            try:
                found[name] = self.packer.pack(value)
            except Unstorable as error:
                if (type(thing), name) not in _warned:
                    _warned.add((type(thing), name))
                    logger.warning(
                        "The attribute %s of %s is not kept in checkpoints: %s.",
                        name,
                        type(thing).__name__,
                        error,
                    )
        return found


_warned: set[tuple[type, str]] = set()


class TicketReader:
    """Makes tickets of plain data.

    Classes are those that this program has made itself; a file names them, and can make none.

    Args:
        layout: The layout of the task.
        unpacker: Gives the arrays.
        trained: The tickets' trained states, as JSON.
    """

    def __init__(self, layout: MaskLayout, unpacker: Unpacker, trained: list[Any]) -> None:
        self._layout, self._unpacker = layout, unpacker
        self._trained = [self._read_trained(unpacker.unpack(plain)) for plain in trained]

    def read(self, plain: Mapping[str, Any]) -> Ticket:
        """Return one ticket."""
        attributes = {name: self._unpacker.unpack(v) for name, v in plain["attributes"].items()}
        kind = class_named(plain["class"], Ticket)
        ticket: Ticket = kind.__new__(kind)
        size, packed = attributes.pop("_size"), attributes.pop("_packed")
        key = attributes.pop("_layout_key")
        _check_bits(packed, size)
        layout = self._layout if key == self._layout.key else known_layout(key) if key else None
        if key and (layout is None or layout.size != size):
            raise RunFileError("a ticket belongs to another layout than the task's")
        ticket.__dict__.update(_size=size, _packed=packed.copy(), _layout=layout, _layout_key=key)
        self._set(ticket, attributes)
        number = plain["learnt"]
        ticket._trained = None if number is None else self._trained[_index(number)]
        if plain["fitness"] is not None:
            ticket.fitness = self._fitness(plain["fitness"])
        return ticket

    def _fitness(self, plain: Mapping[str, Any]) -> Any:
        """Return a fitness."""
        if "class" in plain:
            kind = class_named(plain["class"], base.Fitness)
        else:
            names, weights, reference = (
                tuple(plain[name]) for name in ("names", "weights", "reference")
            )
            if len(names) != len(weights) or not all(isinstance(w, float) and w for w in weights):
                raise RunFileError("a fitness has no weights")
            kind = fitness_class(names, weights, reference)
        fitness = kind()
        attributes = {name: self._unpacker.unpack(v) for name, v in plain["attributes"].items()}
        values = attributes.pop("wvalues", ())
        if not all(isinstance(value, float) for value in values) or (
            len(values) not in (0, len(fitness.weights))
        ):
            raise RunFileError("a fitness has other values than weights")
        fitness.wvalues = tuple(values)
        self._set(fitness, attributes)
        return fitness

    def _read_trained(self, plain: Mapping[str, Any]) -> TrainedState:
        """Return a trained state."""
        state = TrainedState(**{name: plain[key] for key, name in _FIELDS.items()})
        _check_bits(state.packed, 8 * state.packed.size)
        kept = bits.count(state.packed)
        for values in (state.values, state.gradients):
            if values is not None and values.shape != (kept,):
                raise RunFileError("a trained state has other values than kept weights")
        if not all(isinstance(array, np.ndarray) for array in state.unmasked.values()):
            raise RunFileError("a trained state holds something else than arrays")
        return state

    def _set(self, thing: Any, attributes: Mapping[str, Any]) -> None:
        """Give an object attributes that do not hide what its class does."""
        for name in attributes:
            own = getattr(type(thing), name, None)
            if name.startswith("__") or callable(own) or isinstance(own, property):
                raise RunFileError(f"{name} is not an attribute of {type(thing).__name__}")
        vars(thing).update(attributes)


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
            f"the individuals are of the class {name}, which this program has not made; "
            "make it before resuming"
        )
    # A class of DEAP's creator that has been made again stands for the earlier one.
    last = getattr(creator, name.rpartition(".")[2], None)
    return last if last in found else found[-1]


def _check_bits(packed: Any, size: Any) -> None:
    """Raise unless packed bits are bytes for ``size`` bits, with nothing beyond them."""
    fits = isinstance(packed, np.ndarray) and packed.dtype == np.uint8 and type(size) is int
    if not fits or packed.shape != (bits.n_bytes(size),):
        raise RunFileError("a mask has other bits than weights")
    if size % 8 and packed[-1] >> size % 8:
        raise RunFileError("the padding bits of a mask are not zero")


def _index(number: Any) -> int:
    """Return a number that points into a list."""
    if type(number) is not int or number < 0:
        raise RunFileError(f"{number!r} is not a place in a list")
    return number

"""Tickets as plain data and back, with who is whom: the same object stays the same object."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from deap import base

from nets_deap.errors import RunFileError
from nets_deap.runs.checkpoint.classes import (
    CONTAINERS,
    class_named,
    created,
    fresh_attributes,
    hides,
    is_created,
)
from nets_deap.runs.checkpoint.held import check_held, check_trained
from nets_deap.runs.storage.plain import Packer, Unpacker, Unstorable
from nets_deap.runs.storage.schema import name_of
from nets_deap.tickets.fitness import TicketFitness, fitness_class, plain_number
from nets_deap.tickets.layout import MaskLayout, known_layout
from nets_deap.tickets.ticket import Ticket
from nets_deap.tickets.trained import TrainedState

logger = logging.getLogger("nets_deap")

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
    **{name: name for name in ("scores", "pruned", "remembered")},
}


class StatesNow:
    """Trained states of tickets as they are now, whatever is taken down in them later.

    A checkpoint that is written later than its generation would else hold gradients that operators
    have measured since: a resumed run would have them without having paid for them.

    Args:
        tickets: The tickets.
    """

    def __init__(self, tickets: Iterable[Ticket]) -> None:
        states = {id(state): state for state in (ticket.inherited for ticket in tickets) if state}
        # The states themselves are held, too: another one could get the same id.
        self._states = {key: (state, copy.copy(state)) for key, state in states.items()}

    def of(self, state: TrainedState) -> TrainedState:
        """Return a state as it was; itself if none of the tickets had it."""
        return self._states.get(id(state), (state, state))[1]


class TicketWriter:
    """Turns tickets into plain data; a ticket that comes again, or shares its weights, once.

    Attributes that programs have set are kept as far as they are plain data, and so are other
    tickets, fitnesses and lists of DEAP's creator among them.

    Args:
        packer: Takes the arrays.
        states: Trained states as they are to be written; None for as they are.
    """

    def __init__(self, packer: Packer, states: StatesNow | None = None) -> None:
        self.packer = packer
        self._as_were = StatesNow(()) if states is None else states
        self._tickets: list[dict[str, Any]] = []
        self._trained: list[dict[str, Any]] = []
        self._known: dict[int, tuple[Any, int]] = {}
        self._states: dict[int, tuple[TrainedState, int]] = {}
        self._waiting: list[Ticket] = []

    def add(self, ticket: Ticket) -> int:
        """Return the number of a ticket."""
        if id(ticket) not in self._known:
            self._known[id(ticket)] = ticket, len(self._known)
            self._waiting.append(ticket)
        return self._known[id(ticket)][1]

    def finish(self) -> dict[str, Any]:
        """Return all tickets that have been added, and their trained states, as JSON."""
        # One after the other: a ticket may hold its parents, and these theirs.
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            self._tickets += [self._ticket(ticket) for ticket in waiting]
        return {"tickets": self._tickets, "learnt": self._trained}

    def _ticket(self, ticket: Ticket) -> dict[str, Any]:
        """Return one ticket as JSON."""
        state = ticket.__getstate__()
        own = {name.lstrip("_"): value for name, value in state["own"].items()}
        trained, attributes = own.pop("trained"), state["users"]
        return {
            "class": name_of(type(ticket)),
            "fitness": self._fitness(attributes.pop("fitness", None)),
            "learnt": None if trained is None else self._add_trained(trained),
            "own": {name: self.packer.pack(value) for name, value in own.items()},
            "attributes": self._attributes(ticket, attributes),
        }

    def _fitness(self, fitness: Any) -> dict[str, Any] | None:
        """Return a fitness as JSON."""
        if fitness is None:
            return None
        kind: dict[str, Any] = {"class": name_of(type(fitness))}
        if isinstance(fitness, TicketFitness):
            kind = {n: list(getattr(fitness, n)) for n in ("names", "weights", "reference")}
        attributes = dict(vars(fitness))
        values = self.packer.pack(tuple(map(plain_number, attributes.pop("wvalues", ()))))
        return {**kind, "wvalues": values, "attributes": self._attributes(fitness, attributes)}

    def _add_trained(self, state: TrainedState) -> int:
        """Return the number of a trained state."""
        if id(state) not in self._states:
            self._states[id(state)] = state, len(self._trained)
            was = self._as_were.of(state)
            plain = {key: getattr(was, name) for key, name in _FIELDS.items()}
            self._trained.append(self.packer.pack(plain))
        return self._states[id(state)][1]

    def _attributes(self, thing: Any, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Return what programs have set on an object as JSON, as far as that can be kept."""
        found = {}
        for name, value in attributes.items():
            try:
                if hides(type(thing), name):
                    raise Unstorable("it hides what the class has under that name")
                found[name] = self.packer.pack(value, self._more)
            except (Unstorable, RecursionError) as error:
                if (type(thing), name) not in _warned:
                    _warned.add((type(thing), name))
                    logger.warning(
                        "The attribute %s of %s is not kept in checkpoints: %s. A run that is "
                        "resumed goes on without it.",
                        name,
                        type(thing).__name__,
                        "it holds itself" if isinstance(error, RecursionError) else error,
                    )
        return found

    def _more(self, value: Any) -> Any:
        """Return what an attribute may hold beside plain data as JSON; None for anything else."""
        kind = type(value)
        if isinstance(value, Ticket):
            return {"ticket": self.add(value)}
        if isinstance(value, base.Fitness):
            return {"fitness": self._fitness(value)}
        if kind is torch.Tensor and value.device.type == "cpu" and not value.requires_grad:
            try:
                return {"tensor": self.packer.pack(value.numpy())}
            except (TypeError, RuntimeError):  # of a dtype that NumPy lacks, or sparse
                return None
        if is_created(kind):
            for plain, take in CONTAINERS.items():
                if isinstance(value, plain):
                    attributes = self._attributes(value, vars(value))
                    content = self.packer.pack(take(value), self._more)
                    return {"created": [plain.__name__, name_of(kind), content, attributes]}
        return None


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
        self._users = unpacker.extended(self._more)
        self._trained = [self._read_trained(unpacker.unpack(plain)) for plain in trained]
        self._tickets: list[Ticket] = []

    def read(self, plain: Sequence[Mapping[str, Any]]) -> list[Ticket]:
        """Return all tickets."""
        # First all are there, as one may refer to any other.
        kinds = [class_named(one["class"], Ticket) for one in plain]
        self._tickets = [kind.__new__(kind) for kind in kinds]
        for ticket, one in zip(self._tickets, plain, strict=True):
            self._fill(ticket, one)
        return self._tickets

    def _fill(self, ticket: Ticket, plain: Mapping[str, Any]) -> None:
        """Make a blank ticket what it was."""
        own = {name: self._unpacker.unpack(value) for name, value in plain["own"].items()}
        check_held(own, type(ticket))
        size, key, number = own["size"], own["layout_key"], plain["learnt"]
        layout = self._layout if key == self._layout.key else known_layout(key) if key else None
        if key and (layout is None or layout.size != size):
            raise RunFileError("a ticket belongs to another layout than the task's")
        trained = None if number is None else self._trained[_index(number)]
        origin = own.pop("origin")
        held = {**{f"_{name}": value for name, value in own.items()}, "_trained": trained}
        ticket.__setstate__({"own": {**held, "origin": origin}, "users": {}})
        ticket._layout = layout
        self._set(ticket, plain["attributes"])
        if plain["fitness"] is not None:
            ticket.fitness = self._fitness(plain["fitness"])

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
        fitness = kind.__new__(kind)
        values = self._unpacker.unpack(plain["wvalues"])
        if not all(isinstance(value, Real) for value in values) or (
            len(values) not in (0, len(fitness.weights))
        ):
            raise RunFileError("a fitness has other values than weights")
        fitness.wvalues = tuple(values)
        self._set(fitness, plain["attributes"])
        return fitness

    def _read_trained(self, plain: Mapping[str, Any]) -> TrainedState:
        """Return a trained state."""
        state = TrainedState(**{name: plain[key] for key, name in _FIELDS.items()})
        check_trained(state)
        state.freeze()
        return state

    def _set(self, thing: Any, attributes: Mapping[str, Any]) -> None:
        """Give an object attributes that do not hide what its class does.

        Those that DEAP's creator makes for each object and that are not there begin anew.
        """
        fresh = fresh_attributes(type(thing)).items()
        vars(thing).update({name: kind() for name, kind in fresh if name not in attributes})
        for name in attributes:
            if hides(type(thing), name):
                raise RunFileError(f"{name} is not an attribute of {type(thing).__name__}")
        found = {name: self._users.unpack(value) for name, value in attributes.items()}
        if isinstance(thing, Ticket):
            thing.set_users_attributes(found)
        else:
            vars(thing).update(found)

    def _more(self, kind: str, content: Any) -> Any:
        """Return what ``TicketWriter._more`` has packed."""
        if kind == "ticket":
            return self._tickets[_index(content)]
        if kind == "fitness":
            return self._fitness(content)
        if kind == "tensor":
            return torch.from_numpy(self._users.unpack(content))
        if kind == "created":
            parent, name, packed, attributes = content
            found = created(parent, name, self._users.unpack(packed))
            self._set(found, attributes)
            return found
        raise RunFileError(f"{kind} is nothing that an attribute holds")


def _index(number: Any) -> int:
    """Return a number that points into a list."""
    if type(number) is not int or number < 0:
        raise RunFileError(f"{number!r} is not a place in a list")
    return number

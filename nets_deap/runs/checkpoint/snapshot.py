"""What a run needs to go on exactly: handed over by a recorder, and given back to one."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deap import tools

from nets_deap.errors import NetsError, RunFileError
from nets_deap.evolution.archives import ParetoFront
from nets_deap.evolution.evaluator import Evaluator, evaluator_of
from nets_deap.evolution.objectives import resolve
from nets_deap.runs.checkpoint import archives, random_states
from nets_deap.runs.checkpoint.held import check_state
from nets_deap.runs.checkpoint.tickets import StatesNow, TicketReader, TicketWriter
from nets_deap.runs.storage.paths import LOG, LOG_TABLE
from nets_deap.runs.storage.plain import Packer, Unpacker
from nets_deap.tickets.layout import MaskLayout
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.task import Ledger, Task

LOGS = LOG, LOG_TABLE


@dataclass(frozen=True)
class Moment:
    """A run after a generation, as its recorder hands it over to be saved.

    Attributes:
        task: The task.
        generation: Which generation.
        facts: What ``config.json`` holds.
        recorder: The recorder's own state, as plain data.
        population: The population after selection.
        archive: The hall of fame.
        beside: What else belongs to the run, as plain data and arrays.
    """

    task: Task
    generation: int
    facts: dict[str, Any]
    recorder: dict[str, Any]
    population: list[Any]
    archive: tools.HallOfFame
    beside: Any

    def noted(self, folder: Path) -> Noted:
        """Return the moment with all that changes as soon as the run goes on.

        Args:
            folder: The run folder, for its logs.
        """
        evaluator = evaluator_of(self.task)
        where = None
        if evaluator is not None:
            spent = None if evaluator.budget is None else evaluator.budget.spent
            worst = list(evaluator.worst)
            where = {
                "generation": evaluator.generation,
                "spent": spent,
                "between": 0 if evaluator.budget is None else evaluator.budget.between,
                "needed": 0 if evaluator.budget is None else evaluator.budget.needed,
                "worst": worst,
                "around": evaluator.around is not None,
                "active_below": evaluator.active_below,
                "active_share": evaluator.active_share,
                "front_steps": evaluator.front_steps,
                "inherit": evaluator.inherit,
                "known": is_known(evaluator),
            }
        plain = {
            "kind": "checkpoint",
            "generation": self.generation,
            "facts": self.facts,
            "recorder": self.recorder,
            "ledger": list(self.task.ledger.totals()),
            "logs": {name: _measure((folder / name).read_bytes()) for name in LOGS},
            "evaluator": where,
            "random": random_states.states(),
            "beside": self.beside,
        }
        again = [] if evaluator is None else list(evaluator.again)
        # These get a new fitness with the next generation, perhaps before this one is saved.
        twins = {id(one): copy.deepcopy(one) for one in again}
        population = [twins.get(id(one), one) for one in self.population]
        members = [twins.get(id(one), one) for one in self.archive.items]
        again = [twins[id(one)] for one in again]
        return Noted(self.generation, plain, population, self.archive, members, again)


@dataclass(frozen=True)
class Noted:
    """A moment, noted at little cost: what could be saved of it until the run goes on.

    Most are never written (see ``Saver.save``), so tickets are packed only in ``pack``.

    Attributes:
        generation: Which generation.
        plain: What is plain data already.
        population: The population.
        archive: The hall of fame, for its kind.
        members: The members that it had.
        again: Tickets that wait to be evaluated again, as they are before that.
        held: What a change of tickets shows in.
        states: Their trained states, of which operators take down gradients as the run goes on.
    """

    generation: int
    plain: dict[str, Any]
    population: list[Any]
    archive: tools.HallOfFame
    members: list[Any]
    again: list[Any]
    held: list[Any] = field(init=False)
    states: StatesNow = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "held", self._now())
        tickets = (*self.population, *self.members, *self.again)
        object.__setattr__(self, "states", StatesNow(tickets))

    @property
    def is_current(self) -> bool:
        """Whether the tickets are still as noted: a loop may change them without a copy."""
        return self.held == self._now()

    def _now(self) -> list[Any]:
        """Return what a change of tickets shows in."""
        each = (self.population, self.members, self.again)
        return [
            (one.digest, getattr(one.fitness, "wvalues", None)) for part in each for one in part
        ]

    def pack(self) -> tuple[dict[str, Any], Packer]:
        """Return everything as JSON and arrays."""
        packer = Packer()
        writer = TicketWriter(packer, self.states)
        content = {
            **self.plain,
            "random": packer.pack(self.plain["random"]),
            "beside": packer.pack(self.plain["beside"]),
            "population": [writer.add(ticket) for ticket in self.population],
            "archive": {
                **archives.plain_of(self.archive),
                "items": [writer.add(ticket) for ticket in self.members],
            },
            "again": [writer.add(ticket) for ticket in self.again],
        }
        return {**content, **writer.finish()}, packer


class Snapshot:
    """The state of a run, read from a checkpoint.

    Args:
        content: The JSON.
        unpacker: The arrays.
    """

    def __init__(self, content: dict[str, Any], unpacker: Unpacker) -> None:
        self.content, self._unpacker = content, unpacker
        self.generation: int = content["generation"]
        self.facts: dict[str, Any] = content["facts"]
        self.recorder: dict[str, Any] = content["recorder"]
        for part in (self.facts, self.facts["task"], self.facts["versions"], self.recorder):
            if not isinstance(part, dict):
                raise RunFileError("its facts are not facts of a run")
        check_state(self.recorder, content["evaluator"])
        self.random = unpacker.unpack(content["random"])
        self.beside = unpacker.unpack(content.get("beside"))
        self.tickets: list[Ticket] = []
        self.population: list[Ticket] = []

    def read_tickets(self, layout: MaskLayout) -> list[Ticket]:
        """Make all tickets, with the layout of the task; return the population."""
        reader = TicketReader(layout, self._unpacker, self.content["learnt"])
        self.tickets = reader.read(self.content["tickets"])
        self.population = [self.tickets[number] for number in self.content["population"]]
        reference = self.recorder["reference"]
        if any(
            reference is not None
            and t.fitness is not None
            and len(t.fitness.weights) != len(reference)
            for t in self.population
        ):
            raise RunFileError("its reference point has other objectives than the tickets")
        return self.population

    def is_population(self, others: Sequence[Any]) -> bool:
        """Return whether these are the very tickets of the population."""
        mine = self.population
        return len(mine) == len(others) and all(a is b for a, b in zip(mine, others, strict=True))

    def archive(self, empty: tools.HallOfFame | None) -> tools.HallOfFame:
        """Return the hall of fame; ``empty`` is filled if given."""
        found = archives.fill(empty, self.content["archive"], self.tickets)
        if isinstance(found, ParetoFront):
            found.lacks_function = bool((self.content["evaluator"] or {}).get("around"))
        return found

    def set_evaluator(self, evaluator: Evaluator) -> None:
        """Put an evaluator to where it was."""
        held = self.content["evaluator"]
        if held is None:
            return
        evaluator.generation = held["generation"]
        evaluator.again = [self.tickets[number] for number in self.content["again"]]
        if evaluator.budget is not None and held["spent"] is not None:
            evaluator.budget.spent = held["spent"]
            evaluator.budget.between = held.get("between") or 0
            evaluator.budget.needed = held.get("needed") or 0
        evaluator.active_below = held.get("active_below")
        evaluator.active_share = held.get("active_share")  # older ones have none
        evaluator.front_steps = held.get("front_steps")
        if len(held.get("worst", ())) == len(evaluator.worst):  # checkpoints of before have none
            evaluator.worst = tuple(held["worst"])

    @property
    def inherit(self) -> str | None:
        """How tickets began their training, for the evaluator; None where it is not known."""
        held = self.content["evaluator"]
        return None if held is None else held.get("inherit")  # older ones have none

    def measurer(self, task: Task) -> Evaluator | None:
        """Return what measures the front from W0: an evaluator as the run had, if it can be made.

        It becomes the latest one of the task, until a toolbox is made for it.
        """
        held = self.content["evaluator"]
        names = self.recorder.get("names")
        if self.inherit != "weights" or not held.get("known") or not names:
            return None
        found = Evaluator(task, names, inherit="weights")
        self.set_evaluator(found)
        return found

    def ledger(self) -> Ledger:
        """Return what the task had spent."""
        return Ledger(*self.content["ledger"])  # older ones have no dense steps

    def truncate_logs(self, folder: Path, *, force: bool) -> None:
        """Truncate the logs where the checkpoint left them.

        Raises:
            RunFileError: What is before has changed.
        """
        for name, (size, digest) in self.content["logs"].items():
            path = folder / name
            if name not in LOGS:
                raise RunFileError(f"{name} is not a log of a run")
            held = path.read_bytes() if path.exists() else b""
            if _measure(held[:size]) != [size, digest] and not force:
                raise RunFileError(
                    f"{path} must be as the checkpoint of generation {self.generation} left it: "
                    f"expected {size} bytes with SHA-256 {digest[:12]}..., got others. Put it back,"
                    " or go on with force=True (--force), which gives up the rows of earlier "
                    "generations."
                )
            with path.open("ab") as file:
                file.truncate(min(size, len(held)))


def is_known(evaluator: Evaluator) -> bool:
    """Return whether the objectives of an evaluator are those that this package has by name."""
    try:
        return tuple(resolve([o.name for o in evaluator.objectives])) == evaluator.objectives
    except NetsError:
        return False


def _measure(content: bytes) -> list[Any]:
    """Return size and SHA-256."""
    return [len(content), hashlib.sha256(content).hexdigest()]

"""What a run needs to go on exactly: gathered from a recorder, and given back to one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deap import tools

from nets_deap.budget import Ledger
from nets_deap.errors import RunFileError
from nets_deap.evaluator import Evaluator, evaluator_of
from nets_deap.masks import MaskLayout
from nets_deap.runs import archives, randomness
from nets_deap.runs.arrays import Packer, Unpacker
from nets_deap.runs.population import TicketReader, TicketWriter
from nets_deap.ticket import Ticket

if TYPE_CHECKING:
    from nets_deap.runs.recorder import Recorder

LOGS = ("log.jsonl", "log.csv")


def gather(
    recorder: Recorder, population: Sequence[Any], folder: Path
) -> tuple[dict[str, Any], Packer]:
    """Return the state of a run after a generation, as JSON and arrays."""
    packer = Packer()
    writer = TicketWriter(packer)
    ledger = recorder.task.ledger
    content = {
        "kind": "checkpoint",
        "generation": recorder.generation,
        "facts": recorder.facts,
        "recorder": recorder.state(),
        "ledger": [ledger.networks, ledger.network_steps, ledger.diverged],
        "logs": {name: _measure((folder / name).read_bytes()) for name in LOGS},
        "population": [writer.add(ticket) for ticket in population],
        "archive": archives.plain_of(recorder.front, writer),
        "evaluator": _evaluator_state(evaluator_of(recorder.task), writer),
        "random": packer.pack(randomness.states()),
    }
    return {**content, "tickets": writer.tickets, "learnt": writer.learnt}, packer


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
                raise RunFileError("its facts are no facts of a run")
        self.random = unpacker.unpack(content["random"])
        self.tickets: list[Ticket] = []
        self.population: list[Ticket] = []

    def read_tickets(self, layout: MaskLayout) -> list[Ticket]:
        """Make all tickets, with the layout of the task; return the population."""
        reader = TicketReader(layout, self._unpacker, self.content["learnt"])
        self.tickets = [reader.read(plain) for plain in self.content["tickets"]]
        self.population = [self.tickets[number] for number in self.content["population"]]
        return self.population

    def is_population(self, others: Sequence[Any]) -> bool:
        """Tell whether these are the very tickets of the population."""
        mine = self.population
        return len(mine) == len(others) and all(a is b for a, b in zip(mine, others, strict=True))

    def archive(self, empty: tools.HallOfFame | None) -> tools.HallOfFame:
        """Return the hall of fame; ``empty`` is filled if given."""
        return archives.fill(empty, self.content["archive"], self.tickets)

    def set_evaluator(self, evaluator: Evaluator) -> None:
        """Put an evaluator to where it was."""
        held = self.content["evaluator"]
        if held is None:
            return
        evaluator.generation = held["generation"]
        evaluator.again = [self.tickets[number] for number in held["again"]]
        if evaluator.budget is not None and held["spent"] is not None:
            evaluator.budget.spent = held["spent"]

    def ledger(self) -> Ledger:
        """Return what the task had spent."""
        networks, steps, diverged = self.content["ledger"]
        return Ledger(networks, steps, diverged)

    def truncate_logs(self, folder: Path, *, force: bool) -> None:
        """Cut the logs off where the checkpoint left them.

        Raises:
            RunFileError: What is before has changed.
        """
        for name, (size, digest) in self.content["logs"].items():
            path = folder / name
            if name not in LOGS:
                raise RunFileError(f"{name} is no log of a run")
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


def _evaluator_state(evaluator: Evaluator | None, writer: TicketWriter) -> dict[str, Any] | None:
    """Return where an evaluator is."""
    if evaluator is None:
        return None
    return {
        "generation": evaluator.generation,
        "again": [writer.add(ticket) for ticket in evaluator.again],
        "spent": None if evaluator.budget is None else evaluator.budget.spent,
    }


def _measure(content: bytes) -> list[Any]:
    """Return size and SHA-256."""
    return [len(content), hashlib.sha256(content).hexdigest()]

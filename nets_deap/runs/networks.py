"""``networks_of``: the trained networks that a search ended with, beside its tickets."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from nets_deap import _checks
from nets_deap.runs.checkpoint.diff import differences
from nets_deap.runs.resume import newest
from nets_deap.runs.storage.reader import RunReader
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.batches import example_of
from nets_deap.training.result import TrainResult
from nets_deap.training.task import Task


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network as a search has trained it, over generations and through pruning.

    That is not a lottery ticket's result: those are trained from W0, by ``task.train(ticket)``. To
    train it on: ``task.train(network.ticket, start="inherited", steps=...)``.

    Attributes:
        ticket: Its mask, with the weights that it holds and what the search measured of them.
        trained: Its numbers on all splits, and the network itself; ``trained.start`` is
            ``"inherited"``.
        example: An input (1, ...) of the task, or several, to follow the network by.
    """

    ticket: Ticket
    trained: TrainResult
    example: Any

    def module(self) -> nn.Module:
        """Return the masked network, on the CPU, in evaluation mode."""
        return self.trained.module()

    def compact(self) -> nn.Module:
        """Return it without what is dead; see ``Ticket.compact``."""
        return self.ticket.compact(self.module(), self.example)

    def __repr__(self) -> str:
        accuracy = f"test accuracy {100 * self.trained.test_accuracy:.2f} %"
        if math.isnan(self.trained.test_accuracy):  # no test data, or a loss that has none
            accuracy = f"validation loss {self.trained.val_loss:.4g}"
        return f"TrainedNetwork({self.ticket}, {accuracy}, {self.trained.inherited_steps} steps)"


def networks_of(front: Any, task: Task) -> list[TrainedNetwork]:
    """Return the trained networks of tickets, one for each niche of size that a search has kept.

    Larger ones may be the worse ones: they were trained for fewer steps. Which one is the best of
    those that are small enough shows once they are trained on.

    Args:
        front: A hall of fame, or any tickets; those that hold no weights, or have diverged, are
            left out.
        task: Theirs.

    Returns:
        As many as there are, those of the best first objective first.
    """
    held = trained_of(front)
    if not held:
        return []
    held.sort(key=lambda one: one.fitness.wvalues, reverse=True)
    results = task.train_all(held, steps=0, start="inherited")
    example = example_of(task.problem)
    return [TrainedNetwork(*pair, example) for pair in zip(held, results, strict=True)]


def trained_of(front: Any) -> list[Ticket]:
    """Return the tickets of a hall of fame, or of any, that hold trained weights."""
    tickets: Iterable[Any] = getattr(front, "items", front)
    return [
        one
        for one in tickets
        if isinstance(one, Ticket)
        and one.trained is not None
        and one.fitness.valid
        and np.isfinite(one.fitness.values).all()
    ]


def networks_in(path: str | Path, task: Task) -> list[TrainedNetwork]:
    """Return the trained networks of a run folder, from its newest checkpoint.

    Args:
        path: The run folder.
        task: The task of the run.

    Raises:
        FileAccessError: It is not a run folder.
        InvalidValueError: It holds no checkpoint, or that of another task.
    """
    RunReader(path).config()
    snapshot = newest(_checks.path("path", path))
    if snapshot is None:
        raise _checks.bad_value(
            "path", "hold trained networks", "a run with a checkpoint", f"{path} without one"
        )
    if snapshot.facts["task"].get("fingerprint") != task.fingerprint:
        then, now = snapshot.facts["task"], json.loads(json.dumps(task.as_dict()))
        raise _checks.bad_value(
            "task",
            "be that of the run",
            "what its config.json holds",
            "; ".join(differences(then, now)),
            "Build it as the run did, from the same seed.",
        )
    snapshot.read_tickets(task.layout)
    return networks_of(snapshot.archive(None), task)

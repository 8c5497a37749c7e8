"""``cut``: train a ticket from W0, cut it out, and measure what that saves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from nets_deap.compact import cut_out
from nets_deap.errors import FileAccessError
from nets_deap.experiments.config import Config
from nets_deap.experiments.run import build_task
from nets_deap.footprint import Footprint, measure_footprints, table
from nets_deap.ticket import Ticket
from nets_deap.training.result import TrainResult

ROWS = 1000  # that outputs are compared on


@dataclass(frozen=True)
class CutReport:
    """What cutting out gave.

    Attributes:
        ticket: The ticket.
        trained: It, trained from W0.
        module: The network cut out.
        footprints: Of the ``"dense"`` network that holds the ticket, and of it ``"cut out"``.
        difference: Greatest difference between their outputs.
    """

    ticket: Ticket
    trained: TrainResult
    module: nn.Module
    footprints: dict[str, Footprint]
    difference: float

    def table(self) -> str:
        """Return it as text."""
        accuracy = f"{100 * self.trained.test_accuracy:.2f} %"
        head = f"{self.ticket}\ntest accuracy {accuracy} after {self.trained.steps} steps from W0"
        foot = f"Outputs differ by at most {self.difference:.1e}."
        return f"{head}\n\n{table(self.footprints)}\n{foot}"


def for_ticket(config: Config, ticket: Ticket) -> Config:
    """Return a configuration whose task has the unit of a ticket."""
    return replace(config, task=replace(config.task, unit=ticket.unit))


def cut(
    config: Config,
    ticket: Ticket,
    *,
    steps: int | None = None,
    repeats: int = 100,
    path: str | Path | None = None,
) -> CutReport:
    """Train a ticket from W0, cut it out, and measure both.

    Args:
        config: The task that the ticket belongs to, and its final training.
        ticket: The ticket.
        steps: Optimiser steps; None for ``config.final.steps``.
        repeats: Timed passes; see ``compact.measure_latency``.
        path: Where to write the small network's tensors, as safetensors; None for nowhere.

    Raises:
        InvalidValueError: The ticket belongs to another task, or its network cannot be cut out.
        FileAccessError: The file cannot be written.
    """
    task = build_task(for_ticket(config, ticket))
    trained = task.train(ticket, steps=config.final.steps if steps is None else steps)
    module = trained.module()
    small = cut_out(module, ticket)
    inputs = (task.problem.test or task.problem.val)[0][:ROWS].cpu()
    with torch.no_grad():
        difference = float((module(inputs) - small(inputs)).abs().max())
    named = {"dense": module, "cut out": small}
    footprints = measure_footprints(named, inputs, repeats=repeats)
    if path is not None:
        _write(small, Path(path))
    return CutReport(ticket, trained, small, footprints, difference)


def _write(module: nn.Module, path: Path) -> None:
    """Write a network's tensors, and how it prints, as safetensors."""
    from safetensors.torch import save

    data = save(module.state_dict(), {"architecture": str(module)})
    try:
        path.write_bytes(data)
    except OSError as error:
        raise FileAccessError(
            f"--out must be writable: cannot write {path} ({error.strerror}). Choose another place."
        ) from error

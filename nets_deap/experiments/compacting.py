"""``compact``: train a ticket from W0, compact it, and measure what that saves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from nets_deap import _atomic
from nets_deap.experiments.config import Config
from nets_deap.experiments.run import build_task
from nets_deap.models.compact.footprint import Footprint, measure_footprints, table
from nets_deap.models.compact.sparse import has_linears
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.result import TrainResult

ROWS = 1000  # that outputs are compared on


@dataclass(frozen=True)
class CompactReport:
    """What compacting gave.

    Attributes:
        ticket: The ticket.
        trained: It, trained from W0.
        module: The compact network.
        footprints: Of the ``"dense"`` network that holds the ticket, of it ``"compact"`` and, if
            it has masked linear layers, on sparse rows (``"csr"``).
        difference: Greatest difference between their outputs and the dense network's.
        inputs: What they were compared on, and timed with (N, ...).
    """

    ticket: Ticket
    trained: TrainResult
    module: nn.Module
    footprints: dict[str, Footprint]
    difference: float
    inputs: Tensor

    def table(self) -> str:
        """Return it as text."""
        accuracy = f"{100 * self.trained.test_accuracy:.2f} %"
        head = f"{self.ticket}\ntest accuracy {accuracy} after {self.trained.steps} steps from W0"
        foot = f"Outputs differ by at most {self.difference:.1e}."
        return f"{head}\n\n{table(self.footprints)}\n{foot}"


def for_ticket(config: Config, ticket: Ticket) -> Config:
    """Return a configuration whose task has the unit of a ticket."""
    return replace(config, task=replace(config.task, unit=ticket.unit))


def compact(
    config: Config,
    ticket: Ticket,
    *,
    steps: int | None = None,
    repeats: int = 100,
    path: str | Path | None = None,
) -> CompactReport:
    """Train a ticket from W0, compact it, and measure both.

    Args:
        config: The task that the ticket belongs to, and its final training.
        ticket: The ticket.
        steps: Optimiser steps; None for ``config.final.steps``.
        repeats: Timed passes; see ``models.compact.footprint.measure_latency``.
        path: Where to write the small network's tensors, as safetensors; None for nowhere.

    Raises:
        InvalidValueError: The ticket belongs to another task, or its network cannot be compacted.
        FileAccessError: The file cannot be written.
    """
    task = build_task(for_ticket(config, ticket))
    trained = task.train(ticket, steps=config.final.steps if steps is None else steps)
    module = trained.module()
    small = ticket.compact(module)
    inputs = (task.problem.test or task.problem.val)[0][:ROWS].cpu()
    named = {"dense": module, "compact": small}
    if has_linears(module, ticket.layout.weights.names):
        named["csr"] = ticket.to_csr(module)
    with torch.no_grad():
        expected = module(inputs)
        difference = max(float((expected - some(inputs)).abs().max()) for some in named.values())
    footprints = measure_footprints(named, inputs, repeats=repeats)
    if path is not None:
        write_tensors(small.state_dict(), path, str(small))
    return CompactReport(ticket, trained, small, footprints, difference, inputs)


def write_tensors(tensors: Mapping[str, Tensor], path: str | Path, about: str) -> None:
    """Write tensors by name as safetensors, with a text on what they are.

    Raises:
        FileAccessError: The file cannot be written.
    """
    from safetensors.torch import save

    data = save({name: t.contiguous() for name, t in tensors.items()}, {"architecture": about})
    _atomic.save(path, data, argument="--out")

"""``compact``: train a ticket from W0, compact it, and measure what that saves; its files."""

from __future__ import annotations

import copy
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from nets_deap import _atomic, _checks
from nets_deap.errors import FileAccessError, InvalidValueError
from nets_deap.experiments.config import Config, TaskConfig
from nets_deap.experiments.run import build_task
from nets_deap.models.compact.footprint import Footprint, measure_footprints, table
from nets_deap.models.compact.sparse import has_linears
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.result import TrainResult
from nets_deap.training.task import Task

ROWS = 1000  # that outputs are compared on
TENSORS = (".safetensors", ".pt", ".pth")  # what tensors by name are written as
MASKS = (".npz", *TENSORS)


@dataclass(frozen=True)
class CompactReport:
    """What compacting gave.

    Attributes:
        ticket: The ticket.
        trained: It, trained from W0.
        module: The compact network; the whole one where it cannot be compacted.
        footprints: Of the ``"dense"`` network that holds the ticket, of it ``"compact"``, if it
            can be, and, if it has masked linear layers, on sparse rows (``"csr"``).
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


def task_for(config: Config, ticket: Ticket, *, any_initial: bool = False) -> Task:
    """Return the task of a configuration for a ticket that was found on it.

    Args:
        config: The configuration.
        ticket: The ticket.
        any_initial: Whether its W0 may be another than the ticket's.

    Raises:
        InvalidValueError: Its network has other layers than the ticket's, or another W0.
    """
    if isinstance(config.task, TaskConfig):
        config = replace(config, task=replace(config.task, unit=ticket.unit))
    task = build_task(config)
    own, its = task.layout.weights, ticket.layout.weights
    hint = "Name its preset and what was set: --preset, --seed, --set."
    rule = "belong to this task"
    shapes, found = ([(la.name, la.shape) for la in layout.layers] for layout in (own, its))
    if shapes != found:
        raise _checks.bad_value("ticket", rule, f"layers {_named(shapes)}", _named(found), hint)
    if not any_initial and own.initial_digest != its.initial_digest:
        wanted, got = (f"SHA-256 {one.initial_digest[:16]}..." for one in (own, its))
        raise _checks.bad_value("ticket", rule, f"W0 of {wanted}", f"W0 of {got}", hint)
    return task


def differences(task: Task, ticket: Ticket) -> list[str]:
    """Return what of a task is not what a ticket was found on, by its file; none if unknown."""
    found = []
    origin, now = ticket.origin, task.origin()
    data = {**origin.get("data", {})}
    if data.get("digest") not in (None, task.data_digest):
        found.append(f"data {data.get('name')!r}, SHA-256 {data['digest'][:16]}..., not this one's")
    recipe = {**origin.get("recipe", {})}
    found += [
        f"recipe.{name} {value!r}, not {now['recipe'][name]!r}"
        for name, value in recipe.items()
        if name in now["recipe"] and now["recipe"][name] != value
    ]
    return found


def _named(layers: list[tuple[str, tuple[int, ...]]]) -> str:
    """Return names and shapes of layers."""
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in layers)


def compact(
    task: Task,
    ticket: Ticket,
    *,
    steps: int,
    repeats: int = 100,
    path: str | Path | None = None,
    needed: bool = True,
) -> CompactReport:
    """Train a ticket from W0, compact it, and measure both.

    Args:
        task: The task that the ticket belongs to.
        ticket: The ticket.
        steps: Optimiser steps.
        repeats: Timed passes; see ``models.compact.footprint.measure_latency``.
        path: Where to write the small network's tensors, see ``write_tensors``; None for nowhere.
        needed: Whether a network that cannot be compacted is refused, before it is trained; else
            it is measured whole.

    Raises:
        InvalidValueError: The ticket belongs to another task, or its network cannot be compacted.
        FileAccessError: The file cannot be written.
    """
    small: nn.Module | None = None
    inputs = (task.problem.test or task.problem.val)[0][:ROWS].cpu()
    try:
        small = ticket.compact(ticket.apply(copy.deepcopy(task.model).eval()), inputs[:1])
    except InvalidValueError:
        if needed:
            raise
    trained = task.train(ticket, steps=steps)
    module = trained.module()
    named = {"dense": module}
    if small is not None:
        small = named["compact"] = ticket.compact(module, inputs[:1])
    if has_linears(module, ticket.layout.weights.names):
        named["csr"] = ticket.to_csr(module)
    with torch.no_grad():
        expected = module(inputs)
        difference = max(float((expected - some(inputs)).abs().max()) for some in named.values())
    footprints = measure_footprints(named, inputs, repeats=repeats)
    small = module if small is None else small
    if path is not None:
        write_tensors(small.state_dict(), path, str(small))
    return CompactReport(ticket, trained, small, footprints, difference, inputs)


def check_suffix(path: str | Path, suffixes: Collection[str], argument: str = "--out") -> Path:
    """Return a path in a folder, whose suffix, if any, names a format that can be written.

    Args:
        path: What a user gave.
        suffixes: Those formats, such as ``TENSORS``; without a suffix it is the first.
        argument: As what.

    Raises:
        InvalidValueError: The suffix promises another format.
        FileAccessError: There is no such folder.
    """
    target = _checks.path(argument, path)
    if target.suffix and target.suffix.lower() not in suffixes:
        expected = f"the suffix {' or '.join(suffixes)}, or none for {next(iter(suffixes))}"
        raise _checks.bad_value(argument, "name a format that is written", expected, str(target))
    return _atomic.place(argument, target)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors by name of a safetensors file that a user gave as ``--weights``.

    Raises:
        FileAccessError: It cannot be read.
    """
    source = _checks.path("--weights", path)
    try:
        return load_file(source)
    except OSError as error:
        why, hint = str(error), ""
    except SafetensorError:  # what it says of a torch file is about its own header
        why = "it is no safetensors file, or is damaged"
        hint = " Write one by safetensors.torch.save_file(model.state_dict(), path)."
    raise FileAccessError(f"--weights must be readable: cannot read {source} ({why}).{hint}")


def write_tensors(
    tensors: Mapping[str, Tensor],
    path: str | Path,
    about: str,
    suffixes: Collection[str] = TENSORS,
) -> None:
    """Write tensors by name in the format that the path's suffix names.

    Args:
        tensors: On the CPU.
        path: ``.safetensors``, ``.pt`` or ``.pth`` as torch reads them, ``.npz`` as NumPy does.
        about: A text on what they are, which safetensors hold.
        suffixes: What is allowed; the first one is what is written without a suffix.

    Raises:
        InvalidValueError: The suffix promises another format.
        FileAccessError: The file cannot be written.
    """
    target = check_suffix(path, suffixes)
    kind = target.suffix.lower() or next(iter(suffixes))
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    buffer = io.BytesIO()
    if kind == ".safetensors":
        # Tied tensors are written by each of their names.
        buffer.write(save({name: t.clone() for name, t in whole.items()}, {"architecture": about}))
    elif kind == ".npz":
        np.savez_compressed(buffer, **{name: t.numpy() for name, t in whole.items()})  # type: ignore[arg-type]
    else:
        torch.save(whole, buffer)
    _atomic.save(target, buffer.getvalue(), argument="--out")

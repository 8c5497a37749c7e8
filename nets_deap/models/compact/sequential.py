"""A network of layers in a row: its steps, the channels of it that masks need, and its compacting.

Analysing takes two passes. Forwards: which channels vary with the input, and the constants that
the others send. Backwards: which of the varying ones an output needs. What passes both is live.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from nets_deap.models.compact.inputs import Inputs
from nets_deap.models.compact.layers import LAYERS, Convolution, Flatten, Linear, step_of
from nets_deap.models.compact.select_inputs import SelectInputs
from nets_deap.models.compact.step import Step, Weighing, places, refused
from nets_deap.models.feedforward import is_plain
from nets_deap.models.mlp import MLP
from nets_deap.models.tensors import Mask


def sequential_of(module: nn.Module) -> tuple[Step, ...]:
    """Return the steps of a network of layers in a row, in order.

    Raises:
        InvalidValueError: It is not such a network, or in training mode where that matters.
    """
    leaves = list(_leaves("", module))
    owned = [id(p) for _, part in leaves for p in part.parameters()]
    weighing = any(issubclass(LAYERS.get(type(part), Step), Weighing) for _, part in leaves)
    got = type(module).__name__
    if not weighing or len(set(owned)) < len(owned):
        raise refused(got)
    if not all(is_plain(part) for part in module.modules()):
        raise refused(f"{got} with hooks, or with a forward of its own")
    steps = tuple(step_of(name, part) for name, part in leaves)
    flat = not any(isinstance(step, (Flatten, Convolution)) for step in steps)
    for step in steps:
        step.check(flat)
        flat = flat or isinstance(step, Flatten)
    return steps


def weighing_of(steps: Sequence[Step]) -> list[Weighing]:
    """Return those of some steps that have weights, in order."""
    return [step for step in steps if isinstance(step, Weighing)]


def analyse(
    steps: Sequence[Step], gates: Mapping[str, Mask], *, constants: bool = True
) -> dict[str, Inputs]:
    """Return the inputs of each layer with weights, by the step's name.

    A channel that does not vary need not be there: what it sends is added to the next layer's
    bias, or with zero padding to the weights of one that stands in for all of them.

    Args:
        steps: A sequential network.
        gates: Kept weights of each of these layers, by the step's name.
        constants: Whether constants are worked out; else they count as 0, which only the mask
            need be known for.
    """
    found: dict[str, Inputs] = {}
    weighing = weighing_of(steps)
    first = weighing[0].module.weight
    n = first.shape[1]
    now = Inputs.of(np.ones(n, dtype=np.bool_), first.new_zeros(n).double())
    for step in steps:
        if isinstance(step, Weighing):
            now = found[step.name] = step.takes(now)
            now = step.send(gates[step.name], now)
        elif found:  # before the first one everything varies
            now = step.pass_constants(now)
        if not constants:
            now = now.mapped(torch.zeros_like(now.constant))
    useful: Mask = np.ones(len(weighing[-1].module.weight), dtype=np.bool_)
    least = 0 if all(step.empty for step in steps) else 1
    for step in reversed(weighing):
        inputs = found[step.name]
        needed = step.joined(gates[step.name], inputs)[useful].any(axis=0) & inputs.varies
        useful = inputs.keep(needed, least)
    return found


def compact_sequential(steps: Sequence[Step], gates: Mapping[str, Mask]) -> list[nn.Module]:
    """Return the modules of a sequential network without what is not live.

    Channels of images stay, as nobody else can leave them out; of flat inputs the live ones are
    selected.

    Args:
        steps: The network.
        gates: Kept weights of each layer that has weights, by the step's name.
    """
    found = analyse(steps, gates)
    flattens = isinstance(steps[0], Flatten)
    first = steps[flattens]
    if not isinstance(first, Linear):
        return compact_steps(steps, found, all_inputs=True)
    live = found[first.name].live
    if live.all():
        return compact_steps(steps, found)
    select = SelectInputs(places(live, first.module.weight), len(live), flatten=flattens)
    return [select, *compact_steps(steps[flattens:], found)]


def compact_steps(
    steps: Sequence[Step], found: Mapping[str, Inputs], *, all_inputs: bool = False
) -> list[nn.Module]:
    """Return a module for each step, with live channels only.

    Args:
        steps: A sequential network, or a part of it.
        found: The inputs of each of its layers with weights, by the step's name.
        all_inputs: Whether the first one keeps all of them.
    """
    waiting = [found[step.name] for step in weighing_of(steps)]
    if all_inputs:
        waiting[0].live = np.ones_like(waiting[0].live)
    parts: list[nn.Module] = []
    for step in steps:
        if isinstance(step, Weighing):
            inputs, *waiting = waiting
            parts.append(step.compacted(inputs, waiting[0] if waiting else None))
        else:
            parts.append(step.compact(waiting[0] if waiting else None))
    return parts


def _leaves(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers of nested Sequentials by their names, in the order that they work."""
    if type(module) is nn.Sequential:
        parts = list(module._modules.items())  # named_children leaves repeated modules out
    elif type(module) is MLP:  # its ``forward`` in steps
        linears = [(f"layers.{i}", layer) for i, layer in enumerate(module.layers)]
        pairs = ((linear, ("activation", module.activation)) for linear in linears)
        parts = [("flatten", nn.Flatten()), *itertools.chain(*pairs)][:-1]
    else:
        yield name, module
        return
    for key, part in parts:
        assert part is not None
        yield from _leaves(f"{name}.{key}" if name else key, part)

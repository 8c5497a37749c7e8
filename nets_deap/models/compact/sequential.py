"""A network of layers in a row: its steps, the channels of it that masks need, and its compacting.

Analysing takes two passes. Forwards: which channels vary with the input, and the constants that
the others send. Backwards: which of the varying ones an output needs. What passes both is live.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from nets_deap.models.compact.inputs import Inputs
from nets_deap.models.compact.layers import LAYERS, Convolution, Flatten, step_of
from nets_deap.models.compact.step import Step, Weighing, refused, weighing_of
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


def analyse(
    steps: Sequence[Step], gates: Mapping[str, Mask], *, constants: bool = True
) -> dict[str, Inputs]:
    """Return the inputs of each layer with weights, by the step's name.

    A channel that does not vary need not be there: what it sends is added to the next layer's
    bias, or with zero padding to the weights of one that stands in for all of them.

    Args:
        steps: A sequential network.
        gates: Kept weights of each of these layers, by the step's name.
        constants: Whether constants are worked out; else they are whatever is quick. What is live
            follows from the gates alone.
    """
    found: dict[str, Inputs] = {}
    weighing = weighing_of(steps)
    first = weighing[0].module.weight
    n = first.shape[1]
    all_vary = np.ones(n, dtype=np.bool_)
    now = Inputs.of(all_vary, first.new_zeros(n).double(), ~all_vary)
    for step in steps:
        if isinstance(step, Weighing):
            now = found[step.name] = step.takes(now)
            n_out = len(step.module.weight)
            sent = step.sent(now.constant) if constants else now.constant.new_zeros(n_out)
            now = step.send(gates[step.name], now, sent)
        elif found:  # before the first one everything varies
            now = step.pass_constants(now)
    useful: Mask = np.ones(len(weighing[-1].module.weight), dtype=np.bool_)
    least = 0 if all(step.empty for step in steps) else 1
    for step in reversed(weighing):
        inputs = found[step.name]
        needed = step.joined(gates[step.name], inputs)[useful].any(axis=0) & inputs.varies
        useful = inputs.keep(needed, least)
    return found


def n_live_inputs(steps: Sequence[Step], gates: Mapping[str, Mask], example: Tensor) -> int:
    """Count the numbers of one input that any output depends on, through kept weights.

    An input is live if a path of kept weights leads from it to an output. Where all weights are
    positive and all layers linear no two paths cancel, so that just these have a gradient.

    Args:
        steps: A sequential network.
        gates: Kept weights of each layer that has weights, by the step's name.
        example: One input (1, ...), of which only the shape matters.
    """
    x = torch.ones(example.shape, dtype=torch.float64, device="cpu", requires_grad=True)
    with torch.enable_grad():
        now: Tensor = x
        for step in steps:
            now = step.linear(gates.get(step.name))(now)
        (slopes,) = torch.autograd.grad(now.sum(), x)
    return int(slopes.count_nonzero())


def compact_steps(steps: Sequence[Step], found: Mapping[str, Inputs]) -> list[nn.Module]:
    """Return a module for each step, with live channels only.

    Args:
        steps: A sequential network, or a part of it.
        found: The inputs of each of its layers with weights, by the step's name.
    """
    waiting = [found[step.name] for step in weighing_of(steps)]
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

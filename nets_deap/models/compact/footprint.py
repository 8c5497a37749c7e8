"""What networks cost: parameters, bytes, multiply-adds and latency; what masks leave of that."""

from __future__ import annotations

import copy
import itertools
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from nets_deap import _checks, _table
from nets_deap.inputs.call import arguments, call
from nets_deap.inputs.nested import each, leaves_of, length_of
from nets_deap.models.compact.layers import Linear, Norm
from nets_deap.models.compact.paths import paths_of
from nets_deap.models.compact.sequential import n_live_inputs
from nets_deap.models.compact.sparse import CsrLinear
from nets_deap.models.compact.step import Weighing, refused, weighing_of
from nets_deap.models.modes import neutral
from nets_deap.models.tensors import Mask, values_of


@dataclass(frozen=True)
class Footprint:
    """What a network costs to keep and to run.

    Attributes:
        parameters: Numbers in its parameters, zeros counted; of sparse rows kept weights, biases.
        bytes: Of its parameters and buffers in memory.
        multiply_adds: Of its linear and convolutional layers for one example.
        latency: Median seconds of a forward pass, by batch size.
    """

    parameters: int
    bytes: int
    multiply_adds: int
    latency: Mapping[int, float]


def measure_footprints(
    modules: Mapping[str, nn.Module],
    inputs: Any,
    *,
    batch_sizes: Sequence[int] = (1, 256),
    repeats: int = 100,
) -> dict[str, Footprint]:
    """Count and measure what networks cost, such as a masked one and the same compacted.

    Args:
        modules: By name, in evaluation mode or not, on the device of ``inputs``.
        inputs: Sample inputs (N, ...), or tuples and dictionaries of them.
        batch_sizes: Sizes B of the minibatches; see ``models.compact.footprint.measure_latency``.
        repeats: Timed passes of each module and size, at least 1.

    Returns:
        A footprint for each name.

    Raises:
        InvalidValueError: No modules or inputs, or a number is out of range.
    """
    latency = measure_latency(modules, inputs, batch_sizes=batch_sizes, repeats=repeats)
    found = {}
    for name, module in modules.items():
        parameters = list(module.parameters())
        found[name] = Footprint(
            sum(p.numel() for p in parameters) + sum(map(_numbers_of, module.modules())),
            sum(t.numel() * t.element_size() for t in (*parameters, *module.buffers())),
            count_multiply_adds(module, each(inputs, lambda tensor: tensor[:1])),
            latency[name],
        )
    return found


@neutral()
@torch.no_grad()
def count_multiply_adds(module: nn.Module, example: Any) -> int:
    """Count the multiply-adds of linear and convolutional layers for one example (1, ...).

    The example is a tensor, or tuples and dictionaries of them: see ``inputs.call``.

    Multiplications by zero count: that is what dense kernels do, and sparse rows have none.
    """
    _checks.length("example", length_of(example), 1, "examples")
    return sum(multiply_adds_by_layer(copy.deepcopy(module).eval(), example).values())


def multiply_adds_by_layer(module: nn.Module, example: Any) -> dict[nn.Module, int]:
    """Return the multiply-adds for one example of each layer that takes any.

    Args:
        module: In evaluation mode.
        example: One input (1, ...), or several.
    """
    found: dict[nn.Module, int] = {}

    def count(layer: Any, given: tuple[Tensor, ...], named: Any, output: Tensor) -> None:
        if isinstance(layer, CsrLinear):
            here = output.numel() // layer.out_features * len(layer.values)
        elif isinstance(layer, nn.Linear):
            here = output.numel() * layer.in_features
        else:  # of a transposed convolution each input is multiplied by the whole kernel
            image = (*given, *named.values())[0] if layer.transposed else output
            here = image[0, 0].numel() * layer.weight.numel()
        found[layer] = found.get(layer, 0) + here  # some are used more than once

    layers = [m for m in module.modules() if isinstance(m, (nn.Linear, _ConvNd, CsrLinear))]
    hooks = [layer.register_forward_hook(count, with_kwargs=True) for layer in layers]
    call(module, each(example, Tensor.clone))
    for hook in hooks:
        hook.remove()
    return found


class CompactCost:
    """What ``compact`` leaves of a network under any masks: multiply-adds and inputs, by counting.

    The one definition of both: the numbers of the network that ``compact`` gives, which follow
    from the masks and the kinds of layers alone, not from the numbers that training gives.

    Args:
        model: A network that can be compacted (see ``models.compact.compact.compact``); it stays
            untouched. Its present weights matter only where they are frozen and not masked: there
            zeros are pruned.
        example: One input (1, ...); its size decides how often a kernel is used.

    Raises:
        InvalidValueError: The model cannot be compacted.
    """

    @neutral()
    @torch.no_grad()
    def __init__(self, model: nn.Module, example: Any) -> None:
        counted = copy.deepcopy(model).eval()
        self._example = leaves_of(example)[0]  # what can be compacted takes one
        self._paths = paths_of(counted)
        by_layer = multiply_adds_by_layer(counted, example)
        self._rest = sum(by_layer.values())  # of layers that stay whole
        self._places: dict[str, int] = {}  # how often each weight of a layer is used
        for step in self._weighing:
            self._rest -= by_layer[step.module]
            self._places[step.name] = by_layer[step.module] // step.module.weight.numel()
        rows = any(isinstance(s, Linear) and self._places[s.name] > 1 for s in self._weighing)
        if rows and any(isinstance(step, Norm) for step in self._paths[0].steps):
            raise refused("batch normalisation of (N, C, L), whose channels no linear layer joins")

    def multiply_adds(self, masks: Mapping[str, Mask]) -> int:
        """Count the multiply-adds of linear and convolutional layers for one example.

        A layer takes live in x live out x kernel at each place of its output: pruned weights
        between live channels count, as dense kernels multiply by their zeros.

        Args:
            masks: Kept weights by parameter name; layers without one are whole.
        """
        gates, total = self._gates(masks), self._rest
        for path in self._paths:
            weighing = weighing_of(path.steps)
            inputs = path.analyse(gates, constants=False)
            for step, later in itertools.zip_longest(weighing, weighing[1:]):
                n_out, _, *kernel = step.module.weight.shape
                n_in = int(inputs[step.name].live.sum())
                if later is not None:
                    n_out = int(inputs[later.name].live_channels.sum())
                total += self._places[step.name] * n_out * n_in * math.prod(kernel)
        return total

    def live_inputs(self, masks: Mapping[str, Mask]) -> int:
        """Count the numbers of one input that any output depends on.

        Args:
            masks: Kept weights by parameter name; layers without one are whole.

        Raises:
            InvalidValueError: The network has residual blocks: they keep all inputs.
        """
        path = self._paths[0]
        if path.is_block:
            raise refused("residual blocks, of which all inputs stay")
        return n_live_inputs(path.steps, self._gates(masks), self._example)

    @property
    def _weighing(self) -> list[Weighing]:
        """All layers with weights that may lose channels."""
        return [step for path in self._paths for step in weighing_of(path.steps)]

    def _gates(self, masks: Mapping[str, Mask]) -> dict[str, Mask]:
        """Return the kept weights of these layers, by the step's name."""
        gates: dict[str, Mask] = {}
        for step in self._weighing:
            mask, weight = masks.get(step.weight_name), step.module.weight
            if mask is None and not weight.requires_grad:
                mask = values_of(step.weight_name, weight) != 0
            gates[step.name] = np.ones(weight.shape, np.bool_) if mask is None else mask
        return gates


def _numbers_of(module: nn.Module) -> int:
    """Return how many weights and biases a sparse layer holds in buffers; 0 of any other."""
    if not isinstance(module, CsrLinear):
        return 0
    return len(module.values) + (0 if module.bias is None else len(module.bias))


def table(footprints: Mapping[str, Footprint]) -> str:
    """Return footprints as aligned text, each beside the first: "4.0x" is a fourth of it."""
    first = next(iter(footprints.values()))
    sizes = list(first.latency)
    head = ["", "parameters", "bytes", "multiply-adds", *(f"latency at B = {n}" for n in sizes)]
    lines = [head]
    for name, one in footprints.items():
        pairs: list[tuple[float, float, str]] = [
            (first.parameters, one.parameters, f"{one.parameters:,}"),
            (first.bytes, one.bytes, f"{one.bytes:,}"),
            (first.multiply_adds, one.multiply_adds, f"{one.multiply_adds:,}"),
            *((first.latency[n], one.latency[n], f"{1e3 * one.latency[n]:.3f} ms") for n in sizes),
        ]
        more = [f" ({a / b:.1f}x)" if b and one is not first else "" for a, b, _ in pairs]
        lines.append([name, *(text + gain for (_, _, text), gain in zip(pairs, more, strict=True))])
    return _table.table(lines, left=())


def measure_latency(
    modules: Mapping[str, nn.Module],
    inputs: Any,
    *,
    batch_sizes: Sequence[int] = (1, 256),
    repeats: int = 200,
) -> dict[str, dict[int, float]]:
    """Measure how long forward passes take: medians of repeats that take turns.

    All modules run once in every repeat, so that a slow moment of the machine meets each of them.

    Args:
        modules: What to measure, by name, in evaluation mode or not, on the device of ``inputs``.
        inputs: Sample inputs (N, ...), or tuples and dictionaries of them; rows are repeated where
            a minibatch is larger.
        batch_sizes: Sizes B of the minibatches.
        repeats: Timed passes of each module and size, at least 1; a tenth as many go before
            untimed.

    Returns:
        Median seconds of one forward pass, by module name and batch size.
    """
    if not modules:
        raise _checks.bad_value("modules", "hold modules", "at least one", 0)
    _checks.whole("repeats", repeats)
    if not (n := length_of(inputs)):
        raise _checks.bad_value("inputs", "hold examples", "N >= 1", 0)
    found: dict[str, dict[int, float]] = {name: {} for name in modules}
    for i, size in enumerate(batch_sizes):
        _checks.whole(f"batch_sizes[{i}]", size)
        batch = _repeated(inputs, torch.arange(size) % n)
        taken: dict[str, list[float]] = {name: [] for name in modules}
        for repeat in range(-max(3, repeats // 10), repeats):
            for name, module in modules.items():
                seconds = _time(module, batch)
                if repeat >= 0:
                    taken[name].append(seconds)
        for name, times in taken.items():
            found[name][size] = statistics.median(times)
    return found


def _repeated(inputs: Any, rows: Tensor) -> Any:
    """Return rows of inputs, some more than once."""
    return each(inputs, lambda tensor: tensor[rows.to(tensor.device)].contiguous())


@torch.no_grad()
def _time(module: nn.Module, batch: Any) -> float:
    """Return the seconds of one forward pass."""
    first, (given, named) = leaves_of(batch)[0], arguments(module, batch)
    if first.is_cuda:
        torch.cuda.synchronize(first.device)
    start = time.perf_counter()
    module(*given, **named)
    if first.is_cuda:
        torch.cuda.synchronize(first.device)
    return time.perf_counter() - start

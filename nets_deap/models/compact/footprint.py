"""What networks cost: parameters, bytes, multiply-adds and latency; what masks leave of that."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nets_deap import _checks, _table
from nets_deap.inputs.call import arguments, call
from nets_deap.inputs.nested import each, leaves_of, length_of
from nets_deap.models.compact.following import followed
from nets_deap.models.compact.reach import n_live_inputs
from nets_deap.models.compact.sparse import CsrLinear
from nets_deap.models.compact.uses import Uses, uses_of
from nets_deap.models.modes import neutral
from nets_deap.models.private import copied
from nets_deap.models.tensors import Mask


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
    """Count the multiply-adds of layers with weights for one example (1, ...).

    Of linear and convolutional ones, of attention those into and out of its heads, and recurrent
    ones: each weight counts once for each place that it is applied at.

    The example is a tensor, or tuples and dictionaries of them: see ``inputs.call``.

    Multiplications by zero count: that is what dense kernels do, and sparse rows have none.
    """
    _checks.length("example", length_of(example), 1, "examples")
    module = copied(module).eval()
    sparse: list[int] = []
    found = 0.0

    def count(layer: Any, _: Any, output: Tensor) -> None:
        sparse.append(output.numel() // layer.out_features * len(layer.values))

    for layer in module.modules():
        if isinstance(layer, CsrLinear):
            layer.register_forward_hook(count)
    with Uses() as uses:
        call(module, each(example, Tensor.clone))
    for weight, n in uses.found:
        found += n * weight.numel()
    return sum(sparse) + round(found)


class CompactCost:
    """What ``compact`` leaves of a network under any masks: multiply-adds and inputs, by counting.

    The one definition of both: the numbers of the network that ``compact`` gives, which follow
    from the masks and the kinds of layers alone, not from the numbers that training gives.

    Args:
        model: A network that can be compacted (see ``models.compact.compact.compact``); it stays
            untouched. Its present weights matter only where they are frozen and not masked: there
            zeros are pruned.
        example: One input (1, ...), or several; its size decides how often a kernel is used.

    Raises:
        InvalidValueError: The model cannot be followed.
    """

    def __init__(self, model: nn.Module, example: Any) -> None:
        counted = copied(model).eval()
        self._model, self._example = counted, example
        self._found = followed(counted, example)
        tracing, self._rest = self._found.tracing, 0.0
        n_examples = self._found.n_examples
        self._places: dict[str, float] = {}  # how often each weight is used
        for one in tracing.calls:
            for weight, n in uses_of(one.name, one.args, one.kwargs, one.out):
                name = tracing.names.get(id(weight))
                if name is None:  # computed from others: it stays whole
                    self._rest += n / n_examples * weight.numel()
                else:
                    self._places[name] = self._places.get(name, 0.0) + n / n_examples
        named = dict(self._found.model.named_parameters())
        self._shapes = {name: tuple(named[name].shape) for name in self._places}

    def multiply_adds(self, masks: Mapping[str, Mask]) -> int:
        """Count the multiply-adds of layers with weights for one example.

        A layer takes live in x live out x kernel at each place of its output: pruned weights
        between live channels count, as dense kernels multiply by their zeros.

        Args:
            masks: Kept weights by parameter name; layers without one are whole.
        """
        graph, total = self._found.graph, self._rest
        live, _ = graph.live(graph.state(self._found.gates(masks, zeros=False)))
        for name, places in self._places.items():
            shape = list(self._shapes[name])
            for axis in range(len(shape)):
                if (atoms := graph.sites.get((name, axis))) is not None:
                    shape[axis] = int(live[atoms].sum())
            total += places * math.prod(shape)
        return round(total)

    def live_inputs(self, masks: Mapping[str, Mask]) -> int:
        """Count the numbers of one input that any output depends on.

        Args:
            masks: Kept weights by parameter name; layers without one are whole.

        Raises:
            InvalidValueError: None of them is a real number.
        """
        gates = self._found.gates(masks, zeros=False)
        own = {own: name for name, own in self._found.names.items()}
        return n_live_inputs(
            self._model, {own[name]: gate for name, gate in gates.items()}, self._example
        )


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
        batch = _repeated(inputs, torch.arange(size, device="cpu") % n)
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

"""Cutting out: a masked fully connected network as a smaller dense one with the same function."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from nets_deap import _checks, bits
from nets_deap.masks import MaskLayout
from nets_deap.structure import live_of, reached_of
from nets_deap.ticket import Ticket
from nets_deap.training.stack import Stack, stack_of


class SelectInputs(nn.Module):
    """Gathers some inputs by their places; flattens first if asked to.

    Args:
        index: Places of the selected inputs, an integer tensor (n,).
        n_inputs: How many inputs there are to select from.
        flatten: Whether inputs (B, ...) are flattened to (B, n_inputs) first.
    """

    index: Tensor

    def __init__(self, index: Tensor, n_inputs: int, *, flatten: bool = True) -> None:
        super().__init__()
        self.register_buffer("index", index)
        self.n_inputs = n_inputs
        self.flatten = flatten

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs (B, ...) to the selected ones (B, n)."""
        x = x.flatten(1) if self.flatten else x
        _checks.length("inputs", x.shape[-1], self.n_inputs, "n_inputs")
        return x.index_select(-1, self.index)

    def extra_repr(self) -> str:
        """Say how many inputs are selected."""
        return f"{len(self.index)} of {self.n_inputs}, flatten={self.flatten}"


def cut_out(module: nn.Module, source: Ticket | MaskLayout) -> nn.Sequential:
    """Return a smaller dense network that computes the same function as a masked one.

    Only live inputs and neurons are left (see ``structure.live_units``). Neurons that no input
    reaches are constant: what they send is added to the biases of the next layer. The result
    agrees with ``module`` to float rounding, and its linear layers take
    ``structure.multiply_adds`` multiply-adds for one example.

    Args:
        module: A trained, masked network, as from ``TrainResult.module()``; it stays untouched.
            A ``models.MLP``, or an ``nn.Sequential`` of ``Linear`` layers with elementwise
            activations between. Weights at pruned positions are zero.
        source: The ticket; or its layout, then every weight that is zero counts as pruned.

    Returns:
        On the module's device, in its mode, with parameters of its own.

    Raises:
        InvalidTypeError: ``source`` is neither a ticket nor a layout.
        InvalidValueError: The module is no such stack, has other layers than the layout, or holds
            weights that the ticket prunes.
    """
    if not isinstance(source, (Ticket, MaskLayout)):
        raise _checks.bad_type("source", "tell the mask", "a nets.Ticket or MaskLayout", source)
    stack = stack_of(module)
    if stack is None:
        raise _checks.bad_value(
            "module",
            "be fully connected",
            "models.MLP, or nn.Sequential of Linear layers with elementwise activations between",
            type(module).__name__,
        )
    gates = _gates(module, stack, source)
    live, reached = live_of(gates), reached_of(gates)
    weight = stack.linears[0].weight
    parts: list[nn.Module] = []
    if not live[0].all():
        index = torch.from_numpy(np.flatnonzero(live[0])).to(weight.device)
        parts.append(SelectInputs(index, len(live[0]), flatten=stack.flattens))
    elif stack.flattens:
        parts.append(nn.Flatten())
    constant = torch.zeros(len(live[0]), dtype=torch.float64, device=weight.device)
    for i, linear in enumerate(stack.linears):
        rows, columns = (
            torch.from_numpy(np.flatnonzero(units)).to(weight.device)
            for units in (live[i + 1], live[i])
        )
        dense = linear.weight.detach()
        # ``constant`` is zero wherever an input has a say; float64 adds no rounding of its own.
        bias = dense.double() @ constant
        if linear.bias is not None:
            bias += linear.bias.detach().double()
        parts.append(
            _linear(dense[rows][:, columns], bias[rows].to(dense.dtype), linear.bias is not None)
        )
        if i < len(stack.activations):
            parts.append(copy.deepcopy(stack.activations[i]))
            varies = torch.from_numpy(reached[i + 1]).to(weight.device)
            constant = copy.deepcopy(stack.activations[i])(bias).masked_fill(varies, 0)
    return nn.Sequential(*parts).train(module.training)


def measure_latency(
    modules: Mapping[str, nn.Module],
    inputs: Tensor,
    *,
    batch_sizes: Sequence[int] = (1, 256),
    repeats: int = 200,
) -> dict[str, dict[int, float]]:
    """Measure how long forward passes take: medians of repeats that take turns.

    All modules run once in every repeat, so that a slow moment of the machine meets each of them.

    Args:
        modules: What to measure, by name, in evaluation mode or not, on the device of ``inputs``.
        inputs: Sample inputs (N, ...); rows are repeated where a minibatch is larger.
        batch_sizes: Sizes B of the minibatches.
        repeats: Timed passes of each module and size, at least 1; a tenth as many go before
            untimed.

    Returns:
        Median seconds of one forward pass, by module name and batch size.
    """
    if not modules:
        raise _checks.bad_value("modules", "hold modules", "at least one", 0)
    _checks.whole("repeats", repeats)
    if not len(inputs):
        raise _checks.bad_value("inputs", "hold examples", "N >= 1", 0)
    found: dict[str, dict[int, float]] = {name: {} for name in modules}
    for i, size in enumerate(batch_sizes):
        _checks.whole(f"batch_sizes[{i}]", size)
        batch = inputs[torch.arange(size, device=inputs.device) % len(inputs)].contiguous()
        taken: dict[str, list[float]] = {name: [] for name in modules}
        for repeat in range(-max(3, repeats // 10), repeats):
            for name, module in modules.items():
                seconds = _time(module, batch)
                if repeat >= 0:
                    taken[name].append(seconds)
        for name, times in taken.items():
            found[name][size] = statistics.median(times)
    return found


def _gates(module: nn.Module, stack: Stack, source: Ticket | MaskLayout) -> list[bits.Mask]:
    """Return the kept weights of each linear layer, checked against the module."""
    layout = source.layout if isinstance(source, Ticket) else source
    named = dict(module.named_parameters())
    gates = {
        f"{name}.weight": (linear.weight.detach() != 0).cpu().numpy()
        for name, linear in zip(stack.names, stack.linears, strict=True)
    }
    masks = layout.split(source.mask) if isinstance(source, Ticket) else {}
    for layer in layout.layers:
        _checks.choice("module's parameters", layer.name, named, "Give its own ticket or layout.")
        tensor = named[layer.name].detach().cpu().numpy()
        _checks.shape(f"module's {layer.name!r}", tensor.shape, layer.shape, "the layout's shape")
        if layer.name not in masks:
            continue
        wrong = int(np.count_nonzero(tensor[~masks[layer.name]]))
        if wrong:
            raise _checks.bad_value(
                "module",
                "hold the ticket's network",
                f"zero at every pruned position of {layer.name!r}",
                f"{wrong} other values",
                "Take it from TrainResult.module(), or call ticket.apply(model).",
            )
        if layer.name in gates:
            gates[layer.name] = masks[layer.name]
    return list(gates.values())


def _linear(weight: Tensor, bias: Tensor, biased: bool) -> nn.Linear:
    """Return a linear layer with copies of these values; no bias if it had none and needs none."""
    biased = biased or bool(bias.any())
    # Made small and empty: the constructor would draw weights, and warn where there are none.
    linear = nn.Linear(1, 1, bias=biased, device="meta", dtype=weight.dtype)
    linear.out_features, linear.in_features = weight.shape
    linear.weight = nn.Parameter(weight.clone())
    if biased:
        linear.bias = nn.Parameter(bias.clone())
    return linear


@torch.no_grad()
def _time(module: nn.Module, batch: Tensor) -> float:
    """Return the seconds of one forward pass."""
    if batch.is_cuda:
        torch.cuda.synchronize(batch.device)
    start = time.perf_counter()
    module(batch)
    if batch.is_cuda:
        torch.cuda.synchronize(batch.device)
    return time.perf_counter() - start

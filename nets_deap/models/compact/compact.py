"""Cutting out: a masked network as a smaller dense one with the same function."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from nets_deap import _checks
from nets_deap.models.compact.layers import SelectInputs, linear_of, narrow_norm, narrowed, places
from nets_deap.models.compact.live import live_of, reached_of
from nets_deap.models.compact.residual import blocks_of
from nets_deap.models.compact.sequential import (
    NORMS,
    Inputs,
    Step,
    analyse,
    chain_of,
    folded,
    merged,
)
from nets_deap.models.feedforward import stack_of
from nets_deap.models.tensors import values_of
from nets_deap.tickets import bits
from nets_deap.tickets.layout import MaskLayout
from nets_deap.tickets.ticket import Ticket


def cut_out(module: nn.Module, source: Ticket | MaskLayout) -> nn.Module:
    """Return a smaller dense network that computes the same function as a masked one.

    Only what lies on a path from an input to an output is left: of fully connected networks live
    inputs and neurons (see ``tickets.live.live_units``), of chains with convolutions live filters,
    with the input channels of the next layer, or its inputs across Flatten, that belong to them.
    Neurons and filters that no input reaches are constant: what they send is added to the biases
    of the next layer. Where zero padding surrounds constants other than 0, that would be wrong at
    the borders: of these filters one stays, and stands in for all of them. Outputs always stay.
    Of networks with residual blocks the filters inside of blocks go, not those on the residual
    path. The result agrees with ``module`` to float rounding; of a fully connected network its
    linear layers take ``tickets.live.multiply_adds`` multiply-adds for one example.

    Args:
        module: A trained, masked network, as from ``TrainResult.module()``; it stays untouched.
            A ``models.MLP``, or an ``nn.Sequential``, nested or not, of ``Linear`` layers and
            convolutions (groups=1) in a row, with batch normalisation, elementwise activations,
            pooling, dropout and ``Flatten`` between; or a network with residual blocks of
            ``models.ResNet`` or torchvision's. Weights at pruned positions are zero.
        source: The ticket; or its layout, then every weight that is zero counts as pruned.

    Returns:
        On the module's device, in its mode, with parameters of its own: an ``nn.Sequential``; of a
        network with residual blocks a copy with narrower ones.

    Raises:
        InvalidTypeError: ``source`` is neither a ticket nor a layout.
        InvalidValueError: The module is not such a network, has other layers than the layout, holds
            weights that the ticket prunes, or is in training mode with batch normalisation or
            dropout.
    """
    if not isinstance(source, (Ticket, MaskLayout)):
        raise _checks.bad_type("source", "tell the mask", "a nets.Ticket or MaskLayout", source)
    stack = stack_of(module)
    blocks = list(blocks_of(module)) if stack is None else []
    if blocks:
        return _cut_blocks(module, blocks, source)
    if stack is None:
        return _cut_chain(module, source)
    layers = dict(zip(stack.names, stack.linears, strict=True))
    gates = list(_gates(module, layers, source).values())
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
            linear_of(dense[rows][:, columns], bias[rows].to(dense.dtype), linear.bias is not None)
        )
        if i < len(stack.activations):
            parts.append(copy.deepcopy(stack.activations[i]))
            varies = torch.from_numpy(reached[i + 1]).to(weight.device)
            constant = copy.deepcopy(stack.activations[i])(bias).masked_fill(varies, 0)
    return nn.Sequential(*parts).train(module.training)


def _cut_chain(module: nn.Module, source: Ticket | MaskLayout) -> nn.Sequential:
    """Cut out a chain of layers; see ``cut_out``."""
    steps = chain_of(module)
    layers = {step.name: step.module for step in steps if step.weighs}
    found = analyse(steps, _gates(module, layers, source))
    waiting = [found[name] for name in layers]
    parts: list[nn.Module] = []
    flatten = isinstance(steps[0].module, nn.Flatten)
    if not isinstance(steps[flatten].module, nn.Linear):  # images keep all their channels
        waiting[0].live = np.ones_like(waiting[0].live)
    elif not waiting[0].live.all():
        index = places(waiting[0].live, steps[flatten].module.weight)
        parts.append(SelectInputs(index, len(waiting[0].live), flatten=flatten))
        steps = steps[flatten:]
    parts += _narrow(steps, waiting)
    return nn.Sequential(*parts).train(module.training)


def _cut_blocks(
    module: nn.Module, blocks: Sequence[tuple[Step, ...]], source: Ticket | MaskLayout
) -> nn.Module:
    """Return a copy of a network with narrower residual blocks; see ``cut_out``."""
    layers = {step.name: step.module for steps in blocks for step in steps if step.weighs}
    gates = _gates(module, layers, source)
    small = copy.deepcopy(module)
    for steps in blocks:
        found = list(analyse(steps, gates).values())
        found[0].live = np.ones_like(found[0].live)  # the residual path stays
        for step, part in zip(steps, _narrow(steps, found), strict=True):
            if step.name:
                owner, _, name = step.name.rpartition(".")
                setattr(small.get_submodule(owner), name, part)
    return small.train(module.training)


def _narrow(steps: Sequence[Step], waiting: Sequence[Inputs]) -> list[nn.Module]:
    """Return the modules of a chain without what is not live.

    Args:
        steps: The chain, or a part of it.
        waiting: The inputs of each of its linear and convolutional layers, in order.
    """
    parts: list[nn.Module] = []
    flat = False
    for step in steps:
        part = step.module
        if step.weighs:
            inputs, *waiting = waiting
            columns = places(inputs.live, part.weight)
            rows = places(waiting[0].live_channels, part.weight) if waiting else None
            parts.append(narrowed(part, merged(step, inputs), folded(step, inputs), rows, columns))
        elif isinstance(part, NORMS) and waiting:
            live = waiting[0].live if flat else waiting[0].live_channels
            parts.append(narrow_norm(part, places(live, step.module.running_mean)))
        else:
            parts.append(copy.deepcopy(part))
        flat = flat or isinstance(part, nn.Flatten)
    return parts


def _gates(
    module: nn.Module, layers: Mapping[str, nn.Module], source: Ticket | MaskLayout
) -> dict[str, bits.Mask]:
    """Return the kept weights of each layer by its name, checked against the module."""
    layout = source.layout.weights if isinstance(source, Ticket) else source.weights
    named = dict(module.named_parameters())
    owners = {f"{name}.weight" if name else "weight": name for name in layers}
    gates = {name: values_of(own, named[own]) != 0 for own, name in owners.items()}
    masks = layout.split(source.mask) if isinstance(source, Ticket) else {}
    for layer in layout.layers:
        _checks.choice("module's parameters", layer.name, named, "Give its own ticket or layout.")
        tensor = values_of(layer.name, named[layer.name])
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
        if layer.name in owners:
            gates[owners[layer.name]] = masks[layer.name]
    return gates

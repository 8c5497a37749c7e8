"""``KeptCost``: multiply-adds of the kept weights that are live, of any network whatsoever."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from nets_deap.inputs.call import call, call_with
from nets_deap.inputs.nested import each, leaves_of, length_of
from nets_deap.models.modes import neutral
from nets_deap.models.private import copied
from nets_deap.models.tensors import Mask, values_of

# Inputs that a network is probed with: of a window that is pooled each finds one greatest number.
PROBES = 3
NEUTRAL = {"running_mean": 0.0, "running_var": 1.0}  # normalisation that changes nothing


class KeptCost:
    """Multiply-adds of kept weights on a path from an input to an output: what sparse kernels do.

    A weight is live if an output depends on it: it has a gradient in the same network with
    positive weights where it keeps them, no biases and positive inputs, so that no ReLU ends a path
    and no two paths cancel. That follows any graph that torch differentiates, with residual
    connections, concatenations and layers that are used twice; what a normalisation shifts off 0
    counts as live. A live weight counts once for each position that its layer is applied at. Layers
    that autograd does not reach count all kept weights.

    Args:
        model: Any network; it stays untouched. Its present weights matter only where they are
            frozen and not masked: there zeros are pruned.
        example: One input (1, ...), or several: its size decides how often a weight is used.
    """

    def __init__(self, model: nn.Module, example: Any) -> None:
        self._model = copied(model).eval()
        with torch.no_grad():
            by_layer = _by_layer(self._model, example)
        names = {id(p): name for name, p in self._model.named_parameters()}
        self._places: dict[str, int] = {}
        self._computed: dict[str, int] = {}  # of what a layer's weight is computed from
        for layer, here in by_layer.items():
            weight: Any = layer.weight
            places, plain = here // weight.numel(), id(weight) in names
            for p in [weight] if plain else layer.parameters():
                found, name = self._places if plain else self._computed, names[id(p)]
                found[name] = found.get(name, 0) + places
        self._frozen = {
            name: values_of(name, p) != 0
            for name, p in self._model.named_parameters()
            if name in self._places and not p.requires_grad
        }
        self._inputs = self._probes(example)
        self._followed = {name for name, live in self._live({}).items() if live.any()}

    def multiply_adds(self, masks: Mapping[str, Mask]) -> int:
        """Count the multiply-adds of live kept weights for one example.

        Args:
            masks: Kept weights by parameter name; layers without one are whole. What is not the
                weight of a linear layer or convolution, as in attention, counts all it keeps, once.
        """
        live = self._live(masks)
        total = 0
        for name, mask in masks.items():
            if name not in self._places and mask.ndim > 1:
                total += self._computed.get(name, 1) * int(mask.sum())
        for name, places in self._places.items():
            kept = live[name] if name in self._followed else self._kept(name, masks)
            total += places * int(kept.sum())
        return total

    def _kept(self, name: str, masks: Mapping[str, Mask]) -> Mask:
        """Return the kept weights of a layer."""
        mask = masks.get(name, self._frozen.get(name))
        shape = tuple(self._model.get_parameter(name).shape)
        return np.ones(shape, np.bool_) if mask is None else mask

    @neutral()
    def _live(self, masks: Mapping[str, Mask]) -> dict[str, Mask]:
        """Return which kept weights an output depends on, by name."""
        generator = torch.Generator().manual_seed(0)
        state: dict[str, Tensor] = {}
        for name, p in self._model.named_parameters():
            known = masks.get(name)
            kept = self._kept(name, masks) if name in self._places else known
            state[name] = _positive(name, p, kept, generator)
        for name, buffer in self._model.named_buffers():
            value = NEUTRAL.get(name.rpartition(".")[2])
            state[name] = buffer if value is None else torch.full_like(buffer, value)
        probed = [state[name].requires_grad_() for name in self._places]
        output = call_with(self._model, state, self._inputs)
        real = [leaf for leaf in leaves_of(output) if leaf.is_floating_point()]
        # Of a softmax the plain sum would be constant.
        total = sum((leaf * _drawn(leaf, generator)).sum() for leaf in real)
        slopes = torch.autograd.grad(total, probed, allow_unused=True)
        return {
            name: np.zeros(tuple(w.shape), np.bool_)
            if slope is None
            else (slope.ne(0) & w.detach().gt(0)).cpu().numpy()
            for name, w, slope in zip(self._places, probed, slopes, strict=True)
        }

    def _probes(self, example: Any) -> Any:
        """Return inputs (PROBES, ...) like an example, positive where they are real numbers."""
        generator = torch.Generator().manual_seed(1)

        def probe(leaf: Tensor) -> Tensor:
            rows = leaf.repeat_interleave(PROBES, dim=0)
            return _drawn(rows, generator) if rows.is_floating_point() else rows

        assert length_of(example) == 1
        return each(example, probe)


def _by_layer(module: nn.Module, example: Any) -> dict[nn.Module, int]:
    """Return the multiply-adds for one example of each layer that takes any.

    Args:
        module: In evaluation mode.
        example: One input (1, ...), or several.
    """
    found: dict[nn.Module, int] = {}

    def count(layer: Any, given: tuple[Tensor, ...], named: Any, output: Tensor) -> None:
        if isinstance(layer, nn.Linear):
            here = output.numel() * layer.in_features
        else:  # of a transposed convolution each input is multiplied by the whole kernel
            image = (*given, *named.values())[0] if layer.transposed else output
            here = image[0, 0].numel() * layer.weight.numel()
        found[layer] = found.get(layer, 0) + here  # some are used more than once

    layers = [m for m in module.modules() if isinstance(m, (nn.Linear, _ConvNd))]
    hooks = [layer.register_forward_hook(count, with_kwargs=True) for layer in layers]
    call(module, each(example, Tensor.clone))
    for hook in hooks:
        hook.remove()
    return found


def _positive(name: str, p: Tensor, kept: Mask | None, generator: torch.Generator) -> Tensor:
    """Return positive numbers for the kept weights of a parameter, 0 elsewhere.

    Each output is about a mean of what it depends on, so that in deep networks nothing grows or
    fades. Biases are 0, so that what no input reaches is 0 too, and other vectors 1.
    """
    if p.ndim < 2:
        return torch.full_like(p, float("bias" not in name.rpartition(".")[2])).detach()
    values = _drawn(p, generator)
    if kept is not None:
        values *= torch.from_numpy(kept).to(p.device)
    return values / values.flatten(1).sum(1).clamp_min(1e-6).view(-1, *[1] * (p.ndim - 1))


def _drawn(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return numbers between 0.5 and 1.5, of the shape, dtype and device of a tensor."""
    drawn = torch.rand(like.shape, generator=generator) + 0.5
    return drawn.to(like)

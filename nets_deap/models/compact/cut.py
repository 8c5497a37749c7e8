"""``Cut``: the tensors of a network without the channels that go, and the layers that hold them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.rnn import RNNBase, RNNCellBase

from nets_deap.models.compact.graph import Graph, Numbers
from nets_deap.models.compact.narrow_attention import NarrowAttention
from nets_deap.models.compact.records import Layer, State
from nets_deap.models.computed import computed_in
from nets_deap.models.private import add_hooks, hooks_of
from nets_deap.models.tensors import Mask


class Cut:
    """What is left of a network's tensors.

    Args:
        graph: What the network does to channels.
        state: What is known of them under its masks.
        numbers: The constants (atoms,).
        tensors: Parameters and buffers by name.
    """

    def __init__(
        self, graph: Graph, state: State, numbers: Numbers, tensors: Mapping[str, Tensor]
    ) -> None:
        self.graph = graph
        self.live, stand_ins = graph.live(state, numbers)
        self._whole = dict(tensors)
        self._biases: dict[str, Tensor] = {}  # of layers without one, by the name of their weights
        for i, layer in enumerate(graph.layers):
            places = {kind: place for (j, kind), place in stand_ins.items() if i == j}
            self._fold(layer, state, numbers, places)

    def _fold(
        self, layer: Layer, state: State, numbers: Numbers, places: Mapping[int, int]
    ) -> None:
        """Put what constants that go send into the bias, or into what stands in for them."""
        gone = ~self.live[layer.src] & state.shifts[layer.src] & (numbers[layer.src] != 0)
        if layer.groups > 1 or not gone.any():  # a group goes with all that it gives
            return
        whole = self._whole[layer.weight]
        weight = (whole.transpose(0, 1) if layer.turned else whole).double()
        constants = torch.from_numpy(np.where(gone, numbers[layer.src], 0.0))
        _, bordered = layer.reads(state)
        for kind, place in places.items():
            here = gone & bordered & (self.graph.kinds[layer.src] == kind)
            own = numbers[layer.src[place]]
            if not here.any() or own == 0:
                continue
            shares = torch.from_numpy(np.where(here, numbers[layer.src], 0.0)) / own
            weight = weight.clone()
            weight[:, place] += torch.einsum("oi...,i->o...", weight, shares)
            new = weight.transpose(0, 1) if layer.turned else weight
            self._whole[layer.weight] = new.to(whole.dtype)
        plain = torch.from_numpy(gone & ~bordered)
        if not bool(plain.any()):
            return
        # A kernel meets the same number at each of its places, so that it counts by its sum.
        sums = weight[layer.rows].reshape(len(layer.dst), len(layer.src), -1).sum(dim=2)
        sent = sums @ (constants * plain)
        if layer.bias is None:
            self._biases[layer.weight] = sent
        else:
            bias = self._whole[layer.bias].clone()
            bias[layer.rows] += sent.to(bias.dtype)
            self._whole[layer.bias] = bias

    def tensor(self, name: str) -> Tensor:
        """Return what is left of a parameter or buffer."""
        tensor = self._whole[name]
        if (atoms := self.graph.elements.get(name)) is not None:
            live = self.live[atoms]
            for axis in range(tensor.ndim):
                others = tuple(i for i in range(tensor.ndim) if i != axis)
                tensor = tensor.index_select(axis, _places(np.logical_or.reduce(live, axis=others)))
        for axis in range(tensor.ndim):
            if (atoms := self.graph.sites.get((name, axis))) is not None:
                tensor = tensor.index_select(axis, _places(self.live[atoms]))
        return tensor

    def put_into(self, model: nn.Module, double: bool = False) -> nn.Module:
        """Return a copy of the network with what is left.

        Args:
            model: The network.
            double: Whether it is on the CPU, and its real numbers are of float64.
        """
        memo: dict[int, Any] = computed_in(model)
        fresh: dict[str, Tensor] = {}
        for name, old in (*model.named_parameters(), *model.named_buffers()):
            memo[id(old)] = fresh[name] = self._new(name, old, double)
        small = copy.deepcopy(model, memo)
        add_hooks(small, copy.deepcopy(hooks_of(model), memo))
        for name, module in self._without_bias(model).items():
            new = memo[id(module)]
            rows = self.graph.sites[name, 1 if isinstance(module, _ConvTransposeNd) else 0]
            bias = self._biases[name][_places(self.live[rows])]
            new.bias = nn.Parameter(bias.to(new.weight.device, new.weight.dtype))
        for path, module in list(small.named_modules()):
            _resize(module, self.sizes(path))
            if type(module) is nn.MultiheadAttention and NarrowAttention.fits(module):
                owner, _, key = path.rpartition(".")
                setattr(small.get_submodule(owner), key, NarrowAttention(module))
        return small

    def _new(self, name: str, old: Tensor, double: bool) -> Tensor:
        """Return what is left of a parameter or buffer, as one of its own."""
        left, device, dtype = self.tensor(name), old.device, old.dtype
        if double and old.is_floating_point():
            device, dtype = torch.device("cpu"), torch.float64
        new = left.to(device, dtype, copy=True)
        if isinstance(old, nn.Parameter):
            return nn.Parameter(new, requires_grad=old.requires_grad)
        return new

    def _without_bias(self, model: nn.Module) -> dict[str, nn.Module]:
        """Return the layers that need a bias and have none, by the names of their weights."""
        names = {id(p): name for name, p in model.named_parameters()}
        return {
            names[id(module.weight)]: module
            for module in model.modules()
            if isinstance(module, (nn.Linear, _ConvNd))
            and module.bias is None
            and names.get(id(module.weight)) in self._biases
        }

    def sizes(self, path: str) -> int | None:
        """Return how many channels a module without tensors of its own has left."""
        atoms = self.graph.sites.get((path, -1))
        return None if atoms is None else int(self.live[atoms].sum())


def _places(chosen: Mask) -> Tensor:
    """Return the places of what is chosen."""
    return torch.from_numpy(np.flatnonzero(chosen))


def _resize(module: Any, left: int | None) -> None:
    """Let a layer of torch say the sizes of its tensors."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _ConvNd):
        one, other = ("in", "out") if module.transposed else ("out", "in")
        first, second = module.weight.shape[:2]
        if module.groups > 1:
            module.groups = first * module.groups // getattr(module, f"{one}_channels")
        setattr(module, f"{one}_channels", first)
        setattr(module, f"{other}_channels", second * module.groups)
    elif isinstance(module, _NormBase) and left is not None:
        module.num_features = left
    elif isinstance(module, nn.GroupNorm) and left is not None:
        module.num_groups = module.num_groups * left // module.num_channels
        module.num_channels = left
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)
    elif isinstance(module, nn.Embedding):
        module.embedding_dim = module.weight.shape[1]
    elif isinstance(module, RNNBase):
        module.input_size = module.get_parameter("weight_ih_l0").shape[1]
    elif isinstance(module, RNNCellBase):
        module.input_size = module.weight_ih.shape[1]

"""``program_of``: a network as its calls in a row, with the sizes that are left of them.

Where a forward names sizes of its own, such as ``view(-1, 400)``, narrower layers alone do not make
a smaller network of it. Then its calls are written down, as ``torch.fx`` does, with these sizes
replaced. Layers of torch stay modules. Which numbers count examples is told from two passes with
different numbers of them.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from nets_deap.inputs.call import arguments
from nets_deap.inputs.nested import each, leaves_of, named
from nets_deap.models.compact.cut import Cut
from nets_deap.models.compact.tracing import Call, Tracing, Unfollowed

_SHAPED = {"view", "reshape", "unflatten", "view_as", "reshape_as"}
_SPLITS = {"split", "chunk", "tensor_split"}


class Program:
    """The calls of one pass, to be written down for what is left of the network.

    Args:
        tracing: The pass.
        inputs: What it was given.
        output: What it gave.
        other: A pass with another number of examples.
        n: Examples of both passes.
    """

    def __init__(
        self, tracing: Tracing, inputs: Any, output: Any, other: Tracing, n: tuple[int, int]
    ) -> None:
        self._tracing, self._inputs, self._output = tracing, inputs, output
        self._n = n
        self._calls = list(zip(tracing.outer, other.outer, strict=False))
        names = [one.name == two.name for one, two in self._calls]
        if len(tracing.outer) != len(other.outer) or not all(names):
            raise Unfollowed("its forward is another for other numbers of examples")

    def of(self, cut: Cut, root: nn.Module, dtype: torch.dtype, device: torch.device) -> nn.Module:
        """Return the network of what is left.

        Args:
            cut: What is left of it.
            root: It, with narrower layers.
            dtype: Of its numbers.
            device: Where it is.
        """
        self._cut, self._dtype, self._device = cut, dtype, device
        self._graph = fx.Graph()
        self._nodes: dict[int, Any] = {}
        self._place_inputs(root)
        for call, other in self._calls:
            self._write(call, other)
        if not all(isinstance(leaf, Tensor) for leaf in leaves_of(self._output)):
            raise Unfollowed("it gives its outputs in other things than tuples and dictionaries")
        self._graph.output(each(self._output, self._node))
        self._graph.lint()
        return fx.GraphModule(root, self._graph, type(root).__name__)

    def _place_inputs(self, root: nn.Module) -> None:
        """Give the program the arguments of the network's own forward."""
        positional, keywords = arguments(root, self._inputs)
        names = list(inspect.signature(root.forward).parameters)
        given = dict(zip(names, positional, strict=False)) | keywords
        for name, value in given.items():
            node = self._graph.placeholder(name)
            for path, leaf in named("", value):
                one: Any = node
                for key in path.replace("]", "").split("[")[1:]:
                    index = key.strip("'") if key.startswith("'") else int(key)
                    one = self._graph.call_function(_item, (one, index))
                if isinstance(leaf, Tensor):
                    self._nodes[id(leaf)] = one
        first = next(leaf for leaf in leaves_of(self._inputs) if isinstance(leaf, Tensor))
        self._size = self._graph.call_method("size", (self._nodes[id(first)], 0))

    def _node(self, leaf: Any) -> Any:
        """Return what stands for a value."""
        if leaf is torch.float64:
            return self._dtype
        if isinstance(leaf, torch.device):
            return self._device
        if not isinstance(leaf, Tensor):
            return leaf
        found = self._nodes.get(id(leaf))
        if found is None:
            name = self._tracing.names.get(id(leaf))
            if name is None:
                raise Unfollowed("its forward reads a tensor that is none of the model's")
            found = self._nodes[id(leaf)] = self._graph.get_attr(name)
        return found

    def _number(self, one: Any, two: Any) -> Any:
        """Return what stands for a number: of examples, if it differs as they do."""
        if isinstance(one, int) and not isinstance(one, bool) and one != two:
            if one * self._n[1] != two * self._n[0]:
                raise Unfollowed("a size in its forward depends on the number of examples oddly")
            if one == self._n[0]:
                return self._size
            return self._graph.call_function(_times, (self._size, one, self._n[0]))
        return self._node(one)

    def _write(self, call: Call, other: Call) -> None:
        """Write a call down."""
        x: Any = call.args[0] if call.args else None
        if call.module:
            args, kwargs = each((call.args, call.kwargs), self._node)
            node = self._graph.call_module(call.layer, tuple(args), kwargs)
        elif call.name in _SHAPED:
            node = self._graph.call_method(
                "reshape", (self._node(x), self._shape(call.out, other.out))
            )
        elif call.name in _SPLITS:
            axis = call.get(2, "dim", 0) % x.ndim
            sizes = [self._left(one, axis) for one in call.out]
            node = self._graph.call_method("split", (self._node(x), sizes, axis))
        elif call.name == "expand":
            sizes = [
                -1 if new == old else new
                for new, old in zip(
                    self._shape(call.out, other.out),
                    [None] * (call.out.ndim - x.ndim) + self._shape(x, other.args[0]),
                    strict=True,
                )
            ]
            node = self._graph.call_method("expand", (self._node(x), *sizes))
        elif call.name == "getitem":
            node = self._graph.call_function(_item, (self._node(x), self._index(call)))
        else:
            node = self._plain(call, other)
        self._bind(call.out, node)

    def _plain(self, call: Call, other: Call) -> Any:
        """Write a call down whose numbers stay, but for those of examples and of groups."""
        args, kwargs = _zipped(self._number, (call.args, call.kwargs), (other.args, other.kwargs))
        args = list(args)
        if call.name.startswith("conv") and call.get(6, "groups", 1) > 1:
            parts = len(call.args[1]) // call.get(6, "groups")
            groups = len(self._cut.tensor(self._tracing.names[id(call.args[1])])) // parts
            if len(args) > 6:
                args[6] = groups
            else:
                kwargs["groups"] = groups
        if call.name == "group_norm":
            x = call.args[0]
            args[1:2] = [call.get(1, "num_groups") * self._left(x, 1) // x.shape[1]]
            kwargs.pop("num_groups", None)
        kind = type(call.func).__name__
        if kind == "method-wrapper":  # a property of a tensor
            return self._graph.call_function(getattr, (args[0], call.name))
        if kind in ("method_descriptor", "wrapper_descriptor"):
            return self._graph.call_method(call.func.__name__, tuple(args), kwargs)
        return self._graph.call_function(call.func, tuple(args), kwargs)

    def _bind(self, out: Any, node: Any) -> None:
        """Let a node stand for what a call gave."""
        if isinstance(out, Tensor):
            self._nodes[id(out)] = node
        elif isinstance(out, (tuple, list)):
            for i, one in enumerate(out):
                if isinstance(one, (Tensor, tuple, list)):
                    self._bind(one, self._graph.call_function(_item, (node, i)))

    def _live(self, tensor: Tensor, axis: int) -> Any:
        """Return which places along an axis are left, (n,)."""
        found = self._tracing.labels(tensor)
        if found is None or found.atoms.shape[axis] == 1:
            return np.ones(tensor.shape[axis], np.bool_)
        rows = np.moveaxis(found.atoms, axis, 0).reshape(tensor.shape[axis], -1)
        return self._cut.live[rows].any(axis=1)

    def _left(self, tensor: Tensor, axis: int) -> int:
        return int(self._live(tensor, axis).sum())

    def _shape(self, tensor: Tensor, other: Tensor) -> list[Any]:
        """Return the shape that is left of a tensor."""
        shape: list[Any] = []
        differ = [a != b for a, b in zip(tensor.shape, other.shape, strict=True)]
        for axis, (size, its) in enumerate(zip(tensor.shape, other.shape, strict=True)):
            if not differ[axis]:
                shape.append(self._left(tensor, axis))
            else:
                shape.append(-1 if sum(differ) == 1 else self._number(size, its))
        return shape

    def _index(self, call: Call) -> Any:
        """Return an index, with places of channels among those that are left."""
        x, index = call.args
        parts = index if isinstance(index, tuple) else (index,)
        axis = 0
        found: list[Any] = []
        for i, part in enumerate(parts):
            if part is Ellipsis:
                axis = x.ndim - sum(1 for p in parts[i + 1 :] if p is not None)
                found.append(part)
                continue
            if part is None:
                found.append(part)
                continue
            if isinstance(part, slice) and part.step in (None, 1):
                live = self._live(x, axis)
                start, stop, _ = part.indices(len(live))
                if live.all():
                    part = slice(*(each([part.start, part.stop], self._node)))
                else:
                    part = slice(int(live[:start].sum()), int(live[:stop].sum()))
            elif isinstance(part, int):
                live = self._live(x, axis)
                part = part if live.all() else int(live[: part % len(live)].sum())
            else:
                part = each(part, self._node)
            found.append(part)
            axis += 1
        return tuple(found) if isinstance(index, tuple) else found[0]


def _item(thing: Any, index: Any) -> Any:
    """Return an item of a thing."""
    return thing[index]


def _times(size: int, one: int, n: int) -> int:
    """Return a number for as many examples, which was one for n."""
    return size * one // n


def _zipped(function: Any, one: Any, two: Any) -> Any:
    """Return what a function gives for each pair of leaves of two things of one structure."""
    if isinstance(one, dict):
        return {key: _zipped(function, one[key], two[key]) for key in one}
    if isinstance(one, (tuple, list)):
        return type(one)([_zipped(function, a, b) for a, b in zip(one, two, strict=True)])
    if isinstance(one, slice):
        return slice(*(_zipped(function, getattr(one, k), getattr(two, k))
                       for k in ("start", "stop", "step")))  # fmt: skip
    return function(one, two)

"""``Tracing``: one forward pass, and what each of its calls does to channels, as a ``Graph``.

The model's own ``forward`` is run, whatever it is made of: every function of torch that it calls is
seen, with its arguments, and ``rules`` say what that means. What is not known there leaves the
channels that it takes as they are, so that any network can be followed. One file: the pass, and
the labels that it gives.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nets_deap.inputs.call import call
from nets_deap.inputs.nested import leaves_of
from nets_deap.inputs.parts import tensors_of
from nets_deap.models.compact.graph import Graph, Numbers
from nets_deap.models.compact.labels import KEPT, Atoms, Labels
from nets_deap.models.compact.records import Each, Several, Source
from nets_deap.names import OUTPUTS

# What asks for numbers, on which it may depend what a forward does next.
_ASKS = {
    "__bool__", "__int__", "__float__", "__index__", "__array__", "item", "tolist", "numpy",
    "is_nonzero", "equal", "allclose",
}  # fmt: skip


class Unfollowed(Exception):
    """A network does what cannot be followed; in words, what."""


@dataclass(frozen=True, eq=False)
class Call:
    """A function of torch as it was called.

    Attributes:
        name: Of the function, without what tells operators and functions in place apart.
        func: The function.
        args: Its arguments.
        kwargs: Those by name.
        out: What it gave.
        where: In words, for messages.
        layer: The innermost module whose forward called it, as a path.
        module: Whether that module itself is what was called.
    """

    name: str
    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any
    where: str
    layer: str
    module: bool = False

    def get(self, place: int, name: str, default: Any = None) -> Any:
        """Return an argument by its place or its name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)


class Tracing(TorchFunctionMode):
    """One forward pass of a model.

    Args:
        model: A copy of its own, on the CPU, in evaluation mode; its modules are wrapped.
        rule_of: Returns the rule of a function, by its name: what it does to channels.
        fit: Returns other arguments for those of a function, before it is called.

    Attributes:
        graph: What the calls do to channels.
        calls: The calls, in order.
        outer: The same, where layers of torch are called instead of what they call.
        names: Those of parameters and buffers, by the ``id`` of the tensor.
        modules: The modules by path.
    """

    def __init__(
        self,
        model: nn.Module,
        rule_of: Callable[[str], Callable[[Any, Any], None]],
        fit: Callable[[Any, str, tuple[Any, ...]], tuple[Any, ...]] = lambda t, name, args: args,
    ) -> None:
        super().__init__()
        self._rule_of, self._fit = rule_of, fit
        self.graph = Graph()
        self.calls: list[Call] = []
        self.outer: list[Call] = []
        self.modules = dict(model.named_modules())
        self.names: dict[int, str] = {}
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            self.names.setdefault(id(tensor), name)
        self._model, self._held = model, [*model.parameters(), *model.buffers()]
        self._labels: dict[int, Labels] = {}
        self._fragile: dict[int, Atoms] = {}
        self._numbers: list[tuple[Atoms, Numbers]] = []
        self._grids: list[Atoms] = []
        self._around = [""]
        for path, module in self.modules.items():
            module.forward = functools.partial(self._module, path, module.forward)

    # ---- running

    def run(self, inputs: Any, *, free: bool = False) -> Any:
        """Run the model on inputs, which are as many examples; return what it gives.

        Args:
            inputs: Tensors (B, ...), or tuples and dictionaries of them.
            free: Whether features (B, n) of the input may be left out.

        Raises:
            Unfollowed: What it does depends on numbers.
        """
        for leaf in leaves_of(inputs):
            if isinstance(leaf, Tensor):
                axis = leaf.ndim - 1
                labels = Labels.kept(tuple(leaf.shape))
                if free:
                    atoms = self.graph.new(leaf.shape[axis])
                    self.graph.records.append(Source(atoms))
                    labels = Labels.along(axis, atoms, tuple(leaf.shape))
                self._set(leaf, labels)
        with self, torch.no_grad():
            output = call(self._model, inputs)
        for leaf in tensors_of(output):
            self.keep(leaf, OUTPUTS)
        self._keep_unmet()
        self.graph.settle(self._grids)
        return output

    def _keep_unmet(self) -> None:
        """Let parameters stay that meet no channels, or that layers use in other ways as well."""
        graph, group = self.graph, self.graph.connected()
        alone = np.ones(graph.n, np.bool_)
        fixed = [atoms.reshape(-1) for atoms in graph.elements.values()]
        flowing = np.ones(graph.n, np.bool_)
        flowing[np.concatenate([np.zeros(0, np.int64), *fixed])] = False
        alone[group[flowing]] = False
        for name, atoms in graph.elements.items():
            graph.keep(atoms[alone[group[atoms]]], f"{name!r} meets no channels")
            for (other, _), sites in graph.sites.items():
                if other == name:
                    graph.keep(
                        np.concatenate([atoms.reshape(-1), sites]), f"{name!r} is read twice"
                    )

    def numbers(self) -> Numbers:
        """Return the number that each atom had at its first place in this pass, (atoms,)."""
        found = np.zeros(self.graph.n)
        for atoms, values in self._numbers:
            found[atoms] = values
        return found

    def _module(self, path: str, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a module, knowing its name."""
        before = len(self.outer)
        self._around.append(path)
        try:
            out = forward(*args, **kwargs)
        finally:
            self._around.pop()
        module = self.modules[path]
        own = type(module).__module__.startswith("torch.nn.modules")
        attention = isinstance(module, nn.MultiheadAttention)
        if own and path and (attention or not list(module.children())):
            kind = type(module).__name__
            self.outer[before:] = [Call(kind, forward, args, kwargs, out, "", path, module=True)]
        return out

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        if name == "__get__":
            name = getattr(func.__self__, "__name__", "")
        name = _plain(name)
        layer = self._around[-1]
        where = self.graph.where = f"{name} in {self.described(layer)}"
        given = [leaf for leaf in _tensors((args, kwargs)) if id(leaf) in self._labels]
        if name in _ASKS and any(not self._labels[id(leaf)].fixed for leaf in given):
            raise Unfollowed(f"what {where} does next depends on numbers")
        for leaf in given:
            if id(leaf) in self._fragile:
                self.graph.keep(self._fragile[id(leaf)], f"{where} reads attention weights")
        args = self._fit(self, name, args)
        out = func(*args, **kwargs)
        if any(True for _ in _tensors(out)):
            one = Call(name, func, args, kwargs, out, where, layer)
            self.calls.append(one)
            self.outer.append(one)
            self._held.extend(_tensors(out))
            self._rule_of(name)(self, one)
        return out

    def described(self, layer: str) -> str:
        """Return how a module is called in messages."""
        kind = type(self.modules[layer]).__name__
        return f"{layer!r} ({kind})" if layer else kind

    # ---- labels, for the rules

    def labels(self, tensor: Any) -> Labels | None:
        """Return the labels of a tensor; None where the forward has made it of nothing known."""
        found = self._labels.get(id(tensor))
        if found is None and id(tensor) in self.names:
            name, shape = self.names[id(tensor)], tuple(tensor.shape)
            if tensor.numel() == 1:
                return Labels(np.full((1,) * tensor.ndim, KEPT), shape, fixed=True)
            atoms = self.graph.new(tensor.numel()).reshape(shape)
            self.graph.records.append(Source(atoms.reshape(-1)))
            self.graph.elements[name] = atoms
            found = self._labels[id(tensor)] = Labels(atoms, shape, fixed=True)
        return found

    def is_labelled(self, tensor: Tensor) -> bool:
        """Return whether a tensor comes of the inputs, or of parameters by moving them."""
        return id(tensor) in self._labels

    def follows(self, tensor: Any) -> bool:
        """Return whether a tensor comes of the inputs."""
        found = self._labels.get(id(tensor))
        return found is not None and not found.fixed

    def _set(self, tensor: Tensor, labels: Labels) -> None:
        self._labels[id(tensor)] = labels
        self._held.append(tensor)
        if sum(size > 1 for size in labels.atoms.shape) > 1:
            self._grids.append(labels.atoms)

    def give(self, tensor: Tensor, labels: Labels) -> None:
        """Label what a call gave, and note the numbers of its atoms."""
        assert len(labels.shape) == tensor.ndim, (labels.shape, tensor.shape)
        self._set(tensor, labels)
        if labels.fixed or labels.is_kept or not tensor.numel():
            return
        for axis, size in enumerate(labels.atoms.shape):
            if size == 1:
                tensor = tensor.narrow(axis, 0, 1)
        atoms, first = np.unique(labels.atoms, return_index=True)
        values = tensor.detach().to(torch.float64).reshape(-1).numpy()[first]
        self._numbers.append((atoms, values))

    def number(self, atoms: Atoms, values: Tensor) -> None:
        """Note the numbers of atoms that no call gives."""
        self._numbers.append((atoms, values.detach().to(torch.float64).numpy()))

    def breaks(self, tensor: Tensor, atoms: Atoms) -> None:
        """Let atoms stay if a tensor is read by anything."""
        self._fragile[id(tensor)] = atoms

    def keep(self, tensor: Any, why: str) -> None:
        """Let all channels of a tensor stay."""
        if id(tensor) in self._fragile:
            self.graph.keep(self._fragile[id(tensor)], why)
        if (found := self.labels(tensor)) is not None:
            self.graph.keep(found.atoms, why)

    def each(self, dst: Atoms, *srcs: Atoms, **more: Any) -> None:
        """Record that atoms come of others one by one, and tie them."""
        self.graph.records.append(Each(dst, srcs, **more))
        for src in srcs:
            self.graph.tie(dst, src)

    def channels(self, tensor: Tensor, axis: int) -> tuple[Atoms, Any]:
        """Return the atoms along an axis (n,), and of which of them zeros lie around.

        Where a channel has several atoms at different places it becomes one of its own.
        """
        found, n = self.labels(tensor), tensor.shape[axis]
        if found is None:
            return np.full(n, KEPT), np.zeros(n, np.bool_)
        rows = np.moveaxis(found.atoms, axis, 0).reshape(found.atoms.shape[axis], -1)
        some = rows != 0
        largest = rows.max(axis=1)
        least = np.where(some, rows, largest[:, None]).min(axis=1)
        several = np.flatnonzero(largest != least)
        if len(several):
            new = self.graph.new(len(several))
            src = rows[several]
            dst = np.broadcast_to(new[:, None], src.shape)
            self.graph.records.append(Several(dst.reshape(-1), src.reshape(-1), borders=True))
            self.graph.tie(dst, src)
            largest = largest.copy()
            largest[several] = new
        borders = ~some.all(axis=1) & some.any(axis=1)
        return np.broadcast_to(largest, n).copy(), np.broadcast_to(borders, n).copy()


def _plain(name: str) -> str:
    """Return a function's name as rules know it: ``add`` of ``__iadd__`` and ``add_`` alike."""
    if name.startswith("__") and name.endswith("__"):
        if name in _ASKS:
            return name
        inner = name.strip("_")
        return inner[1:] if inner[0] in "ir" and inner[1:] in _OPERATORS else inner
    return name[:-1] if name.endswith("_") and not name.startswith("_") else name


_OPERATORS = {"add", "sub", "mul", "truediv", "matmul", "pow", "floordiv", "mod", "and", "or"}


def _tensors(thing: Any) -> Iterator[Tensor]:
    """Yield the tensors in tuples, lists and dictionaries."""
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, (tuple, list)):
        for part in thing:
            yield from _tensors(part)
    elif isinstance(thing, dict):
        yield from _tensors(list(thing.values()))

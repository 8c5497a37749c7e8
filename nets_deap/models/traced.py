"""``traced``: what a model does to its inputs, one call of a layer or function after the other.

The model's own ``forward`` is run, on a copy whose tensors have shapes but no numbers: twice, as in
training and as in evaluation, with different numbers of examples. What is not one of the known
calls ends it, and so does whatever else could make another pass differ: data, the mode, a random
number, or what a module remembers. One file: the pass, and what its calls mean.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nets_deap.models.feedforward import ELEMENTWISE, is_plain
from nets_deap.models.private import copied

# What a step may do; ``part`` says more.
CONVOLVE, NORMALISE, ACTIVATE, POOL, ADD, TAKE, WIDEN, FLATTEN, APPLY = (
    "convolve", "normalise", "activate", "pool", "add", "take", "widen", "flatten", "apply",
)  # fmt: skip
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_LAYERS: dict[type[nn.Module], str] = {
    nn.Conv2d: CONVOLVE, nn.BatchNorm2d: NORMALISE, nn.Linear: APPLY, nn.Flatten: FLATTEN,
    **dict.fromkeys(ELEMENTWISE, ACTIVATE), **dict.fromkeys(POOLS, POOL),
}  # fmt: skip
# Whose results have the shape of what they are given.
_SAME = {NORMALISE, ACTIVATE, ADD}
# Examples of the two passes: what depends on their number by other ways than all that it has to
# is not the same in both.
_BATCHES = (3, 5)
# Questions that shapes answer.
_ASKS = {"size", "dim", "ndimension", "numel", "__len__", "is_floating_point"}
_FIELDS = {"shape", "ndim", "dtype", "device", "is_cuda"}
_RESHAPES = {"flatten", "view", "reshape", "contiguous"}
_SUMS = {"add", "add_", "__add__", "__iadd__", "__radd__"}
_IN_PLACE = {"add_", "__iadd__", "relu_", "tanh_", "sigmoid_"}


class Unknown(Exception):
    """A model does something else; in words, what."""


@dataclass(frozen=True)
class Step:
    """One call.

    Attributes:
        kind: What it does.
        reads: Which results it reads; 0 are the inputs, i what step i gives, counted from 1.
        name: Of the layer, in the model; of the function or the module around it, if it has none.
        part: The layer, or one that does what a function did; of ``TAKE`` every which row and
            column is taken, of ``WIDEN`` channels of zeros before and after.
        shape: Of its result for one example.
    """

    kind: str
    reads: tuple[int, ...]
    name: str
    part: Any
    shape: tuple[int, ...]

    def is_like(self, other: Step) -> bool:
        """Return whether two calls do the same."""
        own, its = ((s.kind, s.reads, s.name, s.shape, repr(s.part)) for s in (self, other))
        return own == its


def traced(model: nn.Module, shape: tuple[int, ...]) -> list[Step]:
    """Return what a model does to examples of a shape, the last step being its output.

    All steps lead to the output, and every parameter and buffer belongs to one layer, called once.

    Raises:
        Unknown: It does something else.
    """
    for name, module in model.named_modules(remove_duplicate=False):
        if not is_plain(module):
            raise Unknown(f"{_called(name, module)} has hooks or a forward of its own")
    before = _random_states()
    try:
        found = [
            _Pass(model, training).steps((n, *shape))
            for training, n in zip((True, False), _BATCHES, strict=True)
        ]
    except Unknown:
        raise
    except Exception as error:  # whatever it is: its own code, or a shape without numbers
        raise Unknown(f"its forward does not run on shapes alone: {error}") from error
    if _random_states() != before:
        raise Unknown("its forward draws random numbers")
    first, second = found
    if len(first) != len(second) or not all(
        a.is_like(b) for a, b in zip(first, second, strict=True)
    ):
        raise Unknown("its forward is another in training, or for other numbers of examples")
    _check_owners(model, first)
    # The layers of the model itself, not of the copy.
    layers = dict(model.named_modules())
    return [
        Step(s.kind, s.reads, s.name, layers.get(s.name, s.part), s.shape)
        if isinstance(s.part, nn.Module)
        else s
        for s in first
    ]


def _random_states() -> tuple[Any, ...]:
    """Return all random states, to be compared."""
    numpy = np.random.get_state()  # noqa: NPY002
    own = torch.get_rng_state().numpy().tobytes()
    return random.getstate(), numpy[1].tobytes(), numpy[2:], own  # type: ignore[index]


def _called(name: str, module: nn.Module) -> str:
    """Return how a module is called in messages."""
    kind = type(module).__name__
    return f"{name!r} ({kind})" if name else f"the module ({kind})"


def _check_owners(model: nn.Module, steps: list[Step]) -> None:
    """Raise unless each tensor belongs to one layer, called once, and all steps are used."""
    called = [s.name for s in steps if s.kind in (CONVOLVE, NORMALISE, APPLY)]
    tensors = [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]
    seen: dict[int, str] = {}
    for name, tensor in tensors:
        owner = name.rpartition(".")[0]
        if id(tensor) in seen:
            raise Unknown(f"{name!r} and {seen[id(tensor)]!r} are one tensor")
        seen[id(tensor)] = name
        if called.count(owner) != 1:
            times = "more than once" if owner in called else "otherwise than by a known layer"
            raise Unknown(f"{name!r} is used {times}, or not at all")
    read = {i for step in steps for i in step.reads}
    if set(range(len(steps))) - read:
        raise Unknown("something that it computes is not used")


class _Pass(TorchFunctionMode):
    """One forward pass, and what is called in it."""

    def __init__(self, model: nn.Module, training: bool) -> None:
        super().__init__()
        self._model = copied(model).to("meta").train(training)
        self._steps: list[Step] = []
        self._numbers: dict[int, int] = {}  # of each tensor, by its id, which result it is
        self._held: list[Tensor] = []  # no id is given to another one
        self._around = [_called("", model)]
        for name, module in self._model.named_modules():
            if type(module) in _LAYERS:
                module.forward = functools.partial(self._layer, name, module, module.forward)
            elif name:
                module.forward = functools.partial(
                    self._module, _called(name, module), module.forward
                )

    def steps(self, shape: tuple[int, ...]) -> list[Step]:
        """Run the model on inputs of a shape."""
        dtype = next(self._model.parameters()).dtype
        inputs = torch.empty(shape, dtype=dtype, device="meta")
        self._note(inputs, 0)
        before = [dict(vars(module)) for module in self._model.modules()]
        with self:
            output = self._model(inputs)
        for (name, module), own in zip(self._model.named_modules(), before, strict=True):
            now = vars(module)
            if now.keys() != own.keys() or any(now[key] is not own[key] for key in own):
                raise Unknown(f"{_called(name, module)} remembers things from pass to pass")
        if not self._steps or self._numbers.get(id(output)) != len(self._steps):
            raise Unknown("its output is not what it computes last")
        return self._steps

    def _note(self, tensor: Tensor, number: int) -> None:
        self._numbers[id(tensor)] = number
        self._held.append(tensor)

    def _number(self, tensor: Any) -> int:
        """Return which result something is."""
        if not isinstance(tensor, Tensor) or id(tensor) not in self._numbers:
            raise Unknown(f"{self._around[-1]} takes other things than earlier results")
        return self._numbers[id(tensor)]

    def _module(self, name: str, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a module that is not a known layer, knowing its name."""
        self._around.append(name)
        output = forward(*args, **kwargs)
        self._around.pop()
        return output

    def _layer(
        self, name: str, module: nn.Module, forward: Callable[..., Tensor], given: Any
    ) -> Tensor:
        """Note the call of a known layer."""
        number = self._number(given)
        with torch._C.DisableTorchFunction():
            if isinstance(module, nn.BatchNorm2d):
                module._check_input_dim(given)
            kind = _LAYERS[type(module)]
            in_place = getattr(module, "inplace", False)
            output = _same(given, in_place) if kind in _SAME else _shaped(module, forward, given)
        if isinstance(module, nn.Identity):
            same: Tensor = given
            return same
        return self._add(kind, (number,), name, module, output, (given,))

    def _add(
        self, kind: str, reads: tuple[int, ...], name: str, part: Any, output: Any,
        given: tuple[Any, ...],
    ) -> Tensor:  # fmt: skip
        """Add a step."""
        if not isinstance(output, Tensor) or len(output) != len(given[0]):
            raise Unknown(f"{name!r} gives something else than one result for each example")
        if not torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            raise Unknown(f"{name!r} is called without gradients, or under autocast")
        if kind == FLATTEN and tuple(output.shape) == tuple(given[0].shape):
            self._note(output, reads[0])
            return output
        if kind == FLATTEN and output.ndim != 2:
            raise Unknown(f"{name!r} gives another shape than one row for each example")
        # In place: whatever else lies in the same memory would change as well.
        if any(output is tensor for tensor in given):
            step = self._steps[reads[0] - 1] if reads[0] else None
            if step is None or step.kind in (FLATTEN, TAKE):
                raise Unknown(f"{name!r} changes what it is given")
        self._steps.append(Step(kind, reads, name, part, tuple(output.shape[1:])))
        self._note(output, len(self._steps))
        return output

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", str(func)), kwargs or {}
        if name == "__get__":
            name = getattr(func.__self__, "__name__", "")
            if name in _FIELDS:
                return func(*args, **kwargs)
        if name in _ASKS:
            return func(*args, **kwargs)
        kind, part, more = self._meaning(name, args, kwargs)
        flags = *args[1:], *kwargs.values()
        in_place = name in _IN_PLACE or (kind == ACTIVATE and any(flag is True for flag in flags))
        if kind in _SAME:
            output = _same(args[0], in_place)
        elif name == "mean":
            size = args[0].shape[:2] if more else (*args[0].shape[:2], 1, 1)
            output = args[0].new_empty(size)
        else:
            output = func(*args, **kwargs)
        given = args[:2] if kind == ADD else args[:1]
        reads = tuple(self._number(tensor) for tensor in given)
        place = f"{name} in {self._around[-1]}"
        output = self._add(kind, reads, place, part, output, given)
        if more:
            self._steps[-1] = Step(kind, reads, place, part, (*output.shape[1:], 1, 1))
            reads = (len(self._steps),)
            self._steps.append(Step(FLATTEN, reads, place, nn.Flatten(), tuple(output.shape[1:])))
            self._note(output, len(self._steps))
        return output

    def _meaning(self, name: str, args: Any, kwargs: Any) -> tuple[str, Any, bool]:
        """Return what a function does, its part, and whether it drops rows and columns, too."""
        if name in _RESHAPES and args[0].is_contiguous():
            return FLATTEN, nn.Flatten(), False
        if name in _SUMS and len(args) == 2 and not kwargs:
            both = all(isinstance(tensor, Tensor) for tensor in args)
            if both and args[0].shape == args[1].shape:
                return ADD, None, False
        if name in _FUNCTIONS:
            try:
                found = _FUNCTIONS[name](*args[1:], **kwargs)
            except TypeError:
                found = None
            if found is not None:
                kind = POOL if isinstance(found, POOLS) else ACTIVATE
                return kind, found, name == "mean" and not _kept(*args[1:], **kwargs)
        if name == "__getitem__" and (step := _step(args[1])):
            return TAKE, step, False
        if name == "pad" and (more := _channels(*args[1:], **kwargs)):
            return WIDEN, more, False
        raise Unknown(f"{self._around[-1]} calls {name}, which is not known here")


def _same(given: Tensor, in_place: bool) -> Tensor:
    """Return what a call gives whose result is as its input."""
    # Not called: some functions of shapes alone have torch load its compiler, for seconds.
    return given if in_place else torch.empty_like(given)


def _shaped(module: nn.Module, forward: Callable[..., Any], given: Tensor) -> Tensor:
    """Return what a layer gives whose result has another shape than its input."""
    if not isinstance(module, nn.Linear):
        found: Tensor = forward(given)
        return found
    if given.shape[-1] != module.in_features:
        raise ValueError(f"{module} gets {given.shape[-1]} features")
    return given.new_empty((*given.shape[:-1], module.out_features))


# Each returns a layer that does what the function does, or None; of its arguments but the first.


def _pool(
    kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> nn.Module:  # fmt: skip
    return nn.MaxPool2d(kernel_size, stride, padding, dilation, return_indices, ceil_mode)


def _mean(dim: Any, keepdim: bool = False) -> nn.Module | None:
    try:
        return nn.AdaptiveAvgPool2d(1) if {d % 4 for d in dim} == {2, 3} else None
    except TypeError:
        return None


def _kept(dim: Any, keepdim: bool = False) -> bool:
    return keepdim


def _step(index: Any) -> tuple[int, int] | None:
    """Return every which row and column is taken; None for other parts."""
    if not isinstance(index, tuple) or len(index) != 4:
        return None
    if not all(isinstance(part, slice) and part.start in (None, 0) for part in index):
        return None
    if any(part.stop is not None for part in index):
        return None
    batch, channels, rows, columns = (part.step or 1 for part in index)
    return (rows, columns) if batch == channels == 1 else None


def _channels(
    pad: Any, mode: str = "constant", value: float | None = None
) -> tuple[int, int] | None:
    """Return how many channels of zeros are put before and after; None for other padding."""
    if mode != "constant" or value or len(pad) != 6 or any(pad[:4]) or min(pad[4:]) < 0:
        return None
    return pad[4], pad[5]


_FUNCTIONS: dict[str, Callable[..., nn.Module | None]] = {
    **dict.fromkeys(("relu", "relu_"), lambda inplace=False: nn.ReLU()),
    **dict.fromkeys(("tanh", "tanh_"), lambda: nn.Tanh()),
    **dict.fromkeys(("sigmoid", "sigmoid_"), lambda: nn.Sigmoid()),
    "max_pool2d": _pool,
    "avg_pool2d": nn.AvgPool2d,
    "adaptive_avg_pool2d": nn.AdaptiveAvgPool2d,
    "mean": _mean,
}

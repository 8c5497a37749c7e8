"""``uses_of``: how often a call applies which weights, of any network.

Multiply-adds are those of layers with weights: each weight counts once for each place that it is
applied at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_CONVOLUTIONS = {f"conv{more}{n}d" for more in ("", "_transpose") for n in (1, 2, 3)}
_RECURRENT = {"gru", "lstm", "rnn_tanh", "rnn_relu"}
_CELLS = {f"{name}_cell" for name in _RECURRENT}
_MATRICES = {"matmul", "__matmul__", "__rmatmul__", "mm"}


class Uses(TorchFunctionMode):
    """Sees what a forward pass applies.

    Attributes:
        found: Weights, how often each was applied, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Tensor, float]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.found.extend(uses_of(getattr(func, "__name__", ""), args, kwargs or {}, out))
        return out


def uses_of(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
) -> Iterator[tuple[Tensor, float]]:
    """Yield the weights that a call of a function of torch applies, and how often it does.

    Args:
        name: Of the function.
        args: Its arguments.
        kwargs: Those by name.
        out: What it gave.
    """

    def get(place: int, key: str) -> Any:
        return args[place] if len(args) > place else kwargs.get(key)

    if name == "linear":
        weight = get(1, "weight")
        yield weight, math.prod(out.shape[:-1])
    elif name in _CONVOLUTIONS:
        # Of a transposed convolution each input is multiplied by the whole kernel.
        weight, image = get(1, "weight"), get(0, "input") if "transpose" in name else out
        spatial = weight.ndim - 2
        yield weight, math.prod(image.shape[: -spatial - 1]) * math.prod(image.shape[-spatial:])
    elif name in _MATRICES and args[1].ndim == 2 and isinstance(args[1], nn.Parameter):
        yield args[1], math.prod(out.shape[:-1])
    elif name == "multi_head_attention_forward":
        yield from _attention(args, kwargs)
    elif name in _RECURRENT and isinstance(args[2], (tuple, list)):
        for weight in args[2]:
            if weight.ndim == 2:
                yield weight, math.prod(args[0].shape[:-1])
    elif name in _CELLS:
        for weight in args[2:4]:
            yield weight, math.prod(args[0].shape[:-1])


def _attention(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[Tensor, float]]:
    """Yield the weights into the heads of attention, and those that join them."""
    places = [math.prod(one.shape[:-1]) for one in args[:3]]
    if args[5] is not None:  # a third each for queries, keys and values
        yield args[5], sum(places) / 3
    else:
        names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
        yield from ((kwargs[name], n) for name, n in zip(names, places, strict=True))
    yield args[11], places[0]

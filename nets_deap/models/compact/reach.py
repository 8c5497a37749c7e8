"""``n_live_inputs``: how many numbers of an input any output depends on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from nets_deap import _checks
from nets_deap.inputs.call import call
from nets_deap.inputs.nested import each, leaves_of
from nets_deap.inputs.parts import tensors_of
from nets_deap.models.modes import neutral
from nets_deap.models.private import copied
from nets_deap.models.tensors import Mask

_POOLS = {"max_pool1d": F.avg_pool1d, "max_pool2d": F.avg_pool2d, "max_pool3d": F.avg_pool3d}
_ADAPTIVE = {f"adaptive_max_pool{n}d": getattr(F, f"adaptive_avg_pool{n}d") for n in (1, 2, 3)}
_EACH = {
    "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus",
    "softsign", "tanh", "sigmoid", "logsigmoid", "hardtanh", "hardsigmoid", "hardswish", "prelu",
    "threshold", "clamp", "clip", "abs", "neg", "__neg__", "exp", "log", "log1p", "sqrt", "rsqrt",
    "square", "sin", "cos", "erf", "dropout", "dropout1d", "dropout2d", "dropout3d",
}  # fmt: skip
_EACH |= {f"{name}_" for name in _EACH if not name.startswith("_")}
_NORMS = {"batch_norm", "instance_norm", "layer_norm", "group_norm"}


class _Linear(TorchFunctionMode):
    """Has functions do what is linear, or nearly so, and depends on the same numbers."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in _EACH:
            return args[0] + 1.0
        if name in _NORMS:
            return self._normed(name, args, kwargs)
        if name in _ADAPTIVE:
            return _ADAPTIVE[name](args[0], *args[1:2])
        if name in _POOLS:
            return self._pooled(name, *args, **kwargs)
        if name in ("softmax", "log_softmax"):
            axis = args[1] if len(args) > 1 else kwargs.get("dim", -1)
            return args[0] + args[0].sum(axis, keepdim=True)
        if name in ("sub", "__sub__", "__isub__", "sub_"):
            func = torch.add
        return func(*args, **kwargs)

    def _normed(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Return what depends on all numbers that are normalised together."""
        x: Tensor = args[0]
        if name == "group_norm":
            n = args[1] if len(args) > 1 else kwargs["num_groups"]
            parts = x.reshape(len(x), n, -1)
            x = (parts + parts.mean(-1, keepdim=True)).reshape(x.shape)
        elif name == "layer_norm":
            shape = args[1] if len(args) > 1 else kwargs["normalized_shape"]
            x = x + x.mean(tuple(range(-len(shape), 0)), keepdim=True)
        return x + 1.0

    def _pooled(
        self, name: str, x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
        dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False,
    ) -> Tensor:  # fmt: skip
        """Return an average over the same windows, which all that is in them counts for."""
        every = dilation if isinstance(dilation, (tuple, list)) else [dilation]
        if return_indices or any(step != 1 for step in every):
            got = f"{name} that is dilated, or gives places"
            raise _checks.bad_value("module", "have windows", "plain pooling", got)
        found: Tensor = _POOLS[name](x, kernel_size, stride, padding, ceil_mode)
        return found


@neutral()
def n_live_inputs(model: nn.Module, masks: Mapping[str, Mask], example: Any) -> int:
    """Count the numbers of one input that any output depends on, through kept weights.

    An input is live if a path of kept weights leads from it to an output. Where all weights are
    positive and all functions linear no two paths cancel, so that just these have a gradient.

    Args:
        model: In evaluation mode; it stays untouched.
        masks: Kept weights by parameter name; others are whole.
        example: One input (1, ...), or several.

    Raises:
        InvalidValueError: None of them is a real number.
    """
    network = copied(model).cpu().double()
    with torch.no_grad():
        for name, p in network.named_parameters():
            kept = torch.ones(p.shape, dtype=torch.float64)
            if name in masks:
                kept = torch.from_numpy(masks[name]).double()
            # Means, so that many layers stay finite.
            p.copy_(kept / kept.flatten(1).sum(1).clamp_min(1).view(-1, *[1] * (p.ndim - 1))
                    if p.ndim > 1 else kept)  # fmt: skip
        for buffer in network.buffers():
            if buffer.is_floating_point():
                buffer.abs_()

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            return leaf
        return torch.ones(leaf.shape, dtype=torch.float64, requires_grad=True)

    given = each(example, one)
    real = [x for x in leaves_of(given) if isinstance(x, Tensor) and x.is_floating_point()]
    if not real:
        rule, expected = "have real numbers among its inputs", "floating-point inputs"
        raise _checks.bad_value("module", rule, expected, "whole numbers alone")
    with _Linear():
        output = call(network, given)
    total = sum(x.sum() for x in tensors_of(output) if x.is_floating_point())
    if not isinstance(total, Tensor) or not total.requires_grad:
        return 0
    slopes = torch.autograd.grad(total, real, allow_unused=True)
    return sum(int(slope.count_nonzero()) for slope in slopes if slope is not None)

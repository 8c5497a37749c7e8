"""Parameters as arrays: their values, whether these can be masked, and their digest."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks

if TYPE_CHECKING:
    from torch import Tensor

Mask = NDArray[np.bool_]


def check_values(name: str, tensor: Tensor) -> None:
    """Raise an ``InvalidValueError`` where a parameter has no values: on the meta device."""
    if tensor.is_meta:
        raise _checks.bad_value(
            "model",
            "hold values",
            "parameters on a device with memory",
            f"{name!r} on the meta device",
            "Call model.to_empty(device=...) and give it its weights first.",
        )


def check_finite(name: str, tensor: Tensor) -> None:
    """Raise an ``InvalidValueError`` where an initial weight is NaN or infinite."""
    if tensor.is_floating_point() and not bool(tensor.detach().isfinite().all()):
        hint = "A network would diverge from there: give it finite weights first."
        got = f"NaN or inf in {name!r}"
        raise _checks.bad_value("model", "have finite initial weights", "numbers", got, hint)


def values_of(name: str, tensor: Tensor) -> NDArray[Any]:
    """Return the values of a parameter or buffer on the CPU.

    Floating-point types that NumPy has not, such as bfloat16, become float32, which holds them
    exactly.

    Raises:
        InvalidValueError: It has none.
    """
    check_values(name, tensor)
    array: NDArray[Any] = known_to_numpy(tensor.detach()).cpu().numpy()
    return array


def known_to_numpy(tensor: Tensor) -> Tensor:
    """Return a tensor of a type that NumPy has: floating-point others become float32."""
    known = ("torch.float16", "torch.float32", "torch.float64")
    foreign = tensor.is_floating_point() and str(tensor.dtype) not in known
    return tensor.float() if foreign else tensor


def digest_of(array: NDArray[Any]) -> str:
    """Return the SHA-256 of an array's dtype and bytes."""
    head = array.dtype.newbyteorder("<").str.encode()
    return hashlib.sha256(head + array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()

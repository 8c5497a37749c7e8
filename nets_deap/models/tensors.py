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


def values_of(name: str, tensor: Tensor) -> NDArray[Any]:
    """Return the values of a parameter on the CPU, bfloat16 as float32, which holds them exactly.

    Raises:
        InvalidValueError: It has none.
    """
    check_values(name, tensor)
    found = tensor.detach().cpu()
    # NumPy has no such type.
    array: NDArray[Any] = (found.float() if str(found.dtype) == "torch.bfloat16" else found).numpy()
    return array


def digest_of(array: NDArray[Any]) -> str:
    """Return the SHA-256 of an array's dtype and bytes."""
    head = array.dtype.newbyteorder("<").str.encode()
    return hashlib.sha256(head + array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()

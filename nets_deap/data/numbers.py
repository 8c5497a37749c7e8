"""``tensor_of``: what a user's program holds numbers in, as a tensor; or in plain words why not."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def tensor_of(values: Any) -> Tensor:
    """Return numbers as a dense tensor of real numbers on the CPU, without a graph.

    Args:
        values: A tensor, an array, or what NumPy makes one of: sequences, data frames, images.
            Columns that may hold missing values, as pandas' ``Int64``, are taken where none is
            missing. Floating-point types that NumPy has not (bfloat16, float8) become float32,
            and long doubles float64.

    Returns:
        It may share its memory with ``values``.

    Raises:
        ValueError: It holds no real numbers, or some are masked or missing; says which, and what
            to do.
    """
    return _checked(values) if isinstance(values, Tensor) else torch.from_numpy(_array(values))


def _checked(tensor: Tensor) -> Tensor:
    """Return a user's tensor detached, on the CPU."""
    tensor = tensor.detach()
    if tensor.is_nested or tensor.layout != torch.strided:
        kind = "nested" if tensor.is_nested else str(tensor.layout)
        raise ValueError(f"a {kind} tensor: make it dense, by to_dense() or by padding")
    if tensor.is_quantized:
        raise ValueError("a quantised tensor: give tensor.dequantize()")
    if tensor.is_meta:
        raise ValueError("a tensor on the meta device, which has no values")
    if tensor.is_complex():
        raise ValueError(f"{tensor.dtype}: give real numbers, such as torch.view_as_real makes")
    known = (torch.float16, torch.float32, torch.float64)
    if tensor.is_floating_point() and tensor.dtype not in known:
        tensor = tensor.float()
    return tensor.cpu()


def _array(values: Any) -> Any:
    """Return what NumPy makes of a thing, of a dtype that torch has."""
    many = _masked_in(values)  # NumPy would take what is under the mask
    if many:
        raise ValueError(f"{many} masked entries: fill them, or leave their examples out")
    array = np.asarray(values)
    if array.dtype.kind == "O":
        # Columns of several types, or of pandas' own. A list of Python's numbers has a dtype again,
        # unless something else is among them.
        items = array.tolist()
        array = np.asarray(items)
        if array.dtype.kind == "O":
            raise ValueError(f"dtype object: {_odd_one(items)}")
    if array.dtype.kind == "c":
        raise ValueError(
            f"dtype {array.dtype}: give real numbers, such as real and imaginary parts"
        )
    if array.dtype.kind not in "biuf":
        raise ValueError(f"dtype {array.dtype}: texts and dates must become numbers first")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    # Neither read-only memory nor negative strides are for torch.
    return array if array.flags.writeable and array.flags.c_contiguous else array.copy()


def _masked_in(values: Any) -> int:
    """Count the masked entries of a masked array, or of those in a list."""
    if isinstance(values, np.ma.MaskedArray):
        return int(np.count_nonzero(np.ma.getmaskarray(values)))
    return sum(map(_masked_in, values)) if isinstance(values, (list, tuple)) else 0


def _odd_one(items: Any) -> str:
    """Return in words what in nested lists is no number."""
    if isinstance(items, list):
        found = [text for text in map(_odd_one, items) if text]
        return found[0] if found else ""
    if isinstance(items, (bool, int, float)):
        return ""
    if items is None or type(items).__name__ in ("NAType", "NaTType"):
        return "a missing value, which must be filled, or its example left out"
    if isinstance(items, str):
        return "texts must become numbers first"
    return f"a {type(items).__name__}"

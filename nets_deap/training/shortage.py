"""``is_shortage``: whether memory ran out, of the host or of a device."""

from __future__ import annotations

import torch

# Of torch on the CPU, CUDA itself, and libraries that ask CUDA for memory of their own.
_WORDS = ("DefaultCPUAllocator", "out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED")


def is_shortage(error: BaseException) -> bool:
    """Return whether an exception says that memory ran out.

    On the CPU, and for cuBLAS and cuDNN, torch raises a plain ``RuntimeError``.
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)

"""``neutral``: the modes of torch and NumPy in which everything here computes, whatever is outside.

A program may call from within ``torch.autocast``, ``torch.no_grad``, ``torch.inference_mode``,
``torch.func`` transforms, anomaly detection or ``with torch.device(...)``, or have set another
default dtype, default device or ``np.seterr``. None of it must change what a ticket is worth. This
is the one list of such modes; ``training.problem.at_work`` is the door that training goes through.

What is left as it is: deterministic algorithms, the number of threads and the choice of kernels,
which change results to float rounding at most; modes that only watch, such as a profiler or a
counter of operations.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

from nets_deap.models.shared import Shared

CPU = torch.device("cpu")
# NumPy's own; an underflow to zero is how a small number ends, not an error.
ERRORS: dict[str, Any] = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}


@contextmanager
def neutral(device: torch.device = CPU, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Compute as in a program that has set no mode; put all modes back at the end.

    Gradients are recorded, tensors are plain ones that may be trained later, and nothing is cast.
    Also works as a decorator.

    Args:
        device: Where tensors are made that name no device, if the program has set another default
            than the CPU.
        dtype: That of numbers that name none. It belongs to the whole process: threads that want
            the same share it, and others wait. None leaves the program's.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(np.errstate(**ERRORS))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch._C._functorch.peek_interpreter_stack() is not None:
            stack.enter_context(temporarily_clear_interpreter_stack())
        if torch.get_default_device() != CPU:
            stack.enter_context(device)
        if dtype is not None:
            stack.enter_context(_default_dtype.held(dtype))
        stack.enter_context(_anomalies.held(False))
        yield


@contextmanager
def _dtype_set(dtype: torch.dtype) -> Iterator[None]:
    """Make new tensors of a dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _anomalies_sought(seek: bool) -> Iterator[None]:
    """Have backward passes stop at a NaN, or not: networks that diverge are counted instead."""
    before = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    torch.set_anomaly_enabled(seek, before[1])
    try:
        yield
    finally:
        torch.set_anomaly_enabled(*before)


@contextmanager
def _ignoring(message: str) -> Iterator[None]:
    """Ignore warnings that begin with a message, a regular expression."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=message)
        yield


_default_dtype = Shared(_dtype_set)
_anomalies = Shared(_anomalies_sought)
# Filters of warnings belong to the whole process, too.
quiet = Shared(_ignoring)

"""What a call finds around it, and must find again after another one has run in between."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch


def process_settings() -> tuple[Any, ...]:
    """Return what belongs to the process, and ``with`` in a function may change for a while."""
    try:
        folder = os.getcwd()
    except OSError:
        folder = None
    streams = sys.stdout, sys.stderr, warnings.filters, warnings.showwarning
    return *streams, torch.get_default_dtype(), dict(os.environ), folder


def set_process_settings(settings: tuple[Any, ...]) -> None:
    """Put back what ``process_settings`` has returned."""
    now = process_settings()
    sys.stdout, sys.stderr, warnings.filters, warnings.showwarning, dtype, names, folder = settings
    if dtype != now[-3]:
        torch.set_default_dtype(dtype)
    if names != now[-2]:
        for name in [name for name in now[-2] if name not in names]:
            del os.environ[name]
        os.environ.update(names)
    if folder not in (None, now[-1]):
        os.chdir(folder)


def modes_of_torch() -> Callable[[], AbstractContextManager[None]]:
    """Return a context that gives another thread the modes that torch has in this one."""
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    kinds = ("cpu", "cuda")
    casts = [
        (kind, torch.get_autocast_dtype(kind)) for kind in kinds if torch.is_autocast_enabled(kind)
    ]
    device = torch.get_default_device()
    cuda = torch.cuda.current_device() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]

    @contextmanager
    def modes() -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(inference))
            stack.enter_context(torch.set_grad_enabled(grad))
            for kind, dtype in casts:
                stack.enter_context(torch.autocast(kind, dtype))
            if device != torch.get_default_device():
                stack.enter_context(device)
            if cuda is not None:
                stack.enter_context(torch.cuda.device(cuda))
            yield

    return modes

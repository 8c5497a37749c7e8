"""The device that everything of a task lives on."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from nets_deap import _checks

ONE_THREAD_BELOW = 200_000


def pick_device(device: str) -> torch.device:
    """Return the torch device; ``"auto"`` is CUDA when there.

    Raises:
        InvalidValueError: An unknown device, or CUDA where there is none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise _checks.bad_value(
            "device", "be a device", "'auto', 'cpu', 'cuda' or 'cuda:N'", device
        ) from error
    if found.type not in ("cpu", "cuda"):
        raise _checks.bad_value("device", "be supported", "'auto', 'cpu' or 'cuda'", device)
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise _checks.bad_value(
            "device", "be there", f"one of {count} CUDA devices", device, "Use device='cpu'."
        )
    return found


# Random states belong to the whole process: whoever sets them aside holds this until they are back.
_random_states = threading.RLock()


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed all random states that a user's module or data set may draw from; put them back.

    Those of torch, on the CPU and on ``device``, of Python and NumPy's global one.
    """
    cuda = [device] if device.type == "cuda" else []
    with _random_states, torch.random.fork_rng(devices=cuda), plain_states_kept():
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002  what users' transforms draw from
        torch.default_generator.manual_seed(seed)
        for one in cuda:
            with torch.cuda.device(one):
                torch.cuda.manual_seed(seed)
        yield


def python_states() -> tuple[Any, ...]:
    """Return the random states of Python and NumPy, to be compared."""
    numpy = np.random.get_state()  # noqa: NPY002
    return random.getstate(), numpy[1].tobytes(), numpy[2:]  # type: ignore[index]


@contextmanager
def plain_states_kept() -> Iterator[None]:
    """Put the random states of Python and NumPy back at the end."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def threads_for(weights: int, device: torch.device) -> Iterator[None]:
    """Use one CPU thread while tensors of ``weights`` elements train, if they are small.

    Threads that wait for each other cost small tensors more than they give, several times more
    where other programs use the cores.
    """
    before = torch.get_num_threads()
    if device.type == "cpu" and weights < ONE_THREAD_BELOW and before > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


@contextmanager
def threads_limited(threads: int) -> Iterator[None]:
    """Use so many CPU threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)

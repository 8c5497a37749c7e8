"""The device that everything of a task lives on."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from nets_deap import _checks
from nets_deap.models.shared import Lock, random_states_lock

ONE_THREAD_BELOW = 200_000


def pick_device(device: str | torch.device) -> torch.device:
    """Return the torch device; ``"auto"`` is CUDA when there. A GPU without number is the current.

    Raises:
        InvalidValueError: An unknown device, or CUDA where there is none.
    """
    if isinstance(device, str) and device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
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
    if str(found) == "cuda":  # for good, whatever is current later
        return torch.device("cuda", torch.cuda.current_device())
    return found


# What others of this machine leave to this process of a GPU's memory, where it is not all.
_shares: dict[torch.device, float] = {}


def limit_memory(device: torch.device, share: float) -> None:
    """Let this process take at most a share of a GPU's memory."""
    torch.cuda.set_per_process_memory_fraction(share, device)
    _shares[device] = share


def memory_of(device: torch.device) -> int:
    """Return how many bytes of a GPU's memory this process may take."""
    total = torch.cuda.get_device_properties(device).total_memory
    return int(_shares.get(device, 1.0) * total)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed all random states that a user's module or data set may draw from; put them back.

    Those of torch, on the CPU and on ``device``, of Python and NumPy's global one.
    """
    cuda = [device] if device.type == "cuda" else []
    with random_states_lock.held(), torch.random.fork_rng(devices=cuda), plain_states_kept():
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002  what users' transforms draw from
        torch.default_generator.manual_seed(seed % 2**64)
        for one in cuda:
            with torch.cuda.device(one):
                torch.cuda.manual_seed(seed % 2**64)
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


# torch has a number of threads for each thread, and one that new threads begin with: the last that
# any thread has set. While somebody is inside of ``threads_limited``, ``_outside`` is what that one
# was before, and ``_given`` what it is now.
_counting = Lock()
_inside = _outside = _given = 0


def threads_allowed() -> int:
    """Return how many CPU threads the program lets torch use in this thread.

    A thread that began while another one was in ``threads_limited`` has taken over its number.
    """
    with _counting.held():
        own = torch.get_num_threads()
        return _outside if _inside and own == _given else own


@contextmanager
def threads_limited(threads: int) -> Iterator[None]:
    """Use so many CPU threads meanwhile, in this thread and in those that it starts.

    Several threads may be inside at once: the last one out leaves the process as it was.
    """
    global _inside, _outside, _given
    with _counting.held():
        before = threads_allowed()
        if not _inside:
            _outside = before
        _inside, _given = _inside + 1, threads
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        with _counting.held():
            torch.set_num_threads(before)
            _inside, _given = _inside - 1, before


def threads_for(weights: int, device: torch.device) -> AbstractContextManager[None]:
    """Use one CPU thread while tensors of ``weights`` elements train, if they are small.

    Threads that wait for each other cost small tensors more than they give, several times more
    where other programs use the cores.
    """
    small = device.type == "cpu" and weights < ONE_THREAD_BELOW
    return threads_limited(1) if small else nullcontext()


def _after_fork() -> None:
    """Use one thread in a child process: torch's others stayed behind, and it would wait for them.

    OpenMP cannot begin anew after a fork. PyTorch's own worker processes do the same.
    """
    global _inside
    _inside = 0
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks either
    os.register_at_fork(after_in_child=_after_fork)

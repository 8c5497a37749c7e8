"""The device that everything of a task lives on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's random states of the CPU and of ``device``; put them back at the end."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        for one in cuda:
            with torch.cuda.device(one):
                torch.cuda.manual_seed(seed)
        yield


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

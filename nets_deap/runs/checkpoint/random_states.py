"""The states of all global random generators: Python's, NumPy's, torch's on the CPU and CUDA."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from nets_deap.errors import RunFileError
from nets_deap.models.modes import neutral
from nets_deap.models.shared import random_states_lock


@neutral()
def states() -> dict[str, Any]:
    """Return all states as plain data with arrays."""
    with random_states_lock.held():
        return _states()


def _states() -> dict[str, Any]:
    """Return all states while no other thread sets them aside."""
    version, words, gauss = random.getstate()
    state: Any = np.random.get_state(legacy=True)  # noqa: NPY002
    kind, keys, at, has_gauss, cached = state
    cuda = []
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        cuda = torch.cuda.get_rng_state_all()
    return {
        "python": (version, np.array(words, dtype=np.uint32), gauss),
        "numpy": (kind, keys.copy(), int(at), int(has_gauss), float(cached)),
        "torch": torch.get_rng_state().numpy(),
        "cuda": [state.numpy() for state in cuda],
    }


@neutral()
def set_states(held: dict[str, Any]) -> None:
    """Set all states to those that ``states`` gave.

    Those of CUDA devices are set where there are as many.

    Raises:
        RunFileError: They are not states.
    """
    try:
        version, words, gauss = held["python"]
        python = version, tuple(int(word) for word in words), gauss
        kind, keys, at, has_gauss, cached = held["numpy"]
        if kind != "MT19937" or type(at) is not int or not 0 <= at <= len(keys):
            raise ValueError("NumPy's state has no such place")  # NumPy would read beyond it
        tensors = [torch.from_numpy(state.copy()) for state in (held["torch"], *held["cuda"])]
        with random_states_lock.held():
            random.setstate(python)
            np.random.set_state((kind, keys, at, has_gauss, cached))  # noqa: NPY002
            torch.set_rng_state(tensors[0])
            if torch.cuda.is_available() and torch.cuda.device_count() == len(tensors) - 1:
                torch.cuda.set_rng_state_all(tensors[1:])
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        raise RunFileError(f"the random states cannot be set: {error}.") from error

import numpy as np
import pytest
import torch

from nets_deap.errors import RunFileError
from nets_deap.runs.checkpoint.random_states import set_states, states

NUMPY = np.zeros(624, np.uint32)


def test_all_states_come_back():
    import random

    held = states()
    first = random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002
    set_states(held)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == first  # noqa: NPY002


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("python", (3, np.zeros(5, np.uint32), None)),
        ("python", (3, np.full(625, 2**32 - 1, np.uint32), None)),
        ("numpy", ("MT19937", NUMPY, 10**6, 0, 0.0)),  # NumPy itself would read there
        ("numpy", ("MT19937", NUMPY, -1, 0, 0.0)),
        ("numpy", ("MT19937", NUMPY, 1.5, 0, 0.0)),
        ("numpy", ("MT19937", NUMPY[:5], 3, 0, 0.0)),
        ("numpy", ("PCG64", NUMPY, 3, 0, 0.0)),
        ("numpy", None),
        ("torch", np.zeros(3, np.uint8)),
        ("torch", np.full(5056, 255, np.uint8)),
        ("torch", np.zeros(5056, np.float32)),
        ("cuda", 5),
    ],
)
def test_what_is_not_a_state_is_refused(name, value):
    held = states()
    try:
        with pytest.raises(RunFileError, match="random states cannot be set"):
            set_states({**held, name: value})
    finally:
        set_states(held)

import os
import random

import numpy as np
import pytest
import torch

import nets_deap as nets

# Tiny tensors gain nothing from threads, and lose much where cores are shared.
torch.set_num_threads(1)


def pytest_configure(config):
    """Hide CUDA unless its tests are asked for: the others are of the CPU, wherever they run."""
    asked = config.option.markexpr
    if "gpu" not in asked or "not gpu" in asked:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks, and for workers, too


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest, so that no core waits for them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _seeded():
    """Start every test from the same global random states, on two threads."""
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002  (DEAP's selNSGA3 draws from it)
    torch.manual_seed(1)


def _with_threads(number):
    """Let torch have several threads, as it has outside of the tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def _two_threads():
    yield from _with_threads(2)


@pytest.fixture
def _three_threads():
    yield from _with_threads(3)


@pytest.fixture(scope="session")
def xor_task():
    """A tiny task whose ledger is shared: tests look at differences."""
    return nets.tasks.xor(
        hidden=4, recipe=nets.Recipe(lr=0.05, batch_size=4, steps=30, loss="binary_cross_entropy")
    )

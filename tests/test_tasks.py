"""Ready tasks: XOR and LeNet-300-100."""

import os

import numpy as np
import pytest
import torch

from nets_deap import Recipe, tasks
from nets_deap.data import DataSplits
from nets_deap.training.recipe import LENET_RECIPE, XOR_RECIPE


def test_the_dense_xor_network_learns_xor():
    assert tasks.xor(hidden=2, device="cpu").layout.size == 6
    task = tasks.xor(device="cpu")
    assert (task.layout.size, task.name, task.recipe) == (30, "xor", XOR_RECIPE)
    assert task.chance_loss == pytest.approx(np.log(2))
    result = task.train(task.dense_ticket())
    assert result.test_accuracy == 1.0
    assert result.val_accuracy > 0.95


def test_lenet_on_the_embedded_digits(monkeypatch):
    images, labels = np.random.default_rng(0).normal(size=(80, 1, 28, 28)), np.arange(80) % 10
    splits = DataSplits("mnist5k", *[(images.astype(np.float32), labels)] * 3)
    monkeypatch.setattr(tasks, "load_mnist5k", lambda: splits)
    task = tasks.lenet(dataset="mnist5k", device="cpu", chunk=1)
    assert (task.name, task.chunk, task.recipe) == ("mnist5k", 1, LENET_RECIPE)
    assert task.layout.size == 266_200
    assert task.train(task.dense_ticket(), steps=40).train_loss < 0.1


def test_seed_dtype_and_options_reach_the_task():
    recipe = Recipe(loss="binary_cross_entropy", batch_size=2, steps=3)
    options = {"dtype": "float64", "recipe": recipe, "name": "mine", "device": "cpu"}
    task, same, other = (tasks.xor(seed=s, **options) for s in (1, 1, 2))
    assert (task.name, task.seed, task.steps) == ("mine", 1, 3)
    assert {t.dtype for t in task.problem.initial.values()} == {torch.float64}
    assert same.fingerprint == task.fingerprint
    assert other.layout.key != task.layout.key
    assert other.data_digest != task.data_digest


def test_bad_names_are_refused():
    with pytest.raises(ValueError, match=r"dtype must be a known name: .*mean 'float64'\?"):
        tasks.xor(dtype="float6")
    with pytest.raises(ValueError, match=r"dataset must be a known name: .*mean 'mnist5k'\?"):
        tasks.lenet(dataset="mnist5")


@pytest.mark.mnist
@pytest.mark.skipif(
    "NETS_DEAP_DATA" not in os.environ,
    reason="set NETS_DEAP_DATA to a folder with MNIST/raw; data.load_mnist(folder) downloads it",
)
def test_lenet_learns_mnist():
    task = tasks.lenet(device="cpu")
    assert task.as_dict()["examples"] == {"train": 55_000, "val": 5_000, "test": 10_000}
    assert task.train(task.dense_ticket(), steps=100).test_accuracy > 0.85

"""Ready tasks: XOR, and the networks of the papers and of torchvision on images."""

import os
from functools import partial

import numpy as np
import pytest
import torch

from nets_deap import Recipe, tasks
from nets_deap.data import DataSplits
from nets_deap.names import DATASETS
from nets_deap.training.recipe import CONV_RECIPES, LENET_RECIPE, RESNET_RECIPE, XOR_RECIPE


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
    monkeypatch.setattr(tasks, "load", lambda *_: splits)
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


def made_up(name, root=None):
    """A few images of a data set's shape and classes."""
    data = DATASETS[name]
    images = np.random.default_rng(0).integers(0, 256, (128, *data.image)).astype(np.uint8)
    splits = (images, np.arange(128) % data.classes)
    mean = tuple(0.5 for _ in range(data.image[0]))
    return DataSplits(name, splits, splits, splits, normalize=(mean, mean))


slow = partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("make", "dataset", "size", "recipe"),
    [
        (tasks.lenet, "fashion-mnist", 266_200, LENET_RECIPE),
        (tasks.lenet5, "kmnist", 61_470, LENET_RECIPE),
        slow(partial(tasks.conv, 2), "cifar10", 4_300_992, CONV_RECIPES[2]),
        slow(partial(tasks.conv, 6), "mnist", None, CONV_RECIPES[6]),
        slow(tasks.resnet20, "cifar100", None, RESNET_RECIPE),
        (partial(tasks.torchvision, "shufflenet_v2_x0_5"), "cifar10", None, Recipe()),
    ],
)
def test_networks_follow_the_images_of_the_data_set(make, dataset, size, recipe, monkeypatch):
    monkeypatch.setattr(tasks, "load", made_up)
    task = make(dataset=dataset, device="cpu", seed=3)
    assert (task.name, task.recipe, task.seed) == (dataset, recipe, 3)
    assert size in (None, task.layout.size)
    assert task.problem.train[0].shape[1:] == DATASETS[dataset].image
    with torch.no_grad():
        out = task.model.eval()(task.problem.train[0][:2])
    assert out.shape == (2, DATASETS[dataset].classes)
    assert task.layout.key == make(dataset=dataset, device="cpu", seed=3).layout.key


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: tasks.lenet(dataset="cifar10"),
            r"suit the network lenet: expected one of 'mnist'",
        ),
        (lambda: tasks.lenet5(dataset="cifar100"), r"got 'cifar100' \(3x32x32\)"),
        (lambda: tasks.torchvision("resnet18", dataset="mnist"), r"expected one of 'cifar10', 'ci"),
        (lambda: tasks.torchvision("resnet81"), r"Did you mean 'resnet18'"),
        (lambda: tasks.conv(3), r"depth must be that of a published network: expected 2, 4 or 6"),
    ],
)
def test_pairs_that_cannot_be_are_refused_before_data_are_loaded(make, text, monkeypatch):
    monkeypatch.setattr(tasks, "load", lambda *_: pytest.fail("it loaded"))
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.mnist
@pytest.mark.skipif(
    "NETS_DEAP_DATA" not in os.environ,
    reason="set NETS_DEAP_DATA to a folder with MNIST/raw; data.load_mnist(folder) downloads it",
)
def test_lenet_learns_mnist():
    task = tasks.lenet(device="cpu")
    assert task.as_dict()["examples"] == {"train": 55_000, "val": 5_000, "test": 10_000}
    assert task.train(task.dense_ticket(), steps=100).test_accuracy > 0.85

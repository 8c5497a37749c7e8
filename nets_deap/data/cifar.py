"""CIFAR-10 and CIFAR-100.

Attribution: A. Krizhevsky 2009, Learning multiple layers of features from tiny images.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from nets_deap import _checks
from nets_deap.data.download import absent, default_data_dir, fetch, verified
from nets_deap.data.normalize import Normalize
from nets_deap.data.splits import N_VAL, Arrays, DataSplits
from nets_deap.names import DATASETS


def load(name: str, data_dir: str | Path | None = None, *, download: bool = True) -> DataSplits:
    """Return CIFAR: 45,000 training, 5,000 validation and 10,000 test images of 32x32.

    The last 5,000 training images are the validation split. Inputs are uint8 (N, 3, 32, 32), to
    be normalised by the task, targets int64 (N,).

    Its files are pickles, which can run anything: not one is read before all have the MD5 that
    torchvision publishes.

    Args:
        name: ``"cifar10"`` or ``"cifar100"``.
        data_dir: Folder with torchvision's layout; None for ``default_data_dir()``.
        download: Let torchvision download and unpack what is missing.

    Raises:
        FileAccessError: The files are not there and could not be downloaded, or their MD5 is not
            that of CIFAR.
    """
    from torchvision import datasets

    kind = getattr(datasets, DATASETS[name].torchvision)
    root = _checks.path("data_dir", data_dir) if data_dir is not None else default_data_dir()
    folder, title = root / kind.base_folder, kind.__name__
    checksums = dict([*kind.train_list, *kind.test_list])
    checksums[kind.meta["filename"]] = kind.meta["md5"]
    if not all((folder / file).is_file() for file in checksums):
        if not download:
            raise absent(title, folder, "download=False")
        fetch(kind, root, title, folder)
    for file, md5 in checksums.items():
        verified(folder / file, md5, title)
    images, labels = _read(kind, root, train=True)
    return DataSplits(
        name,
        (images[:-N_VAL], labels[:-N_VAL]),
        (images[-N_VAL:], labels[-N_VAL:]),
        _read(kind, root, train=False),
        normalize=Normalize.fit(images[:-N_VAL]),
    )


def _read(kind: Any, root: Path, *, train: bool) -> Arrays:
    """Return images uint8 (N, 3, 32, 32) and labels int64 (N,); torchvision unpickles them."""
    with warnings.catch_warnings():
        # Newer NumPy warns of how an older one, which made these files, pickled its dtypes.
        warnings.simplefilter("ignore")
        found = kind(root, train=train)
    pixels = np.ascontiguousarray(found.data.transpose(0, 3, 1, 2))
    return pixels, np.array(found.targets, dtype=np.int64)

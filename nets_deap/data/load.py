"""``load``: a data set of images by its name."""

from __future__ import annotations

import importlib
from pathlib import Path

from nets_deap import _checks
from nets_deap.data.splits import DataSplits
from nets_deap.errors import FileAccessError
from nets_deap.names import DATASETS


@_checks.signed
def load(name: str, data_dir: str | Path | None = None, *, download: bool = True) -> DataSplits:
    """Return a data set of images; inputs are uint8 (N, channels, height, width), targets int64.

    Args:
        name: One of ``names.DATASETS``.
        data_dir: Folder with torchvision's layout; None for $NETS_DEAP_DATA, else
            ``~/.cache/nets_deap``.
        download: Let torchvision download what is missing.

    Raises:
        InvalidValueError: The name is unknown.
        FileAccessError: The files are not there and could not be downloaded, or a checksum is
            wrong.
        MissingExtraError: A package that ships the data is not installed.
    """
    known = DATASETS[_checks.choice("name", name, DATASETS)]
    module = importlib.import_module(f"nets_deap.data.{known.module}")
    found: DataSplits = module.load(name, data_dir, download=download)
    return found


@_checks.signed
def load_torchvision(
    name: str, data_dir: str | Path | None = None, *, download: bool = True
) -> DataSplits:
    """Return a data set that torchvision downloads; its last 5,000 training images validate.

    Inputs are uint8 (N, channels, height, width), to be normalised by the task, targets int64
    (N,). Checksums are verified before anything is read. Mean and standard deviation are MNIST's
    known ones, or those of the training split, of each channel, rounded to four places.

    Args:
        name: ``"mnist"``, ``"fashion-mnist"``, ``"kmnist"``, ``"cifar10"`` or ``"cifar100"``.
        data_dir: See ``load``.
        download: Let torchvision download what is missing.

    Raises:
        InvalidValueError: The name is unknown.
        FileAccessError: As ``load``.
    """
    names = [each for each, known in DATASETS.items() if known.torchvision]
    return load(_checks.choice("name", name, names), data_dir, download=download)


@_checks.signed
def is_at_hand(name: str, data_dir: str | Path | None = None) -> bool:
    """Return whether a data set can be loaded without a download; it is read for that, once.

    Args:
        name: See ``load``.
        data_dir: See ``load``.

    Returns:
        False also where files are damaged.

    Raises:
        InvalidValueError: The name is unknown.
        MissingExtraError: A package that ships the data is not installed.
    """
    try:
        load(name, data_dir, download=False)
    except FileAccessError:
        return False
    return True

"""``load_torchvision``: the data sets that torchvision downloads, by name."""

from __future__ import annotations

from pathlib import Path

from nets_deap import _checks
from nets_deap.data.cifar import load_cifar
from nets_deap.data.mnist import load_like_mnist, load_mnist
from nets_deap.data.splits import DataSplits
from nets_deap.errors import FileAccessError

CLASSES = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}


def load_torchvision(
    name: str, data_dir: str | Path | None = None, *, download: bool = True
) -> DataSplits:
    """Return a data set of images; the last 5,000 training images are the validation split.

    Inputs are uint8 (N, channels, height, width), to be normalised by the task, targets int64
    (N,). Checksums are verified before anything is read. Mean and standard deviation are MNIST's
    known ones, or those of the training split, of each channel, rounded to four places.

    Args:
        name: ``"mnist"``, ``"fashion-mnist"``, ``"kmnist"``, ``"cifar10"`` or ``"cifar100"``.
        data_dir: Folder with torchvision's layout; None for $NETS_DEAP_DATA, else
            ``~/.cache/nets_deap``.
        download: Let torchvision download what is missing.

    Raises:
        InvalidValueError: The name is unknown.
        FileAccessError: The files are not there and could not be downloaded, or a checksum is
            wrong.
    """
    from torchvision import datasets

    kind = getattr(datasets, CLASSES[_checks.choice("name", name, CLASSES)])
    if name == "mnist":
        return load_mnist(data_dir, download=download)
    load = load_cifar if name.startswith("cifar") else load_like_mnist
    return load(kind, name, data_dir, download=download)


def is_at_hand(name: str, data_dir: str | Path | None = None) -> bool:
    """Return whether a data set can be loaded without a download; it is read for that, once.

    Args:
        name: See ``load_torchvision``.
        data_dir: See ``load_torchvision``.

    Returns:
        False also where files are damaged.

    Raises:
        InvalidValueError: The name is unknown.
    """
    try:
        load_torchvision(name, data_dir, download=False)
    except FileAccessError:
        return False
    return True

"""MNIST and the sets made in its image: Fashion-MNIST and KMNIST.

Attribution: Y. LeCun, C. Cortes, C. J. C. Burges (MNIST); Zalando SE (Fashion-MNIST, arXiv
1708.07747); T. Clanuwat et al. (KMNIST, arXiv 1812.01718).
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from nets_deap import _checks
from nets_deap.data.download import absent, default_data_dir, fetch, verified
from nets_deap.data.normalize import Normalize
from nets_deap.data.splits import N_VAL, Arrays, DataSplits, Numbers
from nets_deap.names import DATASETS

# Mean and standard deviation of the pixels of all 60,000 training digits.
MEAN, STD = 0.1307, 0.3081
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
# Of the unpacked files, which are often at hand without their archives.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
ROWS, COLUMNS = 28, 28
IMAGES_HEAD, LABELS_HEAD = 16, 8  # bytes before the first pixel or label


@_checks.signed
def load_mnist(data_dir: str | Path | None = None, *, download: bool = True) -> DataSplits:
    """Return MNIST: 55,000 training, 5,000 validation and 10,000 test digits.

    The last 5,000 training digits are the validation split, always the same ones. Inputs are
    uint8 (N, 1, 28, 28), to be normalised by the task, targets int64 (N,).

    Args:
        data_dir: Folder with torchvision's layout (``MNIST/raw`` below it); None for
            ``default_data_dir()``.
        download: Let torchvision download what is missing.

    Raises:
        FileAccessError: The files are not there and could not be downloaded, or their SHA-256 is
            not that of MNIST.
    """
    from torchvision.datasets import MNIST

    raw = _files(MNIST, "MNIST", data_dir, list(SHA256), download)
    contents = [verified(raw / name, digest, "MNIST") for name, digest in SHA256.items()]
    return _splits("mnist", contents, (MEAN, STD))


def load(name: str, data_dir: str | Path | None = None, *, download: bool = True) -> DataSplits:
    """Return MNIST, or a set in its format, from the archives whose MD5 torchvision publishes.

    Args:
        name: ``"mnist"``, ``"fashion-mnist"`` or ``"kmnist"``.
        data_dir: See ``load_mnist``.
        download: Let torchvision download what is missing.

    Raises:
        FileAccessError: As ``load_mnist``.
    """
    if name == "mnist":
        return load_mnist(data_dir, download=download)
    from torchvision import datasets

    kind = getattr(datasets, DATASETS[name].torchvision)
    checksums = {Path(archive).name: md5 for archive, md5 in kind.resources}
    archives = [f"{file}.gz" for file in FILES]
    raw = _files(kind, kind.__name__, data_dir, archives, download)
    contents = [
        gzip.decompress(verified(raw / file, checksums[file], kind.__name__)) for file in archives
    ]
    return _splits(name, contents, None)


def _files(
    kind: Any, name: str, data_dir: str | Path | None, files: list[str], may_download: bool
) -> Path:
    """Return the folder that holds all ``files``, downloaded if need be."""
    root = _checks.path("data_dir", data_dir) if data_dir is not None else default_data_dir()
    raw = root / str(kind.__name__) / "raw"
    if all((raw / file).is_file() for file in files):
        return raw
    if not may_download:
        raise absent(name, raw, "download=False")
    fetch(kind, root, name, raw)
    missing = [file for file in files if not (raw / file).is_file()]
    if missing:  # torchvision is content with unpacked files, for which no checksum is published
        why = f"{missing[0]} is missing; delete the folder to have its files downloaded again"
        raise absent(name, raw, why)
    return raw


def _splits(
    name: str, contents: list[bytes], normalize: tuple[Numbers, Numbers] | None
) -> DataSplits:
    """Return the splits from the four files; None normalises by the training images."""
    images, labels = _pair(*contents[:2])
    train, val = (images[:-N_VAL], labels[:-N_VAL]), (images[-N_VAL:], labels[-N_VAL:])
    normalize = Normalize.fit(train[0]) if normalize is None else normalize
    return DataSplits(name, train, val, _pair(*contents[2:]), normalize=normalize)


def _pair(images: bytes, labels: bytes) -> Arrays:
    """Return images uint8 (N, 1, 28, 28) and labels int64 (N,) from two verified files."""
    pixels = np.frombuffer(images, np.uint8, offset=IMAGES_HEAD)
    targets = np.frombuffer(labels, np.uint8, offset=LABELS_HEAD)
    return pixels.reshape(-1, 1, ROWS, COLUMNS), targets.astype(np.int64)

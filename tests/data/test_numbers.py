"""Whatever programs hold numbers in becomes the tensor that they mean, or is refused."""

import importlib.util

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from nets_deap.data.convert import as_split
from nets_deap.data.numbers import tensor_of
from nets_deap.errors import InvalidTypeError, InvalidValueError

NUMBERS = [[1.5, -2.0], [0.25, 3.0], [4.0, 0.0]]
WHOLE = [[1, 0], [2, 3], [4, 5]]
TARGETS = np.array([0, 1, 2])
needs_pandas = pytest.mark.skipif(
    importlib.util.find_spec("pandas") is None, reason="pandas is not installed"
)


@pytest.mark.parametrize(
    "values",
    [
        NUMBERS,
        torch.tensor(NUMBERS, dtype=torch.bfloat16),
        torch.tensor(NUMBERS, dtype=torch.float8_e4m3fn),
        torch.tensor(NUMBERS, requires_grad=True),
        torch.tensor(NUMBERS).t().contiguous().t(),
        np.array(NUMBERS, dtype=np.longdouble),
        np.array(NUMBERS, dtype=np.float16),
        np.array(NUMBERS, dtype=">f4"),
        np.array(NUMBERS, dtype=object),
        np.array(NUMBERS)[::-1][::-1],
        np.ma.masked_array(NUMBERS),
        np.ma.masked_array(NUMBERS, mask=np.zeros((3, 2))),
    ],
)
def test_real_numbers_of_any_kind(values):
    found = tensor_of(values)
    assert found.tolist() == NUMBERS
    assert found.dtype in (torch.float16, torch.float32, torch.float64)
    assert not found.requires_grad


@needs_pandas
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("float64", torch.float64),
        ("Float64", torch.float64),
        ("Float32", torch.float64),
        ("int64", torch.int64),
        ("Int64", torch.int64),
        ("UInt8", torch.int64),
        ("boolean", torch.bool),
    ],
)
def test_columns_of_pandas(kind, dtype):
    import pandas as pd

    expected = np.array(NUMBERS if "loat" in kind else WHOLE)
    expected = expected > 1 if kind == "boolean" else expected
    frame = pd.DataFrame(expected).astype(kind)
    assert tensor_of(frame).dtype == dtype
    assert tensor_of(frame).tolist() == expected.tolist()
    assert tensor_of(frame[0]).tolist() == expected[:, 0].tolist()
    frame[0] = expected[:, 0]  # one column of NumPy's
    assert tensor_of(frame).tolist() == expected.tolist()
    split = as_split("train", (frame, frame[0]), torch.float32)
    assert split.inputs.tolist() == expected.tolist()
    assert split.targets.tolist() == expected[:, 0].tolist()


@needs_pandas
@pytest.mark.parametrize("kind", ["Int64", "Float64", "boolean", "string"])
def test_missing_values_of_pandas_are_refused(kind):
    import pandas as pd

    values = {"boolean": [True, None, False], "string": ["1", None, "3"]}.get(kind, [1, None, 3])
    series = pd.Series(values, dtype=kind)
    for found in (series, series.to_frame()):
        with pytest.raises(InvalidValueError, match=r"inputs must be (numbers: .*must|finite)"):
            as_split("train", (found, TARGETS), torch.float32)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.ma.masked_array(NUMBERS, mask=[[0, 1], [0, 0], [1, 0]]), "2 masked entries: fill them"),
        ([np.ma.masked_array([1.0, 2.0], mask=[0, 1])] * 3, "3 masked entries"),
        (np.array(NUMBERS, dtype=complex), "dtype complex128: give real numbers"),
        (torch.tensor(NUMBERS, dtype=torch.complex64), "complex64: give real numbers"),
        (torch.tensor(NUMBERS).to_sparse(), "sparse_coo tensor: make it dense"),
        (torch.tensor(NUMBERS, device="meta"), "meta device, which has no values"),
        (np.array(["a", "b", "c"]), "texts and dates must become numbers"),
        (np.array(["a", "b", 1.0], dtype=object), "must become numbers"),
        (np.array([1.0, None, 2.0], dtype=object), "a missing value"),
        (np.array([1.0, object(), 2.0], dtype=object), "dtype object: a object"),
        (np.array(["2020-01-01"] * 3, dtype="datetime64[D]"), "texts and dates"),
        ([[1, 2], [3], [4]], "inhomogeneous"),
    ],
)
def test_what_are_no_numbers_are_refused_by_name(values, text):
    with pytest.raises(InvalidValueError, match=f"val inputs must be numbers: .*{text}"):
        as_split("val", (values, TARGETS), torch.float32)
    with pytest.raises(InvalidValueError, match=f"val targets must be numbers: .*{text}"):
        as_split("val", (NUMBERS, values), torch.float32)


class Items(Dataset):
    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class Flow(IterableDataset):
    def __len__(self):
        return 3

    def __iter__(self):
        return iter(zip(NUMBERS, TARGETS, strict=True))


def test_data_sets_yield_numbers_of_the_same_kinds():
    rows = [torch.tensor(row, dtype=torch.bfloat16) for row in NUMBERS]
    for keep in (True, False):
        data = Items(*zip(rows, TARGETS, np.array([1, 2, 3.0]), strict=True))
        found = as_split("train", data, torch.float64, in_memory=keep)
        assert found.inputs[torch.arange(3)].tolist() == NUMBERS
        assert found.weights.tolist() == [1, 2, 3]
    masked = np.ma.masked_array([1.0, 2.0], mask=[0, 1])
    with pytest.raises(InvalidValueError, match=r"must yield .*1 masked entries"):
        as_split("train", Items((masked, 0), (masked, 1)), torch.float32)
    with pytest.raises(InvalidTypeError, match=r"be map-style: .*got Flow\. Examples are read by"):
        as_split("train", Flow(), torch.float32)
    loader = DataLoader(TensorDataset(torch.tensor(NUMBERS), torch.from_numpy(TARGETS)), 2)
    with pytest.raises(InvalidTypeError, match=r"got DataLoader\. Give its \.dataset"):
        as_split("train", loader, torch.float32)


@pytest.mark.parametrize("third", [np.arange(3), torch.arange(3), [0, 0, 1], np.array([True] * 3)])
def test_whole_numbers_beside_examples_are_no_weights(third):
    x = torch.tensor(NUMBERS)
    rows = list(zip(x, TARGETS, third, strict=True))
    for data in ((x, TARGETS, third), Items(*rows)):
        with pytest.raises(InvalidValueError, match=r"train weights must be weights: .*indices"):
            as_split("train", data, torch.float32)

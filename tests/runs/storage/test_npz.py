"""Files of plain data: what is written comes back, and nothing else comes in."""

import array
import enum
import hashlib
import io
import pickle
import warnings
import zipfile
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.running import Bomb, sealed

from nets_deap.errors import FileAccessError, RunFileError
from nets_deap.runs.storage import npz
from nets_deap.runs.storage.plain import Packer, Unpacker, Unstorable

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def written(path, value):
    packer = Packer()
    npz.write(path, {"value": packer.pack(value)}, packer)
    content, flat = npz.read(path)
    return Unpacker(flat).unpack(content["value"])


@given(plain)
def test_plain_data_comes_back(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("c") / "x.npz"
    assert written(path, value) == value


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int64, np.float32, np.float64, np.dtype(">f4")]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    )
)
def test_arrays_come_back_read_only(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("c") / "x.npz"
    one, two = written(path, [array, array])
    np.testing.assert_array_equal(one, array)
    assert one is two
    assert not one.flags.writeable
    assert np.load(path)["json"].dtype == np.uint8  # NumPy itself can look at it


MORE = [
    *({1: 2, (3, 4): [5]}, {1, 2}, frozenset({"a"}), b"x\xff", bytearray(b"x"), 1j, range(1, 9, 2)),
    *(slice(2, None), deque([1, 2], 5), Counter("aab"), OrderedDict(b=1, a=2), Fraction(1, 3)),
    *(Decimal("1.10"), date(2020, 1, 2), datetime(2020, 1, 2, 3, 4, 5, 6), timedelta(1, 2, 3)),
    *(
        np.int8(-3),
        np.float32(0.1),
        np.float64(0.1),
        np.bool_(True),
        np.str_("q"),
        np.complex64(1j),
    ),
    *(np.datetime64("2020-01-01"), float("inf"), array.array("d", [0.5, 1.5])),
]


@pytest.mark.parametrize("value", MORE, ids=lambda value: type(value).__name__)
def test_plain_data_of_the_libraries_comes_back_with_its_type(tmp_path, value):
    back = written(tmp_path / "x.npz", [value, (value,)])
    assert back == [value, (value,)]
    assert type(back[0]) is type(value)
    assert repr(back[0]) == repr(value)


@pytest.mark.parametrize(
    "value",
    [np.array(["ab", "c"]), np.array([1 + 2j]), np.arange(3, dtype=">f4"), np.zeros((0, 2), "<U3"),
     np.array(["2020-01-01"], "M8[D]"), np.arange(6).reshape(2, 3)[:, ::2]],
    ids=lambda value: str(value.dtype),
)  # fmt: skip
@pytest.mark.parametrize("writeable", [False, True])
def test_arrays_of_any_plain_dtype_come_back_with_it(tmp_path, value, writeable):
    packer = Packer()
    npz.write(tmp_path / "x.npz", {"value": packer.pack([value, value])}, packer)
    content, flat = npz.read(tmp_path / "x.npz")
    one, two = Unpacker(flat, writeable=writeable).unpack(content["value"])
    assert (one.dtype, one.shape, one.flags.writeable) == (value.dtype, value.shape, writeable)
    np.testing.assert_array_equal(one, value)
    assert one is two


class Level(enum.IntEnum):
    LOW = 1


class Pair(NamedTuple):
    one: int
    two: int


@pytest.mark.parametrize(
    "value",
    [object(), len, Level.LOW, Pair(1, 2), type("Sub", (list,), {})(), defaultdict(list),
     np.array([object()]), np.zeros(2, "i4,f4"), np.ma.masked_array([1, 2], [0, 1]),
     datetime.now(timezone.utc), {"a": [object()]}],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_other_things_are_not_stored(value):
    with pytest.raises(Unstorable, match="not plain data"):
        Packer().pack(value)


@pytest.mark.parametrize(
    "value", [{"array": ["<f4", 5, [9]]}, {"array": ["<f4", -1, [1]]}, {"x": 1}, {}]
)
def test_places_beyond_the_file_are_refused(value):
    with pytest.raises(RunFileError):
        Unpacker({"<f4": np.zeros(6, np.float32)}).unpack(value)


def test_every_flipped_bit_and_every_cut_is_found(tmp_path):
    path = tmp_path / "x.npz"
    written(path, {"a": np.arange(4), "b": "text"})
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        with pytest.raises(RunFileError, match="damaged"):
            npz.read(path)
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(RunFileError, match="damaged"):
            npz.read(path)


def member(name, data, **options):
    """Return a zip file with one member."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        archive.writestr(name, data)
        archive.comment = b"0" * 64
    return file.getvalue()


def npy(head, data=b""):
    """Return an npy file with any header."""
    text = head.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


HEAD = "{'descr': %r, 'fortran_order': False, 'shape': %s}"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (member("json.npy", npy(HEAD % ("|u1", "(4000000000,)"))), "not that of its bytes"),
        (member("json.npy", npy(HEAD % ("|u1", "(-1,)"))), "not that of its bytes"),
        (member("json.npy", npy(HEAD % ("|O", "(1,)"), pickle.dumps(Bomb()))), "no numbers"),
        (member("json.npy", npy(HEAD % ("|u1", "(2, 2)"), b"1234")), "no numbers"),
        (member("json.npy", b"\x93NUMPY\x01\x00\xff\xff" + b" " * 65535), "header of 65535"),
        (member("json.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff"), "version 1"),
        (member("json.npy", b"\0" * 10**6, compression=zipfile.ZIP_DEFLATED), "damaged"),
        (member("json.npy", pickle.dumps(Bomb())), "version 1"),
        (member("json.npy", npy(HEAD % ("|u1", "(2,)"), b"[]")), "not an object"),
        (member("json.npy", npy(HEAD % ("|u1", "(2,)"), b"{{")), "damaged"),
        (member("other.npy", npy(HEAD % ("|u1", "(2,)"), b"{}")), "KeyError"),
        (member("json.npy", npy("(" * 3000)), "damaged"),
        (member("json.npy", npy("__import__('os').abort()")), "damaged"),
    ],
)
def test_bombs_under_our_names_are_refused(tmp_path, content, text):
    path = tmp_path / "x.npz"
    path.write_bytes(sealed(content))
    with pytest.raises(RunFileError, match=text):
        npz.read(path)
    assert not Bomb.exploded


def test_a_member_that_says_it_is_larger_than_the_file_is_refused(tmp_path):
    content = member("json.npy", npy(HEAD % ("|u1", "(2,)"), b"{}"))
    at = content.rindex(b"PK\x01\x02")
    for place in (20, 24):  # compressed and whole size in the central directory
        content = content[: at + place] + (2**31).to_bytes(4, "little") + content[at + place + 4 :]
    (tmp_path / "x.npz").write_bytes(sealed(content))
    with pytest.raises(RunFileError, match="larger than the file"):
        npz.read(tmp_path / "x.npz")


@pytest.mark.parametrize("make", [pickle.dumps, lambda x: torch_file(x), lambda x: b"", str])
def test_pickles_are_never_loaded(tmp_path, make):
    path = tmp_path / "x.npz"
    made = make(Bomb())
    path.write_bytes(made if isinstance(made, bytes) else made.encode())
    with pytest.raises(RunFileError, match="damaged or no file of a run"):
        npz.read(path)
    assert not Bomb.exploded


def torch_file(thing):
    file = io.BytesIO()
    torch.save(thing, file)
    return file.getvalue()


def test_a_checksum_stands_at_the_end(tmp_path):
    path = tmp_path / "x.npz"
    written(path, 1)
    content = path.read_bytes()
    assert hashlib.sha256(content[:-64] + b"0" * 64).hexdigest().encode() == content[-64:]


def test_what_is_not_there_cannot_be_read(tmp_path):
    with pytest.raises(FileAccessError, match="must be readable"):
        npz.read(tmp_path / "x.npz")
    with pytest.raises(FileAccessError, match="must be readable"):
        npz.read(tmp_path)


def test_two_members_of_one_name_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for text in (b"{}", b"[]"):
            file = io.BytesIO()
            np.save(file, np.frombuffer(text, np.uint8))
            archive.writestr("json.npy", file.getvalue())
        archive.comment = b"0" * 64
    path.write_bytes(sealed(path.read_bytes()))
    with pytest.raises(RunFileError, match="two members have the same name"):
        npz.read(path)

"""Files of plain data: an npz with JSON in it and a SHA-256 at its end; nothing is ever executed.

``numpy.load`` reads them, too: ``json`` holds the bytes of the JSON, each other array is named by
its dtype. The last 64 bytes, the comment of the zip file, are the SHA-256 of all that is before
them and of 64 zeros in their place.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from nets_deap._atomic import AtomicFile
from nets_deap.errors import FileAccessError, RunFileError
from nets_deap.runs.storage.plain import KINDS, Packer

DIGITS = 64
BLANK = b"0" * DIGITS
HEADER_BYTES = 4096
MEMBERS = 32


def write(path: Path, content: Mapping[str, Any], packer: Packer) -> None:
    """Write JSON and the arrays of a packer, whole or not at all.

    Raises:
        OSError: It cannot be written; what was there before is still there.
    """
    text = json.dumps(content, separators=(",", ":")).encode()
    with AtomicFile(path) as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
            _add(archive, "json", "|u1", [np.frombuffer(text, dtype=np.uint8)])
            for name, parts in packer.parts.items():
                _add(archive, name, name, parts)
            # The checksum stands in the file that it is of: zeros hold its place, are part of it,
            # and are written over at the end. As the zip file's comment it is not a member, so that
            # any reader of npz files leaves it alone.
            archive.comment = BLANK
        file.replace_end(file.sha256.hexdigest().encode())


def read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read JSON and arrays by dtype, after sizes and checksum have been looked at.

    Raises:
        FileAccessError: The file cannot be read.
        RunFileError: It is damaged, or no such file.
    """
    try:
        with path.open("rb") as file:
            try:
                return _read(file)
            except RunFileError as error:
                raise RunFileError(f"{path} is damaged or no file of a run: {error}.") from error
            except (
                zipfile.BadZipFile,
                zipfile.LargeZipFile,
                NotImplementedError,
                EOFError,
                KeyError,
                TypeError,
                ValueError,
                AttributeError,
                OverflowError,
                RecursionError,
                SyntaxError,
                RuntimeError,
            ) as error:
                raise RunFileError(f"{path} is damaged or no file of a run: {error!r}.") from error
    except OSError as error:
        if isinstance(error, FileAccessError):
            raise
        raise FileAccessError(f"path must be readable: cannot open {path} ({error}).") from error


def _add(archive: zipfile.ZipFile, name: str, dtype: str, parts: list[NDArray[Any]]) -> None:
    """Add one array, given in parts, as a member of an npz."""
    info = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
    with archive.open(info, "w", force_zip64=True) as member:
        shape = (sum(part.size for part in parts),)
        head = {"descr": dtype, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(member, head)
        for part in parts:
            member.write(part.data)


def _read(file: IO[bytes]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Check the checksum, then read every member."""
    size = file.seek(0, io.SEEK_END)
    if size < 2 * DIGITS:
        raise RunFileError(f"it holds {size} bytes")
    file.seek(-DIGITS, io.SEEK_END)
    wanted = file.read(DIGITS)
    file.seek(0)
    if file.read(2) != b"PK" or not set(wanted) <= set(b"0123456789abcdef"):
        raise RunFileError("it does not begin and end as one")
    file.seek(0)
    total, left = hashlib.sha256(), size - DIGITS
    while left:
        chunk = file.read(min(left, 2**20))
        if not chunk:
            raise RunFileError("it became shorter while it was read")
        total.update(chunk)
        left -= len(chunk)
    total.update(BLANK)
    if total.hexdigest().encode() != wanted:
        raise RunFileError("its SHA-256 does not match")
    arrays: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len({info.filename for info in members}) != len(members):
            raise RunFileError("two members have the same name")
        # What a member says of its size is believed only within what is there.
        if len(members) > MEMBERS or sum(info.file_size for info in members) > size:
            raise RunFileError("its members are larger than the file")
        for info in members:
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise RunFileError("it is compressed")
            with archive.open(info) as member:
                arrays[info.filename.removesuffix(".npy")] = _array(member, info.file_size)
    text = arrays.pop("json")
    content = json.loads(text.tobytes())
    if not isinstance(content, dict):
        raise RunFileError("its JSON is not an object")
    return content, arrays


def _array(member: IO[bytes], size: int) -> NDArray[Any]:
    """Read one flat array whose header says what its member's size allows."""
    magic = member.read(10)
    if magic[:8] != b"\x93NUMPY\x01\x00":
        raise RunFileError("an array has no header of version 1")
    length = int.from_bytes(magic[8:10], "little")
    if length > HEADER_BYTES:
        raise RunFileError(f"an array has a header of {length} bytes")
    head = ast.literal_eval(member.read(length).decode("latin1"))
    dtype, shape = np.dtype(str(head["descr"])), tuple(head["shape"])
    if dtype.kind not in KINDS or len(shape) != 1 or type(shape[0]) is not int:
        raise RunFileError("an array holds no numbers")
    left = size - len(magic) - length
    if shape[0] < 0 or math.prod(shape) * dtype.itemsize != left:
        raise RunFileError("the size of an array is not that of its bytes")
    data = member.read(left)
    if len(data) != left:
        raise RunFileError("an array is shorter than it says")
    return np.frombuffer(data, dtype=dtype)

"""``Durable``: a file that is there whole, on the disk, or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from types import TracebackType

BUFFER = 2**20


class Durable:
    """Writes a file: a temporary one, synced to the disk, put in place, and the folder synced.

    Whatever goes wrong on the way, the file is what it was before. Used with ``with``; an exception
    inside leaves nothing behind.

    Args:
        path: Where the file is to be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self.sha256 = hashlib.sha256()
        self._buffer, self._at, self._file = bytearray(), 0, -1

    def __enter__(self) -> Durable:
        self._file = os.open(self.part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        return self

    def write(self, data: bytes | memoryview) -> int:
        """Add bytes; return how many."""
        view = memoryview(data).cast("B")
        self.sha256.update(view)
        self._at += len(view)
        if len(self._buffer) + len(view) < BUFFER:
            self._buffer += view
        else:
            self.flush()
            self._write(view)
        return len(view)

    def tell(self) -> int:
        """Return how many bytes have been written."""
        return self._at

    def flush(self) -> None:
        """Hand everything to the system."""
        self._write(memoryview(bytes(self._buffer)))
        self._buffer.clear()

    def replace_end(self, data: bytes) -> None:
        """Write over the last bytes, which the checksum then does not know."""
        self.flush()
        os.pwrite(self._file, data, self._at - len(data))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        done = False
        try:
            try:
                if kind is None:
                    self.flush()
                    os.fsync(self._file)
            finally:
                os.close(self._file)
            if kind is None:
                os.replace(self.part, self.path)
                done = True
        finally:
            if not done:
                with contextlib.suppress(OSError):
                    os.unlink(self.part)
        if done:
            sync_folder(self.path.parent)

    def _write(self, view: memoryview) -> None:
        """Hand bytes to the system, which may take them in parts."""
        while len(view):
            view = view[os.write(self._file, view) :]


def sync_folder(path: Path) -> None:
    """Have the names in a folder on the disk, where the system can do that."""
    try:
        folder = os.open(path, os.O_RDONLY)
    except OSError:  # no folder can be opened on Windows
        return
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sweep(path: Path) -> None:
    """Remove what writers that died have left in a folder."""
    for part in path.glob(".*.part"):
        with contextlib.suppress(OSError):
            part.unlink()

"""The one way a file is written: it is there whole, or what was there before still is.

``write`` puts content in place, ``save`` raises a ``NetsError`` where that fails, ``AtomicFile``
takes what comes in parts. Logs, which grow by a line a generation, are the exception: written anew
they would cost the square of their length, so their last line may be torn, which their readers
know.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from types import TracebackType

from nets_deap import _checks
from nets_deap.errors import FileAccessError

BUFFER = 2**20


def write(path: Path, content: bytes | str) -> None:
    """Write a file from its content; text as UTF-8.

    It is not synced to the disk: that takes up to 25 ms a file, and what is written in this way is
    written anew in every generation, or can be made again. Programs that die leave it whole.

    Raises:
        OSError: It cannot be written; what was there before is still there.
    """
    with AtomicFile(path, sync=False) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def save(path: str | Path, content: bytes | str, *, argument: str = "path") -> Path:
    """Write a file that a user has asked for; return its path.

    Args:
        path: Where to.
        content: Bytes, or text, which is written as UTF-8.
        argument: What the path is called in messages.

    Raises:
        FileAccessError: It cannot be written; what was there before is still there.
    """
    path = _checks.path(argument, path)
    try:
        write(path, content)
    except OSError as error:
        raise FileAccessError(
            f"{argument} must be writable: cannot write {path} ({error.strerror}). "
            "Choose another place."
        ) from error
    return path


def place(argument: str, path: str | Path) -> Path:
    """Return the path of a file to be written once what takes long has been done.

    Args:
        argument: What the path is called in messages.
        path: Where to.

    Raises:
        FileAccessError: Its folder is none.
    """
    target = _checks.path(argument, path)
    if not target.parent.is_dir():
        raise FileAccessError(
            f"{argument} must be writable: cannot write {target} (there is no folder "
            f"{target.parent}). Make the folder, or choose another place."
        )
    return target


class AtomicFile:
    """Takes a file in parts: into a temporary one beside it, which takes its place at the end.

    Whatever goes wrong on the way, the file is what it was before. Used with ``with``; an exception
    inside leaves nothing behind. A program that is killed leaves the temporary file, which
    ``sweep`` removes.

    Args:
        path: Where the file is to be.
        sync: Whether it must also survive a power cut: it is on the disk before it takes the place
            of the one before, and its name is before ``with`` ends.

    Attributes:
        sha256: Of all that was written, in the order of the calls of ``write``.
    """

    def __init__(self, path: Path, *, sync: bool = True) -> None:
        self.path, self.sync = path, sync
        # In the same folder, as a file can only be put in place within one file system. Programs
        # that write the same file at once have a temporary one each.
        self.part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self.sha256 = hashlib.sha256()
        self._buffer, self._at, self._file = bytearray(), 0, -1

    def __enter__(self) -> AtomicFile:
        self._file = os.open(self.part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        return self

    def write(self, data: bytes | memoryview) -> int:
        """Add bytes; return how many."""
        view = memoryview(data).cast("B")
        self.sha256.update(view)
        self._at += len(view)
        # A zip file is made of many small writes between its arrays; those wait for each other.
        # Large arrays go to the system as they are, without a copy.
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
        # The order is what makes it safe: content on the disk, then the name, then the folder that
        # holds the name. Renamed before its content is there, a file may be empty after a power
        # cut; without the last step the old one may be back.
        done = False
        try:
            try:
                if kind is None:
                    self.flush()
                    if self.sync:
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
        if done and self.sync:
            _sync_folder(self.path.parent)

    def _write(self, view: memoryview) -> None:
        """Hand bytes to the system, which may take them in parts."""
        while len(view):
            view = view[os.write(self._file, view) :]


def sweep(path: Path) -> None:
    """Remove what writers that died have left in a folder, into which nobody else writes."""
    for part in path.glob(".*.part"):
        with contextlib.suppress(OSError):
            part.unlink()


def _sync_folder(path: Path) -> None:
    """Have the names in a folder on the disk, where the system can do that."""
    try:
        folder = os.open(path, os.O_RDONLY)
    except OSError:  # no folder can be opened on Windows
        return
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

"""``Lock``: one program at a time writes into a run folder."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import weakref
from pathlib import Path
from typing import Any

from nets_deap.errors import FileAccessError, FolderInUseError
from nets_deap.runs.storage.paths import LOCK
from nets_deap.runs.storage.plain import BROKEN
from nets_deap.training import interrupt

try:
    import fcntl
except ImportError:  # Windows: the heartbeat alone tells
    fcntl = None  # type: ignore[assignment]

# Sixty beats: file systems that machines share may show a change only after minutes.
STALE_SECONDS = 600.0
BEAT_SECONDS = 10.0
# Others hold the file for a moment to see whether it is held.
TRIES, TRY_SECONDS = 5, 0.02
_PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class Lock:
    """Holds a folder until it is released, or its owner or the program ends, however it ends.

    The file names host and process, and its time of change is a heartbeat. The system's own lock
    on it dies with the program. Where that says nothing, on another machine, a lock without
    a heartbeat for ten minutes is taken over. A second run of the same program takes the folder
    over; the first one then finds that it has lost it.

    Args:
        path: The folder, which is there.
        force: Take it over also from another machine whose heartbeat is recent.

    Raises:
        FolderInUseError: Another program holds the folder.
        OSError: The file cannot be written.
    """

    def __init__(self, path: Path, *, force: bool = False) -> None:
        self.file = path.resolve() / LOCK
        self._beat = 0.0
        earlier = _own.pop(str(self.file), None)
        if earlier is not None:
            earlier.release()
        self._handle = self._acquire(force)
        # The key tells two locks of one process apart; process ids come again.
        held = {"host": socket.gethostname(), "pid": os.getpid(), "key": os.urandom(8).hex()}
        self._text_of_ours = (json.dumps(held) + "\n").encode()
        self._finalizer = weakref.finalize(self, _close, self._handle, self.file, os.getpid())
        try:
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, self._text_of_ours, 0)
        except OSError:
            self.release()
            raise
        _own[str(self.file)] = self
        interrupt.tell(self)

    def check(self) -> None:
        """Give a sign of life.

        Raises:
            FolderInUseError: The folder has been taken over meanwhile.
            FileAccessError: It is gone.
        """
        if not self.file.parent.exists():
            raise FileAccessError(
                f"{self.file.parent} must stay where it is while a run writes into it: it is gone."
            )
        if not self.is_ours:
            raise FolderInUseError(
                f"{self.file.parent} must belong to this run alone: another one has taken it over, "
                f"or {LOCK} was removed. This one stops here, and has written nothing since."
            )
        self.beat()

    def beat(self) -> None:
        """Give a sign of life, if it is time for one and the lock is still held."""
        if time.monotonic() - self._beat >= BEAT_SECONDS and self._finalizer.alive:
            self._beat = time.monotonic()
            with contextlib.suppress(OSError):
                os.utime(self._handle)

    def release(self) -> None:
        """Let others have the folder; again does nothing."""
        self._finalizer()

    @property
    def is_ours(self) -> bool:
        """Return whether the file is still there as this lock wrote it."""
        if not self._finalizer.alive or not _is_at(self._handle, self.file):
            return False
        # From another machine it is taken over in place.
        return os.pread(self._handle, 1000, 0) == self._text_of_ours

    def _acquire(self, force: bool) -> int:
        """Open the file and lock it."""
        tries = TRIES
        while True:
            handle = os.open(self.file, os.O_RDWR | os.O_CREAT | _PLAIN, 0o644)
            try:
                if fcntl is not None:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Between "open" and the lock its owner may have removed the file: then this is
                # a lock on a file without a name, which keeps nobody out.
                if not _is_at(handle, self.file):
                    os.close(handle)
                    continue
                self._refuse_recent(handle, force)
                return handle
            except BlockingIOError:
                os.close(handle)
                tries -= 1
                if tries:
                    time.sleep(TRY_SECONDS)
                    continue
                raise FolderInUseError(self._text(holder(self.file.parent))) from None
            except BaseException:
                with contextlib.suppress(OSError):
                    os.close(handle)
                raise

    def _refuse_recent(self, handle: int, force: bool) -> None:
        """Raise if another machine gave a sign of life lately."""
        held = holder(self.file.parent)
        elsewhere = held is not None and (fcntl is None or held["host"] != socket.gethostname())
        if held is None or not elsewhere or force:
            return
        age = max(0.0, self._now() - os.fstat(handle).st_mtime)
        if age < STALE_SECONDS:
            raise FolderInUseError(
                f"{self._text(held)} Its last sign of life is {age:.0f} s old: if it has ended, "
                f"wait {STALE_SECONDS - age:.0f} s, or take the folder over with force=True "
                "(--force)."
            )

    def _now(self) -> float:
        """Return the time by the clock of where the folder is, which machines may share."""
        probe = self.file.with_name(f"{LOCK}.{os.getpid()}.part")
        try:
            probe.touch()
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)

    def _text(self, held: dict[str, Any] | None) -> str:
        """Return in words who holds the folder."""
        who = "another program" if held is None else f"process {held['pid']} on {held['host']}"
        return f"{self.file.parent} must belong to one run at a time: {who} writes into it."


_own: weakref.WeakValueDictionary[str, Lock] = weakref.WeakValueDictionary()


def holder(path: Path) -> dict[str, Any] | None:
    """Return host and pid of who holds a folder, or held it when it died; None for nobody."""
    try:
        with (path / LOCK).open("rb") as file:
            held = json.loads(file.read(1000))
        return {"host": str(held["host"]), "pid": int(held["pid"])}
    except (OSError, *BROKEN):
        return None


def is_held(path: Path) -> bool:
    """Return whether a program holds a folder now, as far as this machine can tell."""
    try:
        handle = os.open(path / LOCK, os.O_RDONLY | _PLAIN)
    except OSError:
        return False
    try:
        held = holder(path)
        if held is not None and (fcntl is None or held["host"] != socket.gethostname()):
            return time.time() - os.fstat(handle).st_mtime < STALE_SECONDS
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _is_at(handle: int, file: Path) -> bool:
    """Return whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(file))
    except OSError:
        return False


def _close(handle: int, file: Path, owner: int) -> None:
    """Remove the file, if it is still ours, and with it the lock; a child process leaves it."""
    with contextlib.suppress(OSError):
        if os.getpid() == owner and _is_at(handle, file):
            os.unlink(file)
    with contextlib.suppress(OSError):
        os.close(handle)

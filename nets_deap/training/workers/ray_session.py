"""``RaySession``: a Ray that this program starts and ends, or one that is there already."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from nets_deap import _checks
from nets_deap._optional import require
from nets_deap.errors import CallOrderError, FileAccessError, InvalidTypeError

logger = logging.getLogger("nets_deap")

STORE_BYTES = 256 * 2**20  # beside data and W0: chunks on their way
# Sockets of Unix have names of at most 107 bytes, of which Ray's own take some 80.
LONGEST_TEMP = 24
PREFIX = "nets-ray-"
ANSWER_SECONDS = 10.0  # for a cluster to answer at all
LOCK_SECONDS = 60.0  # in which a new folder may not have its lock yet


class RaySession:
    """A connection to Ray; what this program did not start, it does not stop.

    Args:
        address: ``"local"`` starts Ray on this machine, unless this process is connected already;
            ``"auto"`` or ``"host:port"`` connects to a cluster.
        cpus: CPUs to offer, where it is started here.
        gpus: GPUs to offer, where it is started here.
        store: Bytes that workers share, where it is started here.

    Raises:
        MissingExtraError: Ray is not installed.
        InvalidValueError: An address of another kind.
        CallOrderError: No cluster answers, or this process is connected to another one.
    """

    def __init__(self, address: str, *, cpus: int, gpus: int, store: int) -> None:
        if not isinstance(address, str) or not address or "://" in address:
            raise _checks.bad_value(
                "address", "be where Ray is", "'local', 'auto' or 'host:port'", address,
                "Run the program on a machine of the cluster.",
            )  # fmt: skip
        self.ray: Any = require("ray", "ray", "training on workers (nets.RayMap)")
        if self.ray.is_initialized():
            self._own = _OwnRay.behind(_connection(self.ray))
            there = self.ray.get_runtime_context().gcs_address
            if address not in ("local", "auto", there):
                raise CallOrderError(
                    f"address must be where this process is connected already: expected {there!r}, "
                    f"got {address!r}. Call ray.shutdown() first, or leave the address out."
                )
        else:
            options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
            folder = None
            if address == "local":
                folder = TempFolder()
                options |= {
                    "num_cpus": cpus, "num_gpus": gpus, "_temp_dir": folder.path,
                    "object_store_memory": store + STORE_BYTES, "_node_ip_address": "127.0.0.1",
                }  # fmt: skip
                _require_token()
            try:
                _check_answers(address)
                with _handlers_kept():
                    self.ray.init(address=address, **options)
            except Exception as error:  # Ray raises all kinds; nothing of it may be left behind
                _end(self.ray, folder)
                if not isinstance(error, (OSError, RuntimeError, ValueError)):
                    raise
                raise CallOrderError(
                    f"address must be where Ray runs: expected one that answers, got {address!r} "
                    f"({error}). Start it with 'ray start --head', or leave the address out."
                ) from error
            self._own = _OwnRay(self.ray, folder)
        self._connection = _connection(self.ray)

    @property
    def alive(self) -> bool:
        """Whether this process is still connected to it; else Ray would start another one."""
        return _connection(self.ray) == self._connection

    def put(self, thing: Any) -> Any:
        """Hand what to train to Ray.

        Raises:
            InvalidTypeError: Something in it, such as a loss of the user's, cannot be sent.
        """
        try:
            return self.ray.put(thing)
        except (self.ray.exceptions.RayError, OSError, MemoryError):
            raise
        except Exception as error:  # whatever the user's own objects raise when they are pickled
            why = str(error.__cause__ or error)[:200]
        raise InvalidTypeError(  # without Ray's own error, which shows all data
            f"task must be of what other processes can get: expected a model, a loss and the like "
            f"that can be pickled, got one of which Python says: {why}. Leave locks, open files "
            "and connections out of them."
        )

    @property
    def resources(self) -> dict[str, float]:
        """What all nodes that are alive have, in use or not."""
        return {name: float(n) for name, n in self.ray.cluster_resources().items()}

    @property
    def free(self) -> str:
        """What of it nobody has taken, in words."""
        now, kinds = self.ray.available_resources(), ("CPU", "GPU")
        parts = ((now.get(kind, 0.0), self.resources.get(kind, 0.0), kind) for kind in kinds)
        return ", ".join(f"{n:g} of {total:g} {kind}s" for n, total, kind in parts if total)

    @property
    def nodes(self) -> set[str]:
        """Names of the nodes that are alive."""
        return {node["NodeID"] for node in self.ray.nodes() if node["Alive"]}

    def close(self) -> None:
        """Stop Ray, with all its processes and files, if it was started here for it alone."""
        with _handlers_kept():
            self._own = None


class _OwnRay:
    """A Ray that this program has started; it ends when the last session on it lets go of it.

    A process has one Ray at most, which several sessions may use (a ``RayMap`` for each task). None
    of them can know whether it is the last, so each refers to this, and this ends Ray when nobody
    does any more: by ``close``, by the garbage collector, or at the end of the program.
    """

    latest: weakref.ref[_OwnRay] | None = None

    def __init__(self, ray: Any, folder: TempFolder | None) -> None:
        self._connection = _connection(ray)
        self._finish = weakref.finalize(self, _end, ray, folder, self._connection)
        _OwnRay.latest = weakref.ref(self)

    @classmethod
    def behind(cls, connection: str) -> _OwnRay | None:
        """Return what has started the Ray of a connection; None if the user has."""
        found = None if cls.latest is None else cls.latest()
        return found if found is not None and found._connection == connection else None


def _check_answers(address: str) -> None:
    """Raise OSError where nobody answers: Ray would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal():
        if int(port) >= 2**16:
            raise OSError(f"there is no port {port}")
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()


def _connection(ray: Any) -> str:
    """Return the name of this process's connection, empty for none.

    Nothing else may be asked of Ray without one: it would start another Ray by itself.
    """
    return str(ray.get_runtime_context().get_worker_id()) if ray.is_initialized() else ""


def _end(ray: Any, folder: TempFolder | None, connection: str | None = None) -> None:
    """Disconnect; without other machines, all processes end and their files go.

    Args:
        ray: The module.
        folder: Where its files are.
        connection: The one to end, if it is still that; None for any.
    """
    if connection in (None, _connection(ray)):
        ray.shutdown()
    if folder is not None:
        folder.remove()


class TempFolder:
    """A folder of a program's own, which the next program removes if this one is killed.

    Its lock is held while the program lives, in any container that sees the folder.

    Args:
        base: Where; None for the usual place, if its name is short enough for the sockets there.

    Raises:
        FileAccessError: There is no place for it.
    """

    def __init__(self, base: str | None = None) -> None:
        try:
            usual = tempfile.gettempdir()
            self._base = base or (usual if len(usual) <= LONGEST_TEMP else "/tmp")
            self._sweep()
            self.path = tempfile.mkdtemp(prefix=PREFIX, dir=self._base)
            self._lock = _lock(Path(self.path))
        except OSError as error:
            raise FileAccessError(
                f"Ray needs a folder for temporary files: {error}. Set TMPDIR to one that can be "
                f"written, with a name of at most {LONGEST_TEMP} characters."
            ) from error

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def _sweep(self) -> None:
        """Remove what programs that are gone have left."""
        for folder in Path(self._base).glob(f"{PREFIX}*"):
            try:
                old = time.time() - folder.stat().st_mtime > LOCK_SECONDS
                # A program holds the lock of its folder until it ends, however it ends.
                lock = _lock(folder) if old else None
            except OSError:  # another user's, or just removed
                continue
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                lock.close()


def _lock(folder: Path) -> IO[str] | None:
    """Take the lock of a folder; None if another program has it, or there are no such locks."""
    try:
        import fcntl
    except ImportError:
        return None
    file = (folder / "lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def _require_token() -> None:
    """Let only this user's processes talk to the Ray that is started: Ray listens on all networks.

    Ray asks for a token by default. One of this process alone leaves no file behind.
    """
    known = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    saved = os.path.expanduser("~/.ray/auth_token")  # where there is no home, no error either
    if not any(name in os.environ for name in known) and not os.path.exists(saved):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Put back the handlers of signals that Ray replaces by its own."""
    main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)

"""``Session``: a Ray that this program starts and ends, or one that is there already."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
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
from nets_deap.errors import CallOrderError

logger = logging.getLogger("nets_deap")

# Beside data and W0: chunks on their way.
STORE_BYTES = 256 * 2**20
# Sockets of Unix have names of at most 107 bytes, of which Ray's own take some 80.
LONGEST_TEMP = 24
PREFIX = "nets-ray-"
FRESH = 60.0  # seconds in which a new folder may not have its lock yet


class Session:
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
        CallOrderError: No cluster answers.
    """

    def __init__(self, address: str, *, cpus: int, gpus: int, store: int) -> None:
        if not isinstance(address, str) or not address or "://" in address:
            raise _checks.bad_value(
                "address", "be where Ray is", "'local', 'auto' or 'host:port'", address,
                "Run the program on a machine of the cluster.",
            )  # fmt: skip
        self.ray: Any = require("ray", "ray", "training on workers (engine='ray')")
        self.owned = not self.ray.is_initialized()
        folder = None
        if self.owned:
            common = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
            if address == "local":
                folder = TempFolder()
                common |= {
                    "num_cpus": cpus, "num_gpus": gpus, "_temp_dir": folder.path,
                    "object_store_memory": store + STORE_BYTES, "_node_ip_address": "127.0.0.1",
                }  # fmt: skip
                _guard()
            try:
                with _handlers_kept():
                    self.ray.init(address=address, **common)
            except (ConnectionError, RuntimeError, ValueError) as error:
                _end(self.ray, folder)
                raise CallOrderError(
                    f"address must be where Ray runs: expected one that answers, got {address!r} "
                    f"({error}). Start it with 'ray start --head', or leave the address out."
                ) from error
        self._finish = weakref.finalize(self, _end, self.ray, folder) if self.owned else None

    @property
    def resources(self) -> dict[str, float]:
        """What all nodes that are alive have, in use or not."""
        return {name: float(n) for name, n in self.ray.cluster_resources().items()}

    @property
    def nodes(self) -> set[str]:
        """Names of the nodes that are alive."""
        return {node["NodeID"] for node in self.ray.nodes() if node["Alive"]}

    def close(self) -> None:
        """Stop Ray, with all its processes and files, if it was started here."""
        if self._finish is not None:
            with _handlers_kept():
                self._finish()


def _end(ray: Any, folder: TempFolder | None) -> None:
    """Disconnect; without other machines, all processes end and their files go."""
    ray.shutdown()
    if folder is not None:
        folder.remove()


class TempFolder:
    """A folder of a program's own, which the next program removes if this one is killed.

    Its lock is held while the program lives, in any container that sees the folder.

    Args:
        base: Where; None for the usual place, if its name is short enough for the sockets there.
    """

    def __init__(self, base: str | None = None) -> None:
        usual = tempfile.gettempdir()
        self._base = base or (usual if len(usual) <= LONGEST_TEMP else "/tmp")
        self._sweep()
        self.path = tempfile.mkdtemp(prefix=PREFIX, dir=self._base)
        self._lock = _lock(Path(self.path))

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def _sweep(self) -> None:
        """Remove what programs that are gone have left."""
        for folder in Path(self._base).glob(f"{PREFIX}*"):
            try:
                old = time.time() - folder.stat().st_mtime > FRESH
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


def _guard() -> None:
    """Let only this user's processes talk to the Ray that is started: Ray listens on all networks.

    Ray asks for a token by default. One of this process alone leaves no file behind.
    """
    known = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    saved = Path.home() / ".ray" / "auth_token"
    if not any(name in os.environ for name in known) and not saved.exists():
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

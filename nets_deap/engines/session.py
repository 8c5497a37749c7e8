"""``Session``: a Ray that this program starts and ends, or one that is there already."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nets_deap import _checks
from nets_deap._optional import require
from nets_deap.errors import CallOrderError

logger = logging.getLogger("nets_deap")

# Beside data and W0: chunks on their way.
STORE_BYTES = 256 * 2**20
# Sockets of Unix have names of at most 107 bytes, of which Ray's own take some 80.
LONGEST_TEMP = 24


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
                folder = _temp_folder()
                common |= {
                    "num_cpus": cpus, "num_gpus": gpus, "_temp_dir": folder,
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


def _end(ray: Any, folder: str | None) -> None:
    """Disconnect; without other machines, all processes end and their files go."""
    ray.shutdown()
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _temp_folder() -> str:
    """Return a fresh folder with a name that is short enough for the sockets in it."""
    base = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="nets-ray-", dir=base if len(base) <= LONGEST_TEMP else "/tmp")


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

"""The folder that data sets lie in: what is there, whether it is whole, and downloads into it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from pathlib import Path
from typing import Any

from nets_deap import _checks
from nets_deap.errors import FileAccessError

ENVIRONMENT = "NETS_DEAP_DATA"


def default_data_dir() -> Path:
    """Return the folder data sets live in: $NETS_DEAP_DATA, else ~/.cache/nets_deap."""
    named = os.environ.get(ENVIRONMENT)
    return _checks.path(f"${ENVIRONMENT}", named) if named else Path.home() / ".cache" / "nets_deap"


def fetch(kind: Any, root: Path, name: str, folder: Path) -> None:
    """Let a class of torchvision download its files, without its output; explain a failure."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            kind(root, download=True)
    except (RuntimeError, OSError) as error:
        raise absent(name, folder, f"the download failed: {error}") from error


def verified(path: Path, checksum: str, name: str) -> bytes:
    """Return what a file holds; raise unless its checksum, SHA-256 or MD5, is the published one.

    Args:
        path: The file.
        checksum: In hexadecimal; its length tells which of the two it is.
        name: Of the data set, for messages.
    """
    kind = "SHA-256" if len(checksum) == 64 else "MD5"
    content = path.read_bytes()
    # MD5 is what torchvision publishes: it finds damage, not forgery by whoever made the original.
    digest = hashlib.sha256 if kind == "SHA-256" else hashlib.md5
    got = digest(content, usedforsecurity=False).hexdigest()
    if got != checksum:
        raise FileAccessError(
            f"{path} must be {name}'s file: expected {kind} {checksum}, got {got}. "
            "Delete it and let it be downloaded again."
        )
    return content


def absent(name: str, folder: Path, why: str) -> FileAccessError:
    """Return the error for a data set that is not there."""
    return FileAccessError(
        f"{name} was not found under {folder} and could not be had ({why}). Name the folder that "
        f"holds {folder.parts[-2] if folder.name == 'raw' else folder.name} with --data-dir "
        f"(data_dir=, or ${ENVIRONMENT}), or use what needs no download: the presets "
        "'quickstart' and 'conv2-mnist5k' (dataset='mnist5k')."
    )

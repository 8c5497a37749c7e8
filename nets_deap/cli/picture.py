"""The picture that a command leaves beside its table."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nets_deap import _atomic, _optional
from nets_deap.errors import MissingExtraError


def missing(name: str) -> str:
    """Return that a figure will not be drawn, and what to do, before anything is trained."""
    try:
        _optional.require("matplotlib.figure", "plots", f"Drawing {name}")
    except MissingExtraError as error:
        return f"{error} The run goes on without it."
    return ""


def save(draw: Callable[[], Any], path: Path) -> list[str]:
    """Draw a figure into a PNG file, which is put in place whole.

    Returns:
        What to tell: that it was not drawn, where matplotlib is missing; else nothing.

    Raises:
        FileAccessError: The file cannot be written.
    """
    content = io.BytesIO()
    try:
        draw().savefig(content, format="png", dpi=150)
    except MissingExtraError as error:
        return [f"{path.name} was not drawn: {error}"]
    _atomic.save(path, content.getvalue())
    return []

"""``render``: a kind of figure, drawn from the folder of a run or of a comparison."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from nets_deap import _checks, _optional
from nets_deap.errors import InvalidValueError, TicketFileError
from nets_deap.plots import KINDS as KINDS
from nets_deap.plots import style

Folders = str | Path | Sequence[str | Path]
FORMATS = ("png", "svg", "pdf")


def render(folder: Folders, kind: str, *, form: str = "png", size: str = "notebook") -> bytes:
    """Draw one kind of a folder.

    Args:
        folder: Of a run, or of a comparison; or folders of several runs.
        kind: One of ``plots.KINDS``.
        form: ``"png"``, ``"svg"`` or ``"pdf"``.
        size: ``"notebook"`` or ``"paper"``.

    Returns:
        The file's content, the same for the same folder.

    Raises:
        InvalidValueError: The folder does not hold what the kind needs.
        FileAccessError: A file is missing or damaged.
        MissingExtraError: matplotlib is not installed.
    """
    known = KINDS[_checks.choice("kind", kind, KINDS)]
    folders = [
        _checks.path("folder", one)
        for one in ([folder] if isinstance(folder, (str, Path)) else folder)
    ]
    draw = known.draw if len(folders) == 1 else known.draw_many
    if draw is None:
        several = [name for name, other in KINDS.items() if other.draw_many is not None]
        raise _checks.bad_value("kind", "suit several runs", " or ".join(several), kind)
    _checks.choice("form", form, FORMATS)
    matplotlib = _optional.require("matplotlib", "plots", "draw figures")
    figures = _optional.require("matplotlib.figure", "plots", "draw figures")
    undated = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[form]
    # Identifiers within SVG are random without a salt.
    with style.sized(size), matplotlib.rc_context({"svg.hashsalt": kind}):
        figure = figures.Figure(layout="constrained")
        draw(folders[0] if len(folders) == 1 else folders, figure.subplots())
        content = io.BytesIO()
        figure.savefig(content, format=form, metadata=undated)
    return content.getvalue()


def render_all(
    folder: Folders, kinds: Sequence[str] = (), **options: str
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Draw all kinds that a folder holds enough for, or those that are asked for.

    Args:
        folder: See ``render``.
        kinds: Names; none for all that apply.
        **options: See ``render``.

    Returns:
        Figures by kind, and for the kinds that were left out why.

    Raises:
        InvalidValueError: A kind that was asked for does not apply, or a ticket is damaged.
    """
    drawn, left = {}, {}
    for kind in kinds or KINDS:
        try:
            drawn[kind] = render(folder, kind, **options)
        except InvalidValueError as error:
            if kinds or isinstance(error, TicketFileError):
                raise
            left[kind] = str(error)
    return drawn, left

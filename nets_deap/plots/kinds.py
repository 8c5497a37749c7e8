"""The kinds of figures by name, each drawn from the folder of a run or of a comparison."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nets_deap import _checks, _optional, plots
from nets_deap.errors import InvalidValueError, TicketFileError
from nets_deap.plots import style

Draw = Callable[[Any, Any], Any]
Folders = str | Path | Sequence[str | Path]
FORMATS = ("png", "svg", "pdf")


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    Attributes:
        name: On the command line, and of its file.
        about: What it shows, in a sentence.
        draw: Draws a folder on axes; an ``InvalidValueError`` says that the folder does not hold
            what it needs.
        draw_many: Draws several folders on axes; None where it can draw only one.
    """

    name: str
    about: str
    draw: Draw
    draw_many: Draw | None = None


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "front",
            "The front that the run kept, before all other tickets that survived.",
            plots.pareto_front,
        ),
        Kind("fronts", "Fronts over the generations.", plots.fronts_over_generations),
        Kind("accuracy", "Accuracy after the final training, from W0.", plots.final_accuracy),
        Kind(
            "comparison",
            "Accuracy over density of all methods, bands over the seeds.",
            plots.accuracy_over_density,
        ),
        Kind(
            "attainment",
            "What 10, 50 and 90 % of runs attain.",
            plots.attainment,
            plots.attainment,
        ),
        Kind(
            "hypervolume",
            "Hypervolume over steps x networks.",
            plots.hypervolume,
            lambda folders, ax: plots.hypervolume({str(f): f for f in folders}, ax),
        ),
        Kind("layers", "Density of each layer along the front.", plots.layer_densities),
        Kind(
            "layers-time",
            "Density of each layer over the generations.",
            plots.layer_densities_over_time,
        ),
        Kind("curves", "Learning curves of tickets and dense.", plots.learning_curves),
        Kind("genealogy", "Ancestors of the front's knee.", plots.genealogy),
        Kind("overlap", "Overlap of the front's masks.", plots.overlap),
        Kind("inputs", "Kept weights of each input, at the knee.", plots.kept_inputs),
        Kind("mask", "The first layer's mask, at the knee.", plots.mask_matrix),
        Kind("filters", "Masks of the first filters, at the knee.", plots.filters),
        Kind("wiring", "A small network and its kept weights, at the knee.", plots.wiring),
    )
}


def render(folder: Folders, kind: str, *, form: str = "png", size: str = "notebook") -> bytes:
    """Draw one kind of a folder.

    Args:
        folder: Of a run, or of a comparison; or folders of several runs.
        kind: One of ``KINDS``.
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
    folders = [Path(folder)] if isinstance(folder, (str, Path)) else [Path(one) for one in folder]
    draw = known.draw if len(folders) == 1 else known.draw_many
    if draw is None:
        raise _checks.bad_value("kind", "suit several runs", "attainment or hypervolume", kind)
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

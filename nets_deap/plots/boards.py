"""Runs for the boards that people watch: TensorBoard's event files and Optuna's studies."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nets_deap import _checks, _optional
from nets_deap.errors import FileAccessError
from nets_deap.evolution.fronts import is_finite
from nets_deap.evolution.objective_names import objective_names
from nets_deap.runs.storage.history import SHORT
from nets_deap.runs.storage.reader import RunReader
from nets_deap.tickets.ticket import Ticket

if TYPE_CHECKING:
    from nets_deap.runs.recorder import Recorder

PIXELS = 256  # the longest side of a mask's picture


@_checks.signed
def to_tensorboard(run: str | Path, path: str | Path) -> Path:
    """Write a run folder as TensorBoard event files; again for a run that has gone on.

    The log's columns become scalars over generations. Of the present front there is a figure,
    a picture of every layer's mask (rows are its neurons or filters; of large layers the density
    of tiles), and the layers' densities.

    Args:
        run: The run folder, finished or not.
        path: The folder for TensorBoard's ``--logdir``; what an earlier call wrote is superseded.

    Returns:
        The path.

    Raises:
        MissingExtraError: The extra ``tensorboard`` is not installed.
        FileAccessError: The run has no log, or a damaged one; or the path cannot be written.
    """
    _optional.require("tensorboard", "tensorboard", "TensorBoard export")
    from nets_deap.plots.pareto import pareto_front

    rows = RunReader(run).log()
    writer = _writer(path, 0)
    for row in rows:
        _write_row(writer, row.pop("generation"), row)
    members, last = members_of(run), len(rows) - 1
    if members and len(members[0].fitness.values) > 1:
        writer.add_figure("front", pareto_front(members).figure, last)
    for ticket in members:
        for name, mask in ticket.masks().items():
            matrix = mask.reshape(1, len(mask), -1).float()
            size = min(matrix.shape[1], PIXELS), min(matrix.shape[2], PIXELS)
            picture = torch.nn.functional.adaptive_avg_pool2d(matrix, size)
            writer.add_image(f"{ticket.digest[:8]}/{name}", picture, last)
            writer.add_scalar(f"layer density/{ticket.digest[:8]}/{name}", matrix.mean(), last)
    writer.close()
    return _checks.path("path", path)


@_checks.signed
class LiveTensorBoard:
    """Writes each generation's row as TensorBoard scalars at once: for ``callbacks=``.

    The front and the masks are pictures that ``to_tensorboard`` adds. A run that goes on
    supersedes what its later generations had written.

    Args:
        path: The folder for TensorBoard's ``--logdir``.

    Raises:
        MissingExtraError: The extra ``tensorboard`` is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        _optional.require("tensorboard", "tensorboard", "TensorBoard export")
        self.path = _checks.path("path", path)
        self._writer: Any = None

    def __call__(self, recorder: Recorder, row: Mapping[str, Any]) -> None:
        """Write a generation's row."""
        if self._writer is None:
            self._writer = _writer(self.path, recorder.generation)
        numbers = {name: value for name, value in row.items() if name != "gen"}
        _write_row(self._writer, recorder.generation, numbers)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file; a later generation would open another one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


@_checks.signed
def to_optuna(run: Any, storage: Any = None, *, name: str = "nets_deap") -> Any:
    """Put a run into an Optuna study, a trial a ticket; ``optuna-dashboard`` shows it.

    The trials are the front and, after it, the members of the last population that are not on it,
    dominated ones among them: Optuna tells them apart by itself. Values are the objectives with
    their names and directions, parameters the layers' densities, and user attributes the ticket's
    digest, kept weights and density. Of members beside the front of a run folder or a recorder only
    values, density and the start of the digest are known. Tickets that the study has already are
    left alone, so that a run that goes on can be put there again: those that have since been
    dominated stay as trials.

    Args:
        run: A run folder, finished or not; a recorder or a search's result; or tickets, all of
            which become trials, and no others.
        storage: Optuna's storage or its address, such as ``"sqlite:///front.db"``; None keeps
            the study in memory.
        name: The study's name. Runs that share one share its front: give each its own.

    Returns:
        The ``optuna.Study``.

    Raises:
        MissingExtraError: The extra ``optuna`` is not installed.
        InvalidValueError: There are no tickets with values, or the study has other objectives.
        FileAccessError: Optuna cannot open the storage.
    """
    optuna = _optional.require("optuna", "optuna", "Optuna export")
    members = members_of(run)
    if not members:
        raise _checks.bad_value("run", "have a front", "at least one evaluated ticket", "none")
    weights, names = members[0].fitness.weights, list(objective_names(members))
    directions = ["minimize" if weight < 0 else "maximize" for weight in weights]
    try:
        study = optuna.create_study(
            storage=storage, study_name=name, directions=directions, load_if_exists=True
        )
    except Exception as error:  # each storage has errors of its own
        reason = str(error).strip().partition("\n")[0]
        raise FileAccessError(
            f"storage must be one that Optuna can open: got {storage} ({reason}). Give an address "
            "such as 'sqlite:///front.db'."
        ) from error
    if [one.name.lower() for one in study.directions] != directions or (
        study.metric_names not in (None, names)
    ):
        raise _checks.bad_value(
            "name",
            "be that of a study with these objectives",
            f"{', '.join(names)} ({', '.join(directions)})",
            f"{name!r} with others",
            "Choose another name.",
        )
    with warnings.catch_warnings():  # Optuna calls names of objectives experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(names)
    held = {
        (t.user_attrs.get("ticket", "")[:SHORT], tuple(t.values)) for t in study.trials if t.values
    }
    span = optuna.distributions.FloatDistribution(0.0, 1.0)
    for member in [*members, *_last_population(run)]:
        values = tuple(map(float, member.fitness.values))
        if (member.digest[:SHORT], values) in held:
            continue
        held.add((member.digest[:SHORT], values))
        facts, layers = {"ticket": member.digest, "density": member.density}, {}
        if isinstance(member, Ticket):
            facts |= {"kept": member.kept, "generation": member.origin.get("generation")}
            layers = {f"density {layer}": d for layer, d in member.layer_densities.items()}
        study.add_trial(
            optuna.trial.create_trial(
                values=values,
                params=layers,
                distributions=dict.fromkeys(layers, span),
                user_attrs=facts,
            )
        )
    return study


def _writer(path: str | Path, purge: int) -> Any:
    """Return a writer of event files that supersedes what was written from a step on."""
    from torch.utils.tensorboard import SummaryWriter

    try:
        return SummaryWriter(str(_checks.path("path", path)), purge_step=purge)
    except OSError as error:
        raise FileAccessError(
            f"path must be a folder that can be written: cannot write in {path} "
            f"({error.strerror}). Choose another place."
        ) from error


def _write_row(writer: Any, step: int, row: Mapping[str, Any]) -> None:
    """Write a row of a log as scalars."""
    for name, value in row.items():
        if value is None:  # no individual had a finite value
            continue
        group = "objectives" if name.endswith(("_min", "_mean", "_max")) else "search"
        writer.add_scalar(f"{group}/{name}", value, step)


def _last_population(run: Any) -> Sequence[Any]:
    """Return the last population of a run, as tickets or as what the history knows of them."""
    if hasattr(run, "population"):
        return members_of(run.population)
    if isinstance(run, (str, Path)):
        lived = RunReader(run).history()
    else:
        lived = getattr(run, "history", [])
    return lived[-1].population if lived else ()


def members_of(run: Any) -> list[Ticket]:
    """Return the tickets with finite values of a run folder, of what has a front, or of a list."""
    if isinstance(run, (str, Path)):
        found = RunReader(run).tickets()
    else:
        found = list(getattr(run, "front", run))
    for member in found:
        if not isinstance(member, Ticket):
            raise _checks.bad_type("run", "hold tickets", "nets.Ticket", member)
    evaluated = [one for one in found if one.fitness is not None and one.fitness.valid]
    return [one for one in evaluated if is_finite(one)]

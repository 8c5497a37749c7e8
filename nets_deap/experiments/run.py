"""``run``: one experiment from its configuration to a run folder and a table."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from nets_deap import _checks
from nets_deap._table import Brief, folded, table
from nets_deap.evolution.criterion import usual_criterion
from nets_deap.evolution.objectives import resolve
from nets_deap.experiments.config import Config
from nets_deap.experiments.final import FinalTraining, train_front
from nets_deap.experiments.nets2023 import search_options
from nets_deap.experiments.own import own_task
from nets_deap.experiments.own_task import OwnTask
from nets_deap.models.maskable import Selector
from nets_deap.runs.checkpoint.partial import Partial
from nets_deap.runs.progress import Progress
from nets_deap.runs.search.islands import Migration
from nets_deap.runs.search.search import SearchResult, search
from nets_deap.runs.search.settings import SearchSettings
from nets_deap.runs.storage.folder import RunFolder
from nets_deap.runs.storage.paths import CURVES
from nets_deap.runs.storage.rows import front_rows, named_values
from nets_deap.training import tasks
from nets_deap.training.executor import set_journal
from nets_deap.training.task import Task


@dataclass(frozen=True, repr=False)
class RunReport(Brief):
    """What a run gave: the search, the final training, and where the files are."""

    search: SearchResult
    final: FinalTraining
    path: Path
    notes: list[str]

    def table(self) -> str:
        """Return the front after the final training as aligned text, densest first.

        And, below it, what the columns are.
        """
        first = self.final.rows[0]
        names = [n for n in named_values(first.ticket) if n != "density"]
        chain = first.pruned is not None
        rows = [
            [
                "ticket",
                "kept",
                "density",
                *names,
                "test loss",
                "accuracy",
                *(["chain"] * chain),
                "random",
            ]
        ]
        for row in self.final.rows:
            values = named_values(row.ticket)
            rows.append(
                [
                    row.ticket.digest[:8],
                    str(row.ticket.kept),
                    f"{100 * row.ticket.density:.2f} %",
                    *(_number(values[n]) for n in names),
                    f"{row.trained.test_loss:.4f}",
                    _percent(row.trained.test_accuracy),
                    *([] if row.pruned is None else [_percent(row.pruned.test_accuracy)]),
                    _percent(row.random.test_accuracy),
                ]
            )
        notes = [f"{' and '.join(names)}: as the search measured"] * bool(names)
        notes += [
            f"test loss, accuracy: on test data; of the dense network "
            f"{self.final.dense.test_loss:.4f}, {_percent(self.final.dense.test_accuracy)}",
            "random: a random mask that keeps as many weights of each layer",
        ]
        if chain:
            notes.append("chain: as many weights, left by pruning and fine-tuning at equal cost")
        notes += map(folded, self.final.remarks())
        return "\n".join([table(rows, left=()), "", *notes])

    def title(self) -> str:
        """Return what the table shows."""
        shown, front = len(self.final.rows), len(self.search.front)
        whole = f"{shown} of {front} tickets of the front" if shown < front else "the front"
        return f"{whole}, {self.final.steps:,} steps from W0, densest first"


def build_task(config: Config) -> Task:
    """Return the task of a configuration."""
    if isinstance(config.task, OwnTask):
        return own_task(config)
    shared: dict[str, Any] = {
        "recipe": config.recipe,
        "seed": config.seed,
        "dtype": config.task.dtype,
        "device": config.task.device,
        "chunk": config.task.chunk,
        "engine": config.task.engine,
        "precision": config.task.precision,
        "guard": config.task.guard,
        "maskable": maskable_of(config.task.maskable),
        "unit": config.task.unit,
    }
    kind = config.task.kind
    if kind == "xor":
        return tasks.xor(hidden=config.task.hidden, noise=config.task.noise, **shared)
    shared |= {"dataset": config.task.dataset, "data_dir": config.task.data_dir}
    if kind == "torchvision":
        assert config.task.model is not None
        return tasks.torchvision(config.task.model, **shared)
    if kind.startswith("conv"):
        return tasks.conv(int(kind.removeprefix("conv")), **shared)
    make: Callable[..., Task] = getattr(tasks, kind)
    return make(**shared)


def maskable_of(names: tuple[str, ...] | None) -> Selector:
    """Return names and patterns of parameters as they are, and types of ``torch.nn`` as types."""
    if names is None:
        return None
    return [getattr(nn, name) if isinstance(getattr(nn, name, 0), type) else name for name in names]


def run(
    config: Config,
    path: str | Path,
    *,
    preset: str = "",
    progress: str = "auto",
    overwrite: bool = False,
    resume: bool = False,
    force: bool = False,
    map: Callable[[Task], AbstractContextManager[object]] | None = None,
) -> RunReport:
    """Run an experiment: search, final training from W0, table, run folder.

    Args:
        config: What to run.
        path: The run folder.
        preset: The name of the preset it came from, for ``config.json``.
        progress: ``"auto"``, ``"bar"``, ``"lines"`` or ``"none"``.
        overwrite: Replace an earlier run in the folder.
        resume: Go on with the run in the folder.
        force: See ``nets.resume``.
        map: Makes of the task the workers that all of it trains on, such as
            ``functools.partial(nets.RayMap, workers=4)``; None for this process. It changes no
            result, and a run may be resumed with another one.

    Raises:
        NetsError: Something in the configuration cannot be; nothing has been written then.
        ExecutorLostError: All workers are lost; the run can be resumed.
    """
    resolve(config.search.objectives)
    task = build_task(config)
    if config.final.chain and task.layout.unit != "weight":
        raise _checks.bad_value(
            "final.chain",
            "be left out of structured tickets",
            "task.unit='weight', or final.chain=false",
            f"task.unit={task.layout.unit!r}",
            "The chain prunes single weights.",
        )
    with nullcontext() if map is None else map(task):
        result = search(
            task,
            **options_of(config, task),
            path=path,
            seed=config.seed,
            progress=progress,
            overwrite=overwrite,
            resume=resume,
            force=force,
            config={"preset": preset, "config": config.as_dict()},
        )
        return _finish(config, task, result, _checks.path("path", path), progress)


def _finish(
    config: Config, task: Task, result: SearchResult, path: Path, progress: str
) -> RunReport:
    """Train the front that a search found from W0, and complete its run folder."""
    show = Progress(progress)

    steps = f"{config.final.steps:,} steps"
    rivals = "dense, random masks" + ", a chain" * config.final.chain
    show.line(f"final training from W0, {steps}: the front, {rivals}")

    def on_trained(done: int, total: int) -> None:
        show.line(f"final training from W0: {done} of {total} networks, {steps}")

    assert result.path is not None
    folder = RunFolder.taken_up(result.path)
    partial = Partial(folder, len(result.logbook))
    set_journal(task.problem, partial)
    try:
        final = train_front(
            task,
            list(result.front),
            steps=config.final.steps,
            members=config.final.members,
            chain=float(result.logbook[-1]["dense_steps"]) if config.final.chain else None,
            by=config.search.by or usual_criterion(task),
            on_trained=on_trained,
        )
    finally:
        set_journal(task.problem, None)
    folder.write_front(final_rows(result, final))
    folder.write_json(CURVES, final.curves())
    partial.forget(len(result.logbook))
    notes = [] if result.stopped is None else [f"stopped early: {result.stopped}"]
    folder.close()
    return RunReport(result, final, path, notes)


def options_of(config: Config, task: Task) -> dict[str, Any]:
    """Return the arguments of ``search`` that a configuration asks for."""
    if config.search.genome == "weights":
        return search_options(task, config.search)
    options = config.search.part(SearchSettings)
    if config.search.islands is not None:
        options["islands"] = config.search.islands
        options["migration"] = Migration(every=config.search.migrate_every)
    return options


def final_rows(result: SearchResult, final: FinalTraining) -> list[dict[str, Any]]:
    """Return the front's rows with what the final training measured, blank where not trained."""
    trained = {row.ticket.digest[:16]: row for row in final.rows}
    rows = []
    for row in front_rows(result.front):
        more: dict[str, Any] = {}
        if row["ticket"] in trained:
            member = trained[row["ticket"]]
            more = {
                "final_steps": final.steps,
                "test_loss": member.trained.test_loss,
                "test_accuracy": member.trained.test_accuracy,
                "random_test_accuracy": member.random.test_accuracy,
                "chain_test_accuracy": None
                if member.pruned is None
                else member.pruned.test_accuracy,
                "dense_test_accuracy": final.dense.test_accuracy,
                "multiply_adds_share": member.share,
                "chain_multiply_adds_share": member.pruned_share,
                "compact_share": member.compact,
                "random_compact_share": member.random_compact,
                "chain_compact_share": member.pruned_compact,
            }
        rows.append({**row, **more})
    return rows


def _number(value: float) -> str:
    """Return the value of an objective: counts whole, all else with four decimals."""
    return f"{value:,.0f}" if value >= 1000 and value == round(value) else f"{value:.4f}"


def _percent(share: float) -> str:
    """Return a share in per cent."""
    return "-" if math.isnan(share) else f"{100 * share:.2f} %"

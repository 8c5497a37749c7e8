"""``Recorder``: what goes into ``stats=`` of any DEAP algorithm to log, save, show and stop."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from deap import tools

from nets_deap import _checks
from nets_deap.fronts import ParetoFront, costs_of, hypervolume
from nets_deap.origin import origin_of, versions
from nets_deap.runs.folder import RunFolder
from nets_deap.runs.progress import Progress
from nets_deap.task import Task
from nets_deap.ticket import Ticket


class SearchStopped(Exception):
    """Raised by a recorder, at the end of a generation, to stop the algorithm early.

    Attributes:
        reason: Why.
        population: The population at that moment.
        logbook: The recorder's log so far.
    """

    def __init__(self, reason: str, population: list[Any], logbook: tools.Logbook) -> None:
        super().__init__(reason)
        self.reason, self.population, self.logbook = reason, population, logbook


class Recorder:
    """Records a search once a generation; give it to an algorithm as ``stats=``.

    Writes the run folder, which is complete after every generation: configuration, log, front and
    the front's tickets. Keeps its own front over all generations in ``front`` and its own log in
    ``logbook``, so that nothing is lost when it stops an algorithm.

    Args:
        path: The run folder; None writes nothing.
        task: The task; its ledger gives the cost.
        generations: How many generations there will be, for the time left.
        reference: Reference point of the hypervolume, M values; None for the objectives' own, or
            for a fitness without any the worst values of the first population.
        progress: ``"auto"``, ``"bar"``, ``"lines"`` or ``"none"``.
        patience: Stop after so many generations without a larger hypervolume.
        max_steps: Stop once so many steps x networks are spent.
        max_seconds: Stop once so many seconds are spent.
        overwrite: Replace an earlier run in the folder.
        config: More facts for ``config.json``.
        archive: Keeps the front; None for a ``ParetoFront``.

    Raises:
        InvalidValueError: The folder holds something; an argument is out of range.
        FileAccessError: The folder cannot be written.
        SearchStopped: (from ``compile``) a limit is reached; catch it around the algorithm.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        task: Task,
        generations: int | None = None,
        reference: Sequence[float] | None = None,
        progress: str = "auto",
        patience: int | None = None,
        max_steps: int | None = None,
        max_seconds: float | None = None,
        overwrite: bool = False,
        config: Mapping[str, Any] | None = None,
        archive: tools.HallOfFame | None = None,
    ) -> None:
        if not isinstance(task, Task):
            raise _checks.bad_type("task", "be a task", "a nets.Task", task)
        self.fields = ["front_size", "hypervolume", "network_steps", "diverged", "seconds"]
        self.patience = _checks.unless_none(_checks.whole, "patience", patience)
        self.max_steps = _checks.unless_none(_checks.whole, "max_steps", max_steps)
        self.max_seconds = _checks.unless_none(
            _checks.real, "max_seconds", max_seconds, low=0, open_low=True
        )
        _checks.unless_none(_checks.whole, "generations", generations, low=0)
        self.reference = (
            None if reference is None else [_checks.real("reference", r) for r in reference]
        )
        self.progress = Progress(progress, generations)
        self.task = task
        self.front = ParetoFront() if archive is None else archive
        self.logbook = tools.Logbook()
        self.generation = -1
        self._config = dict(config or {})
        self._best_generation, self._best_volume = 0, -1.0
        self._start = time.monotonic()
        self._spent = (task.ledger.networks, task.ledger.network_steps, task.ledger.diverged)
        self._python_state = random.getstate()
        self.folder = None if path is None else RunFolder(path, overwrite=overwrite)
        self._write_config()

    def compile(self, population: Sequence[Any]) -> dict[str, Any]:
        """Take note of a generation; called by the algorithm after selection.

        Returns:
            The generation's row of the log, for the algorithm's own logbook.
        """
        if not len(population):
            raise _checks.bad_value("population", "have members", "at least one", 0)
        self.generation += 1
        self.front.update(population)
        names = objective_names(population[0].fitness)
        self._fix_reference(population, names)
        row = self._row(population, names)
        self.logbook.record(gen=self.generation, **row)
        if self.folder is not None:
            self.folder.append_row({"generation": self.generation, **row})
            self.folder.write_front(front_rows(self.front))
            for ticket in self.front:
                if isinstance(ticket, Ticket) and not ticket.origin:
                    ticket.origin = origin_of(self.task, generation=self.generation)
            self.folder.write_tickets([t for t in self.front if t.has_layout])
        best = {f"best {n}": row[f"{n}_{_side(w)}"] for n, w in _sides(population[0].fitness)}
        shown = {"front": row["front_size"], "hypervolume": row["hypervolume"]}
        self.progress.show(self.generation, {**best, **shown})
        reason = self._reason(row)
        if reason is not None:
            self.progress.line(f"stopped after generation {self.generation}: {reason}")
            self.progress.close()
            raise SearchStopped(reason, list(population), self.logbook)
        if self.generation == self.progress.generations:
            self.progress.close()
        return row

    def _row(self, population: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
        """Return the numbers of this generation."""
        ledger = self.task.ledger
        networks, steps, diverged = (
            now - then
            for now, then in zip(
                (ledger.networks, ledger.network_steps, ledger.diverged), self._spent, strict=True
            )
        )
        row: dict[str, Any] = {
            "evaluations": networks,
            "network_steps": steps,
            "diverged": diverged,
            "front_size": len(self.front),
            "hypervolume": hypervolume(costs_of(self.front), self._costs_of_reference(population)),
            "seconds": round(time.monotonic() - self._start, 3),
        }
        values = np.array([individual.fitness.values for individual in population])
        for name, column in zip(names, values.T, strict=True):
            row[f"{name}_min"] = float(column.min())
            row[f"{name}_mean"] = float(column.mean())
            row[f"{name}_max"] = float(column.max())
        return row

    def _fix_reference(self, population: Sequence[Any], names: Sequence[str]) -> None:
        """Fix the hypervolume's reference point at the first generation."""
        if self.reference is None:
            own = getattr(population[0].fitness, "reference", ())
            weights = np.sign(population[0].fitness.weights)
            worst = costs_of(population).max(axis=0) / np.abs(population[0].fitness.weights)
            self.reference = [float(r) for r in (own or -weights * worst)]
        if self.generation == 0:
            _checks.length("reference", len(self.reference), len(names), "M")
            self._config["hypervolume_reference"] = dict(zip(names, self.reference, strict=True))
            self._write_config()

    def _costs_of_reference(self, population: Sequence[Any]) -> list[float]:
        """Return the reference point as costs, in the scale of DEAP's weighted values."""
        assert self.reference is not None
        weights = population[0].fitness.weights
        return [-w * r for w, r in zip(weights, self.reference, strict=True)]

    def _reason(self, row: Mapping[str, Any]) -> str | None:
        """Return why to stop now, if at all."""
        if row["hypervolume"] > self._best_volume:
            self._best_volume, self._best_generation = row["hypervolume"], self.generation
        waited = self.generation - self._best_generation
        if self.patience is not None and waited >= self.patience:
            return f"no larger hypervolume for {waited} generations"
        if self.max_steps is not None and row["network_steps"] >= self.max_steps:
            return f"{row['network_steps']} of {self.max_steps} steps x networks are spent"
        if self.max_seconds is not None and row["seconds"] >= self.max_seconds:
            return f"{row['seconds']:.0f} of {self.max_seconds:g} seconds are spent"
        return None

    def _write_config(self) -> None:
        """Write everything that was set."""
        if self.folder is None:
            return
        facts = {
            "task": self.task.as_dict(),
            "recorder": {
                "patience": self.patience,
                "max_steps": self.max_steps,
                "max_seconds": self.max_seconds,
            },
            "versions": versions(),
            "python_random_state": _digest_of_state(self._python_state),
            **self._config,
        }
        self.folder.write_json("config.json", facts)


def objective_names(fitness: Any) -> tuple[str, ...]:
    """Return the objectives' names of a fitness, or made-up ones."""
    return getattr(fitness, "names", ()) or tuple(
        f"objective_{i}" for i in range(len(fitness.weights))
    )


def named_values(fitness: Any) -> dict[str, float]:
    """Return the values of a fitness by the objectives' names."""
    return dict(zip(objective_names(fitness), fitness.values, strict=True))


def front_rows(front: Sequence[Any]) -> list[dict[str, Any]]:
    """Return a front as rows, densest first: digest, kept weights, density, objectives."""
    rows = []
    for ticket in sorted(front, key=lambda t: (-t.kept, t.fitness.values, t.digest)):
        row = {"ticket": ticket.digest[:16], "kept": ticket.kept, "density": ticket.density}
        values = named_values(ticket.fitness)
        rows.append({**row, **{name: v for name, v in values.items() if name not in row}})
    return rows


def _sides(fitness: Any) -> list[tuple[str, float]]:
    """Return names and weights of the objectives."""
    return list(zip(objective_names(fitness), fitness.weights, strict=True))


def _side(weight: float) -> str:
    """Return which end of a column is the better one."""
    return "min" if weight < 0 else "max"


def _digest_of_state(state: tuple[Any, ...]) -> str:
    """Return a short digest of Python's random state at the start."""
    import hashlib

    return hashlib.sha256(repr(state).encode()).hexdigest()[:16]

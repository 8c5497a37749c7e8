"""``search``: evolve tickets of a task in one call."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deap import algorithms, base, tools

from nets_deap import _checks
from nets_deap.batching import unwrap
from nets_deap.budget import StepBudget
from nets_deap.errors import RunChangedError
from nets_deap.evaluator import Evaluator
from nets_deap.fronts import NicheArchive
from nets_deap.objectives import Objective, describe
from nets_deap.runs.differences import differences
from nets_deap.runs.folder import RunFolder
from nets_deap.runs.history import Generation, read_history
from nets_deap.runs.recorder import Recorder
from nets_deap.runs.resume import Resumed, newest, read_config, take_up
from nets_deap.runs.signals import listening
from nets_deap.runs.stopped import SearchStopped
from nets_deap.task import Task
from nets_deap.ticket import Ticket
from nets_deap.toolbox import DEFAULT_OBJECTIVES, STRUCTURAL, make_toolbox

ALGORITHMS = {"plus": algorithms.eaMuPlusLambda, "comma": algorithms.eaMuCommaLambda}


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        front: The Pareto front over all generations; where weights are inherited the best ticket
            of each niche of log density.
        population: The last population.
        logbook: A row a generation.
        path: The run folder, if one was written.
        stopped: Why it stopped early; None if it ran to the end.
        lived: Who lived in each generation, where no run folder was written.
    """

    front: tools.HallOfFame
    population: list[Ticket]
    logbook: tools.Logbook
    path: Path | None
    stopped: str | None
    lived: list[Generation] = field(default_factory=list, repr=False)

    @property
    def history(self) -> list[Generation]:
        """Who lived in each generation, for figures; read from the run folder if there is one."""
        return self.lived if self.path is None else read_history(self.path)


def search(
    task: Task,
    *,
    population: int = 40,
    offspring: int | None = None,
    generations: int = 20,
    cxpb: float = 0.1,
    mutpb: float = 0.9,
    objectives: str | Objective | Sequence[str | Objective] = DEFAULT_OBJECTIVES,
    inherit: str = "none",
    algorithm: str | None = None,
    budget: int | None = None,
    growth: float = 1.0,
    toolbox: base.Toolbox | None = None,
    path: str | Path | None = None,
    seed: int | None = None,
    progress: str = "auto",
    patience: int | None = None,
    max_steps: int | None = None,
    max_seconds: float | None = None,
    overwrite: bool = False,
    resume: bool = False,
    force: bool = False,
    config: dict[str, Any] | None = None,
    **options: Any,
) -> SearchResult:
    """Evolve tickets with DEAP's ``eaMuPlusLambda`` or ``eaMuCommaLambda``.

    Python's global random state is the same afterwards as before. The same task, arguments and
    seed give the same result on the same machine.

    Args:
        task: What to train on.
        population: Tickets that survive each generation (mu), >= 1; >= 2 with crossover.
        offspring: Tickets made each generation (lambda); None for as many as ``population``, or
            twice as many with ``algorithm="comma"``, which selects among them alone.
        generations: After the first population, >= 0.
        cxpb: Probability that a child comes from crossover.
        mutpb: Probability that it comes from mutation; the two add up to at most 1.
        objectives: See ``nets.make_toolbox``.
        inherit: See ``nets.make_toolbox``.
        algorithm: ``"plus"`` or ``"comma"``; None for comma where weights are inherited (parents
            have trained less than their children, so they cannot compete), else plus.
        budget: Steps x networks of the whole search, kept exactly; None trains the recipe's steps.
        growth: Steps of the last generation over those of the first; see ``nets.StepBudget``.
        toolbox: Use this one; what is given to ``nets.make_toolbox`` is then its own matter.
        path: Run folder; None writes nothing.
        seed: Seed of the evolution; None for the task's.
        progress: See ``nets.Recorder``.
        patience: See ``nets.Recorder``.
        max_steps: See ``nets.Recorder``.
        max_seconds: See ``nets.Recorder``.
        overwrite: Replace an earlier run in the folder.
        resume: Go on with the run in the folder; the result is that of an uninterrupted one. A run
            without a checkpoint begins again.
        force: See ``nets.resume``.
        config: More facts for ``config.json``.
        **options: Passed to ``nets.make_toolbox``.

    Returns:
        The result, also when a limit stopped the search early.

    Raises:
        InvalidValueError: An argument is out of range; all bad ones are listed together.
        RunChangedError: The run to go on with was another one.
        CrewLostError: All workers are lost; the run can be resumed.
        KeyboardInterrupt: Also where SIGTERM or SIGUSR1 asked to end, once all is saved.
    """
    if resume and path is None:
        raise _checks.bad_value("path", "be given to resume", "a run folder", path)
    _checks.together(
        "search",
        (
            lambda: _checks.whole("population", population, low=2 if cxpb else 1),
            lambda: _checks.unless_none(_checks.whole, "offspring", offspring),
            lambda: _checks.whole("generations", generations, low=0),
            lambda: _checks.real("cxpb", cxpb, low=0, high=1),
            lambda: _checks.real("mutpb", mutpb, low=0, high=1),
            lambda: _checks.real("cxpb + mutpb", cxpb + mutpb, low=0, high=1 + 1e-9),
        ),
    )
    given = {"objectives": objectives != DEFAULT_OBJECTIVES, "inherit": inherit != "none"}
    beside = [name for name, is_given in {**given, "budget": budget}.items() if is_given]
    if toolbox is not None and (options or beside):
        raise _checks.bad_value(
            "toolbox", "come alone", "no toolbox options beside it", [*beside, *options]
        )
    box = toolbox
    if box is None:
        shares = None if budget is None else StepBudget(budget, generations, growth=growth)
        box = make_toolbox(task, objectives=objectives, inherit=inherit, budget=shares, **options)
    evaluator = unwrap(box.evaluate)
    archive = None
    if isinstance(evaluator, Evaluator) and evaluator.inherit == "weights":
        archive = _archive(evaluator)
    kind = ("plus" if archive is None else "comma") if algorithm is None else algorithm
    evolve = ALGORITHMS[_checks.choice("algorithm", kind, ALGORITHMS)]
    usual = 2 * population if kind == "comma" else population
    children = usual if offspring is None else offspring
    if kind == "comma" and options.get("reevaluate"):
        raise _checks.bad_value(
            "reevaluate", "be left out where parents die", "algorithm='plus'", "algorithm='comma'"
        )
    if kind == "comma" and children < population:
        raise _checks.bad_value(
            "offspring",
            "be enough for algorithm='comma'",
            f"at least population = {population}",
            children,
            "Give more offspring or a smaller population.",
        )
    settings: dict[str, Any] = {
        "population": population,
        "offspring": children,
        "generations": generations,
        "cxpb": cxpb,
        "mutpb": mutpb,
        "seed": task.seed if seed is None else _checks.whole("seed", seed, low=0),
        "algorithm": kind,
    }
    if isinstance(evaluator, Evaluator):
        settings["objectives"] = describe(evaluator.objectives)
        settings["inherit"] = evaluator.inherit
        settings["budget"] = None if evaluator.budget is None else evaluator.budget.total
        evaluator.restart()  # so that a toolbox used before gives the same again
    stopped = None
    before = random.getstate()
    try:
        left, run = generations, None
        if resume and path is not None:
            run = _held_run(task, path, settings, progress=progress, force=force)
        if run is None:
            random.seed(settings["seed"])
            tickets: list[Ticket] = box.population(n=population)
            # After the population: what is wrong with the toolbox shows before a folder is touched.
            recorder = Recorder(
                path,
                task=task,
                generations=generations,
                progress=progress,
                patience=patience,
                max_steps=max_steps,
                max_seconds=max_seconds,
                overwrite=overwrite or resume,
                config={"search": settings, **(config or {})},
                archive=archive,
            )
        else:
            tickets, recorder = run.population, run.recorder
            left = max(0, generations - run.generation)
        try:
            with listening(only_free=True):
                evolve(
                    tickets,
                    box,
                    mu=population,
                    lambda_=children,
                    cxpb=cxpb,
                    mutpb=min(mutpb, 1 - cxpb),
                    ngen=left,
                    stats=recorder,
                    halloffame=recorder.front,  # sees the offspring that do not survive, too
                    verbose=False,
                )
        except SearchStopped as stop:
            stopped = stop.reason
        finally:
            recorder.close()
    finally:
        random.setstate(before)
        close = getattr(unwrap(box.map), "close", None)
        if close is not None and toolbox is None:  # workers of the toolbox that was made here
            close()
    return SearchResult(
        front=recorder.front,
        population=tickets,
        logbook=recorder.logbook,
        path=None if path is None else Path(path),
        stopped=stopped,
        lived=recorder.lived,
    )


def _archive(evaluator: Evaluator) -> NicheArchive:
    """Return an archive that spreads over what the search makes small: density, or its like."""
    names = [objective.name for objective in evaluator.objectives]
    return NicheArchive(by=next((name for name in STRUCTURAL if name in names), "density"))


def _held_run(
    task: Task, path: str | Path, settings: Mapping[str, Any], *, progress: str, force: bool
) -> Resumed | None:
    """Return the run that a folder holds, if it has a checkpoint."""
    read_config(Path(path))
    folder = RunFolder.taken_up(path, force=force)
    try:
        snapshot = newest(folder.path)
        if snapshot is None:
            return None
        plain = json.loads(json.dumps(settings))
        changed = differences(snapshot.facts.get("search", {}), plain)
        if changed and not force:
            raise RunChangedError(
                f"the search must go on as it was begun, but {'; '.join(changed)}. Give the same "
                "arguments, or go on with force=True (--force): the result is then no longer that "
                "of one uninterrupted run."
            )
        run = take_up(folder, snapshot, task, progress=progress, force=force)
        run.recorder.progress.generations = settings["generations"]
        return run
    except BaseException:
        folder.close()
        raise

"""``search``: evolve tickets of a task in one call."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deap import base, tools

from nets_deap import _checks
from nets_deap.errors import RunChangedError
from nets_deap.evolution.archives import NicheArchive, shown
from nets_deap.evolution.batch_map import unwrap
from nets_deap.evolution.budget import StepBudget
from nets_deap.evolution.evaluator import Evaluator
from nets_deap.evolution.objectives import Objective, describe
from nets_deap.evolution.toolbox import DEFAULT_OBJECTIVES, STRUCTURAL, make_toolbox
from nets_deap.runs.checkpoint import random_states
from nets_deap.runs.checkpoint.diff import differences
from nets_deap.runs.limits import SearchStopped
from nets_deap.runs.recorder import Callback, Recorder, checked
from nets_deap.runs.resume import Resumed, newest, read_config, take_up
from nets_deap.runs.search.algorithm import Algorithm, check_numbers, evaluator_in, inherits
from nets_deap.runs.search.islands import Island, Islands, Migration, Population
from nets_deap.runs.signals import listening
from nets_deap.runs.storage.folder import RunFolder
from nets_deap.runs.storage.history import Generation, read_history
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.task import Task


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        front: The Pareto front over all generations; where weights are inherited the best ticket
            of each niche of log density.
        population: The last population; on islands those of all, one after the other.
        logbook: A row a generation.
        path: The run folder, if one was written.
        stopped: Why it stopped early; None if it ran to the end.
        lived: Who lived in each generation, where no run folder was written.
        islands: The last population of each island; without islands the one population.
    """

    front: tools.HallOfFame
    population: list[Ticket]
    logbook: tools.Logbook
    path: Path | None
    stopped: str | None
    lived: list[Generation] = field(default_factory=list, repr=False)
    islands: list[list[Ticket]] = field(default_factory=list, repr=False)

    def __repr__(self) -> str:
        path = None if self.path is None else str(self.path)
        row = self.logbook[-1]
        spent = f"generation {row['gen']}, {row['network_steps']} steps x networks"
        ended = f"{spent}, path={path!r}, stopped={self.stopped!r}"
        return f"SearchResult({shown(self.front)}; {ended})"

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
    islands: int | Sequence[Island] | None = None,
    migration: Migration | None = None,
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
    callbacks: Iterable[Callback] = (),
    **options: Any,
) -> SearchResult:
    """Evolve tickets with DEAP's ``eaMuPlusLambda`` or ``eaMuCommaLambda``.

    The global random states are the same afterwards as before. The same task, arguments and seed
    give the same result on the same machine.

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
        islands: How many populations evolve side by side, or a list with a ``nets.Island`` for
            each; ``population`` and the like are then those of each island. All train as one
            batch, and share the front, the budget and the run folder. None for one.
        migration: When and how tickets move between islands; None for every 5 generations along
            a ring, see ``nets.Migration``.
        path: Run folder; None writes nothing.
        seed: Seed of the evolution; None for the task's.
        progress: See ``nets.Recorder``.
        patience: See ``nets.Recorder``.
        max_steps: See ``nets.Recorder``.
        max_seconds: See ``nets.Recorder``.
        overwrite: Replace an earlier run in the folder.
        resume: Go on with the run in the folder; the result is that of an uninterrupted one. A run
            without a checkpoint begins again, and where there is none one begins, so that a job
            may call the same again and again. Without a budget more ``generations`` than before
            make it longer.
        force: See ``nets.resume``.
        config: More facts for ``config.json``.
        callbacks: See ``nets.Recorder``; a run that goes on calls them for later generations.
        **options: Passed to ``nets.make_toolbox``.

    Returns:
        The result, also when a limit stopped the search early.

    Raises:
        InvalidValueError: An argument is out of range; all bad ones are listed together.
        RunChangedError: The run to go on with was another one.
        ExecutorLostError: All workers are lost; the run can be resumed.
        KeyboardInterrupt: Also where SIGTERM or SIGUSR1 asked to end, once all is saved; a program
            that does not catch it then ends with 128 + signal.
    """
    if resume and path is None:
        raise _checks.bad_value("path", "be given to resume", "a run folder", path)
    numbers: dict[str, Any] = {
        "population": population,
        "offspring": offspring,
        "cxpb": cxpb,
        "mutpb": mutpb,
    }
    if migration is not None and islands is None:
        raise _checks.bad_value("migration", "come with islands", "islands=2 or more", None)
    check_numbers("search", **numbers, generations=generations)
    generations = int(generations)
    given = {"objectives": objectives != DEFAULT_OBJECTIVES, "inherit": inherit != "none"}
    beside = [name for name, is_given in {**given, "budget": budget}.items() if is_given]
    if toolbox is not None and (options or beside):
        raise _checks.bad_value(
            "toolbox", "come alone", "no toolbox options beside it", [*beside, *options]
        )
    box = toolbox
    if box is None:
        shares = None if budget is None else StepBudget(budget, generations, growth=growth)
        options |= {"objectives": objectives, "inherit": inherit}
        box = make_toolbox(task, budget=shares, **options)
    numbers["algorithm"] = algorithm
    main = Algorithm.of("search", box, options, **numbers)
    first = task.seed if seed is None else _checks.whole("seed", seed, low=0)
    if islands is None:
        everyone = Islands([Population(main, box, first)], None)
    else:
        made = None if toolbox is not None else options
        everyone = Islands.of(islands, numbers, box, made, task, first, migration)
    evaluator = evaluator_in(box)
    archive = _archive(evaluator) if evaluator is not None and inherits(box) else None
    settings: dict[str, Any] = {**main.as_dict(), "generations": generations, "seed": first}
    settings |= everyone.as_dict()
    if evaluator is not None:
        settings["objectives"] = describe(evaluator.objectives)
        settings["inherit"] = evaluator.inherit
        settings["budget"] = None if evaluator.budget is None else evaluator.budget.total
        evaluator.restart()  # so that a toolbox used before gives the same again
    stopped, hooks = None, checked(callbacks)
    before = random_states.states()
    try:
        left, run = generations, None
        if resume and path is not None:
            run = _held_run(task, path, settings, progress=progress, force=force)
        if run is None:
            everyone.begin()
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
                callbacks=hooks,
            )
        else:
            recorder = run.recorder
            recorder.callbacks = hooks
            left = max(0, generations - run.generation)
            everyone.go_on(run.beside, run.population)
        try:
            again = "" if path is None else f"nets.search(..., path={str(path)!r}, resume=True)"
            with listening(only_free=True, advice=again):
                everyone.evolve(recorder, left)
        except SearchStopped as stop:
            stopped = stop.reason
        finally:
            recorder.close()
    finally:
        random_states.set_states(before)
        close = getattr(unwrap(box.map), "close", None)
        if close is not None and toolbox is None:  # workers of the toolbox that was made here
            close()
    return SearchResult(
        front=recorder.front,
        population=everyone.tickets,
        islands=everyone.populations,
        logbook=recorder.logbook,
        path=None if recorder.folder is None else recorder.folder.path,
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
    """Return the run that a folder holds, if there is one with a checkpoint."""
    if not Path(path).is_dir() or not any(Path(path).iterdir()):
        return None
    read_config(Path(path))
    folder = RunFolder.taken_up(path, force=force)
    try:
        snapshot = newest(folder.path)
        if snapshot is None:
            return None
        plain = json.loads(json.dumps(settings))
        then = snapshot.facts.get("search", {})
        longer = plain["generations"] > then.get("generations", 0) and not plain.get("budget")
        if longer:  # as it would have gone on
            then = {**then, "generations": plain["generations"]}
        changed = differences(then, plain)
        if changed and not force:
            raise RunChangedError(
                f"the search must go on as it was begun, but {'; '.join(changed)}. Give the same "
                "arguments, or go on with force=True (--force): the result is then no longer that "
                "of one uninterrupted run."
            )
        more = settings["generations"]
        return take_up(folder, snapshot, task, generations=more, progress=progress, force=force)
    except BaseException:
        folder.close()
        raise

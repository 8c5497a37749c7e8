"""``search``: evolve tickets of a task in one call.

One file: what it takes, what it does and what it returns are read together.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deap import base, tools

from nets_deap import _checks
from nets_deap.errors import RunChangedError
from nets_deap.evolution.archives import shown
from nets_deap.evolution.batch_map import unwrap
from nets_deap.evolution.budget import STEPS, Budget
from nets_deap.evolution.evaluator import Evaluator
from nets_deap.evolution.objectives import describe
from nets_deap.evolution.settings import (
    EvaluationSettings,
    MapSettings,
    OperatorSettings,
    setting,
    takes,
)
from nets_deap.evolution.toolbox import make_toolbox, shrinks_tickets
from nets_deap.runs.checkpoint import random_states
from nets_deap.runs.checkpoint.diff import differences
from nets_deap.runs.limits import SearchStopped
from nets_deap.runs.networks import TrainedNetwork, networks_of
from nets_deap.runs.progress import Progress
from nets_deap.runs.recorder import Callback, Recorder, checked
from nets_deap.runs.resume import Resumed, newest, take_up
from nets_deap.runs.search.algorithm import Algorithm, Population, searching
from nets_deap.runs.search.islands import Island, Islands, Migration, check_islands, plain
from nets_deap.runs.search.settings import (
    AlgorithmSettings,
    LimitSettings,
    RunSettings,
    SearchSettings,
)
from nets_deap.runs.signals import listening
from nets_deap.runs.storage.folder import RunFolder
from nets_deap.runs.storage.history import Generation
from nets_deap.runs.storage.paths import again
from nets_deap.runs.storage.reader import RunReader
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.task import Task, check_task


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
        task: What it searched on.
        front_steps: Steps from W0 that all of the front was measured after; None where they differ,
            or nobody knows.
    """

    front: tools.HallOfFame
    population: list[Ticket]
    logbook: tools.Logbook
    path: Path | None
    stopped: str | None
    lived: list[Generation] = field(default_factory=list, repr=False)
    islands: list[list[Ticket]] = field(default_factory=list, repr=False)
    task: Task | None = field(default=None, repr=False)
    front_steps: int | None = field(default=None, repr=False)

    @functools.cached_property
    def networks(self) -> list[TrainedNetwork]:
        """The networks themselves, as their lineages have trained them, one for each niche of size.

        Beside ``front``, whose tickets are measured from W0; see ``runs.networks.networks_of``.
        Measured on all splits when first asked for.
        """
        return [] if self.task is None else networks_of(self.front, self.task)

    def __repr__(self) -> str:
        path = None if self.path is None else str(self.path)
        row = self.logbook[-1]
        spent = f"generation {row['gen']}, {row['network_steps']} steps x networks"
        if "dense_steps" in row:
            spent += f", {row['dense_steps']:.0f} dense steps"
        ended = f"{spent}, path={path!r}, stopped={self.stopped!r}"
        return f"SearchResult({shown(self.front)}; {ended})"

    @property
    def history(self) -> list[Generation]:
        """Who lived in each generation, for figures; read from the run folder if there is one."""
        return self.lived if self.path is None else RunReader(self.path).history()


def _migration(name: str, value: Any) -> Migration:
    """Return a migration."""
    if not isinstance(value, Migration):
        raise _checks.bad_type(name, "be one", "a nets.Migration", value)
    return value


@dataclass(frozen=True, kw_only=True)
class SearchArguments(RunSettings, MapSettings, SearchSettings):
    """All that ``nets.search`` takes: its settings, and what only Python can give."""

    toolbox: base.Toolbox | None = setting(
        None, "Use this one; what is given to ``nets.make_toolbox`` is then its own matter."
    )
    islands: int | Sequence[Island] | None = setting(
        None,
        "How many populations evolve side by side, or a list with a ``nets.Island`` for each; "
        "``population`` and the like are then those of each island. All train as one batch, and "
        "share the front, the budget and the run folder. None for one.",
        check_islands,
    )
    migration: Migration | None = setting(
        None,
        "When and how tickets move between islands; None for every 5 generations along a ring, "
        "see ``nets.Migration``.",
        _migration,
    )
    config: Mapping[str, Any] | None = setting(None, "More facts for ``config.json``.")
    callbacks: Iterable[Callback] = setting(
        (),
        "See ``nets.Recorder``; a run that goes on calls them for later generations.",
        lambda _, value: checked(value),
    )

    def _rules(self) -> Iterable[Callable[[], object]]:
        return (*super()._rules(), self._check_company)

    def _check_company(self) -> None:
        """Refuse what does not go together."""
        if self.migration is not None and self.islands is None:
            raise _checks.bad_value("migration", "come with islands", "islands=2 or more", None)
        beside = self.changed(OperatorSettings, EvaluationSettings, MapSettings)
        beside += ["budget"] if self.budget is not None else []
        if self.toolbox is not None and beside:
            raise _checks.bad_value("toolbox", "come alone", "no toolbox options beside it", beside)


@takes(SearchArguments)
@searching.held()
def search(task: Task, settings: SearchArguments) -> SearchResult:
    """Evolve tickets as DEAP's ``eaMuPlusLambda`` or ``eaMuCommaLambda`` does, draw for draw.

    The global random states are the same afterwards as before. The same task, arguments and seed
    give the same result on the same machine. Of searches in several threads one runs at a time.

    Args:
        task: What to train on.
        **settings: The fields of ``SearchArguments``, by keyword.

    Returns:
        The result, also when a limit stopped the search early.

    Raises:
        InvalidValueError: An argument is out of range; all bad ones are listed together.
        InvalidTypeError: An argument is of the wrong kind, or unknown.
        RunChangedError: The run to go on with was another one.
        ExecutorLostError: All workers are lost; the run can be resumed.
        KeyboardInterrupt: Also where SIGTERM or SIGUSR1 asked to end, once all is saved; a program
            that does not catch it then ends with 128 + signal.
    """
    check_task("search's task", task)
    path = settings.path
    box = toolbox_of(task, settings)
    found = unwrap(box.evaluate)
    evaluator = found if isinstance(found, Evaluator) else None
    if evaluator is not None and evaluator.budget is not None:  # of a toolbox that was given
        evaluator.budget.check_plan(settings.generations, "toolbox's budget")
    shrinks = evaluator is not None and shrinks_tickets(evaluator)
    main = Algorithm.of(settings, shrinks=shrinks)
    seed = task.seed if settings.seed is None else settings.seed
    everyone = Islands([Population(main, box, seed)], None)
    if settings.islands is not None:
        assert not isinstance(settings.islands, int)  # its check has made a list of it
        everyone = Islands.of(
            settings.islands,
            settings.migration,
            box,
            settings,
            seed=seed,
            shrinks=shrinks,
            evaluator=evaluator if settings.toolbox is None else None,
        )
    facts = {**_facts(settings, main, evaluator), "seed": seed, **everyone.as_dict()}
    if evaluator is not None:
        evaluator.planned = settings.generations
        evaluator.restart()  # so that a toolbox used before gives the same again
    stopped = None
    before = random_states.states()
    try:
        run = _held_run(task, path, facts, settings) if path and settings.resume else None
        if run is None:
            show = Progress(settings.progress, settings.generations)
            with show.beginning():
                everyone.begin()
                # After the population: what is wrong with the toolbox shows before a folder is
                # touched.
                recorder = Recorder(
                    path,
                    task=task,
                    progress=show,
                    overwrite=settings.overwrite or settings.resume,
                    config={"search": facts, **(settings.config or {})},
                    callbacks=settings.callbacks,
                    **settings.part(LimitSettings),
                )
            left = settings.generations
        else:
            recorder = run.recorder
            recorder.callbacks = checked(settings.callbacks)
            left = max(0, settings.generations - run.generation)
            everyone.go_on(run.beside, run.population)
        try:
            advice = "" if path is None else again(Path(path), searched=True)
            with listening(only_free=True, advice=advice):
                everyone.evolve(recorder, left)
        except SearchStopped as stop:
            stopped = stop.reason
        finally:
            recorder.close()
    finally:
        random_states.set_states(before)
    return SearchResult(
        front=recorder.front,
        population=everyone.tickets,
        islands=everyone.populations,
        logbook=recorder.logbook,
        path=None if recorder.folder is None else recorder.folder.path,
        stopped=stopped,
        lived=recorder.lived,
        task=task,
        front_steps=None if evaluator is None else evaluator.steps_of_front,
    )


def toolbox_of(task: Task, settings: SearchArguments) -> base.Toolbox:
    """Return the toolbox that was given, or else make one."""
    if settings.toolbox is not None:
        return settings.toolbox
    budget = None
    if settings.budget is not None:
        budget = settings.budget
        if not isinstance(budget, Budget):
            budget = Budget(budget, unit=settings.budget_unit, growth=settings.growth)
        budget = budget.planned(settings.generations)
    own = settings.part(EvaluationSettings, OperatorSettings, MapSettings)
    return make_toolbox(task, budget=budget, **{**own, "reevaluate": _reevaluates(settings)})


def _reevaluates(settings: SearchArguments) -> bool:
    """Return whether survivors are evaluated again."""
    if settings.reevaluate is None:
        alone = settings.algorithm != "comma" and settings.islands is None
        return settings.holdout == "folds" and alone
    return settings.reevaluate


def _facts(
    settings: SearchArguments, main: Algorithm, evaluator: Evaluator | None
) -> dict[str, Any]:
    """Return what makes a search what it is, as plain data; a run must go on with the same."""
    facts: dict[str, Any] = {"generations": settings.generations}
    if settings.toolbox is None:
        own = settings.part(EvaluationSettings, OperatorSettings)
        del own["objectives"]  # described below; what a function holds on to may be large
        own["reevaluate"] = _reevaluates(settings)
        facts |= plain({**own, "growth": settings.growth})
    facts |= main.part(AlgorithmSettings)
    if evaluator is not None:
        facts["objectives"] = describe(evaluator.objectives)
        facts["inherit"], facts["holdout"] = evaluator.inherit, evaluator.holdout
        facts["rewinds"] = evaluator.rewinds
        budget = evaluator.budget
        facts["budget"] = None if budget is None else budget.total
        if budget is not None:
            facts |= {"budget_unit": budget.unit, "growth": budget.growth}
    return facts


def _held_run(
    task: Task, path: str | Path, facts: Mapping[str, Any], settings: SearchArguments
) -> Resumed | None:
    """Return the run that a folder holds, if there is one with a checkpoint.

    Raises:
        RunChangedError: It was begun with other facts.
    """
    force = settings.force
    path = _checks.path("path", path)
    if not path.is_dir() or not any(path.iterdir()):
        return None
    RunReader(path).config()
    folder = RunFolder.taken_up(path, force=force)
    try:
        snapshot = newest(folder.path)
        if snapshot is None:
            return None
        now = json.loads(json.dumps(facts))
        then = snapshot.facts.get("search", {})
        if "holdout" in now:  # runs of before there were folds have not noted it
            then = {"holdout": "fixed", **then}
        if then.get("budget") is not None:  # before there were units, it was steps
            then = {"budget_unit": STEPS, **then}
        longer = now["generations"] > then.get("generations", 0) and not now.get("budget")
        if longer:  # a budget aside, no generation depends on how many come after it
            then = {**then, "generations": now["generations"]}
        changed = differences(then, now)
        if changed and not force:
            raise RunChangedError(
                f"the search must go on as it was begun, but {'; '.join(changed)}. Give the same "
                "arguments, or go on with force=True (--force): the result is then no longer that "
                "of one uninterrupted run."
            )
        return take_up(
            folder,
            snapshot,
            task,
            generations=settings.generations,
            progress=settings.progress,
            force=force,
        )
    except BaseException:
        folder.close()
        raise

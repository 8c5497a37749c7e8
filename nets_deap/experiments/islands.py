"""Islands: several populations of one search, with migration between them."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from deap import base, tools

from nets_deap import _checks
from nets_deap.errors import RunFileError
from nets_deap.experiments.instep import Course, in_step, with_map
from nets_deap.experiments.strategy import Strategy, evaluator_in
from nets_deap.operators import sel_nsga2
from nets_deap.runs import randomness
from nets_deap.runs.recorder import Recorder
from nets_deap.task import Task
from nets_deap.ticket import Ticket
from nets_deap.toolbox import make_toolbox
from nets_deap.training.recipe import name_of

Migrate = Callable[[list[list[Ticket]]], Any]


@dataclass(frozen=True, kw_only=True)
class Island:
    """One population of a search on islands; what is None is as in the call of ``nets.search``.

    Attributes:
        seed: Seed of its evolution; None for the search's seed plus its place among the islands.
        population: Tickets that survive each generation (mu).
        offspring: Tickets made each generation (lambda).
        cxpb: Probability that a child comes from crossover.
        mutpb: Probability that it comes from mutation.
        algorithm: ``"plus"`` or ``"comma"``.
        options: Options of ``nets.make_toolbox`` for this island, over those of the search, such as
            ``{"density": (0.01, 0.1)}``.
        operators: Operators to register in its toolbox over those that it has, by DEAP's names, such
            as ``{"mutate": functools.partial(nets.operators.mut_flip, indpb=1e-4)}``; nothing keeps
            their children within ``density``.
    """

    seed: int | None = None
    population: int | None = None
    offspring: int | None = None
    cxpb: float | None = None
    mutpb: float | None = None
    algorithm: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    operators: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data, operators by their names."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return plain | {name: _plain(plain[name]) for name in ("options", "operators")}


@dataclass(frozen=True, kw_only=True)
class Migration:
    """When tickets move between islands, and how.

    Attributes:
        every: Once in so many generations, >= 1.
        move: Gets the list of populations and changes them in place, such as
            ``functools.partial(tools.migRing, k=2, selection=tools.selBest,
            replacement=random.sample)``. It may draw from the global random generators. None: the
            best tenth of each island by ``sel_nsga2``, and one at least, replaces tickets of the
            next that are drawn at random.
    """

    every: int = 5
    move: Migrate | None = None

    def __post_init__(self) -> None:
        _checks.whole("migration.every", self.every, low=1)

    def __call__(self, populations: list[list[Ticket]]) -> None:
        """Let tickets move."""
        sizes = list(map(len, populations))
        if self.move is not None:
            self.move(populations)
        elif len(populations) > 1:
            tools.migRing(
                populations,
                k=max(1, min(sizes) // 10),
                selection=sel_nsga2,
                replacement=random.sample,
            )
        if list(map(len, populations)) != sizes:
            raise _checks.bad_value(
                "migration.move",
                "leave each island as many tickets as it had",
                sizes,
                list(map(len, populations)),
            )

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {"every": self.every, "move": _plain(self.move)}


class One:
    """The one population of a search without islands.

    Args:
        strategy: How it evolves.
        toolbox: Its toolbox.
        seed: Seed of its evolution.
    """

    def __init__(self, strategy: Strategy, toolbox: base.Toolbox, seed: int) -> None:
        self._strategy, self._toolbox, self._seed = strategy, toolbox, seed

    def begin(self) -> list[Ticket]:
        """Return the first population."""
        random.seed(self._seed)
        tickets: list[Ticket] = self._toolbox.population(n=self._strategy.population)
        return tickets

    def evolve(self, tickets: list[Ticket], recorder: Recorder, generations: int) -> None:
        """Let the tickets evolve, in place."""
        self._strategy.evolve(
            tickets,
            self._toolbox,
            generations=generations,
            stats=recorder,
            front=recorder.front,
        )


class Islands:
    """Populations that evolve in step: each generation of all of them is trained as one batch.

    Args:
        islands: What each is like.
        strategies: How each evolves.
        toolboxes: The toolbox of each; all evaluate by the same evaluator.
        seeds: The seed of each.
        migration: When and how tickets move.
    """

    def __init__(
        self,
        islands: Sequence[Island],
        strategies: Sequence[Strategy],
        toolboxes: Sequence[base.Toolbox],
        seeds: Sequence[int],
        migration: Migration,
    ) -> None:
        self._islands, self._strategies, self._toolboxes = islands, strategies, toolboxes
        self._seeds, self._migration = seeds, migration
        self._states: list[dict[str, Any]] = []
        self._held: dict[str, Any] | None = None
        self._courses: list[Course] = []

    @classmethod
    def of(
        cls,
        islands: int | Sequence[Island],
        main: Mapping[str, Any],
        toolbox: base.Toolbox,
        options: Mapping[str, Any],
        task: Task,
        seed: int,
        migration: Migration | None,
    ) -> Islands:
        """Return the islands of a search.

        Args:
            islands: How many, or what each is like.
            main: The arguments of ``Strategy.of`` that the search got.
            toolbox: The toolbox of the search.
            options: What ``make_toolbox`` got for it; empty where the user made it.
            task: The task.
            seed: The seed of the search.
            migration: None for the default.

        Raises:
            InvalidValueError: An argument of an island is out of range.
        """
        each = [Island() for _ in range(islands)] if isinstance(islands, int) else list(islands)
        if not each or not all(isinstance(island, Island) for island in each):
            raise _checks.bad_value(
                "islands", "be a number or a list", "at least one, nets.Island(...)s", islands
            )
        if options.get("reevaluate"):
            raise _checks.bad_value("reevaluate", "be left out on islands", "False", True)
        boxes, strategies, seeds = [], [], []
        for number, island in enumerate(each):
            where = f"islands[{number}]"
            box = _toolbox_of(island, where, toolbox, options, task)
            given = {f.name: getattr(island, f.name) for f in fields(island) if f.name in main}
            settings = {**main, **{n: v for n, v in given.items() if v is not None}}
            if island.population is not None and island.offspring is None:
                settings["offspring"] = None
            strategies.append(Strategy.of(where, box, options, **settings))
            own = seed + number if island.seed is None else island.seed
            seeds.append(_checks.whole(f"{where}.seed", own, low=0))
            boxes.append(box)
        return cls(each, strategies, boxes, seeds, migration or Migration())

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        rows = zip(self._islands, self._strategies, self._seeds, strict=True)
        return {
            "migration": self._migration.as_dict(),
            "each": [{**i.as_dict(), **s.as_dict(), "seed": seed} for i, s, seed in rows],
        }

    def begin(self) -> list[Ticket]:
        """Return the first populations, one after the other."""
        found: list[Ticket] = []
        for strategy, toolbox, seed in zip(
            self._strategies, self._toolboxes, self._seeds, strict=True
        ):
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
            torch.default_generator.manual_seed(seed)
            found += toolbox.population(n=strategy.population)
            self._states.append(randomness.states())
        random.seed(self._seeds[0])  # what migration draws from
        return found

    def go_on(self, held: Any) -> None:
        """Take over what a checkpoint holds of the islands.

        Raises:
            RunFileError: It holds something else.
        """
        if not (isinstance(held, dict) and isinstance(held.get("random"), list)) or (
            len(held["random"]) != len(self._islands)
        ):
            raise RunFileError("the checkpoint holds no random states of these islands")
        now = randomness.states()
        for state in held["random"]:
            randomness.set_states(state)  # which raises if it is none
        randomness.set_states(now)
        self._states, self._held = list(held["random"]), held

    def evolve(self, tickets: list[Ticket], recorder: Recorder, generations: int) -> None:
        """Let all evolve; ``tickets`` then holds the last populations, one after the other."""
        places = np.cumsum([0, *(s.population for s in self._strategies)])
        first = [tickets[a:b] for a, b in zip(places[:-1], places[1:], strict=True)]
        self._courses = [
            Course(functools.partial(self._run, number, first[number], recorder, generations), state)
            for number, state in enumerate(self._states)
        ]
        recorder.beside = lambda: {"random": [course.random for course in self._courses]}

        def record(populations: list[list[Ticket]]) -> dict[str, Any]:
            resumed, self._held = self._held, None
            if resumed is None and recorder.generation >= 0:
                if (recorder.generation + 1) % self._migration.every == 0:
                    self._migration(populations)
            try:
                return recorder.compile([t for population in populations for t in population])
            finally:
                tickets[:] = [t for population in populations for t in population]
                if resumed is not None:
                    for course, state in zip(self._courses, resumed["random"], strict=True):
                        course.random = state

        in_step(self._courses, self._toolboxes[0].map, record)

    def _run(
        self,
        number: int,
        tickets: list[Ticket],
        recorder: Recorder,
        generations: int,
        course: Course,
    ) -> None:
        """Let one island evolve, in its course."""
        self._strategies[number].evolve(
            tickets,
            with_map(self._toolboxes[number], course.map),
            generations=generations,
            stats=course,
            front=recorder.front,
        )


def _toolbox_of(
    island: Island,
    where: str,
    toolbox: base.Toolbox,
    options: Mapping[str, Any],
    task: Task,
) -> base.Toolbox:
    """Return the toolbox of an island, which evaluates as that of the search does."""
    if island.options:
        if evaluator_in(toolbox) is None:
            raise _checks.bad_value(
                f"{where}.options",
                "go with a toolbox that nets.search makes",
                "no toolbox= beside them",
                sorted(island.options),
                "Give operators= instead.",
            )
        fixed = {"objectives", "inherit", "budget", "reevaluate"} & set(island.options)
        if fixed:
            raise _checks.bad_value(
                f"{where}.options",
                "leave the evaluation as it is, which all islands share",
                "options of operators and densities",
                sorted(fixed),
            )
        made = make_toolbox(task, **{**options, **island.options})
    else:
        made = toolbox
    found = with_map(made, toolbox.map)
    found.__dict__["evaluate"] = toolbox.evaluate
    for name, operator in island.operators.items():
        found.register(name, operator)
    return found


def _plain(thing: Any) -> Any:
    """Return options and operators as plain data, functions by name."""
    if isinstance(thing, Mapping):
        return {name: _plain(value) for name, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [_plain(value) for value in thing]
    if isinstance(thing, functools.partial):
        return [name_of(thing.func), _plain(list(thing.args)), _plain(thing.keywords)]
    return name_of(thing) if callable(thing) else thing

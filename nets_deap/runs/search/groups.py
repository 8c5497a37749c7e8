"""Who evolves in a search: one population, or several on islands, in step."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import pairwise
from numbers import Integral
from typing import Any

import numpy as np
import torch
from deap import base

from nets_deap import _checks
from nets_deap.errors import NetsError, RunFileError
from nets_deap.runs.checkpoint import random_states
from nets_deap.runs.recorder import Recorder
from nets_deap.runs.search.algorithm import Strategy
from nets_deap.runs.search.instep import Course, in_step, with_map
from nets_deap.runs.search.islands import Island, Migration, toolbox_of
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.task import Task


class One:
    """The one population of a search without islands.

    Args:
        strategy: How it evolves.
        toolbox: Its toolbox.
        seed: Seed of its evolution.
    """

    def __init__(self, strategy: Strategy, toolbox: base.Toolbox, seed: int) -> None:
        self._strategy, self._toolbox, self._seed = strategy, toolbox, seed

    def as_dict(self) -> dict[str, Any]:
        """Return what there is beside the strategy: nothing."""
        return {}

    def parts(self, tickets: list[Ticket]) -> list[list[Ticket]]:
        """Return the populations that make up all tickets."""
        return [tickets]

    def go_on(self, held: Any, tickets: Sequence[Ticket]) -> None:
        """Take over what a checkpoint holds of islands: nothing.

        Raises:
            RunFileError: It holds something.
        """
        if held is not None:
            raise RunFileError("the checkpoint is of a search on islands")

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
        self._sizes = [strategy.population for strategy in strategies]
        self._states: list[dict[str, Any]] = []
        self._held: dict[str, Any] | None = None
        self._courses: list[Course] = []

    @classmethod
    def of(
        cls,
        islands: int | Sequence[Island],
        main: Mapping[str, Any],
        toolbox: base.Toolbox,
        options: Mapping[str, Any] | None,
        task: Task,
        seed: int,
        migration: Migration | None,
    ) -> Islands:
        """Return the islands of a search.

        Args:
            islands: How many, or what each is like.
            main: The arguments of ``Strategy.of`` that the search got.
            toolbox: The toolbox of the search.
            options: What ``make_toolbox`` got for it; None where the user made it.
            task: The task.
            seed: The seed of the search.
            migration: None for the default.

        Raises:
            InvalidValueError: An argument of an island is out of range.
        """
        each = _listed(islands)
        if not isinstance(migration, Migration | None):
            raise _checks.bad_type("migration", "be one", "a nets.Migration", migration)
        if (options or {}).get("reevaluate"):
            raise _checks.bad_value("reevaluate", "be left out on islands", "False", True)
        boxes, strategies, seeds = [], [], []
        for number, island in enumerate(each):
            where = f"islands[{number}]"
            box = toolbox_of(island, where, toolbox, options, task)
            given = {f.name: getattr(island, f.name) for f in fields(island) if f.name in main}
            settings = {**main, **{n: v for n, v in given.items() if v is not None}}
            if island.population is not None and island.offspring is None:
                settings["offspring"] = None
            try:
                strategies.append(Strategy.of(where, box, {}, **settings))
            except NetsError as error:
                raise type(error)(f"{where}: {error}") from error
            own = seed + number if island.seed is None else island.seed
            seeds.append(_checks.whole(f"{where}.seed", own, low=0))
            boxes.append(box)
        return cls(each, strategies, boxes, seeds, migration or Migration())

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        rows = zip(self._islands, self._strategies, self._seeds, strict=True)
        each = [{**i.as_dict(), **s.as_dict(), "seed": seed} for i, s, seed in rows]
        return {"islands": each, "migration": self._migration.as_dict()}

    def parts(self, tickets: list[Ticket]) -> list[list[Ticket]]:
        """Return the populations that make up all tickets."""
        places = np.cumsum([0, *self._sizes])
        return [tickets[a:b] for a, b in pairwise(places)]

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
            self._states.append(random_states.states())
        random.seed(self._seeds[0])  # what migration draws from
        return found

    def go_on(self, held: Any, tickets: Sequence[Ticket]) -> None:
        """Take over what a checkpoint holds of the islands.

        Raises:
            RunFileError: It holds something else.
        """
        if not (isinstance(held, dict) and isinstance(held.get("random"), list)):
            raise RunFileError("the checkpoint holds no islands")
        sizes = held.get("sizes", self._sizes)  # a selection may return fewer than it should
        if not (
            isinstance(sizes, list)
            and len(sizes) == len(held["random"]) == len(self._islands)
            and all(type(size) is int and size >= 0 for size in sizes)
            and sum(sizes) == len(tickets)
        ):
            raise RunFileError("the checkpoint holds no such islands")
        now = random_states.states()
        for state in held["random"]:
            random_states.set_states(state)  # which raises if it is none
        random_states.set_states(now)
        self._states, self._held, self._sizes = list(held["random"]), held, sizes

    def evolve(self, tickets: list[Ticket], recorder: Recorder, generations: int) -> None:
        """Let all evolve; ``tickets`` then holds the last populations, one after the other."""
        first = self.parts(tickets)
        self._courses = [
            Course(
                functools.partial(self._run, number, first[number], recorder, generations),
                recorder.fields,
                state,
            )
            for number, state in enumerate(self._states)
        ]
        recorder.beside = lambda: {
            "random": [course.random for course in self._courses],
            "sizes": self._sizes,
        }

        def record(populations: list[list[Ticket]]) -> dict[str, Any]:
            resumed, self._held = self._held, None
            coming = recorder.generation + 1
            if resumed is None and coming and coming % self._migration.every == 0:
                self._migration(populations)
            self._sizes = list(map(len, populations))
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


def _listed(islands: Any) -> list[Island]:
    """Return what each island is like.

    Raises:
        InvalidValueError: There is none, or something else.
    """
    each: list[Any] = []
    if isinstance(islands, Integral) and islands is not True:
        each = [Island() for _ in range(int(islands))]
    elif isinstance(islands, Iterable):
        each = list(islands)
    if not each or not all(isinstance(island, Island) for island in each):
        raise _checks.bad_value(
            "islands", "be a number or a list", "at least one, nets.Island(...)s", islands
        )
    return each

"""Islands: the populations of a search, which evolve in step, with migration between them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from itertools import chain
from numbers import Integral
from typing import Any

import numpy as np
import torch
from deap import base, tools

from nets_deap import _checks
from nets_deap.errors import NetsError, RunFileError
from nets_deap.evolution.operators import sel_nsga2
from nets_deap.evolution.toolbox import make_toolbox
from nets_deap.runs.checkpoint import random_states
from nets_deap.runs.recorder import Recorder
from nets_deap.runs.search.algorithm import Algorithm
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.recipe import name_of
from nets_deap.training.task import Task

_WHERE = {"engine", "workers", "address", "gpus_per_worker"}
_SHARED = {"budget", "gradient", "inherit", "objectives", "reevaluate", *_WHERE}
# What DEAP's algorithms call, and an island may have of its own.
_OPERATORS = ("mate", "mutate", "select", "clone", "population")
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
        operators: Operators to register in its toolbox over those there, by DEAP's names, such as
            ``{"mutate": functools.partial(nets.operators.mut_flip, indpb=1e-4)}``; nothing keeps
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
        move: Gets the list of populations and changes them, such as
            ``functools.partial(tools.migRing, k=2, selection=tools.selBest,
            replacement=random.sample)``. It may draw from the global random generators. What
            ``migRing`` replaces must not be drawn twice: give ``replacement=`` where ``selection``
            draws with replacement, as ``selTournament`` and ``selRandom`` do. None: the
            best tenth of each island by ``sel_nsga2``, and one at least, replaces tickets of the
            next that are drawn at random.
    """

    every: int = 5
    move: Migrate | None = None

    def __post_init__(self) -> None:
        _checks.whole("migration.every", self.every, low=1)
        if not (self.move is None or callable(self.move)):
            raise _checks.bad_type("migration.move", "be callable", "a function", self.move)

    def __call__(self, populations: list[list[Ticket]]) -> None:
        """Let tickets move.

        Raises:
            InvalidValueError: An island then has more or fewer tickets, or one without fitness.
        """
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
        found = [list(population) for population in populations]
        if list(map(len, found)) != sizes:
            raise _checks.bad_value(
                "migration.move",
                "leave each island as many tickets as it had",
                str(sizes),
                list(map(len, found)),
            )
        for ticket in chain(*found):
            if not getattr(getattr(ticket, "fitness", None), "valid", False):
                raise _checks.bad_value(
                    "migration.move", "move evaluated tickets", "a valid fitness each", ticket
                )
        populations[:] = found

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {"every": self.every, "move": _plain(self.move)}


@dataclass
class Population:
    """Tickets that evolve together.

    Attributes:
        algorithm: How they do.
        toolbox: Its operators.
        seed: Of its evolution.
        tickets: Who lives now.
        random: The states of its own random generators between its turns; None where it has the
            global ones for itself.
        island: What the user said it is like.
    """

    algorithm: Algorithm
    toolbox: base.Toolbox
    seed: int
    island: Island = field(default_factory=Island)
    tickets: list[Ticket] = field(default_factory=list)
    random: dict[str, Any] | None = None

    def begin(self) -> None:
        """Draw the first tickets; the global random generators are then this population's."""
        random.seed(self.seed)
        np.random.seed(self.seed % 2**32)  # noqa: NPY002
        torch.default_generator.manual_seed(self.seed)
        self.tickets = self.toolbox.population(n=self.algorithm.population)

    def vary(self) -> list[Ticket]:
        """Return the offspring of a generation, the changed ones without fitness."""
        with self._turn():
            return self.algorithm.vary(self.tickets, self.toolbox)

    def select(self, offspring: Sequence[Ticket]) -> None:
        """Let those who are selected live on."""
        with self._turn():
            self.tickets = self.algorithm.select(self.tickets, offspring, self.toolbox)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Let the global random generators be this population's for a while.

        DEAP and its operators draw from the global ones. Each island has its own states of them, so
        it evolves as it would alone, whatever the others draw.
        """
        if self.random is None:
            yield
            return
        outside = random_states.states()
        random_states.set_states(self.random)
        try:
            yield
        finally:
            self.random = random_states.states()
            random_states.set_states(outside)


class Islands:
    """All populations of a search, in step: a generation of all of them is trained as one batch.

    A search without islands is the case of one population. That one draws from the global random
    generators themselves: its checkpoints are those of a stock algorithm, so ``nets.resume`` can
    give them to one.

    Args:
        each: The populations; all evaluate alike.
        migration: When and how tickets move; None for a search without islands.
    """

    def __init__(self, each: Sequence[Population], migration: Migration | None) -> None:
        self._each, self._migration = each, migration

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
            main: The arguments of ``Algorithm.of`` that the search got.
            toolbox: The toolbox of the search.
            options: What ``make_toolbox`` got for it; None where the user made it.
            task: The task.
            seed: The seed of the search.
            migration: None for the default.

        Raises:
            InvalidValueError: An argument of an island is out of range.
        """
        if not isinstance(migration, Migration | None):
            raise _checks.bad_type("migration", "be one", "a nets.Migration", migration)
        if (options or {}).get("reevaluate"):
            raise _checks.bad_value("reevaluate", "be left out on islands", "False", True)
        each = []
        for number, island in enumerate(_listed(islands)):
            where = f"islands[{number}]"
            box = _toolbox_of(island, where, toolbox, options, task)
            given = {f.name: getattr(island, f.name) for f in fields(island) if f.name in main}
            settings = {**main, **{n: v for n, v in given.items() if v is not None}}
            if island.population is not None and island.offspring is None:
                settings["offspring"] = None
            try:
                algorithm = Algorithm.of(where, box, {}, **settings)
            except NetsError as error:
                raise type(error)(f"{where}: {error}") from error
            own = seed + number if island.seed is None else island.seed
            own = _checks.whole(f"{where}.seed", own, low=0)
            each.append(Population(algorithm, box, own, island))
        return cls(each, migration or Migration())

    @property
    def tickets(self) -> list[Ticket]:
        """Who lives now, one population after the other."""
        return list(chain(*self.populations))

    @property
    def populations(self) -> list[list[Ticket]]:
        """Who lives now, by population."""
        return [population.tickets for population in self._each]

    def as_dict(self) -> dict[str, Any]:
        """Return everything about islands as plain data; empty without islands."""
        if self._migration is None:
            return {}
        each = [{**p.island.as_dict(), **p.algorithm.as_dict(), "seed": p.seed} for p in self._each]
        return {"islands": each, "migration": self._migration.as_dict()}

    def begin(self) -> None:
        """Draw the first populations."""
        for population in self._each:
            population.begin()
            if self._migration is not None:
                population.random = random_states.states()
        if self._migration is not None:
            random.seed(self._each[0].seed)  # what migration draws from

    def go_on(self, held: Any, tickets: Sequence[Ticket]) -> None:
        """Take over what a checkpoint holds.

        Args:
            held: What ``evolve`` has put beside the recorder: None without islands.
            tickets: Of all populations, one after the other.

        Raises:
            RunFileError: It holds something else.
        """
        if self._migration is None:
            if held is not None:
                raise RunFileError("the checkpoint is of a search on islands")
            self._each[0].tickets = list(tickets)
            return
        if not (isinstance(held, dict) and isinstance(held.get("random"), list)):
            raise RunFileError("the checkpoint holds no islands")
        # A selection may return fewer than it should.
        sizes = held.get("sizes", [population.algorithm.population for population in self._each])
        if not (
            isinstance(sizes, list)
            and len(sizes) == len(held["random"]) == len(self._each)
            and all(type(size) is int and size >= 0 for size in sizes)
            and sum(sizes) == len(tickets)
        ):
            raise RunFileError("the checkpoint holds no such islands")
        now, coming = random_states.states(), iter(tickets)
        for population, size, state in zip(self._each, sizes, held["random"], strict=True):
            random_states.set_states(state)  # which raises if it is none
            population.random = state
            population.tickets = [next(coming) for _ in range(size)]
        random_states.set_states(now)

    def evolve(self, recorder: Recorder, generations: int) -> None:
        """Let all evolve for so many generations, and record each.

        Each population does what ``deap.algorithms.eaMuPlusLambda`` or ``eaMuCommaLambda`` does,
        draw for draw. What differs is that all of them train as one batch, and are one row of the
        log.
        """
        if self._migration is not None:
            recorder.beside = lambda: {
                "random": [population.random for population in self._each],
                "sizes": [len(population.tickets) for population in self._each],
            }
        for generation in range(generations + 1):
            # The first time round all that there is counts as new. Of a run that goes on nothing
            # is: its tickets have their fitness, and the recorder passes over them.
            new = [p.vary() if generation else p.tickets for p in self._each]
            self._evaluate(new)
            for population, offspring in zip(self._each, new, strict=True):
                recorder.front.update(offspring)  # also those that do not survive
                if generation:
                    population.select(offspring)
            if generation and self._migration is not None:
                self._migrate(recorder.generation + 1, self._migration)
            recorder.compile(self.tickets)

    def _evaluate(self, parts: Sequence[Sequence[Ticket]]) -> None:
        """Give all tickets without a fitness theirs, by one call of the toolbox's ``map``.

        It is called for an empty list, too: the evaluator counts generations by its batches, and
        takes other minibatches for each.
        """
        toolbox = self._each[0].toolbox
        invalid = [ticket for ticket in chain(*parts) if not ticket.fitness.valid]
        values = list(toolbox.map(toolbox.evaluate, invalid))
        _checks.length("toolbox.map(evaluate, tickets)", len(values), len(invalid), "P")
        for ticket, found in zip(invalid, values, strict=True):
            ticket.fitness.values = found

    def _migrate(self, generation: int, migration: Migration) -> None:
        """Let tickets move in every so manieth generation of the search."""
        if generation % migration.every == 0:
            populations = self.populations
            migration(populations)
            for population, tickets in zip(self._each, populations, strict=True):
                population.tickets = tickets


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


def _toolbox_of(
    island: Island,
    where: str,
    toolbox: base.Toolbox,
    options: Mapping[str, Any] | None,
    task: Task,
) -> base.Toolbox:
    """Return the toolbox of an island, which evaluates as that of the search does."""
    for name in ("options", "operators"):
        if not isinstance(getattr(island, name), Mapping):
            raise _checks.bad_type(
                f"{where}.{name}", "be a dictionary", "values by name", getattr(island, name)
            )
    for name, operator in island.operators.items():
        _checks.choice(f"{where}.operators", name, _OPERATORS)
        if not callable(operator):
            raise _checks.bad_type(
                f"{where}.operators[{name!r}]", "be callable", "a function", operator
            )
    made = toolbox
    if island.options:
        if options is None:
            raise _checks.bad_value(
                f"{where}.options",
                "go with a toolbox that nets.search makes",
                "no toolbox= beside them",
                sorted(island.options),
                "Give operators= instead.",
            )
        fixed = _SHARED & set(island.options)
        if fixed:
            raise _checks.bad_value(
                f"{where}.options",
                "leave the evaluation as it is, which all islands share",
                "options of operators and densities",
                sorted(fixed),
            )
        own = {name: value for name, value in options.items() if name not in _WHERE}
        made = make_toolbox(task, **{**own, **island.options})
    found = base.Toolbox()
    found.__dict__.update({**vars(made), "map": toolbox.map, "evaluate": toolbox.evaluate})
    for name, operator in island.operators.items():
        found.register(name, operator)
    return found


def _plain(thing: Any) -> Any:
    """Return options and operators as plain data, functions and other objects by name."""
    if isinstance(thing, Mapping):
        return {name: _plain(value) for name, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [_plain(value) for value in thing]
    if isinstance(thing, np.generic):
        return thing.item()
    return thing if thing is None or isinstance(thing, (bool, int, float, str)) else name_of(thing)

"""Islands: the populations of a search, which evolve in step, with migration between them.

One file, as what an island is, how tickets move and how all go in step only make sense together.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass, replace
from itertools import chain, islice
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from deap import base, tools

from nets_deap import _checks
from nets_deap.errors import NetsError, RunFileError
from nets_deap.evolution.evaluator import Evaluator
from nets_deap.evolution.operators import sel_nsga2
from nets_deap.evolution.settings import OperatorSettings, ToolboxSettings
from nets_deap.evolution.toolbox import register_operators
from nets_deap.models.shared import random_states_lock
from nets_deap.runs.checkpoint import random_states
from nets_deap.runs.recorder import Recorder
from nets_deap.runs.search.algorithm import Algorithm, Population
from nets_deap.runs.search.settings import AlgorithmSettings, SearchSettings
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.recipe import name_of

# What DEAP's algorithms call, and an island may have of its own.
_OPERATORS = ("mate", "mutate", "select", "clone", "population")
Migrate = Callable[[list[list[Ticket]]], Any]


if TYPE_CHECKING:
    _Own = AlgorithmSettings
else:
    # The fields of the algorithm's settings, once more: as they are called, and None by default.
    _Own = make_dataclass(
        "_Own",
        [(item.name, Any, field(default=None)) for item in fields(AlgorithmSettings)],
        frozen=True,
        kw_only=True,
    )


@dataclass(frozen=True, kw_only=True)
class Island(_Own):
    """One population of a search on islands; all that is None is as in ``nets.search``.

    Attributes:
        population: With ``offspring``, ``cxpb``, ``mutpb`` and ``algorithm`` the fields of
            ``AlgorithmSettings``, over those of the search.
        seed: Seed of its evolution; None for the search's seed plus its place among the islands.
        options: Settings of its operators over those of the search, such as
            ``{"density": (0.01, 0.1)}``: what ``nets.make_toolbox`` takes beside ``map`` and what
            concerns the evaluation, which all islands share.
        operators: Operators to register in its toolbox over those there, by DEAP's names, such as
            ``{"mutate": functools.partial(nets.operators.mut_flip, indpb=1e-4)}``; nothing keeps
            their children within ``density``.

    Raises:
        InvalidTypeError: A name is unknown.
    """

    seed: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    operators: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    def __new__(cls, **given: Any) -> Island:
        """Refuse unknown names, with what they may have meant."""
        _checks.check_names("Island's argument", given, (item.name for item in fields(cls)))
        return super().__new__(cls)

    def over(self, main: SearchSettings) -> SearchSettings:
        """Return the settings of the search with this island's own over them."""
        own = {item.name: getattr(self, item.name) for item in fields(AlgorithmSettings)}
        changes = {name: value for name, value in own.items() if value is not None}
        changes |= self.options
        if "population" in changes:  # how many offspring is then left open, unless it is said
            changes.setdefault("offspring", None)
        return replace(main, **changes)

    def as_dict(self) -> dict[str, Any]:
        """Return what is beside the settings as plain data, operators by their names."""
        return {"options": plain(self.options), "operators": plain(self.operators)}


@_checks.signed
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
        return {"every": self.every, "move": plain(self.move)}


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
        islands: Sequence[Island],
        migration: Migration | None,
        toolbox: base.Toolbox,
        settings: SearchSettings,
        *,
        seed: int,
        shrinks: bool,
        evaluator: Evaluator | None,
    ) -> Islands:
        """Return the islands of a search.

        Args:
            islands: What each is like.
            migration: None for the default.
            toolbox: The toolbox of the search.
            settings: Of the search.
            seed: Of the search.
            shrinks: Whether each child is smaller than its parents.
            evaluator: That of the toolbox where ``nets.search`` has made it; None where the user
                has, and islands cannot have other settings of its operators.

        Raises:
            InvalidValueError: Something of an island is out of range.
        """
        if settings.reevaluate:
            raise _checks.bad_value("reevaluate", "be left out on islands", "False", True)
        each = []
        for number, island in enumerate(islands):
            where = f"islands[{number}]"
            _check_island(island, where, made=evaluator is not None)
            try:
                own = island.over(settings)
                algorithm = Algorithm.of(own, shrinks=shrinks)
                if settings.holdout == "folds" and algorithm.algorithm == "plus":
                    raise _checks.bad_value(
                        "holdout",
                        "come without survivors on islands, where nobody is evaluated again",
                        "algorithm='comma' with holdout='folds'",
                        "algorithm='plus'",
                    )
            except NetsError as error:
                raise type(error)(f"{where}: {error}") from error
            box = base.Toolbox()
            vars(box).update(vars(toolbox))  # so that its ``map`` and ``evaluate`` are the same
            if island.options and evaluator is not None:
                register_operators(box, evaluator, own)
            for name, operator in island.operators.items():
                box.register(name, operator)
            chosen = seed + number if island.seed is None else island.seed
            chosen = _checks.whole(f"{where}.seed", chosen, low=0)
            each.append(Population(algorithm, box, chosen, island.as_dict()))
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
        each = [population.as_dict() for population in self._each]
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
            population.tickets = list(islice(coming, size))
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
            # is: its tickets have their fitness, and the recorder passes over them, after which it
            # sets the evaluator and the global generators to what they were. So nothing may draw
            # before it is called, and tickets may not move again.
            new = [p.vary() if generation else p.tickets for p in self._each]
            self._evaluate(new)
            for population, offspring in zip(self._each, new, strict=True):
                if generation or recorder.generation < 0:  # else they have been on it before
                    recorder.front.update(offspring)  # also those that do not survive
                if generation:
                    population.select(offspring)
            if generation and self._migration is not None:
                self._migrate(recorder.generation + 1, self._migration)
            recorder.compile(self.tickets)

    def _evaluate(self, parts: Sequence[Sequence[Ticket]]) -> None:
        """Give all tickets without a fitness theirs, by one call of the toolbox's ``map``."""
        # One batch for all islands means the same minibatches for all: tickets that meet on one
        # front, or on one island after migration, were measured alike. The map is called for an
        # empty list, too, as the evaluator counts generations by its batches.
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
            with random_states_lock.held():
                migration(populations)
            for population, tickets in zip(self._each, populations, strict=True):
                population.tickets = tickets


def check_islands(name: str, islands: Any) -> list[Island]:
    """Return what each island is like; a number is for so many that differ in their seeds.

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
            name, "be a number or a list", "at least one, nets.Island(...)s", islands
        )
    return each


def _check_island(island: Island, where: str, *, made: bool) -> None:
    """Raise unless an island's options and operators are some."""
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
    if island.options and not made:
        raise _checks.bad_value(
            f"{where}.options",
            "go with a toolbox that nets.search makes",
            "no toolbox= beside them",
            sorted(island.options),
            "Give operators= instead.",
        )
    own = {item.name for item in fields(OperatorSettings)}
    shared = {item.name for item in fields(ToolboxSettings)} - own
    if shared & set(island.options):
        raise _checks.bad_value(
            f"{where}.options",
            "leave the evaluation as it is, which all islands share",
            "options of operators and densities",
            sorted(shared & set(island.options)),
        )
    _checks.check_names(f"{where}.options", island.options, sorted(own))


def plain(thing: Any) -> Any:
    """Return settings and operators as plain data, functions and other objects by name."""
    if isinstance(thing, Mapping):
        return {name: plain(value) for name, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [plain(value) for value in thing]
    if isinstance(thing, np.generic):
        return thing.item()
    return thing if thing is None or isinstance(thing, (bool, int, float, str)) else name_of(thing)

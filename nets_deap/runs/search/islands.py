"""Islands: several populations of one search, with migration between them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from itertools import chain
from typing import Any

import numpy as np
from deap import base, tools

from nets_deap import _checks
from nets_deap.evolution.operators import sel_nsga2
from nets_deap.evolution.toolbox import make_toolbox
from nets_deap.runs.search.instep import with_map
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
        before, sizes = list(populations), list(map(len, populations))
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
        for mine, now in zip(before, found, strict=True):  # the lists that the algorithms hold
            mine[:] = now
        populations[:] = before

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {"every": self.every, "move": _plain(self.move)}


def toolbox_of(
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
    else:
        made = toolbox
    found = with_map(made, toolbox.map)
    found.__dict__["evaluate"] = toolbox.evaluate
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

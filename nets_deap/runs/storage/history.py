"""Who lived in each generation of a run, for figures: a line of ``history.jsonl`` each."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nets_deap._table import Brief
from nets_deap.evolution.fronts import is_finite
from nets_deap.runs.storage.paths import HISTORY
from nets_deap.tickets.fitness import TicketFitness, fitness_class

SHORT = 16  # of a digest, as files of tickets are named


@dataclass(frozen=True, eq=False, repr=False)
class Member(Brief):
    """What the history knows of an individual: enough to draw it, but not its mask.

    Attributes:
        digest: The start of its mask's digest.
        density: Kept / maskable.
        fitness: Its values, with names and directions.
        parents: Starts of the digests of the masks that it came from.
        layers: Density of each layer, in the layout's order; empty where not written down.
    """

    digest: str
    density: float
    fitness: TicketFitness
    parents: tuple[str, ...] = ()
    layers: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class Generation(Brief):
    """One generation.

    Attributes:
        number: 0 for the first population.
        population: The population after selection, without the lost ones.
        front: What the run keeps so far: its front, or until that is measured elites of niches.
        layers: Names of the layers; empty for tickets without a layout.
        objectives: DEAP's weight of each objective, by name.
        lost: Of the population, who has a value that is not finite, and so no place in a figure.
        settled: Whether what is kept is a front.
    """

    number: int
    population: tuple[Member, ...]
    front: tuple[Member, ...]
    layers: tuple[str, ...] = ()
    objectives: Mapping[str, float] = field(default_factory=dict)
    lost: tuple[Member, ...] = ()
    settled: bool = True


def generation_of(
    number: int,
    population: Sequence[Any],
    front: Iterable[Any],
    objectives: Sequence[str],
    *,
    settled: bool = True,
) -> Generation:
    """Note a generation of evaluated tickets, not empty, with the names of their objectives."""
    weights = tuple(float(weight) for weight in population[0].fitness.weights)
    kind = fitness_class(tuple(objectives), weights)
    layout = population[0].layout.weights if population[0].has_layout else None

    def member(ticket: Any, *, layers: bool) -> Member:
        return Member(
            digest=ticket.digest[:SHORT],
            density=ticket.density,
            fitness=kind(tuple(map(float, ticket.fitness.values)) if is_finite(ticket) else ()),
            parents=tuple(parent[:SHORT] for parent in ticket.parent_digests),
            layers=tuple(ticket.layer_densities.values()) if layers else (),
        )

    return Generation(
        number,
        tuple(member(ticket, layers=False) for ticket in population if is_finite(ticket)),
        tuple(member(ticket, layers=layout is not None) for ticket in front if is_finite(ticket)),
        () if layout is None else layout.names,
        dict(zip(objectives, weights, strict=True)),
        tuple(member(ticket, layers=False) for ticket in population if not is_finite(ticket)),
        settled,
    )


def line_of(generation: Generation) -> str:
    """Return a generation as a line of JSON."""
    plain = {
        "generation": generation.number,
        "objectives": generation.objectives,
        "layers": generation.layers,
        "population": [_plain(one) for one in (*generation.population, *generation.lost)],
        _kept(settled=generation.settled): [_plain(member) for member in generation.front],
    }
    return json.dumps(plain, separators=(",", ":"))


def _kept(*, settled: bool) -> str:
    """Return under which name a line has what the run keeps."""
    return "front" if settled else "niches"


def cut_off(folder: Path, generation: int) -> None:
    """Cut the file off after a generation, for a run that goes on from there.

    Generations are looked at, not a checksum: of long runs it would take long at each checkpoint.
    """
    path = folder / HISTORY
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = 0
        for line in file:
            try:
                later = json.loads(line)["generation"] > generation
            except (KeyError, TypeError, ValueError, RecursionError):
                break
            if later or not line.endswith(b"\n"):
                break
            end += len(line)
        file.truncate(end)


def _plain(member: Member) -> dict[str, Any]:
    """Return a member as JSON; what is empty is left out, and a lost one has no values."""
    plain: dict[str, Any] = {
        "ticket": member.digest,
        "density": member.density,
        "values": member.fitness.values,
    }
    return plain | {
        name: value
        for name, value in (("parents", member.parents), ("layers", member.layers))
        if value
    }


def generation_from(plain: Mapping[str, Any]) -> Generation:
    """Make a generation of the JSON of its line.

    Earlier versions wrote down infinite values, too: who has one is lost.

    Raises:
        ValueError: It has other numbers than members, objectives and layers need; or what else
            taking plain data apart raises.
    """
    objectives = plain["objectives"]
    weights = tuple(float(weight) for weight in objectives.values())
    if not weights or not all(weights):
        raise ValueError("an objective has no direction")
    kind = fitness_class(tuple(map(str, objectives)), weights)
    names = tuple(map(str, plain["layers"]))

    def member(one: Mapping[str, Any]) -> Member:
        values = tuple(float(value) for value in one["values"])
        layers = tuple(float(value) for value in one.get("layers", ()))
        density = float(one["density"])
        if len(values) not in (0, len(weights)) or len(layers) not in (0, len(names)):
            raise ValueError("a member has other values than objectives or layers")
        if any(map(math.isnan, values)) or not all(0 <= d <= 1 for d in (density, *layers)):
            raise ValueError("a member has values that are not numbers, or densities beyond 0 to 1")
        return Member(
            digest=str(one["ticket"]),
            density=density,
            fitness=kind(values if all(map(math.isfinite, values)) else ()),
            parents=tuple(map(str, one.get("parents", ()))),
            layers=layers,
        )

    settled = _kept(settled=False) not in plain
    parts = "population", _kept(settled=settled)
    everyone, front = (tuple(map(member, plain[part])) for part in parts)
    if not everyone:
        raise ValueError("a generation is empty")
    return Generation(
        int(plain["generation"]),
        tuple(one for one in everyone if one.fitness.valid),
        tuple(one for one in front if one.fitness.valid),
        names,
        dict(zip(kind.names, weights, strict=True)),
        tuple(one for one in everyone if not one.fitness.valid),
        settled,
    )

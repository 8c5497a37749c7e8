"""``Setting``: what one method of a comparison is run with, and what methods have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nets_deap.baselines import Baseline, Level
from nets_deap.evolution.budget import price
from nets_deap.evolution.criterion import usual_criterion
from nets_deap.evolution.descent import rounds_to
from nets_deap.experiments.chain import chain, steps_a_round
from nets_deap.experiments.config import Config
from nets_deap.experiments.run import options_of
from nets_deap.runs.search.search import SearchResult, search
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.task import Task

# Masks hold whole weights: a member this near to a density level, as a ratio, is on it.
NEAR = 1.01


def snapped(density: float, levels: Iterable[float], size: int = 0) -> float:
    """Return a density, or the level that it is a hair beside: masks hold whole weights.

    Args:
        density: In (0, 1].
        levels: The levels.
        size: Weights in all: what is half a weight beside a level is on it; 0 where not known.
    """
    half = 0.5 / size if size else 0.0
    return next(
        (float(d) for d in levels if 1 / NEAR < density / d < NEAR or abs(density - d) <= half),
        density,
    )


Costs = tuple[int, float]  # steps x networks, dense steps


@dataclass(frozen=True)
class Setting:
    """What one method is run with.

    Attributes:
        task: Of this seed.
        config: The preset, for evolution and the final training.
        budget: In ``unit``; a method may spend a stated multiple of it.
        densities: The density levels, densest first.
        evolved: The tickets that evolution found for this seed, or none yet.
    """

    task: Task
    config: Config
    budget: float
    densities: tuple[float, ...]
    evolved: Sequence[Ticket] = ()

    @property
    def unit(self) -> str:
        """What the budget is counted in: that of the preset's search."""
        return self.config.search.budget_unit

    @property
    def by(self) -> str:
        """What weights are pruned by in the preset's search."""
        return self.config.search.by or usual_criterion(self.task)

    def steps_a_round(self, budget: float, rounds: int) -> int:
        """Return the steps of each of so many rounds; see ``chain.steps_a_round``."""
        return steps_a_round(budget, rounds, self.unit)

    def chain(self, steps: int, seed: int = 0, by: str = "magnitude") -> Baseline:
        """Return the chain of pruning to the sparsest level, of so many steps a round."""
        return chain(self.task, self.rounds, steps, seed, by)

    @property
    def rounds(self) -> int:
        """Rounds of pruning a fifth that lead from dense to the sparsest level."""
        return max(1, rounds_to(self.densities[-1] * 1.0001))

    def price(self, steps: int, dense_steps: float) -> float:
        """Return a cost in the unit of the budget."""
        return price(self.unit, steps, dense_steps)

    def about(self, members: Sequence[Ticket]) -> list[Ticket]:
        """Return the tickets, given densest first, that the density levels lie between."""
        top = self.densities[0]
        inside = [t for t in members if t.density <= top * NEAR]
        above = [t for t in members if t.density > top * NEAR]
        first = [] if inside and inside[0].density * NEAR >= top else above[-1:]
        return [*first, *inside]

    def options(self, config: Config, budget: float) -> dict[str, Any]:
        """Return the arguments of ``search`` that a configuration asks for, within a budget."""
        return options_of(config, self.task) | {"budget": budget, "budget_unit": self.unit}


def searched(task: Task, options: dict[str, Any]) -> tuple[SearchResult, Costs]:
    """Search with the task's seed; return the result, and what it cost."""
    found = search(task, **options, seed=task.seed, progress="none")
    row = found.logbook[-1]  # of the search itself: its front is measured beside it
    return found, (row["network_steps"], row["dense_steps"])


def front_of(setting: Setting, options: dict[str, Any]) -> tuple[list[Ticket], Costs]:
    """Search; return the front, densest first, and what it cost."""
    found, costs = searched(setting.task, options)
    return sorted(found.front, key=lambda ticket: -ticket.kept), costs


def found_at(name: str, tickets: Sequence[Ticket], costs: Costs) -> Baseline:
    """Return tickets, densest first, that cost as much as the whole search."""
    levels = [Level(ticket, costs[0], search_dense_steps=costs[1]) for ticket in tickets]
    return Baseline.of(name, levels)

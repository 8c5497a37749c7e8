"""``Setting``: what one method of a comparison is run with, and what methods have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nets_deap.baselines import Baseline, Level
from nets_deap.evolution.budget import STEPS
from nets_deap.experiments.config import Config
from nets_deap.experiments.run import options_of
from nets_deap.runs.search.search import search
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.task import Task

# Of the kept weights, pruned a round.
FRACTION = 0.2
# Masks hold whole weights: a member this near to a density level, as a ratio, is on it.
NEAR = 1.01

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

    def steps_a_round(self, budget: float, rounds: int) -> int:
        """Return the steps of each of so many rounds, evenly: each prunes a fifth of what is kept.

        Dense steps are counted by density; what the rounds really cost is stated beside them.
        """
        kept = rounds if self.unit == STEPS else sum((1 - FRACTION) ** i for i in range(rounds))
        return math.floor(budget / kept + 1e-9)

    @property
    def rounds(self) -> int:
        """Rounds of pruning a fifth that lead from dense to the sparsest level."""
        rounds = math.log(self.densities[-1] * 1.0001) / math.log(1 - FRACTION)
        return max(1, math.ceil(rounds - 1e-3))

    def price(self, steps: int, dense_steps: float) -> float:
        """Return a cost in the unit of the budget."""
        return steps if self.unit == STEPS else dense_steps

    def about(self, members: Sequence[Ticket]) -> list[Ticket]:
        """Return the tickets, given densest first, that the density levels lie between."""
        top = self.densities[0]
        inside = [t for t in members if t.density <= top * NEAR]
        above = [t for t in members if t.density > top * NEAR]
        first = [] if inside and inside[0].density * NEAR >= top else above[-1:]
        return [*first, *inside]


def searched(
    setting: Setting, config: Config, budget: float, more: dict[str, Any] | None = None
) -> tuple[list[Ticket], Costs]:
    """Search as a configuration says; return the front, densest first, and what it cost.

    Args:
        setting: Of the method.
        config: Of the search.
        budget: In the setting's unit.
        more: Arguments of ``search`` instead of what configuration and budget say; None for those.
    """
    options = options_of(config, setting.task) | {"budget": budget, "budget_unit": setting.unit}
    options = options if more is None else more
    found = search(setting.task, **options, seed=setting.task.seed, progress="none")
    row = found.logbook[-1]  # of the search itself: its front is measured beside it
    costs = row["network_steps"], row["dense_steps"]
    return sorted(found.front, key=lambda ticket: -ticket.kept), costs


def found_at(name: str, tickets: Sequence[Ticket], costs: Costs) -> Baseline:
    """Return tickets, densest first, that cost as much as the whole search."""
    levels = [Level(ticket, costs[0], search_dense_steps=costs[1]) for ticket in tickets]
    return Baseline.of(name, levels)

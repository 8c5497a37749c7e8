"""The methods that a comparison runs: evolution and every baseline, by name and cost."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nets_deap import _checks, baselines
from nets_deap.baselines import Baseline, Level
from nets_deap.evolution.budget import STEPS
from nets_deap.experiments.config import Config
from nets_deap.experiments.presets import PRESETS
from nets_deap.experiments.run import options_of
from nets_deap.runs.search.search import search
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.task import Task

FRACTION = 0.2
EVOLUTION = "evolution"
EVOLUTION_ADDS = "evolution-adds"
# Members denser than this are large once compact as well, and slow to train.
DENSEST = 0.2
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


@dataclass(frozen=True)
class Method:
    """One method: its name, what it is, and how many budgets it may spend."""

    name: str
    about: str
    find: Callable[[Setting, float], Baseline]
    budgets: float = 1.0


def evolve(setting: Setting, budget: float) -> Baseline:
    """Search as the preset says, within a budget of its unit."""
    if setting.config.search.genome != "mask":
        raise _checks.bad_value(
            "search.genome",
            "be masks over W0, which all methods share",
            "'mask'",
            repr(setting.config.search.genome),
            "Choose another preset.",
        )
    members, costs = _searched(setting, setting.config, budget)
    return Baseline.of(EVOLUTION, [_level(one, costs) for one in _about(members, setting)])


def evolve_adds(setting: Setting, budget: float) -> Baseline:
    """Search for few multiply-adds of the compact network, as the preset ``lenet-adds`` does."""
    members, costs = _searched(setting, PRESETS["lenet-adds"], budget)
    inside = [ticket for ticket in members if ticket.density <= DENSEST]
    sparse = inside or members[-1:]
    return Baseline.of(EVOLUTION_ADDS, [_level(ticket, costs) for ticket in sparse])


def _searched(setting: Setting, config: Config, budget: float) -> tuple[list[Ticket], Costs]:
    """Search as a configuration says; return the front, densest first, and what it cost."""
    options = options_of(config, setting.task) | {"budget": budget, "budget_unit": setting.unit}
    found = search(setting.task, **options, seed=setting.task.seed, progress="none")
    row = found.logbook[-1]  # of the search itself: its front is measured beside it
    costs = row["network_steps"], row["dense_steps"]
    return sorted(found.front, key=lambda ticket: -ticket.kept), costs


def _level(ticket: Ticket, costs: Costs) -> Level:
    """Return a level that cost as much as the whole search."""
    return Level(ticket, costs[0], search_dense_steps=costs[1])


def _about(members: Sequence[Ticket], setting: Setting) -> list[Ticket]:
    """Return the members of a front that the density levels lie between."""
    inside = [t for t in members if t.density <= setting.densities[0] * NEAR]
    above = [t for t in members if t.density > setting.densities[0] * NEAR]
    first = [] if inside and inside[0].density * NEAR >= setting.densities[0] else above[-1:]
    return [*first, *inside]


def _finetune(setting: Setting, budget: float) -> Baseline:
    """Return iterative pruning with fine-tuning; the budget is spread evenly over its rounds."""
    rounds = setting.rounds
    found = baselines.finetune(
        setting.task,
        rounds=rounds,
        steps=setting.steps_a_round(budget, rounds),
        fraction=FRACTION,
    )
    return _near_levels(found, setting)


def _imp(setting: Setting, budget: float, scope: str = "global") -> Baseline:
    """Return iterative magnitude pruning; the budget is spread evenly over its rounds."""
    rounds = setting.rounds if scope == "global" else _layerwise_rounds(setting)
    found = baselines.imp(
        setting.task,
        rounds=rounds,
        steps=setting.steps_a_round(budget, rounds),
        fraction=FRACTION,
        scope=scope,
    )
    return _near_levels(found, setting)


def _layerwise_rounds(setting: Setting) -> int:
    """Return the rounds that lead to the sparsest level where the last layer loses half as much."""
    sizes = setting.task.layout.sizes()
    rates = np.append(np.full(len(sizes) - 1, 1 - FRACTION), 1 - FRACTION / 2)
    rounds = 1
    while (sizes * rates**rounds).sum() / sizes.sum() > setting.densities[-1] * NEAR:
        rounds += 1
    return rounds


def _near_levels(found: Baseline, setting: Setting) -> Baseline:
    """Keep the rounds about the density levels."""
    wanted = {ticket.digest for ticket in _about(found.tickets, setting)}
    levels = [level for level in found.levels if level.ticket.digest in wanted]
    return replace(found, levels=tuple(levels))


def _at_levels(baseline: Callable[..., Baseline]) -> Callable[[Setting, float], Baseline]:
    """Return a method that needs nothing but the task and the density levels."""
    return lambda setting, _: baseline(setting.task, setting.densities)


def _same_layers(setting: Setting, budget: float) -> Baseline:
    """Return random masks with the layer densities of this seed's evolved tickets."""
    if not setting.evolved:
        raise _checks.bad_value(
            "methods",
            "name evolution before same-layers",
            "the evolved tickets of this seed",
            "none",
            "Add evolution to the methods.",
        )
    return baselines.random_like(setting.task, list(setting.evolved), seed=setting.task.seed)


_NAMED: dict[str, Method] = {
    method.name: method
    for method in (
        Method(EVOLUTION, "the preset's search", evolve),
        Method(
            EVOLUTION_ADDS,
            "objectives: validation loss and multiply-adds once compact",
            evolve_adds,
            budgets=3.0,
        ),
        Method("finetune", "prune a fifth of |w|, go on from the weights there are", _finetune),
        Method("imp", "global IMP, rewound to W0 before every round", _imp, budgets=3.0),
        Method(
            "imp-layerwise",
            "IMP layer by layer, the output layer at half the rate",
            lambda s, budget: _imp(s, budget, "layerwise"),
            budgets=3.0,
        ),
        Method(
            "one-shot",
            "train dense, prune once",
            lambda s, budget: baselines.one_shot(s.task, s.densities, steps=math.floor(budget)),
        ),
        Method("snip", "|w g| at W0", _at_levels(baselines.snip), 0.0),
        Method("grasp", "w H g at W0", _at_levels(baselines.grasp), 0.0),
        Method("synflow", "synaptic flow at W0", _at_levels(baselines.synflow), 0.0),
        Method(
            "same-layers", "random, as many weights of each layer as evolution", _same_layers, 0.0
        ),
        Method(
            "erk", "random, layers as Erdos-Renyi kernels", _at_levels(baselines.random_erk), 0.0
        ),
        Method("random", "random, uniform over layers", _at_levels(baselines.random_uniform), 0.0),
        Method(
            "rigl",
            "dynamic sparse training; its own network, nothing is rewound",
            lambda s, _: baselines.rigl(s.task, s.densities, steps=s.config.final.steps),
            0.0,
        ),
    )
}


def _like_others(name: str, baseline: Callable[..., Baseline]) -> Method:
    """Return the method of a baseline that has no line above, by what its function takes.

    It gets the task and the density levels; with an argument ``steps`` also the whole budget.
    """
    about = (inspect.getdoc(baseline) or name).splitlines()[0].rstrip(".")
    if "steps" not in inspect.signature(baseline).parameters:
        return Method(name, about, _at_levels(baseline), 0.0)
    return Method(
        name, about, lambda s, budget: baseline(s.task, s.densities, steps=math.floor(budget))
    )


METHODS: dict[str, Method] = _NAMED | {
    name: _like_others(name, baseline)
    for name, baseline in baselines.BASELINES.items()
    if name not in _NAMED
}

"""The methods that a comparison runs: evolution and every baseline, by name and cost.

One file: most of it is the table, a few lines a method, and the functions that it names.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from nets_deap import _checks, _optional, baselines
from nets_deap.baselines import Baseline
from nets_deap.evolution.descent import FRACTION
from nets_deap.experiments.controls import (
    best_of_chains,
    by_crowding,
    lineages,
    without_exchange,
)
from nets_deap.experiments.presets import PRESETS
from nets_deap.experiments.setting import NEAR, Setting, found_at, front_of
from nets_deap.names import NEURON, TWO_OF_FOUR, WEIGHT, parse_unit

EVOLUTION = "evolution"
EVOLUTION_ADDS = "evolution-adds"
# Members denser than this are large once compact as well, and slow to train.
DENSEST = 0.2


def _any(unit: str) -> bool:
    """Whatever one bit gates."""
    return True


def _ranks_sizes(unit: str) -> bool:
    """What is ranked by its size, single or whole."""
    return unit != TWO_OF_FOUR


def _ranks_weights(unit: str) -> bool:
    """Single weights."""
    return unit == WEIGHT


def _ranks_neurons(unit: str) -> bool:
    """Neurons and filters, where Torch-Pruning is installed."""
    return unit == NEURON and importlib.util.find_spec("torch_pruning") is not None


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        name: Its name.
        about: What it is.
        find: Returns what it finds within a budget.
        budgets: How many budgets it may spend.
        takes: Whether it can be run here on tickets whose bits gate such a unit.
        extra: The module that it needs, and the extra that brings it; None for none.
    """

    name: str
    about: str
    find: Callable[[Setting, float], Baseline]
    budgets: float = 1.0
    takes: Callable[[str], bool] = _any
    extra: tuple[str, str] | None = None

    def require(self) -> None:
        """Raise if the package that it needs is not installed; before anything is trained."""
        if self.extra is not None:
            _optional.require(*self.extra, f"The method {self.name!r}")


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
    members, costs = front_of(setting, setting.options(setting.config, budget))
    return found_at(EVOLUTION, setting.about(members), costs)


def evolve_adds(setting: Setting, budget: float) -> Baseline:
    """Search for few multiply-adds of the compact network, as the preset ``lenet-adds`` does."""
    options = setting.options(PRESETS["lenet-adds"], budget)
    if setting.task.layout.unit != WEIGHT:  # whose lineages go on by swaps, without factors
        options["sigma"] = None
    members, costs = front_of(setting, options)
    inside = [ticket for ticket in members if ticket.density <= DENSEST]
    sparse = inside or members[-1:]
    return found_at(EVOLUTION_ADDS, sparse, costs)


def _finetune(setting: Setting, budget: float) -> Baseline:
    """Return iterative pruning with fine-tuning; the budget is spread evenly over its rounds."""
    steps = setting.steps_a_round(budget, setting.rounds)
    return _near_levels(setting.chain(steps), setting)


def _short_imp(setting: Setting, _: float) -> Baseline:
    """Return iterative magnitude pruning of three times the recipe's steps a round."""
    steps = 3 * setting.task.steps
    found = baselines.imp(setting.task, rounds=setting.rounds, steps=steps, fraction=FRACTION)
    return _near_levels(found, setting)


def _imp(setting: Setting, budget: float, scope: str = "global", by: str = "magnitude") -> Baseline:
    """Return iterative magnitude pruning; the budget is spread evenly over its rounds."""
    rounds = setting.rounds if scope == "global" else _layerwise_rounds(setting)
    found = baselines.imp(
        setting.task,
        rounds=rounds,
        steps=setting.steps_a_round(budget, rounds),
        fraction=FRACTION,
        scope=scope,
        by=by,
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
    wanted = {ticket.digest for ticket in setting.about(found.tickets)}
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
        Method("no-exchange", "the preset's search without crossover", without_exchange),
        Method("nsga2", "the preset's search with DEAP's selNSGA2", by_crowding),
        Method(
            "lineages",
            "one lineage of swaps for each density, rewound",
            lineages,
            takes=_ranks_sizes,
        ),
        Method(
            "best-of-three",
            "three of finetune-short, chosen by validation after their final training",
            best_of_chains,
            0.0,
            takes=_ranks_sizes,
        ),
        Method(
            "finetune",
            "prune a fifth of |w|, go on from the weights there are",
            _finetune,
            takes=_ranks_sizes,
        ),
        Method(
            "finetune-short",
            "finetune with the recipe's steps a round",
            lambda s, _: _near_levels(s.chain(s.task.steps), s),
            0.0,
            takes=_ranks_sizes,
        ),
        Method(
            "finetune-lamp",
            "finetune-short by LAMP instead of |w|",
            lambda s, _: _near_levels(s.chain(s.task.steps, by="lamp"), s),
            0.0,
            takes=_ranks_sizes,
        ),
        Method(
            "finetune-long",
            "finetune at three times the budget",
            _finetune,
            budgets=3.0,
            takes=_ranks_sizes,
        ),
        Method(
            "imp-short",
            "imp with three times the recipe's steps a round",
            _short_imp,
            0.0,
            takes=_ranks_sizes,
        ),
        Method(
            "imp",
            "global IMP, rewound to W0 before every round",
            _imp,
            budgets=3.0,
            takes=_ranks_sizes,
        ),
        Method(
            "imp-lamp",
            "imp by LAMP instead of |w|",
            lambda s, budget: _imp(s, budget, by="lamp"),
            budgets=3.0,
            takes=_ranks_sizes,
        ),
        Method(
            "imp-layerwise",
            "IMP layer by layer, the output layer at half the rate",
            lambda s, budget: _imp(s, budget, "layerwise"),
            budgets=3.0,
            takes=_ranks_sizes,
        ),
        Method(
            "one-shot",
            "train dense, prune once",
            lambda s, budget: baselines.one_shot(s.task, s.densities, steps=math.floor(budget)),
            takes=_ranks_sizes,
        ),
        Method("snip", "|w g| at W0", _at_levels(baselines.snip), 0.0, _ranks_weights),
        Method("grasp", "w H g at W0", _at_levels(baselines.grasp), 0.0, _ranks_weights),
        Method(
            "synflow", "synaptic flow at W0", _at_levels(baselines.synflow), 0.0, _ranks_weights
        ),
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
            _ranks_weights,
        ),
        Method(
            "torch-pruning",
            "train dense, prune once by Torch-Pruning's importance",
            lambda s, budget: baselines.torch_pruning(
                s.task, s.densities, steps=math.floor(budget)
            ),
            takes=_ranks_neurons,
            extra=("torch_pruning", "torch-pruning"),
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


def usual_methods(unit: str) -> tuple[str, ...]:
    """Return the names of the methods that can be run here on tickets of one kind of unit."""
    name, _ = parse_unit("unit", unit)
    return tuple(method.name for method in METHODS.values() if method.takes(name))


METHODS: dict[str, Method] = _NAMED | {
    name: _like_others(name, baseline)
    for name, baseline in baselines.BASELINES.items()
    if name not in _NAMED
}

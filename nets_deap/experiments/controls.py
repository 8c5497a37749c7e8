"""Controls of a comparison: the search less one of its parts, and rivals at its cost or more."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from deap import tools

from nets_deap.baselines import Baseline
from nets_deap.evolution.budget import STEPS, Budget
from nets_deap.evolution.descent import SHARE
from nets_deap.evolution.lineages import BY_GRADIENT
from nets_deap.evolution.toolbox import make_toolbox
from nets_deap.experiments.setting import Costs, Setting, found_at, front_of, searched
from nets_deap.runs.search.search import SearchArguments, toolbox_of
from nets_deap.runs.search.settings import AlgorithmSettings, LimitSettings
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.cost import dense_share, gradient_share

CHAINS = 3


def without_exchange(setting: Setting, budget: float) -> Baseline:
    """Search as the preset says, with mutation alone: no ticket ever meets another one."""
    own = replace(setting.config.search, cxpb=0.0, mutpb=1.0)
    config = replace(setting.config, search=own)
    members, costs = front_of(setting, setting.options(config, budget))
    return found_at("no-exchange", setting.about(members), costs)


def by_crowding(setting: Setting, budget: float) -> Baseline:
    """Search as the preset says, with DEAP's own ``selNSGA2`` instead of niches of density."""
    arguments = SearchArguments(**setting.options(setting.config, budget))
    toolbox = toolbox_of(setting.task, arguments)
    toolbox.register("select", tools.selNSGA2)
    options = arguments.part(AlgorithmSettings, LimitSettings) | {"toolbox": toolbox}
    members, costs = front_of(setting, options)
    return found_at("nsga2", setting.about(members), costs)


def lineages(setting: Setting, budget: float) -> Baseline:
    """Train one lineage of swaps for each level, as dynamic sparse training does, and rewind them.

    Each begins with the ticket of a chain, whose cost all share, and all get equal multiply-adds.
    A round lasts for the recipe's steps; swaps are those of the search: ever fewer, and mostly
    regrown by gradient.
    """
    affordable = setting.steps_a_round(SHARE * budget, setting.rounds)
    chain = setting.chain(max(1, min(setting.task.steps, affordable)), by=setting.by)
    places = np.log([ticket.density for ticket in chain.tickets])
    near = {int(np.argmin(abs(places - math.log(level)))) for level in setting.densities[:-1]}
    # The sparsest level is met only by what is no denser.
    begun = [chain.tickets[i] for i in sorted(near | {len(places) - 1})]
    spent = setting.price(chain.search_steps, chain.search_dense_steps)
    share = max(0.0, budget - spent) / len(begun)
    share = math.floor(share) if setting.unit == STEPS else share
    ends, steps, dense = [], chain.search_steps, chain.search_dense_steps
    for ticket in begun:
        found, costs = _lineage(setting, ticket, share)
        ends.append(found)
        steps, dense = steps + costs[0], dense + costs[1]
    return found_at("lineages", ends, (steps, dense))


def _lineage(setting: Setting, first: Ticket, share: float) -> tuple[Ticket, Costs]:
    """Return what a lineage ends with that begins with a ticket, and what it cost."""
    task = setting.task
    dense = dense_share(task.problem, first.packed_mask)
    steps = setting.price(task.steps, task.steps * dense)
    gradient = BY_GRADIENT * setting.price(1, gradient_share(dense))
    rounds = max(1, round(share / (steps + gradient)))
    purse = Budget(share, unit=setting.unit, generations=rounds)
    toolbox = make_toolbox(task, budget=purse, by=setting.by)
    seeded = toolbox.population
    toolbox.register("population", lambda n: seeded(n, seeds=[first]))
    options = {"toolbox": toolbox, "population": 1, "offspring": 1, "cxpb": 0.0, "mutpb": 1.0}
    found, costs = searched(task, {**options, "generations": rounds})
    return found.population[0], costs


def best_of_chains(setting: Setting, _: float) -> Baseline:
    """Take at each level the best of three chains, by the loss of validation after training."""
    chains = [setting.chain(setting.task.steps, seed) for seed in range(CHAINS)]
    rivals = [setting.about(chain.tickets) for chain in chains]
    task, final = setting.task, setting.config.final.steps
    losses = [[r.val_loss for r in task.train_all(some, steps=final)] for some in rivals]
    best = np.argmin(losses, axis=0)
    steps = sum(chain.search_steps for chain in chains) + CHAINS * len(best) * final
    dense = sum(chain.search_dense_steps for chain in chains) + final * sum(
        dense_share(task.problem, ticket.packed_mask) for some in rivals for ticket in some
    )
    chosen = [rivals[chain][level] for level, chain in enumerate(best.tolist())]
    return found_at("best-of-three", chosen, (steps, dense))

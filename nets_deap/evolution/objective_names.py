"""``objective_names``: what the values of a fitness are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nets_deap.evolution.batch_map import by_key
from nets_deap.evolution.evaluator import Evaluator, evaluator_of
from nets_deap.training.task import Task


def objective_names(individuals: Sequence[Any], task: Task | None = None) -> tuple[str, ...]:
    """Return the objectives' names of evaluated individuals, not none, or made-up ones.

    A fitness that ``creator`` has made has no names; then those count of the evaluator that has
    trained one of the individuals, where it has as many objectives, with these signs.

    Args:
        individuals: With a fitness.
        task: Its evaluator may have trained them in other processes; None for no task.
    """
    fitness = individuals[0].fitness
    own: tuple[str, ...] = tuple(getattr(fitness, "names", ()))
    if own:
        return own
    keys = dict.fromkeys(getattr(one, "evaluator_key", "") for one in individuals)
    known = [by_key(key) for key in keys if key]
    away = None if task is None else evaluator_of(task)
    if away is not None and away.generations.sent:  # no ticket here knows of it
        known.append(away)
    signs = [weight > 0 for weight in fitness.weights]
    for one in known:
        if isinstance(one, Evaluator) and [o.weight > 0 for o in one.objectives] == signs:
            return tuple(objective.name for objective in one.objectives)
    return tuple(f"objective_{i}" for i in range(len(signs)))

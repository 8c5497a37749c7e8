"""The chain of pruning that comparisons and final trainings measure evolution by."""

from __future__ import annotations

import math

from nets_deap.baselines import Baseline
from nets_deap.baselines.magnitude import finetune
from nets_deap.evolution.budget import DENSE_STEPS, STEPS
from nets_deap.evolution.descent import FRACTION
from nets_deap.training.task import Task


def chain(task: Task, rounds: int, steps: int, seed: int = 0, by: str = "magnitude") -> Baseline:
    """Return iterative pruning with fine-tuning, a fifth a round; see ``baselines.finetune``."""
    return finetune(task, rounds=rounds, steps=steps, fraction=FRACTION, by=by, seed=seed)


def steps_a_round(budget: float, rounds: int, unit: str = DENSE_STEPS) -> int:
    """Return the steps of each of so many rounds, evenly: each prunes a fifth of what is kept.

    Dense steps are counted by density; what the rounds really cost is stated beside them.
    """
    kept = rounds if unit == STEPS else sum((1 - FRACTION) ** i for i in range(rounds))
    return math.floor(budget / kept + 1e-9)

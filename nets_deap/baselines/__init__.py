"""Baselines: the tickets that a result of evolution must be compared with, and their cost.

To add one: write a function of a task that returns ``Baseline.of(name, levels)``, let all its
training go through ``task.run``, and name it in ``BASELINES``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from nets_deap import _checks
from nets_deap.baselines.magnitude import finetune, imp, one_shot
from nets_deap.baselines.random import random_erk, random_like, random_uniform
from nets_deap.baselines.result import Baseline, Level
from nets_deap.baselines.rigl import rigl
from nets_deap.baselines.saliency import grasp, snip, synflow
from nets_deap.baselines.torch_pruning import torch_pruning

#: By the name that the command line takes; each is called with a task and its own options.
BASELINES: dict[str, Callable[..., Baseline]] = {
    "random": random_uniform,
    "erk": random_erk,
    "same-layers": random_like,
    "one-shot": one_shot,
    "imp": imp,
    "imp-layerwise": functools.partial(imp, scope="layerwise"),
    "finetune": finetune,
    "snip": snip,
    "grasp": grasp,
    "synflow": synflow,
    "rigl": rigl,
    "torch-pruning": torch_pruning,
}

__all__ = [
    "BASELINES",
    "Baseline",
    "Level",
    "finetune",
    "grasp",
    "imp",
    "one_shot",
    "random_erk",
    "random_like",
    "random_uniform",
    "rigl",
    "snip",
    "synflow",
    "torch_pruning",
]

if not TYPE_CHECKING:  # to type checkers it would stand for any name
    __getattr__ = _checks.absent_from(globals())

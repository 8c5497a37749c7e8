"""nets_deap: lottery tickets by evolution, with DEAP.

A ticket is a DEAP individual: a mask over a network's initial weights. Stock DEAP evolves it; one
``evaluate`` trains the whole generation of masked torch models at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public names and where they live: imported when first used, so that importing the package (and
# the command line's help) does not cost the import of torch.
_HOMES = {
    "Evaluator": "evaluator",
    "Genome": "genome",
    "Island": "experiments.islands",
    "MaskLayout": "masks",
    "Migration": "experiments.islands",
    "NetsError": "errors",
    "NicheArchive": "fronts",
    "Objective": "objectives",
    "ParetoFront": "fronts",
    "Recipe": "training.recipe",
    "Recorder": "runs.recorder",
    "SearchStopped": "runs.stopped",
    "StepBudget": "budget",
    "Task": "task",
    "Ticket": "ticket",
    "batch_map": "batching",
    "best": "fronts",
    "describe": "description",
    "hypervolume": "fronts",
    "knee": "fronts",
    "make_toolbox": "toolbox",
    "penalised": "objectives",
    "resume": "experiments.resume",
    "search": "experiments.search",
    "steps_to_loss": "objectives",
}
_MODULES = (
    "baselines", "boards", "data", "engines", "frames", "models", "objectives", "operators",
    "plots", "sanity", "tasks",
)  # fmt: skip

__all__ = [
    "Evaluator",
    "Genome",
    "Island",
    "MaskLayout",
    "Migration",
    "NetsError",
    "NicheArchive",
    "Objective",
    "ParetoFront",
    "Recipe",
    "Recorder",
    "SearchStopped",
    "StepBudget",
    "Task",
    "Ticket",
    "baselines",
    "batch_map",
    "best",
    "boards",
    "data",
    "describe",
    "engines",
    "frames",
    "hypervolume",
    "knee",
    "make_toolbox",
    "models",
    "objectives",
    "operators",
    "penalised",
    "plots",
    "resume",
    "sanity",
    "search",
    "steps_to_loss",
    "tasks",
]

if TYPE_CHECKING:
    from nets_deap import (
        baselines,
        boards,
        data,
        engines,
        frames,
        models,
        objectives,
        operators,
        plots,
        sanity,
        tasks,
    )
    from nets_deap.batching import batch_map
    from nets_deap.budget import StepBudget
    from nets_deap.description import describe
    from nets_deap.errors import NetsError
    from nets_deap.evaluator import Evaluator
    from nets_deap.experiments.islands import Island, Migration
    from nets_deap.experiments.resume import resume
    from nets_deap.experiments.search import search
    from nets_deap.fronts import NicheArchive, ParetoFront, best, hypervolume, knee
    from nets_deap.genome import Genome
    from nets_deap.masks import MaskLayout
    from nets_deap.objectives import Objective, penalised, steps_to_loss
    from nets_deap.runs.recorder import Recorder
    from nets_deap.runs.stopped import SearchStopped
    from nets_deap.task import Task
    from nets_deap.ticket import Ticket
    from nets_deap.toolbox import make_toolbox
    from nets_deap.training.recipe import Recipe


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"nets_deap.{_HOMES[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"nets_deap.{name}")
    else:
        raise AttributeError(f"module 'nets_deap' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

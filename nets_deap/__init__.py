"""nets_deap: lottery tickets by evolution, with DEAP.

A ticket is a DEAP individual: a mask over a network's initial weights. Stock DEAP evolves it; one
``evaluate`` trains the whole generation of masked torch models at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nets_deap import _checks

__version__ = "0.1.0"

# Public names and where they live: imported when first used, so that importing the package (and
# the command line's help) does not cost the import of torch.
_HOMES = {
    "Budget": "evolution.budget",
    "Evaluator": "evolution.evaluator",
    "Genome": "tickets.genome",
    "Island": "runs.search.islands",
    "MaskLayout": "tickets.layout",
    "Migration": "runs.search.islands",
    "NetsError": "errors",
    "NicheArchive": "evolution.archives",
    "Objective": "evolution.objectives",
    "ParetoFront": "evolution.archives",
    "RayMap": "evolution.ray_map",
    "Recipe": "training.recipe",
    "Recorder": "runs.recorder",
    "SearchStopped": "runs.limits",
    "Task": "training.task",
    "Ticket": "tickets.ticket",
    "batch_map": "evolution.batch_map",
    "best": "runs.picks",
    "compare": "experiments.compare",
    "describe": "training.describe",
    "hypervolume": "runs.picks",
    "knee": "runs.picks",
    "make_toolbox": "evolution.toolbox",
    "penalised": "evolution.objectives",
    "resume": "experiments.resume",
    "search": "runs.search.search",
    "ship": "experiments.shipping",
    "steps_to_loss": "evolution.objectives",
}
_MODULES = {
    "baselines": "baselines",
    "boards": "plots.boards",
    "data": "data",
    "frames": "runs.frames",
    "models": "models",
    "objectives": "evolution.objectives",
    "operators": "evolution.operators",
    "plots": "plots",
    "sanity": "experiments.sanity",
    "tasks": "training.tasks",
}

__all__ = [
    "Budget",
    "Evaluator",
    "Genome",
    "Island",
    "MaskLayout",
    "Migration",
    "NetsError",
    "NicheArchive",
    "Objective",
    "ParetoFront",
    "RayMap",
    "Recipe",
    "Recorder",
    "SearchStopped",
    "Task",
    "Ticket",
    "baselines",
    "batch_map",
    "best",
    "boards",
    "compare",
    "data",
    "describe",
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
    "ship",
    "steps_to_loss",
    "tasks",
]

if TYPE_CHECKING:
    from nets_deap import baselines, data, models, plots
    from nets_deap.errors import NetsError
    from nets_deap.evolution import objectives, operators
    from nets_deap.evolution.archives import NicheArchive, ParetoFront
    from nets_deap.evolution.batch_map import batch_map
    from nets_deap.evolution.budget import Budget
    from nets_deap.evolution.evaluator import Evaluator
    from nets_deap.evolution.objectives import Objective, penalised, steps_to_loss
    from nets_deap.evolution.ray_map import RayMap
    from nets_deap.evolution.toolbox import make_toolbox
    from nets_deap.experiments import sanity
    from nets_deap.experiments.compare import compare
    from nets_deap.experiments.resume import resume
    from nets_deap.experiments.shipping import ship
    from nets_deap.plots import boards
    from nets_deap.runs import frames
    from nets_deap.runs.limits import SearchStopped
    from nets_deap.runs.picks import best, hypervolume, knee
    from nets_deap.runs.recorder import Recorder
    from nets_deap.runs.search.islands import Island, Migration
    from nets_deap.runs.search.search import search
    from nets_deap.tickets.genome import Genome
    from nets_deap.tickets.layout import MaskLayout
    from nets_deap.tickets.ticket import Ticket
    from nets_deap.training import tasks
    from nets_deap.training.describe import describe
    from nets_deap.training.recipe import Recipe
    from nets_deap.training.task import Task


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"nets_deap.{_HOMES[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"nets_deap.{_MODULES[name]}")
        vars(value).setdefault("__getattr__", _checks.absent_from(vars(value)))
    else:
        raise _checks.absent("nets_deap", name, __all__)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

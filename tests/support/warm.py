"""Imported once by the process that others are forked from: what a run needs before it begins."""

import torch
from matplotlib.backends import backend_agg

from nets_deap import plots, tasks
from nets_deap.cli import main as cli
from nets_deap.cli import run as run_commands
from nets_deap.experiments import final, run, summarise
from nets_deap.runs.search import search
from nets_deap.training.engines.cpu import engine
from nets_deap.training.engines.cuda import optimizer

torch.set_num_threads(1)
for build in (lambda: tasks.xor(hidden=10), lambda: tasks.lenet(dataset="mnist5k")):
    build()

__all__ = ["backend_agg", "cli", "engine", "final", "optimizer", "plots"]
__all__ += ["run", "run_commands", "search", "summarise"]

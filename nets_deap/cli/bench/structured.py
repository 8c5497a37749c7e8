"""Structured tickets beside Torch-Pruning, at equal training, and how fast what is shipped is.

The network is a small one as users have: three convolutions with batch normalisation, two fully
connected layers, 1.49 million multiply-adds. Of each seed there is one search, for all goals, and a
run of Torch-Pruning for each: dense training, one pruning, fine-tuning. All have the same recipe,
and as many steps are spent on the goals together. Tickets are trained from W0 for what
Torch-Pruning spends on a goal.
"""

from __future__ import annotations

import copy
import importlib.util
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from nets_deap._table import line
from nets_deap.data import DataSplits, load
from nets_deap.experiments.shipping import Shipment, accuracy_of, ship
from nets_deap.models.compact.footprint import count_multiply_adds
from nets_deap.models.compact.runtime import runner_of
from nets_deap.runs.networks import TrainedNetwork
from nets_deap.runs.search.search import SearchResult, search
from nets_deap.training.batches import example_of
from nets_deap.training.losses import loss_of
from nets_deap.training.optimizers import make_optimizer, set_lr
from nets_deap.training.recipe import Recipe
from nets_deap.training.task import Task

GOALS = (700_000, 290_000, 90_000)  # multiply-adds, at most
STEPS = 400  # of the dense training, and of fine-tuning; of a round where there is no budget
FINE = 300  # of a network of ours, after the search
# What a search may spend, so that with the fine-tuning of one network for each goal it is as much
# as dense training and fine-tuning for each goal.
BUDGET = len(GOALS) * (2 * STEPS - FINE)
ROUND = 0.15  # of the multiply-adds, pruned at once: how far below a goal a network may be
SPEEDUP = 2.0  # over the dense network, of what is shipped
COLUMNS = ("seed", "at most", "ours", "", "layers", "lineage", "from W0", "Torch-Pruning", "")
WIDTHS = (4, 7, 5, 5, 18, 7, 7, 13, 5)


@dataclass(frozen=True)
class Row:
    """What was reached within one goal, by one seed.

    Attributes:
        seed: Of the model, the search and all minibatches.
        goal: Multiply-adds, at most.
        multiply_adds: Of ours.
        units: Kept, of each layer.
        lineage: Test accuracy of the network that the search trained, fine-tuned.
        initial: Of its ticket, trained from W0.
        rival_multiply_adds: Of Torch-Pruning's; None where it is not installed.
        rival: Test accuracy of that.
    """

    seed: int
    goal: int
    multiply_adds: int
    units: list[int]
    lineage: float
    initial: float
    rival_multiply_adds: int | None = None
    rival: float | None = None

    def cells(self) -> list[str]:
        """Return it as text."""
        units = "-".join(map(str, self.units))
        rival = ["-", ""]
        if self.rival is not None and self.rival_multiply_adds is not None:
            rival = [f"{100 * self.rival:.1f} %", f"{self.rival_multiply_adds / 1e3:.0f}k"]
        return [
            str(self.seed),
            f"{self.goal / 1e3:.0f}k",
            f"{self.multiply_adds / 1e3:.0f}k",
            "",
            units,
            f"{100 * self.lineage:.1f} %",
            f"{100 * self.initial:.1f} %",
            *rival,
        ]


def structured_report(*, seeds: int, dataset: str, schedule: str, repeats: int) -> dict[str, Any]:
    """Measure, print each line as soon as it is known, and return all as plain data."""
    rows: list[Row] = []
    print(line(COLUMNS, WIDTHS, left=()))
    for seed in range(seeds):
        for row in measure(make_task(dataset, seed, schedule)):
            print(line(row.cells(), WIDTHS, left=()), flush=True)
            rows.append(row)
    for goal in GOALS:
        own = [row for row in rows if row.goal == goal]
        print(_mean(goal, own))
    shipped = shipment(make_task(dataset, 0, schedule), repeats)
    print(shipped.table())
    return {
        "dataset": dataset,
        "schedule": schedule,
        "rows": [asdict(row) for row in rows],
        "shipped": [asdict(version) for version in shipped.versions],
    }


def _mean(goal: int, rows: Sequence[Row]) -> str:
    """Return a line with what seeds reached in the mean."""
    parts = [
        f"lineage {100 * np.mean([row.lineage for row in rows]):.2f} %",
        f"from W0 {100 * np.mean([row.initial for row in rows]):.2f} %",
    ]
    rivals = [row.rival for row in rows if row.rival is not None]
    if rivals:
        parts.append(f"Torch-Pruning {100 * np.mean(rivals):.2f} %")
    return f"mean of {len(rows)} at most {goal / 1e3:.0f}k: {', '.join(parts)}"


def network(seed: int) -> nn.Sequential:
    """Return the network, untrained: for images (1, 28, 28)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for before, after in ((1, 16), (16, 32), (32, 32)):
            convolution = nn.Conv2d(before, after, 3, padding=1)
            layers += [convolution, nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        head = [nn.Flatten(), nn.Linear(288, 64), nn.ReLU(), nn.Linear(64, 10)]
        return nn.Sequential(*layers, *head)


def make_task(dataset: str, seed: int, schedule: str) -> Task:
    """Return the task of the network on MNIST, or on the part of it that comes along."""
    splits: DataSplits = load(dataset)
    return Task(
        network(seed),
        train=splits.train,
        val=splits.val,
        test=splits.test,
        normalize=splits.normalize,
        unit="filter",
        seed=seed,
        recipe=Recipe(steps=STEPS, schedule=schedule),
    )


def _search(task: Task, path: str | None = None) -> SearchResult:
    """Search once, for all goals."""
    return search(
        task,
        path=path,
        objectives=("val_loss", "multiply_adds"),
        generations=0,
        prune=(ROUND, ROUND),
        budget=BUDGET,
        budget_unit="steps",
        progress="none",
        seed=task.seed,
    )


def _within(networks: Sequence[TrainedNetwork], goal: int) -> TrainedNetwork:
    """Return the largest network of at most so many multiply-adds, else the smallest of all."""
    by_size = sorted(networks, key=lambda one: float(one.ticket.fitness.values[1]))
    fitting = [one for one in by_size if one.ticket.fitness.values[1] <= goal]
    return fitting[-1] if fitting else by_size[0]


def measure(task: Task) -> Iterator[Row]:
    """Search once, and compare within each goal."""
    networks = _search(task).networks
    rivals = _rivals(task)
    for goal in GOALS:
        ticket = _within(networks, goal).ticket
        yield Row(
            task.seed,
            goal,
            int(ticket.fitness.values[1]),
            [int(part.sum()) for part in task.layout.split(ticket.gates).values()],
            task.train(ticket, start="inherited", steps=FINE).test_accuracy,
            task.train(ticket, steps=2 * STEPS).test_accuracy,
            *rivals.get(goal, ()),
        )


def shipment(task: Task, repeats: int) -> Shipment:
    """Return what is shipped of a run's networks that are fast enough, beside the dense one."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/run"
        _search(task, path)
        return ship(path, task, speedup=SPEEDUP, steps=FINE, dense_steps=2 * STEPS, repeats=repeats)


def _rivals(task: Task) -> dict[int, tuple[int, float]]:
    """Return multiply-adds and test accuracy of Torch-Pruning's networks, by goal."""
    if importlib.util.find_spec("torch_pruning") is None:
        return {}
    import torch_pruning as library

    dense, found = _train(task, task.model, 0), {}
    inputs, split = example_of(task.problem), task.problem.test or task.problem.val
    for goal in GOALS:
        for ratio in np.arange(0.01, 1, 0.01).tolist():
            small = copy.deepcopy(dense)
            library.pruner.MagnitudePruner(
                small,
                inputs,
                importance=library.importance.GroupMagnitudeImportance(p=2),
                pruning_ratio=ratio,
                ignored_layers=[small[-1]],
            ).step()
            adds = count_multiply_adds(small, inputs)
            if adds <= goal:
                break
        run = runner_of(_train(task, small, 1), inputs, "torch", 1)
        found[goal] = adds, accuracy_of(run, split)
    return found


def _train(task: Task, model: Any, place: int) -> Any:
    """Train a network for ``STEPS`` steps of the task's recipe, in plain torch."""
    recipe, (inputs, targets) = task.recipe, task.problem.train
    source, n = torch.Generator().manual_seed(task.derived_seed(place)), STEPS * recipe.batch_size
    passes = [torch.randperm(len(inputs), generator=source) for _ in range(n // len(inputs) + 1)]
    optimizer = make_optimizer(recipe, list(model.parameters()), fused=False)
    model.train()
    for step, rows in enumerate(torch.cat(passes)[:n].view(STEPS, -1)):
        set_lr(optimizer, recipe.lr_at(step, STEPS))
        optimizer.zero_grad()
        loss_of(recipe.loss, model(inputs[rows]), targets[rows]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.eval()

"""What tests of baselines share: a small task, and a look at what trains on it."""

import numpy as np

from nets_deap import Recipe, Task
from nets_deap.models import MLP

RNG = np.random.default_rng(0)


LABELS = RNG.integers(0, 3, 60)


INPUTS = RNG.normal(size=(60, 6)) + 2 * np.eye(3, 6)[LABELS]


RECIPE = Recipe(lr=0.01, batch_size=10, steps=8)


def make_task(*, model=None, recipe=RECIPE, seed=0, activation="relu", **options):
    """Return a task of three layers, 48 + 40 + 15 = 103 maskable weights, in float64."""
    if model is None:
        model = MLP((6, 8, 5, 3), seed=seed, activation=activation).double()
    targets = LABELS if recipe.loss == "cross_entropy" else np.eye(3)[LABELS]
    data = {
        name: (INPUTS[part], targets[part])
        for name, part in (("train", slice(40)), ("val", slice(40, 50)), ("test", slice(50, 60)))
    }
    options = {"engine": "vmap", "device": "cpu", **options}
    return Task(model, recipe=recipe, seed=seed, **data, **options)


def watched(task, monkeypatch):
    """Return a list that will hold (masks, plan, starts, outcome) of every ``task.run``."""
    calls, run = [], task.run

    def watch(tickets, plan, on_chunk=None, *, starts=None):
        outcome = run(tickets, plan, on_chunk, starts=starts)
        calls.append(([t.mask for t in tickets], plan, starts and list(starts), outcome))
        return outcome

    monkeypatch.setattr(task, "run", watch)
    return calls

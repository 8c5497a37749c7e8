"""``Schedule``: what changes from step to step, on the device, read at a counter that lives there.

A step that reads everything at the counter is the same step every time: it can be captured once
and replayed for any number of steps. The schedule holds a window of steps and is filled again when
it is used up.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nets_deap.training.problem import Plan, Problem
from nets_deap.training.recipe import Recipe

WINDOW = 512


class Schedule:
    """A window of steps: minibatch rows, learning rates, and whether the loss counts.

    Attributes:
        window: Steps that the schedule holds.
        counter: The step within the window, int64, shape (1,).
        at: The step of the plan, as the host knows it: true where steps are called, not replayed.
        rates: For each step the learning rate, the same over Adam's first bias correction, and the
            root of its second, shape (window, 3).
    """

    def __init__(self, problem: Problem, width: int, window: int | None = None) -> None:
        device = problem.device
        self.window = WINDOW if window is None else window
        self.at = 0
        self.counter = torch.zeros(1, dtype=torch.int64, device=device)
        self.rates = torch.zeros((self.window, 3), dtype=problem.dtype, device=device)
        self.rates[:, 2] = 1  # a step beyond the plan, as a warm-up may take, changes nothing
        self._rows = torch.zeros((self.window, width), dtype=torch.int64, device=device)
        self._counts = torch.zeros(self.window, dtype=torch.bool, device=device)
        self._steps = torch.zeros(self.window, dtype=torch.int32, device=device)
        self._recipe, self._device = problem.recipe, device
        self._n = problem.n_examples
        self._plan: tuple[Tensor, ...] = ()
        self._exact: NDArray[np.float64] = np.zeros(0)

    def begin(self, plan: Plan) -> None:
        """Lay out a whole plan on the host, where the windows are filled from."""
        rows = plan.batches(self._n, self._recipe.batch_size)
        width = self._rows.shape[1]
        # Where rows are wider than the minibatch, its first example fills them.
        padded = torch.cat([rows, rows[:, :1].expand(-1, width - rows.shape[1])], 1)
        exact = rates_of(self._recipe, plan.steps)
        self._exact, rates = exact[:, 0], torch.from_numpy(exact).to(self.rates.dtype)
        steps = torch.arange(plan.steps, dtype=torch.int32, device="cpu")
        counts = steps >= plan.steps - plan.tail
        self._plan = (padded, rates, counts, steps)
        if self._device.type == "cuda":
            self._plan = tuple(table.pin_memory() for table in self._plan)

    def fill(self, first: int) -> int:
        """Fill the window with the plan's steps from ``first`` on; return how many there are."""
        windows = (self._rows, self.rates, self._counts, self._steps)
        for table, host in zip(windows, self._plan, strict=True):
            part = host[first : first + self.window]
            table[: len(part)].copy_(part, non_blocking=True)
        self.counter.zero_()
        self.at = first
        return min(self.window, len(self._plan[0]) - first)

    def rows(self) -> Tensor:
        """Return the indices of this step's examples, shape (width,)."""
        return self._rows.index_select(0, self.counter).view(-1)

    def host_rows(self, step: int) -> Tensor:
        """Return the indices of the examples of a step of the plan, shape (width,), on the host."""
        return self._plan[0][step]

    def rate(self) -> Tensor:
        """Return this step's learning rate, shape (1,)."""
        return self.rates[:, 0].index_select(0, self.counter)

    def exact_rate(self) -> float:
        """Return this step's learning rate to all its digits, where steps are called.

        0 for a step beyond the plan, as a warm-up may take.
        """
        return float(self._exact[self.at]) if self.at < len(self._exact) else 0.0

    def step(self) -> Tensor:
        """Return which step of the plan this is, int32 (1,)."""
        return self._steps.index_select(0, self.counter)

    def advance(self, tail: Tensor, loss: Tensor, missing: Tensor | None = None) -> None:
        """Add this step's losses (P,) to the tail's if they count, and go to the next step.

        With ``missing`` (P,) those that are NaN are counted there instead.
        """
        counts = self._counts.index_select(0, self.counter)
        if missing is not None:
            none = loss.isnan()
            missing.add_(counts & none)
            loss = loss.masked_fill(none, 0)
        # Not a product: early losses may be infinite.
        tail.add_(torch.where(counts, loss, 0))
        self.counter.add_(1)
        self.at += 1


def rates_of(recipe: Recipe, steps: int) -> NDArray[np.float64]:
    """Return the numbers of each step that its optimiser needs, shape (S, 3); see ``Schedule``."""
    one, two = recipe.betas if recipe.optimizer != "sgd" else (0.0, 0.0)
    table = []
    for step in range(steps):
        lr = recipe.lr_at(step, steps)
        table.append((lr, lr / (1 - one ** (step + 1)), math.sqrt(1 - two ** (step + 1))))
    return np.array(table, dtype=np.float64)

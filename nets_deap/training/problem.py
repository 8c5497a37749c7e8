"""``Problem``: everything that training reads, on its device, and the trained ``Outcome``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nets_deap.masks import MaskLayout
from nets_deap.training.recipe import Recipe

Split = tuple[Tensor, Tensor]
State = dict[str, Tensor]


@dataclass(frozen=True)
class Problem:
    """A model, its initial state and its data, resident on one device.

    Attributes:
        model: A private copy of the user's module; its own tensors are never written.
        layout: Which parameters are masked.
        initial: All parameters at W0, by name.
        frozen: Names of parameters that are not trained.
        buffers: All buffers at the start, by name.
        recipe: How to train.
        train: Inputs (N, ...) and targets (N, ...).
        val: The same for validation.
        test: The same for the test set, or None.
    """

    model: nn.Module
    layout: MaskLayout
    initial: State
    frozen: frozenset[str]
    buffers: State
    recipe: Recipe
    train: Split
    val: Split
    test: Split | None

    @property
    def device(self) -> torch.device:
        """Where everything lives."""
        return self.train[0].device


@dataclass(frozen=True)
class Plan:
    """What one call of a trainer does: steps, seed, and what it measures and keeps."""

    steps: int
    seed: int
    curve_points: int = 0
    test: bool = False
    keep_states: bool = False

    def batches(self, n_examples: int, batch_size: int) -> Tensor:
        """Return the minibatches' example indices, shape (S, B): shuffled passes end to end."""
        rng = np.random.default_rng(self.seed)
        needed = self.steps * batch_size
        passes = [rng.permutation(n_examples) for _ in range(math.ceil(needed / n_examples))]
        return torch.from_numpy(np.concatenate(passes)[:needed].reshape(self.steps, batch_size))

    @property
    def curve_steps(self) -> tuple[int, ...]:
        """Steps after which the validation loss is measured; the last is always the end."""
        if not self.curve_points:
            return ()
        points = np.linspace(0, self.steps, self.curve_points + 1)[1:]
        return tuple(sorted({max(1, round(point)) for point in points.tolist()}))

    @property
    def tail(self) -> int:
        """How many of the last steps the training loss is averaged over: a tenth."""
        return max(1, self.steps // 10)


METRICS = ("train_loss", "val_loss", "val_accuracy", "test_loss", "test_accuracy")


@dataclass
class Outcome:
    """What training P networks gave, in the order of the masks.

    Attributes:
        metrics: One vector (P,) for each of ``METRICS``; NaN where not measured or not defined.
        curve_steps: The K steps of the validation curve; empty unless asked for.
        curve: Validation losses, shape (P, K).
        values: Trained weights at the kept positions of each mask, in mask order.
        states: All parameters and buffers of each network by name; empty unless asked for.
    """

    metrics: dict[str, NDArray[np.float64]]
    curve_steps: tuple[int, ...]
    curve: NDArray[np.float64]
    values: list[NDArray[np.floating]]
    states: list[State]

    @classmethod
    def concatenate(cls, parts: list[Outcome]) -> Outcome:
        """Put the outcomes of consecutive chunks together."""
        return cls(
            metrics={n: np.concatenate([part.metrics[n] for part in parts]) for n in METRICS},
            curve_steps=parts[0].curve_steps,
            curve=np.concatenate([part.curve for part in parts]),
            values=[v for part in parts for v in part.values],
            states=[s for part in parts for s in part.states],
        )

"""``Examples``: the splits of a task, checked against its model, before they go to the device."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import nn

from nets_deap import _checks
from nets_deap.data.convert import Given, as_split
from nets_deap.data.holdout import hold_out
from nets_deap.data.normalize import Normalize, NormalizeEntries, as_normalize
from nets_deap.data.splits import digest_of_parts
from nets_deap.data.streamed import Streamed, capacity_for_data
from nets_deap.inputs.nested import each, length_of
from nets_deap.models.private import copied
from nets_deap.training.device import python_states, seeded
from nets_deap.training.losses import Weighted, chance_loss
from nets_deap.training.model_checks import Fit, first_loss, fitted
from nets_deap.training.problem import Split
from nets_deap.training.recipe import Recipe

logger = logging.getLogger("nets_deap")


@dataclass(frozen=True)
class Examples:
    """The splits of a task by name, on the CPU; uint8 images are still bytes.

    Attributes:
        splits: ``"train"``, ``"val"`` and, if there is one, ``"test"``.
        digest: SHA-256 over all inputs, targets and weights as they were given.
        normalize: How images become inputs; None for inputs that are used as they are.
        has_accuracy: Whether the loss defines what is correct.
        chance_loss: The loss of the best constant output on the training data; under a loss that
            is a function, that of the model as it is, on all or ten thousand of them.
        ignored: Labels that the loss leaves out.
        weight_means: Of the weights of training and validation examples as they were given; 1
            where they had none.
    """

    splits: dict[str, Split]
    digest: str
    normalize: Normalize | NormalizeEntries | None
    has_accuracy: bool
    chance_loss: float
    ignored: tuple[int, ...]
    weight_means: tuple[float, float]

    @classmethod
    def of(
        cls,
        given: Mapping[str, Any],
        model: nn.Module,
        recipe: Recipe,
        dtype: torch.dtype,
        normalize: Any = None,
        *,
        seed: int = 0,
        in_memory: bool | None = None,
        device: torch.device | None = None,
    ) -> Examples:
        """Convert what the user gives and check it against model and recipe; see ``nets.Task``.

        Args:
            given: The splits by name, in any form that ``as_split`` takes; ``"val"`` may be a
                share of ``"train"``.
            model: Is shown some examples of each, on a copy.
            recipe: Its loss and the size of its minibatches.
            dtype: Of floating-point inputs.
            normalize: Mean and standard deviation of uint8 images, by entry where inputs are
                several; None for none.
            seed: Of the draw of validation data.
            in_memory: See ``as_split``.
            device: Where the data will go: its memory limits what is kept.

        Raises:
            InvalidValueError: Data, labels or shapes do not fit.
            InvalidTypeError: Something is of the wrong kind.
        """
        pixels = as_normalize(normalize)
        if in_memory is not None and not isinstance(in_memory, bool):
            raise _checks.bad_type("in_memory", "be a switch", "True, False or None", in_memory)
        splits: dict[str, Given] = {}
        for name, data in given.items():
            if name == "val" and isinstance(data, Real):
                splits |= _hold_out(splits["train"], float(data), seed)
                continue
            place = torch.device("cpu") if device is None else device
            capacity = capacity_for_data(place)
            with seeded(seed, place):  # a data set may draw
                before = _states()
                split = as_split(name, data, dtype, in_memory=in_memory, capacity=capacity)
                drawn = split.random or before != _states()
            kept = in_memory is None and not isinstance(split.inputs, Streamed)
            if name == "train" and drawn and kept:
                logger.warning(
                    "The training data draw random numbers when they are read, as random "
                    "transforms do. They are read once and kept, so that every pass over them sees "
                    "the same. Give in_memory=False to draw anew for each minibatch, or augment= "
                    "to change minibatches; in_memory=True keeps them without this word."
                )
            splits[name] = split
        digest = digest_of_parts(split.digest for split in splits.values())
        fits = {
            name: fitted(copied(model), recipe.loss, name, split, pixels, dtype, recipe.batch_size)
            for name, split in splits.items()
        }
        checked = {name: _split(name, splits[name], fit) for name, fit in fits.items()}
        inputs, targets = checked["train"]
        if recipe.batch_size > (n := length_of(inputs)):
            raise _checks.bad_value(
                "recipe.batch_size", "fit the training data", f"at most N = {n}",
                recipe.batch_size,
            )  # fmt: skip
        if isinstance(recipe.loss, str):
            chance = chance_loss(recipe.loss, targets)
        else:
            count = length_of(checked["val"][0])
            chance = first_loss(model, recipe.loss, (inputs, targets), pixels, dtype, count)
        has_accuracy, ignored = fits["train"].has_accuracy, fits["train"].ignored
        means = _mean_weight(splits["train"]), _mean_weight(splits["val"])
        return cls(checked, digest, pixels, has_accuracy, chance, ignored, means)

    def on(self, device: torch.device, dtype: torch.dtype) -> dict[str, Split]:
        """Return the splits on a device, images sent as bytes and normalised there."""
        found = {}
        for name, (inputs, targets) in self.splits.items():
            if isinstance(inputs, Streamed):
                there: Any = inputs.on(device, self.normalize)
            else:
                there = each(inputs, lambda tensor: tensor.to(device))
                if self.normalize is not None:
                    there = self.normalize(there, dtype)
            found[name] = (there, each(targets, lambda tensor: tensor.to(device)))
        return found


def _states() -> tuple[Any, ...]:
    """Return all random states that a data set may draw from, to be compared."""
    return *python_states(), torch.get_rng_state().numpy().tobytes()


def _hold_out(train: Given, share: float, seed: int) -> dict[str, Given]:
    """Return training data without, and validation data with, a share of the examples."""
    argument = "val"
    _checks.inner_share(argument, share)
    n = length_of(train.inputs)
    if n < 2:
        raise _checks.bad_value("train", "be enough to hold out val", "N >= 2", n, "Give val=...")
    stay, off = hold_out(train.targets, n, share, seed)
    return {"train": train.take(stay), "val": train.take(off)}


def _mean_weight(given: Given) -> float:
    """Return the mean weight of the examples of a split."""
    return 1.0 if given.weights is None else float(given.weights.double().mean())


def _split(name: str, given: Given, fit: Fit) -> Split:
    """Return inputs and checked targets; weights are scaled to a mean of 1."""
    if given.weights is None:
        return given.inputs, fit.targets
    largest = given.weights.max()
    if not bool(largest > 0):  # the holdout may have left none
        rule, hint = "weigh examples", "Give val=... with some that count."
        raise _checks.bad_value(f"{name} weights", rule, "some > 0", "all 0", hint)
    shares = given.weights / largest
    return given.inputs, Weighted(fit.targets, shares / shares.mean())

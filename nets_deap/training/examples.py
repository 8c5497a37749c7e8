"""``Examples``: the splits of a task, checked against its model, before they go to the device."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nets_deap import _checks
from nets_deap.data.convert import Split, as_split
from nets_deap.data.pixels import Normalize
from nets_deap.data.splits import digest_of_splits
from nets_deap.training.modules import fitted
from nets_deap.training.recipe import Recipe


@dataclass(frozen=True)
class Examples:
    """The splits of a task by name, on the CPU; uint8 images are still bytes.

    Attributes:
        splits: ``"train"``, ``"val"`` and, if there is one, ``"test"``.
        digest: SHA-256 over all inputs and targets as they were given.
        normalize: How images become inputs; None for inputs that are used as they are.
    """

    splits: dict[str, Split]
    digest: str
    normalize: Normalize | None

    @classmethod
    def of(
        cls,
        given: Mapping[str, Any],
        model: nn.Module,
        recipe: Recipe,
        dtype: torch.dtype,
        normalize: Any = None,
    ) -> Examples:
        """Convert what the user gives and check it against model and recipe; see ``nets.Task``.

        Args:
            given: The splits by name, in any form that ``as_split`` takes.
            model: Is shown an example of each, on a copy.
            recipe: Its loss and the size of its minibatches.
            dtype: Of floating-point inputs.
            normalize: Mean and standard deviation of uint8 images; None for none.

        Raises:
            InvalidValueError: Data, labels or shapes do not fit.
            InvalidTypeError: Something is of the wrong kind.
        """
        pixels = None
        if normalize is not None:
            if not isinstance(normalize, (tuple, list)) or len(normalize) != 2:
                raise _checks.bad_type(
                    "normalize", "be a pair", "(mean, standard deviation)", normalize
                )
            pixels = Normalize(*normalize)
        splits = {name: as_split(name, data, dtype) for name, data in given.items()}
        digest = digest_of_splits(*(part.numpy() for split in splits.values() for part in split))
        checked = {}
        for name, (inputs, targets) in splits.items():
            sample = inputs[:1]
            if pixels is not None:
                pixels.check(f"{name} inputs", inputs)
                sample = pixels(sample, dtype)
            checked[name] = (
                inputs,
                fitted(copy.deepcopy(model), recipe.loss, name, inputs, sample, targets),
            )
        count = len(checked["train"][0])
        if recipe.batch_size > count:
            raise _checks.bad_value(
                "recipe.batch_size", "fit the training data", f"at most N = {count}",
                recipe.batch_size,
            )  # fmt: skip
        return cls(checked, digest, pixels)

    def on(self, device: torch.device, dtype: torch.dtype) -> dict[str, Split]:
        """Return the splits on a device, images sent as bytes and normalised there."""
        found = {}
        for name, (inputs, targets) in self.splits.items():
            there = inputs.to(device)
            if self.normalize is not None:
                there = self.normalize(there, dtype)
            found[name] = (there, targets.to(device))
        return found

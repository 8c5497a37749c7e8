"""``Normalize``: bytes of images turned into floating-point inputs, on the device they are on.

``NormalizeEntries`` does so to some of several inputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nets_deap import _checks
from nets_deap.inputs.nested import like


@dataclass(frozen=True)
class Normalize:
    """How uint8 images become inputs: (x / 255 - mean) / std, in float32.

    Images stay bytes until they are on the device that trains: a quarter of the memory and of the
    transfer.

    Args:
        mean: Of all pixels, or of each channel (the second axis of the images), in [0, 1]: of
            x / 255.
        std: The same; > 0.

    Raises:
        InvalidValueError: ``std`` is not positive, or the two differ in length.
    """

    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]

    @staticmethod
    def fit(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the mean and standard deviation of each channel, rounded to four places.

        Args:
            images: uint8 (N, channels, ...), not empty.
        """
        values = np.arange(256) / 255
        means, deviations = [], []
        for channel in np.moveaxis(images, 1, 0):
            share = np.bincount(channel.reshape(-1), minlength=256) / channel.size
            mean = float(share @ values)
            means.append(round(mean, 4))
            deviations.append(round(math.sqrt(float(share @ (values - mean) ** 2)), 4))
        return tuple(means), tuple(deviations)

    def __post_init__(self) -> None:
        mean, std = _numbers("normalize.mean", self.mean), _numbers("normalize.std", self.std)
        _checks.length("normalize.std", len(std), len(mean), "channels of normalize.mean")
        for value in mean:  # a mean of 127, say, is one of bytes, not of fractions
            _checks.real("normalize.mean", value, low=0, high=1)
        for value in std:
            _checks.real("normalize.std", value, low=0, open_low=True)

    def __call__(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Return images (N, ...) of uint8 as inputs of ``dtype``, on their own device."""
        # Divided by tensors: a division by a number is rounded otherwise on some devices.
        found = images.to(torch.float32)
        found /= torch.tensor(255.0, device=images.device)
        found -= self._spread(self.mean, images)
        found /= self._spread(self.std, images)
        return found.to(dtype)

    def check(self, argument: str, images: Any) -> None:
        """Raise unless ``images`` are bytes with as many channels as mean and std name."""
        if not isinstance(images, Tensor):
            name = next(iter(images)) if isinstance(images, dict) else 0
            hint = f"Say which of them: normalize={{{name!r}: (mean, std)}}."
            raise _checks.bad_value(argument, "be images of bytes", "one tensor", "several", hint)
        if images.dtype != torch.uint8:
            kind = str(images.dtype).removeprefix("torch.")
            raise _checks.bad_value(
                argument, "be images of bytes", "uint8, as normalize= is given", kind
            )
        n = len(_numbers("normalize.mean", self.mean))
        if n > 1 and (images.ndim < 2 or images.shape[1] != n):
            raise _checks.bad_value(
                argument, "have the channels of normalize", f"(N, {n}, ...)", tuple(images.shape)
            )

    @staticmethod
    def _spread(value: float | tuple[float, ...], images: Tensor) -> Tensor:
        """Return a number for all pixels, or one for each channel, in the shape of the images."""
        numbers = torch.tensor(value, dtype=torch.float32, device=images.device)
        return numbers.reshape(-1, *[1] * (images.ndim - 2)) if numbers.ndim else numbers


@dataclass(frozen=True)
class NormalizeEntries:
    """How some of several inputs become floating-point; the others are used as they are.

    Attributes:
        entries: By the name of the entry in a dictionary, or its place in a tuple.
    """

    entries: Mapping[Any, Normalize]

    def __call__(self, inputs: Any, dtype: torch.dtype) -> Any:
        """Return the inputs, those that are named as ``dtype``, on their own device."""
        found = dict(_entries(inputs))
        for name, normalize in self.entries.items():
            found[name] = normalize(found[name], dtype)
        return found if isinstance(inputs, dict) else like(inputs, list(found.values()))

    def check(self, argument: str, inputs: Any) -> None:
        """Raise unless there are entries of these names, which are images of bytes."""
        if isinstance(inputs, Tensor):
            expected, hint = "a tuple or dictionary", "Give normalize=(mean, std)."
            raise _checks.bad_value(argument, "be several", expected, "one tensor", hint)
        known = dict(_entries(inputs))
        for name, normalize in self.entries.items():
            if not isinstance(known.get(name), Tensor):
                names = ", ".join(
                    repr(key) for key, part in known.items() if isinstance(part, Tensor)
                )
                raise _checks.bad_value("normalize", "name tensors", f"some of {names}", name)
            normalize.check(f"{argument}[{name!r}]", known[name])


def as_normalize(given: Any) -> Normalize | NormalizeEntries | None:
    """Return ``nets.Task``'s argument checked: (mean, std), these by entry, or None.

    Raises:
        InvalidTypeError: It is none of these.
        InvalidValueError: As of ``Normalize``.
    """
    if given is None:
        return None
    if isinstance(given, Mapping) and given:
        return NormalizeEntries({name: _pair(value) for name, value in given.items()})
    return _pair(given)


def _pair(given: Any) -> Normalize:
    """Return (mean, std) checked."""
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise _checks.bad_type("normalize", "be a pair", "(mean, standard deviation)", given)
    return Normalize(*given)


def _entries(inputs: Any) -> Any:
    """Return the entries of several inputs with their names or places."""
    return inputs.items() if isinstance(inputs, dict) else enumerate(inputs)


def _numbers(argument: str, value: float | Sequence[float]) -> tuple[float, ...]:
    """Return one number, or one for each channel, as a tuple."""
    several = value if isinstance(value, (tuple, list)) else (value,)
    return tuple(_checks.real(argument, number) for number in several)

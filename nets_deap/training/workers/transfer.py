"""Copies of a problem: on another device, or with arrays in the place of tensors."""

from __future__ import annotations

import copy
import dataclasses
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nets_deap.data.convert import each
from nets_deap.training.losses import Weighted
from nets_deap.training.problem import Problem, Split


class Places:
    """Where Python looks for modules; unpickled elsewhere, it looks there as well.

    A module of the user's own may lie beside a script, and workers know only the installed ones.
    """

    def __reduce__(self) -> tuple[Any, tuple[list[str]]]:
        return _look_in, ([str(Path(place).absolute()) for place in sys.path],)


def _look_in(places: list[str]) -> Places:
    """Let Python look in more places, after its own."""
    sys.path.extend(place for place in places if place not in sys.path and Path(place).exists())
    return Places()


@dataclass(frozen=True, eq=False)
class Crate:
    """A problem whose tensors are arrays, so that processes of one node can share their memory.

    Attributes:
        places: Comes first: the problem is unpickled with it.
        problem: The problem; data and initial state hold ``Stored`` instead of tensors.
    """

    places: Places
    problem: Problem

    @classmethod
    def of(cls, problem: Problem) -> Crate:
        """Put a problem into a crate; on the CPU nothing but the model is copied."""
        here = moved(problem, torch.device("cpu"))
        return cls(Places(), _changed(here, Stored.of))

    def open(self, device: torch.device) -> Problem:
        """Return the problem on a device; on the CPU it reads the crate's own memory."""
        return moved(_changed(self.problem, Stored.tensor), device)


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor as an array; ``dtype`` names one that NumPy does not have."""

    array: NDArray[Any]
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: Any) -> Any:
        """Return a tensor as an array; anything else as it is."""
        if not isinstance(tensor, Tensor):
            return tensor
        plain = tensor.detach().contiguous()
        if plain.dtype == torch.bfloat16:
            plain = plain.view(torch.int16)
        return cls(plain.numpy(), tensor.dtype)

    @staticmethod
    def tensor(stored: Any) -> Any:
        """Return the tensor on the array's memory, which nobody may write; else as it is."""
        if not isinstance(stored, Stored):
            return stored
        with warnings.catch_warnings():
            # Memory that is shared between processes is read-only, and so are data and W0.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
            found = torch.from_numpy(np.asarray(stored.array))
        return found if found.dtype == stored.dtype else found.view(stored.dtype)


def moved(problem: Problem, device: torch.device) -> Problem:
    """Return a problem on a device; what is there already is shared, but for the model."""
    replica = _changed(problem, lambda part: part.to(device))
    augment: Any = problem.augment
    return dataclasses.replace(
        replica,
        model=copy.deepcopy(problem.model).to(device),
        recipe=problem.recipe.on(device),
        augment=copy.deepcopy(augment).to(device) if hasattr(augment, "to") else augment,
    )


def n_bytes(problem: Problem) -> int:
    """Return the bytes of a problem's data and initial state; streamed inputs count nothing."""
    total = 0

    def add(part: Any) -> Any:
        nonlocal total
        total += part.nbytes if isinstance(part, Tensor) else 0
        return part

    _changed(problem, add)
    return total


def _changed(problem: Problem, change: Callable[[Any], Any]) -> Problem:
    """Return a problem with every tensor of its data and initial state changed."""

    def split(given: Split) -> Split:
        inputs, targets = given
        there = change(inputs)
        if isinstance(targets, Weighted):
            return there, Weighted(each(targets.target, change), change(targets.weight))
        return there, each(targets, change)

    return dataclasses.replace(
        problem,
        initial={name: change(tensor) for name, tensor in problem.initial.items()},
        buffers={name: change(tensor) for name, tensor in problem.buffers.items()},
        train=split(problem.train),
        val=split(problem.val),
        test=None if problem.test is None else split(problem.test),
    )

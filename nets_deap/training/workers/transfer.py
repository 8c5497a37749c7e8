"""Problems and outcomes on their way: to another device, to other processes, and back."""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nets_deap.models.modes import quiet
from nets_deap.models.private import Hooks, add_hooks, hooks_of
from nets_deap.models.private import copied as copied_model
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.problem import Outcome, Problem

Thing = TypeVar("Thing")
# What a problem holds in tensors; its model and recipe are copied or sent as they are.
TENSORS = ("initial", "buffers", "train", "val", "test", "guard")


def changed(thing: Thing, change: Callable[[Any], Any]) -> Thing:
    """Return a problem, outcome or start with every array or tensor in it changed.

    Streamed inputs, numbers and None go through ``change``, too.
    """
    found: Any = thing
    if isinstance(found, (Problem, Outcome, TrainedState)):
        names = TENSORS if isinstance(found, Problem) else vars(found)
        parts = {name: changed(getattr(found, name), change) for name in names}
        found = dataclasses.replace(found, **parts)
    elif isinstance(found, Mapping):
        found = {name: changed(part, change) for name, part in found.items()}
    elif isinstance(found, (list, tuple)):
        parts_ = [changed(part, change) for part in found]
        found = type(found)(*parts_) if hasattr(found, "_fields") else type(found)(parts_)
    else:
        found = change(found)
    result: Thing = found
    return result


def n_bytes(thing: Any) -> int:
    """Return the bytes of all arrays and tensors in a thing; streamed inputs count nothing."""
    total = 0

    def add(part: Any) -> Any:
        nonlocal total
        total += part.nbytes if isinstance(part, (np.ndarray, Tensor)) else 0
        return part

    changed(thing, add)
    return total


def owned(thing: Thing) -> Thing:
    """Return a thing on memory of its own: what Ray hands over is read-only, and held open."""

    def own(part: Any) -> Any:
        if isinstance(part, Tensor):
            return part.clone()
        return np.array(part) if isinstance(part, np.ndarray) else part

    return changed(thing, own)


def copied(problem: Problem, device: torch.device) -> Problem:
    """Return a copy of a problem on a device, which another thread may train.

    Data and W0 that are there already are shared, as nobody writes to them. Model, augmentation and
    cache are its own: engines do write to those.
    """
    augment: Any = problem.augment
    return dataclasses.replace(
        changed(problem, lambda part: part if part is None else part.to(device)),
        model=copied_model(problem.model).to(device),
        recipe=problem.recipe.on(device),
        augment=copy.deepcopy(augment).to(device) if hasattr(augment, "to") else augment,
    )


class SearchPath:
    """Where Python looks for modules; unpickled elsewhere, it looks there as well.

    A module of the user's own may lie beside a script, and workers know only the installed ones.
    """

    def __reduce__(self) -> tuple[Any, tuple[list[str]]]:
        return _look_in, ([str(Path(folder).absolute()) for folder in sys.path],)


def _look_in(folders: list[str]) -> SearchPath:
    """Let Python look in more folders, after its own."""
    sys.path.extend(path for path in folders if path not in sys.path and Path(path).exists())
    return SearchPath()


@dataclass(frozen=True, eq=False)
class SharedProblem:
    """A problem whose tensors are arrays, so that processes of one node can share their memory.

    Ray puts the bytes of NumPy's arrays into shared memory, where any process of the node reads
    them in place. Tensors it would pickle, a copy for each process.

    Attributes:
        path: Comes first: the problem is unpickled with it.
        problem: The problem; data and initial state hold ``StoredTensor`` instead of tensors.
        hooks: Those on the model's parameters, which torch leaves out of a pickle.
    """

    path: SearchPath
    problem: Problem
    hooks: Hooks

    @classmethod
    def of(cls, problem: Problem) -> SharedProblem:
        """Return what to send of a problem; on the CPU nothing but the model is copied."""
        here = copied(problem, torch.device("cpu"))
        return cls(SearchPath(), changed(here, StoredTensor.of), hooks_of(here.model))

    def on(self, device: torch.device) -> Problem:
        """Return the problem on a device; on the CPU it reads the shared memory itself."""
        found = copied(changed(self.problem, StoredTensor.tensor), device)
        if not hooks_of(found.model):  # lost on the way to another process
            add_hooks(found.model, self.hooks)
        return found


@dataclass(frozen=True, eq=False)
class StoredTensor:
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
        if not isinstance(stored, StoredTensor):
            return stored
        # Memory that is shared between processes is read-only, and so are data and W0.
        with quiet.held("The given NumPy array is not writ"):
            found = torch.from_numpy(np.asarray(stored.array))
        return found if found.dtype == stored.dtype else found.view(stored.dtype)

"""``Labels``: which channel every number of a tensor belongs to, as small arrays of atoms.

An atom is one channel of one result: all numbers of a tensor with the same atom are one feature at
different places. What only moves numbers (``view``, ``permute``, ``cat``, ``chunk``, indexing, ...)
is followed by doing the same to the atoms; no rule of its own is needed for any of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Atoms = NDArray[np.int64]

ZERO = 0  # the atom of zeros that are put somewhere, around an image say
KEPT = 1  # the atom of all that has to stay as it is


@dataclass(frozen=True, eq=False)
class Labels:
    """The atoms of a tensor.

    Attributes:
        atoms: Of as many axes as the tensor; of size 1 along those that do not tell atoms apart.
        shape: Of the tensor.
        fixed: Whether it is a parameter or buffer, or made of one by moving its numbers.
        sums_to_one: Whether it comes from softmax along its last axis.
    """

    atoms: Atoms
    shape: tuple[int, ...]
    fixed: bool = False
    sums_to_one: bool = False

    @classmethod
    def of(cls, tensor: Tensor, fixed: bool = False) -> Labels:
        """Return labels from an atom for each number, as ``whole`` gives them."""
        shape = tuple(tensor.shape)
        # From the back: there the places of an image are, of which convolutions have most.
        for axis in reversed(range(tensor.ndim)):
            if tensor.shape[axis] > 1:
                first = tensor.narrow(axis, 0, 1)
                if tensor.stride(axis) == 0 or bool((tensor == first).all()):
                    tensor = first
        return cls(tensor.to(torch.int64).contiguous().numpy(), shape, fixed)

    @classmethod
    def along(cls, axis: int, atoms: Atoms, shape: tuple[int, ...]) -> Labels:
        """Return the labels of a tensor whose atoms differ along one axis only."""
        spread = [1] * len(shape)
        spread[axis] = len(atoms)
        return cls(atoms.reshape(spread), shape)

    @classmethod
    def kept(cls, shape: tuple[int, ...]) -> Labels:
        """Return those of a tensor that stays as it is."""
        return cls(np.full((1,) * len(shape), KEPT, dtype=np.int64), shape)

    @property
    def is_kept(self) -> bool:
        """Whether all of it stays as it is."""
        return bool((self.atoms == KEPT).all())

    def whole(self) -> Tensor:
        """Return an atom for each number, in float64: all that moves numbers takes that."""
        return torch.from_numpy(self.atoms.astype(np.float64)).expand(self.shape)

    def broadcast(self, ndim: int) -> tuple[Atoms, tuple[int, ...]]:
        """Return atoms and shape with axes of size 1 in front, ``ndim`` in all."""
        more = (1,) * (ndim - len(self.shape))
        return self.atoms.reshape(more + self.atoms.shape), more + self.shape

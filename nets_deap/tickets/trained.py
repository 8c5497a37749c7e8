"""``Learnt``: what the last training of a mask learnt, and what children inherit of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap.tickets import bits


@dataclass(frozen=True, eq=False)
class Learnt:
    """What a ticket's last training learnt, tied to the mask that was trained.

    Attributes:
        digest: Digest of that mask; empty for the average of two parents, which nobody trained.
        steps: Optimiser steps taken since W0, those of ancestors included if it inherited.
        values: Trained values of the kept weights in mask order, shape (kept,); read-only.
        metrics: Measured numbers by name, such as ``val_loss`` and ``val_accuracy``.
        packed: The mask's packed bits.
        others: Trained parameters and buffers outside of the mask, by name.
        slopes: |gradient| of the training loss at the kept weights, shape (kept,); None where no
            operator asked for it.
        grown: Positions of pruned weights with the largest |gradient|, largest first (in a
            structured ticket: of pruned units); None likewise.
        parents: Of an average, the digests of the masks that were trained.
    """

    digest: str
    steps: int
    values: NDArray[Any]
    metrics: Mapping[str, float]
    packed: bits.Bytes
    others: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    slopes: NDArray[Any] | None = None
    grown: NDArray[np.int64] | None = None
    parents: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """Digests of the masks whose training this comes from."""
        return (self.digest,) if self.digest else self.parents

    def freeze(self) -> None:
        """Make the arrays read-only: copies of a ticket share them."""
        for array in (self.values, self.packed, self.slopes, self.grown, *self.others.values()):
            if array is not None:
                array.setflags(write=False)

    def at(self, mask: bits.Mask) -> NDArray[Any]:
        """Return the values at the kept positions of another mask (D,); 0 where none is known."""
        return self.move(self.values, mask)

    def slopes_at(self, mask: bits.Mask) -> NDArray[Any] | None:
        """Return |gradient| at the kept positions of another mask; 0 where it is not known."""
        return None if self.slopes is None else self.move(self.slopes, mask)

    def move(
        self, values: NDArray[Any], mask: bits.Mask, kept: bits.Places | None = None
    ) -> NDArray[Any]:
        """Return numbers at the kept weights as those at the kept positions of another mask.

        Args:
            values: Numbers at the weights that were kept, in mask order, shape (kept,).
            mask: The other mask, bool (D,); its weights that were not kept get 0.
            kept: ``bits.places(mask)`` where it is known already.
        """
        before = bits.places(bits.unpack(self.packed, mask.size))
        if kept is None:
            found: NDArray[Any] = values[bits.places(mask[before])]
            if len(found) == np.count_nonzero(mask):  # nothing has been regrown since
                return found
        flat = np.zeros(mask.size, dtype=values.dtype)
        flat[before] = values
        return flat[bits.places(mask) if kept is None else kept]

    def average(self, other: Learnt, size: int) -> Learnt:
        """Return what lies midway between two: all values averaged, pruned weights as zero.

        It keeps the union of both masks. Slopes average likewise; candidates for regrowth are
        those of the first, then of the second.
        """
        packed = self.packed | other.packed
        # Places within the union, not within the whole mask: a short vector is quicker to fill.
        union = bits.places(bits.unpack(packed, size))
        own, others_own = (
            bits.places(bits.unpack(some, size)[union]) for some in (self.packed, other.packed)
        )
        kept = bits.count(packed)

        def midway(one: NDArray[Any], two: NDArray[Any]) -> NDArray[Any]:
            first, second = np.zeros(kept, dtype=one.dtype), np.zeros(kept, dtype=two.dtype)
            first[own], second[others_own] = one, two
            found: NDArray[Any] = ((first + second) / 2).astype(one.dtype, copy=False)
            return found

        slopes, grown = None, None
        if self.slopes is not None and other.slopes is not None:
            slopes = midway(self.slopes, other.slopes)
        if self.grown is not None and other.grown is not None:
            seen = np.zeros(size, dtype=np.bool_)
            seen[self.grown] = True
            grown = np.concatenate([self.grown, other.grown[~seen[other.grown]]])
        # Integers, such as a count of batches, stay those of the first.
        others = {
            name: ((one + other.others[name]) / 2).astype(one.dtype)
            if one.dtype.kind == "f" and name in other.others
            else one
            for name, one in self.others.items()
        }
        steps = max(self.steps, other.steps)
        values = midway(self.values, other.values)
        parents = tuple(dict.fromkeys(self.sources + other.sources))
        return Learnt("", steps, values, {}, packed, others, slopes, grown, parents)


class Average:
    """The average of what two tickets learnt, worked out once it is first asked for.

    Most children of crossover are trained before anyone looks at what they inherited.

    Args:
        one: What one parent learnt.
        other: What the other one learnt.
        size: D, the bits of a ticket.
    """

    def __init__(self, one: Learnt, other: Learnt, size: int) -> None:
        self.sources = tuple(dict.fromkeys(one.sources + other.sources))
        self._parents: tuple[Learnt, Learnt] | None = one, other
        self._size = size
        self._found: Learnt | None = None

    def get(self) -> Learnt:
        """Return the average; always the same object, read-only."""
        if self._parents is not None:
            one, other = self._parents
            self._found = one.average(other, self._size)
            self._found.freeze()
            self._parents = None  # what they learnt can be forgotten
        assert self._found is not None
        return self._found

"""``TrainedState``: the weights that a training ended with, and from which another may start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nets_deap._table import Brief
from nets_deap.tickets import bits
from nets_deap.tickets.choice import largest_first
from nets_deap.tickets.layout import MaskLayout
from nets_deap.tickets.units import UnitLayout

if TYPE_CHECKING:
    from torch import Tensor

Numbers = NDArray[Any]
Places = NDArray[np.int64]

# A share of all places.
MANY = 1 / 32

_NO_MASK = np.zeros(0, dtype=np.uint8)


@dataclass(frozen=True, eq=False, repr=False)
class TrainedState(Brief):
    """Weights of one masked network, with what was measured of them where they were trained.

    Values and ``unmasked`` alone say where a training starts or ended, for a mask that stands
    beside them. A ticket holds one with the mask that it is of, which may be an ancestor's.

    Attributes:
        values: Weights at the kept positions, in mask order, shape (kept,).
        unmasked: Parameters and buffers outside of the mask, by name; those that are missing are
            as at W0.
        packed: The packed mask; empty where it stands beside.
        steps: Optimiser steps since W0, those of ancestors included if it inherited.
        digest: Digest of the ticket that was trained; empty for the average of two parents, which
            nobody trained.
        metrics: Measured numbers by name, such as ``val_loss`` and ``val_accuracy``.
        gradients: |gradient| of the training loss at the kept weights, shape (kept,); None where
            no operator asked for it.
        candidates: Positions of pruned weights with the largest |gradient|, largest first (in a
            structured ticket: of pruned units); None likewise.
        parents: Of an average, the digests of the tickets that were trained.
        scores: Their |gradient| for each of the candidates (of a unit the root mean square); None
            likewise, and in what earlier versions wrote.
        pruned: Positions of pruned weights (or units) that an ancestor has trained; None where no
            operator asked for it.
        remembered: The last |w| of each of these (of a unit the root mean square); None likewise.
    """

    values: Numbers
    unmasked: Mapping[str, Numbers] = field(default_factory=dict)
    packed: bits.Bytes = field(default_factory=lambda: _NO_MASK)
    steps: int = 0
    digest: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    gradients: Numbers | None = None
    candidates: NDArray[np.int64] | None = None
    parents: tuple[str, ...] = ()
    scores: Numbers | None = None
    pruned: NDArray[np.int64] | None = None
    remembered: Numbers | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """Digests of the tickets whose training this comes from."""
        return (self.digest,) if self.digest else self.parents

    def freeze(self) -> None:
        """Make arrays and mappings read-only: copies of a ticket share them."""
        for name in ("unmasked", "metrics"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        arrays = (self.values, self.packed, self.gradients, self.candidates, self.scores)
        for array in (*arrays, self.pruned, self.remembered, *self.unmasked.values()):
            if array is not None:
                array.setflags(write=False)

    def note(self, gradients: Numbers, candidates: NDArray[np.int64], scores: Numbers) -> None:
        """Take down gradients that are measured later, for all tickets that have this state."""
        named = {"gradients": gradients, "candidates": candidates, "scores": scores}
        for name, array in named.items():
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields as they can be pickled, which views of mappings cannot."""
        return {**vars(self), "unmasked": dict(self.unmasked), "metrics": dict(self.metrics)}

    def tensors(self, layout: MaskLayout, mask: bits.Mask) -> dict[str, Tensor]:
        """Return the tensors that differ from W0 by name, pruned weights zero.

        Args:
            layout: Of the D weights.
            mask: The mask that the values are of, bool (D,).
        """
        import torch

        flat = np.zeros(layout.size, dtype=self.values.dtype)
        flat[mask] = self.values
        named = {**layout.split(flat), **self.unmasked}
        return {name: torch.from_numpy(np.array(value)) for name, value in named.items()}

    def spread(self, numbers: Numbers, size: int) -> Numbers:
        """Return numbers (kept,) at the places of the weights that they are of, else 0: (D,)."""
        flat = np.zeros(size, dtype=numbers.dtype)
        flat[bits.places(bits.unpack(self.packed, size))] = numbers
        return flat

    def at(self, mask: bits.Mask) -> Numbers:
        """Return the values at the kept positions of another mask (D,); 0 where none is known."""
        own = bits.unpack(self.packed, mask.size)
        # Never as long as the network: of a sparse one, only what is kept is moved.
        still = self.values[bits.places(mask[bits.places(own)])]
        kept = int(np.count_nonzero(mask))
        if len(still) == kept:  # nothing has been regrown since
            return still
        moved = np.zeros(kept, dtype=still.dtype)
        moved[bits.places(own[bits.places(mask)])] = still
        return moved

    def last_known(self, gates: bits.Mask, units: UnitLayout | None) -> tuple[Places, Numbers]:
        """Return the pruned ones of a ticket's bits whose last |w| is known, and that |w|.

        Args:
            gates: The ticket's bits, bool (G,).
            units: What they gate; None where a bit is a weight.
        """
        size = len(gates) if units is None else units.weights.size
        mask = bits.unpack(self.packed, size)
        if units is None:
            own, sizes = np.flatnonzero(mask), np.abs(self.values)
        else:
            whole = units.root_mean_square(self.spread(np.abs(self.values), size))
            own = np.flatnonzero(units.root_mean_square(mask))
            sizes = whole[own]
        lost = ~gates[own]
        if self.pruned is None or self.remembered is None:
            return own[lost], sizes[lost]
        # An average may remember from one parent what the other one keeps.
        still = ~gates
        still[own] = False
        before = still[self.pruned]
        return (
            np.concatenate([own[lost], self.pruned[before]]),
            np.concatenate([sizes[lost], self.remembered[before]]),
        )

    def average(self, other: TrainedState, size: int) -> TrainedState:
        """Return what lies midway between two: all values averaged, pruned weights as zero.

        It keeps the union of both masks. Gradients average likewise. Candidates for regrowth are
        those of both by their mean |gradient|, which counts as 0 where one does not have them;
        without scores those of the first, then of the second. Of a pruned weight that both remember
        it remembers the mean.

        Args:
            other: Of the same layout.
            size: D, the weights of the layout.
        """
        packed = self.packed | other.packed
        own = [bits.unpack(some, size) for some in (self.packed, other.packed)]
        # Places within the union, not within the whole mask: a short vector is quicker to fill.
        union = bits.places(own[0] | own[1])
        mine, its = (bits.places(some[union]) for some in own)
        kept = bits.count(packed)

        def midway(one: Numbers, two: Numbers) -> Numbers:
            first, second = np.zeros(kept, dtype=one.dtype), np.zeros(kept, dtype=two.dtype)
            first[mine], second[its] = one, two
            found: Numbers = ((first + second) / 2).astype(one.dtype, copy=False)
            return found

        gradients, candidates, scores, pruned, remembered = None, None, None, None, None
        if self.gradients is not None and other.gradients is not None:
            gradients = midway(self.gradients, other.gradients)
        if self.candidates is not None and other.candidates is not None:
            if self.scores is not None and other.scores is not None:
                candidates, scores, _ = _together(
                    size, self.candidates, self.scores / 2, other.candidates, other.scores / 2
                )
                order = largest_first(scores)
                candidates, scores = candidates[order], scores[order]
            else:
                seen = np.zeros(size, dtype=np.bool_)
                seen[self.candidates] = True
                more = other.candidates[~seen[other.candidates]]
                candidates = np.concatenate([self.candidates, more])
        if self.pruned is not None and other.pruned is not None:
            assert self.remembered is not None
            assert other.remembered is not None
            pruned, total, times = _together(
                size, self.pruned, self.remembered, other.pruned, other.remembered
            )
            remembered = total / times
        # Integers, such as a count of batches, stay those of the first.
        unmasked = {
            name: ((one + other.unmasked[name]) / 2).astype(one.dtype)
            if one.dtype.kind == "f" and name in other.unmasked
            else one
            for name, one in self.unmasked.items()
        }
        return TrainedState(
            midway(self.values, other.values),
            unmasked,
            packed,
            max(self.steps, other.steps),
            gradients=gradients,
            candidates=candidates,
            parents=tuple(dict.fromkeys(self.sources + other.sources)),
            scores=scores,
            pruned=pruned,
            remembered=remembered,
        )


def _together(
    size: int, one: Places, mine: Numbers, other: Places, its: Numbers
) -> tuple[Places, Numbers, Numbers]:
    """Return all places of two, the sums of their numbers, and how many of the two have each.

    Places are below ``size``, those of each different.
    """
    if len(one) + len(other) > MANY * size:  # sorting them takes longer than a vector of that size
        flat, has = np.zeros(size, dtype=np.result_type(mine, its)), np.zeros(size, dtype=np.uint8)
        flat[one], has[one] = mine, 1
        flat[other] += its
        has[other] += 1
        places = np.flatnonzero(has)
        return places, flat[places], has[places].astype(flat.dtype)
    places, inside = np.unique(np.concatenate([one, other]), return_inverse=True)
    numbers = np.concatenate([mine, its])
    sums = np.bincount(inside, numbers, len(places)).astype(numbers.dtype)
    return places, sums, np.bincount(inside, minlength=len(places)).astype(numbers.dtype)


class Average:
    """The average of two trained states, worked out once it is first asked for.

    With ``inherit="none"`` nobody asks: a child of crossover trains from W0 and has a state of its
    own before any operator sees it. Working all of them out at once made a generation of
    LeNet-300-100 without its training 22 to 28 % slower.

    Args:
        one: What one parent inherited.
        other: What the other one did.
        size: D, the weights of a ticket.
    """

    def __init__(self, one: TrainedState, other: TrainedState, size: int) -> None:
        self.sources = tuple(dict.fromkeys(one.sources + other.sources))
        self._parents: tuple[TrainedState, TrainedState] | None = one, other
        self._size = size
        self._found: TrainedState | None = None

    def get(self) -> TrainedState:
        """Return the average; always the same object, read-only."""
        if self._parents is not None:
            one, other = self._parents
            self._found = one.average(other, self._size)
            self._found.freeze()
            self._parents = None  # the parents' states can be forgotten
        assert self._found is not None
        return self._found

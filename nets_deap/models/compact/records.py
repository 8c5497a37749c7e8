"""``Record``: how some atoms come of others, and what is known of them under masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nets_deap.models.compact.labels import KEPT, Atoms
from nets_deap.models.tensors import Mask


@dataclass(eq=False)
class State:
    """What is known of each atom under some masks.

    Attributes:
        gates: Kept weights by parameter name; of others all are kept.
        varies: Whether it depends on what the network is given, or on its place in an image.
        shifts: Whether it is a constant that may be other than 0.
    """

    gates: Mapping[str, Mask]
    varies: Mask
    shifts: Mask
    _matrices: dict[int, Mask] = field(default_factory=dict)

    def entries(self, name: str | None) -> Mask | bool:
        """Return which entries of a vector are kept: those of none are not."""
        return name is not None and self.gates.get(name, True)

    def matrix(self, layer: Layer) -> Mask:
        """Return which inputs of its part a layer's kept weights join to which outputs."""
        known = self._matrices.get(id(layer))
        if known is None:
            gate = self.gates.get(layer.weight)
            shape = len(layer.dst), len(layer.src) // layer.groups
            known = np.ones(shape, np.bool_) if gate is None else layer.matrix(gate)
            self._matrices[id(layer)] = known
        return known


@dataclass(frozen=True, eq=False)
class Record:
    """Some atoms that come of others."""

    dst: Atoms

    def run(self, state: State) -> None:
        """Note what is known of them."""
        raise NotImplementedError

    def note(self, state: State, varies: Mask, shifts: Mask) -> None:
        """Note whether each varies, and whether it may be other than 0."""
        state.varies[self.dst] = varies
        state.shifts[self.dst] = shifts & ~varies


@dataclass(frozen=True, eq=False)
class Source(Record):
    """Atoms that come from nowhere: inputs, which vary; and zeros."""

    varies: bool = True

    def run(self, state: State) -> None:
        """Note what is known of them."""
        self.note(state, np.full(len(self.dst), self.varies), np.zeros(len(self.dst), np.bool_))


@dataclass(frozen=True, eq=False)
class Each(Record):
    """Atoms each of which comes of one atom of each of several results, in its place.

    Attributes:
        srcs: The atoms of each of those results.
        shifts: Whether it may be other than 0 where they are 0.
        multiplies: Whether it is 0 where one of them is.
        places: Whether it differs from place to place where they do not; one for each, or for all.
        borders: Whether it does so where they are other than 0.
        factor: The name of a vector that it is multiplied by in the end; None for none.
        term: That of one that is then added.
    """

    srcs: tuple[Atoms, ...]
    shifts: bool = False
    multiplies: bool = False
    places: Any = False
    borders: bool = False
    factor: str | None = None
    term: str | None = None

    def run(self, state: State) -> None:
        """Note what is known of them."""
        varies: Mask = np.logical_or.reduce([state.varies[src] for src in self.srcs])
        shifts: Mask = np.logical_or.reduce([state.shifts[src] for src in self.srcs])
        varies = varies | self.places | (shifts if self.borders else False)
        shifts = shifts | self.shifts
        if self.multiplies:
            one = np.logical_and.reduce([state.varies[s] | state.shifts[s] for s in self.srcs])
            varies, shifts = varies & one, shifts & one
        if self.factor is not None:
            factor = state.entries(self.factor)
            varies, shifts = varies & factor, shifts & factor
        self.note(state, varies, shifts | state.entries(self.term))


@dataclass(frozen=True, eq=False)
class Several(Record):
    """Atoms each of which comes of any number of others; ``dst`` is repeated for each of them.

    Attributes:
        src: Those others.
        borders: Whether several of them, or any other than 0, make it differ from place to place.
    """

    src: Atoms
    borders: bool = False

    def run(self, state: State) -> None:
        """Note what is known of them."""
        varies, shifts = state.varies[self.src], state.shifts[self.src]
        state.varies[self.dst] = state.shifts[self.dst] = False
        np.logical_or.at(state.varies, self.dst, varies | shifts if self.borders else varies)
        np.logical_or.at(state.shifts, self.dst, shifts)
        state.shifts[self.dst] &= ~state.varies[self.dst]


@dataclass(frozen=True, eq=False)
class Layer(Record):
    """A layer whose weights join all channels that it takes to all that it gives.

    Attributes:
        src: What it takes, in order.
        weight: The name of its weights.
        bias: That of its bias; None where it has none.
        rows: Which part of the weights' outputs it is, of layers that share one tensor.
        turned: Whether the weights' first axis counts inputs.
        groups: Parts of the channels that are joined apart from each other.
        pads: Of each input, whether zeros are put around it.
        folds: Whether what constants send can be put into a bias.
    """

    src: Atoms
    weight: str
    bias: str | None
    rows: slice = field(default_factory=lambda: slice(None))
    turned: bool = False
    groups: int = 1
    pads: Mask = field(default_factory=lambda: np.zeros(0, np.bool_))
    folds: bool = True

    def matrix(self, gate: Mask) -> Mask:
        """Return which inputs of its part any kept weight joins to which outputs, (out, in)."""
        joined: Mask = np.logical_or.reduce(gate.reshape(*gate.shape[:2], -1), axis=2)
        if self.turned:
            parts = joined.reshape(self.groups, -1, joined.shape[1])
            joined = parts.transpose(0, 2, 1).reshape(len(self.dst), -1)
        return joined[self.rows]

    def reads(self, state: State) -> tuple[Mask, Mask]:
        """Return which inputs it reads as varying, and which as constants with zeros around."""
        varies, shifts = state.varies[self.src], state.shifts[self.src]
        if not self.folds:
            varies = varies | shifts
        return varies, shifts & self.pads & ~varies

    def joined(self, state: State, some: Mask) -> Mask:
        """Return which of its outputs kept weights join to which of some inputs, (out, in)."""
        parts = some.reshape(self.groups, -1)
        return state.matrix(self) & np.repeat(parts, len(self.dst) // self.groups, axis=0)

    def needs(self, state: State, some: Mask, outputs: Mask) -> Mask:
        """Return which of some inputs kept weights join to any of some outputs, (in,)."""
        hits = self.joined(state, some) & outputs[:, None]
        found: Mask = hits.reshape(self.groups, -1, hits.shape[1]).any(axis=1).reshape(-1)
        return found

    def run(self, state: State) -> None:
        """Note what is known of them."""
        varies, bordered = self.reads(state)
        reached = np.logical_or.reduce(self.joined(state, varies | bordered), axis=1)
        shifts = np.logical_or.reduce(self.joined(state, state.shifts[self.src]), axis=1)
        bias = state.entries(self.bias)
        if isinstance(bias, np.ndarray):
            bias = bias[self.rows]
        self.note(state, reached | (self.dst == KEPT), shifts | bias)

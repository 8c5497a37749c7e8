"""``Graph``: the channels of any network, what joins them, and which of them masks leave alive.

Each result of the network has atoms, its channels (see ``labels``). Records, in the order in which
they run, say how atoms come of earlier ones (see ``records``). Ties say which atoms can only go
together: those that are added, normalised or gated by each other. Atoms that are tied are one
group: the unit that compacting takes or leaves.

Finding out what is alive takes two passes. Forwards: which atoms vary with the input, which are
constants, and which of these may be other than 0. What is left must follow from masks and kinds of
layers alone, so that it is known before training: a constant counts as other than 0 wherever
training may make it so. Backwards: which groups some living channel reads.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from nets_deap.models.compact.labels import KEPT, ZERO, Atoms
from nets_deap.models.compact.records import Each, Layer, Record, Source, State
from nets_deap.models.tensors import Mask

Numbers = NDArray[np.float64]
# Where zeros are put around constants that go: by layer, its number in order, and kind of channel
# the place among the layer's inputs of the one that stands in for all.
StandIns = dict[tuple[int, int], int]


class Graph:
    """What a network does to its channels.

    Attributes:
        records: How atoms come of others, in order.
        sites: The atoms along axes of parameters and buffers, by name and axis.
        elements: The atoms of each number of parameters that are added or multiplied.
        kept: Why groups stay, as pairs of atoms and reasons: first those that have one themselves.
        heads: Atoms of heads of attention.
        where: The call that is being followed, in words.
        least: Whether every layer needs a channel to take and one to give.
    """

    def __init__(self) -> None:
        self.n = 2  # ZERO and KEPT
        self.records: list[Record] = []
        self.sites: dict[tuple[str, int], Atoms] = {}
        self.elements: dict[str, Atoms] = {}
        self.heads: list[Atoms] = []
        self.where = ""
        self._kept: list[tuple[Atoms, str]] = []
        self._met: list[tuple[Atoms, str]] = []
        self.least = False
        self._ties: list[tuple[Atoms, Atoms]] = []

    # ---- building

    def new(self, n: int) -> Atoms:
        """Return new atoms."""
        self.n += n
        return np.arange(self.n - n, self.n)

    def tie(self, one: Atoms, other: Atoms) -> None:
        """Let atoms go together, pair by pair; zeros that are put somewhere bind nobody."""
        one, other = np.broadcast_arrays(one, other)
        one, other = one.reshape(-1), other.reshape(-1)
        real = (one > KEPT) & (other > KEPT)
        for some, others in ((one, other), (other, one)):
            if len(met := np.unique(some[(others == KEPT) & (some > KEPT)])):
                self._met.append((met, self.where))
        self._ties.append((one[real], other[real]))

    def keep(self, atoms: Atoms, why: str) -> None:
        """Let atoms stay, and remember why."""
        atoms = np.unique(atoms)
        atoms = atoms[atoms > KEPT]
        if len(atoms):
            self._kept.append((atoms, why))

    def place(self, name: str, axis: int, atoms: Atoms) -> None:
        """Note what an axis of a parameter counts; used twice, it counts the same both times."""
        known = self.sites.setdefault((name, axis), atoms)
        if known is not atoms:
            self.tie(known, atoms)

    # ---- asking

    @property
    def kept(self) -> list[tuple[Atoms, str]]:
        """Why groups stay: of those that meet others that stay this comes last."""
        return [*self._kept, *self._met]

    @functools.cached_property
    def layers(self) -> list[Layer]:
        """The layers with weights, in order."""
        return [record for record in self.records if isinstance(record, Layer)]

    def vectors(self) -> dict[str, Atoms]:
        """Return the groups of the entries of biases, and of what normalisation has, by name.

        Of a group that something else is put into, as embeddings are, they stay: -1.
        """
        names = [layer.bias for layer in self.layers]
        for record in self.records:
            names += [record.factor, record.term] if isinstance(record, Each) else []
        fed = [record.dst for record in self.records if isinstance(record, Source)]
        staying = [*self.staying(), *self.group[np.concatenate([[KEPT], *fed])].tolist()]
        found = {}
        for name in names:
            atoms = None if name is None else self.sites.get((name, 0))
            if name is not None and atoms is not None:
                groups = self.group[atoms]
                found[name] = np.where(np.isin(groups, staying), -1, groups)
        return found

    def settle(self, grids: Iterable[Atoms]) -> None:
        """Tie what would leave holes: of a grid of channels whole rows or columns can go alone.

        Args:
            grids: The atoms of tensors that tell channels apart along several axes, as a ``view``
                of channels as heads and their parts does.
        """
        # Where zeros lie around an image, its places are no parts of a channel.
        grids = [atoms for atoms in grids if not (atoms == ZERO).any()]
        changed = True
        while changed:
            changed, group = False, self.connected()
            stays = np.zeros(self.n, np.bool_)
            stays[group[np.concatenate([[KEPT], *(atoms for atoms, _ in self.kept)])]] = True
            group[stays[group]] = group[KEPT]
            for atoms in grids:
                axes = [axis for axis, size in enumerate(atoms.shape) if size > 1]
                if not any(_depends_on(group[atoms], axis) for axis in axes):
                    # What differs along the longest axis is most likely to be alike: parts such as
                    # queries, keys and values, or the two halves of a shuffle, are few.
                    longest = max(axes, key=lambda axis: atoms.shape[axis])
                    self.tie(atoms, _first_along(atoms, longest))
                    changed = True

    @functools.cached_property
    def group(self) -> Atoms:
        """The group of each atom, (atoms,)."""
        return self.connected()

    def connected(self) -> Atoms:
        """Return the group of each atom, (atoms,), by the ties so far."""
        nobody = np.zeros(0, np.int64)
        one, other = (np.concatenate([pair[i] for pair in self._ties] or [nobody]) for i in (0, 1))
        links = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(self.n, self.n))
        found: Atoms = connected_components(links, directed=False)[1].astype(np.int64)
        return found

    def staying(self) -> dict[int, str]:
        """Return the groups that always stay, and why."""
        found: dict[int, str] = {}
        for atoms, why in self.kept:
            for number in np.unique(self.group[atoms]).tolist():
                found.setdefault(number, why)
        return found

    def state(self, gates: Mapping[str, Mask]) -> State:
        """Return what is known of each atom under masks by parameter name; without one all kept."""
        state = State(gates, np.zeros(self.n, np.bool_), np.zeros(self.n, np.bool_))
        state.varies[KEPT] = True
        for record in self.records:
            record.run(state)
            state.varies[KEPT], state.shifts[KEPT] = True, False
        return state

    def live(self, state: State, numbers: Numbers | None = None) -> tuple[Mask, StandIns]:
        """Return which atoms have to be there for the same function, and what stands in for others.

        Args:
            state: What is known of them under some masks.
            numbers: The constants (atoms,), which decide what stands in for others; None for any:
                what is left does not depend on it.

        Returns:
            Of each atom whether it is there, (atoms,); and ``StandIns``.
        """
        live = np.zeros(int(self.group.max()) + 1, np.bool_)
        live[self.group[KEPT]] = True
        for atoms, _ in self.kept:
            live[self.group[atoms]] = True
        impure = np.zeros_like(live)  # groups of which an atom varies: none of a constant channel
        impure[self.group[state.varies]] = True
        chosen: dict[tuple[int, bytes], int] = {}
        found: StandIns = {}
        while True:
            self._spread(state, live, impure)
            before = len(found)
            for i, layer in enumerate(self.layers):
                self._stand_in(i, layer, state, live, numbers, chosen, found)
            if len(found) == before:
                return live[self.group], found

    def _spread(self, state: State, live: Mask, impure: Mask) -> None:
        """Mark all groups that living channels read, until there are no more."""
        before = -1
        while before != (before := int(live.sum())):
            for layer in reversed(self.layers):
                src, dst = self.group[layer.src], self.group[layer.dst]
                varies, bordered = layer.reads(state)
                wanted = (varies | (bordered & impure[src])) & ~live[src]
                if wanted.any():
                    live[src[layer.needs(state, wanted, live[dst])]] = True
            # Only then, from the outputs on, a first one where a layer would be left with none.
            for layer in reversed(self.layers) if self.least and before == live.sum() else ():
                empty = [s for s in (layer.dst, layer.src) if not live[self.group[s]].any()]
                if empty:
                    live[self.group[empty[0][0]]] = True
                    break

    def _stand_in(
        self,
        i: int,
        layer: Layer,
        state: State,
        live: Mask,
        numbers: Numbers | None,
        chosen: dict[tuple[int, bytes], int],
        found: StandIns,
    ) -> None:
        """Mark a channel that stands in for all constants that a layer puts zeros around.

        Without a border, an input channel i of constant value c_i sends an output o the same
        number everywhere, c_i * sum_k W[o, i, k], which goes into the bias. With a border of
        zeros it does not: at a place p only those places k of the kernel count that lie inside
        of the image. What it sends there is

            c_i * (W[o, i] * 1)(p),    1 = the image of ones with zeros around it,  * = convolve,

        a picture that is not constant, so that no bias can replace it. But it is linear in the
        kernel and the image is the same for all channels, so one of them, m, can send it all:

            sum_i c_i (W[o, i] * 1) = c_m (W'[o, m] * 1),    W'[o, m] = sum_i (c_i / c_m) W[o, i].

        That is exact for any m with c_m != 0; the largest |c_m| keeps the shares c_i / c_m at most
        1, so that rounding does not grow. It is the one of its kind, the channels of the same
        layers: so how many are left does not depend on which it is. It stays even where all
        constants happen to be 0: what is left follows from the masks.
        """
        group, kinds = self.group, self.kinds
        _, bordered = layer.reads(state)
        gone = bordered & ~live[group[layer.src]]
        if not gone.any():
            return
        for kind in np.unique(kinds[layer.src[layer.needs(state, gone, live[group[layer.dst]])]]):
            if (i, int(kind)) in found:
                continue
            same = bordered & (kinds[layer.src] == kind)
            place = chosen.get(key := (int(kind), layer.src[same].tobytes()))
            if place is None:
                places = np.flatnonzero(same & ~live[group[layer.src]])
                sizes = None if numbers is None else np.abs(numbers[layer.src[places]])
                place = int(places[0 if sizes is None else sizes.argmax()])
                chosen[key] = int(layer.src[place])
            else:
                place = int(np.flatnonzero(layer.src == place)[0])
            live[group[layer.src[place]]] = True
            found[i, int(kind)] = place

    @functools.cached_property
    def kinds(self) -> Atoms:
        """A number for each atom: the same for channels of the same layers, (atoms,)."""
        rng = np.random.default_rng(0)
        found = np.zeros(int(self.group.max()) + 1, np.int64)
        for layer in self.layers:
            for atoms in (layer.src, layer.dst):
                found[np.unique(self.group[atoms])] ^= rng.integers(2**62)
        return found[self.group]


def _first_along(values: Atoms, axis: int) -> Atoms:
    """Return the values along an axis, at the first place of all others."""
    return values[tuple(slice(None if i == axis else 1) for i in range(values.ndim))]


def _depends_on(values: Atoms, axis: int) -> bool:
    """Return whether values differ along one axis alone."""
    return bool((values == _first_along(values, axis)).all())

"""``UnitLayout``: masks whose bits gate whole neurons, filters or blocks, or 2 of 4 weights.

One file: it is one class, and a third of it says what its callers may rely on.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.errors import NetsError
from nets_deap.names import HEAD, NEURON, TWO_OF_FOUR, WEIGHT, parse_unit
from nets_deap.tickets import bits
from nets_deap.tickets.layout import MaskLayout

Tile = tuple[int, int]
Tiles = Sequence[Sequence[int] | None]
Ties = Sequence[Sequence[int] | None]
Vector = NDArray[Any]
Rng = np.random.Generator

GROUP, MOST = 4, 2


class UnitLayout(MaskLayout):
    """Layout of a structured ticket: G bits, each of which gates one unit of the D weights.

    The weights of a layer count as a matrix: the first axis of their tensor by all others. Tiles of
    one size cover it, ragged at its far edges, and each is a unit. ``layers``, ``size``, ``split``
    and ``join`` are about bits: a layer's shape is that of its units. ``weights`` is the layout of
    the weights themselves; W0, ``counts`` and ``sizes`` are about those.

    Where the layout was made of a model, ``whole`` says why some layers keep all their outputs.

    Vectors among ``weights`` that neurons or filters have an entry in, biases and what
    normalisation multiplies by and adds, are tied to their bits: with the unit they are zero. Else
    a pruned filter would send on its bias, which drifts under Adam, and which batch normalisation
    by running statistics makes many times as large (an input of no variance): the same ticket of a
    CNN then ended anywhere between 55 and 96 %, and with this at 96.

    With the unit ``"2:4"`` a bit gates one weight, and of each 4 consecutive inputs of a row (of a
    filter: input channels at one place of the kernel) at most 2 are kept: the ones of largest
    ``|W0|`` of those whose bits are set. So any bits are a ticket, whatever operator made them.

    Args:
        weights: The layout of the D weights.
        unit: ``"neuron"``, ``"block(RxC)"`` or ``"2:4"``.
        tiles: Rows and columns of a unit for each layer of ``weights``; None for a layer that no
            bit gates, whose weights are always kept.
        ties: The bit that gates each tile of a layer, row by row, -1 for one that is always kept;
            for each layer of ``weights`` that has tiles. Bits are counted as they first come. None
            where each tile has a bit of its own. A bit counts to the first layer that it gates a
            tile of. Vectors have none of their own, whatever they stand before.
        floor: Share of a layer's neurons, filters or heads, in [0, 1), that operators leave it at
            least, rounded up; 0 for one unit, or none where an operator may empty layers. No
            ticket depends on it: it is not part of the key.

    Attributes:
        floor: That share.

    Raises:
        InvalidValueError: The tiles do not fit the unit or the layers, or gate nothing.
    """

    def __init__(
        self,
        weights: MaskLayout,
        unit: str,
        tiles: Tiles,
        ties: Ties | None = None,
        floor: float = 0.0,
    ) -> None:
        self._weights = weights
        self.unit, block = parse_unit("unit", unit)
        if self.unit == WEIGHT:
            raise _checks.bad_value(
                "unit", "gate more than a weight", "'neuron', 'head', 'block(RxC)' or '2:4'", unit
            )
        _checks.length("tiles", len(tiles), len(weights.layers), "L")
        self.tiles: tuple[Tile | None, ...] = tuple(map(_tile_of, tiles))
        loose = self.unit in (NEURON, HEAD)
        if not loose and any(tile not in (None, block) for tile in self.tiles):
            raise _checks.bad_value("tiles", "be those of the unit", str(block), self.tiles)
        self._tiled = {n: tile for n, tile in zip(weights.names, self.tiles, strict=True) if tile}
        masked = list(self._tiled)
        self._vectors = [n for n in masked if loose and len(weights.layer(n).shape) == 1]
        if len(masked) == len(self._vectors):
            raise nothing_to_gate(self.unit, weights.names)
        self._grids = {
            layer.name: (-(-layer.shape[0] // tile[0]), -(-layer.row // tile[1]))
            for layer, tile in zip(weights.layers, self.tiles, strict=True)
            if tile is not None
        }
        self._masked = masked
        self.whole: dict[str, str] = {}
        self.floor = _checks.real("floor", floor, low=0, high=1) if loose else 0.0
        if ties is None and self._vectors:
            expected = "ties of vectors to neurons or filters"
            raise _checks.bad_value("ties", "say whose they are", expected, self._vectors[0])
        self._ties = None if ties is None else self._checked(ties)
        self._place(
            [(name, self._unit_shape(name)) for name in masked]
            if self._ties is None
            else [(name, (n,)) for name, n in self._first_tied().items() if n]
        )
        self.initial, self.initial_digest = weights.initial, weights.initial_digest
        text = json.dumps([weights.key, self.unit, self.tiles, *([] if ties is None else [ties])])
        self._register(hashlib.sha256(text.encode()).hexdigest())
        masked_weights = sum(weights.layer(name).size for name in masked)
        if self._ties is not None:
            sizes = self._tile_sizes(masked)
            masked_weights = sum(int(sizes[n][t >= 0].sum()) for n, t in self._ties.items())
        self.fixed: int = weights.size - masked_weights
        flat = [layer.name for layer in weights.layers if len(layer.shape) < 2]
        if self.grouped and flat:
            raise _checks.bad_value(
                "maskable", "have inputs for '2:4'", "weights (out, in, ...)", flat[0]
            )
        self._one_each = ties is None and masked_weights == self.size

    @property
    def weights(self) -> MaskLayout:
        """The layout of the D weights that the bits gate."""
        return self._weights

    # A file may say anything of its layers: arrays come after the mask has been held against them.

    @functools.cached_property
    def unit_sizes(self) -> NDArray[np.int64] | None:
        """Weights of each unit, and what else is tied to it, shape (G,); None for one of each."""
        if self._one_each:
            return None
        return self._gathered(self._tile_sizes(self._masked)).astype(np.int64)

    @functools.cached_property
    def _ranked_sizes(self) -> NDArray[np.int64]:
        """Weights of each unit without what vectors have of it, shape (G,)."""
        return self._gathered(self._tile_sizes(self._ranked)).astype(np.int64)

    @property
    def _ranked(self) -> list[str]:
        """The layers whose weights say what a unit is worth: those that are no vectors."""
        return [name for name in self._masked if name not in self._vectors]

    @functools.cached_property
    def follows(self) -> dict[str, str]:
        """Whose bits gate entries of each vector, by name: layers, in words."""
        found, stops = {}, np.array([layer.stop for layer in self.layers])
        for name in self._vectors:
            assert self._ties is not None
            tie = self._ties[name]
            owners = np.unique(np.searchsorted(stops, tie[tie >= 0], side="right"))
            found[name] = ", ".join(self.names[i] for i in owners)
        return found

    def bits_at(self, name: str) -> NDArray[np.int64]:
        """Return the bit of each tile of a layer that has tiles, row by row; -1 for none."""
        if self._ties is not None:
            return self._ties[name]
        own = self.layer(name)
        return np.arange(own.start, own.stop)

    def _tile_sizes(self, names: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """Return the weights of each tile of some layers that have tiles."""
        sizes = {}
        for name in names:
            layer, tile = self.weights.layer(name), self._tile(name)
            rows, columns = (
                np.minimum(step, n - np.arange(0, n, step))
                for n, step in zip((layer.shape[0], layer.row), tile, strict=True)
            )
            sizes[name] = np.outer(rows, columns).reshape(-1)
        return sizes

    def _gathered(self, parts: dict[str, Vector]) -> Vector:
        """Return the sum over the tiles of each bit of numbers of the tiles, shape (G,)."""
        if self._ties is None:
            return np.concatenate(list(parts.values()))
        # One place more, for tiles that no bit gates.
        found = np.zeros(self.size + 1, dtype=np.result_type(*parts.values()))
        for name, part in parts.items():
            np.add.at(found, self._ties[name], part)
        return found[:-1]

    def _checked(self, ties: Ties) -> dict[str, NDArray[np.int64]]:
        """Return the bit of each tile of each layer that has tiles; vectors come last."""
        _checks.length("ties", len(ties), len(self.weights.layers), "L")
        found: dict[str, NDArray[np.int64]] = {}
        by_name, most = dict(zip(self.weights.names, ties, strict=True)), -1
        for name in (*self._ranked, *self._vectors):
            layer, tie = self.weights.layer(name), by_name[name]
            rows, columns = self._grids[layer.name]
            bit = np.asarray([] if tie is None else tie)
            _checks.shape("ties", bit.shape, (rows * columns,), "(tiles,)")
            first = np.sort(np.unique(bit[bit > most]))
            if (
                bit.dtype.kind not in "iu"
                or bit.min() < -1
                or len(first) != (max(int(bit.max()) - most, 0))
                or (name in self._vectors and len(first))
            ):
                expected = "bits from 0 on, as they first come, or -1"
                raise _checks.bad_value("ties", "count bits", expected, layer.name)
            found[layer.name], most = bit.astype(np.int64), max(most, int(bit.max()))
        if most < 0:
            raise nothing_to_gate(self.unit, self.weights.names)
        return found

    def _first_tied(self) -> dict[str, int]:
        """Return how many bits each layer is the first to hold a tile of."""
        assert self._ties is not None
        found, n = {}, 0
        for name in self._ranked:
            found[name] = max(int(self._ties[name].max()) + 1 - n, 0)
            n += found[name]
        return found

    @functools.cached_property
    def _groups(self) -> NDArray[np.int32] | None:
        """Bits of each group of inputs; None where each group is the next four bits."""
        if all(len(la.shape) == 2 and la.row % GROUP == 0 for la in self.weights.layers):
            return None
        return _groups_of(self.weights)

    def _set_in_groups(self, gates: bits.Mask) -> NDArray[np.uint8]:
        """Count the set ones of bits (G,) in each group, shape (groups,)."""
        inside = gates if self._groups is None else np.append(gates, False)[self._groups]
        # Four bools are one number of 32 bits: one pass counts the ones of all groups.
        found: NDArray[np.uint8] = np.bitwise_count(inside.reshape(-1).view(np.uint32))
        return found

    @property
    def grouped(self) -> bool:
        """Whether not all bits may be set together, as with ``"2:4"``."""
        return self.unit == TWO_OF_FOUR

    @property
    def density_range(self) -> tuple[float, float]:
        """Least and greatest density of a ticket without an empty layer."""
        least = self.fixed + int((self.least_units * self.least_sizes()).sum())
        return least / self.weights.size, (self.fixed + self.capacity().sum()) / self.weights.size

    # ---- bits to weights

    def expand(self, packed: bits.Bytes) -> bits.Bytes:
        """Return the packed weight mask of packed bits."""
        return bits.pack(self.mask_of(bits.unpack(packed, self.size)))

    def mask_of(self, gates: bits.Mask) -> bits.Mask:
        """Return the weight mask (D,) of the bits (G,)."""
        if self.grouped:
            return self.fitting(gates)
        mask: bits.Mask = np.ones(self.weights.size, dtype=np.bool_)
        for name, part in self._of_tiles(gates).items():
            layer = self.weights.layer(name)
            whole = mask[layer.start : layer.stop].reshape(layer.shape[0], layer.row)
            _repeated(part.reshape(self._grids[name]), self._tile(name), whole)
        return mask

    def _of_tiles(self, gates: bits.Mask) -> dict[str, bits.Mask]:
        """Return whether each tile of each layer that has tiles is kept."""
        if self._ties is None:
            return self.split(gates)
        known = np.append(gates, True)  # for those that no bit gates
        return {name: known[tie] for name, tie in self._ties.items()}

    def bits_of(self, mask: bits.Mask) -> bits.Mask:
        """Return the bits (G,) of a weight mask (D,): the inverse of ``mask_of``.

        Raises:
            InvalidValueError: It prunes a part of some unit.
        """
        self.weights.check_bits(mask.size)
        # Each unit that keeps any weight is set; a unit that keeps a part is then seen, as the bits
        # do not give the mask back.
        gates: bits.Mask = np.array(mask)
        if self.unit_sizes is not None or self.fixed:
            gates = self._sums(mask.astype(np.float64)) > 0
        wrong = int(np.count_nonzero(self.mask_of(gates) != mask))
        if wrong:
            raise _checks.bad_value(
                "mask",
                f"be made of whole units of {self.unit!r}",
                "a mask that bits can express",
                f"{wrong} weights apart from their unit",
                "Assign bits to ticket.gates instead.",
            )
        return gates

    def fitting(
        self,
        wanted: bits.Mask,
        keys: Vector | Rng | None = None,
        held: bits.Mask | None = None,
    ) -> bits.Mask:
        """Mark those of the wanted bits that may be set together.

        All of them, except under ``"2:4"``: of each group those of largest keys, as many as there
        is room for.

        Args:
            wanted: Bool (G,).
            keys: Shape (G,); or a generator, for random ones; None for ``|W0|``.
            held: Bits (G,) that are set anyhow, none of them wanted.

        Raises:
            CallOrderError: There is no room for all, and only a digest of W0 is known.
        """
        if not self.grouped:
            return wanted
        taken = self._set_in_groups(wanted)
        if held is not None:
            held_in = self._set_in_groups(held)
            taken += held_in
        full = np.flatnonzero(taken > MOST)
        if not len(full):
            return wanted
        if self._groups is None:
            places = GROUP * full[:, None] + np.arange(GROUP)
        else:
            places = self._groups[full]
        # Groups short of inputs are filled up with the place D, one past the last bit: each vector
        # gets one more entry, False or 0, which stands for what is not there.
        marked = np.append(wanted, False)
        inside = marked[places]
        if isinstance(keys, np.random.Generator):
            own: Vector = keys.random(places.shape)
        elif keys is None:
            initial = self.require_initial()
            own = np.abs(initial.take(places, mode="clip"))
        else:
            own = keys.take(places, mode="clip")
        free = MOST if held is None else MOST - held_in[full].astype(np.int8)
        marked[places] = inside & (
            _ranks(np.where(inside, own, -np.inf)) < np.reshape(free, (-1, 1))
        )
        return marked[:-1]

    # ---- what units hold

    def counts(self, packed: bits.Bytes) -> NDArray[np.int64]:
        """Count the kept weights of each layer that bits gate, shape (L,)."""
        if self.unit_sizes is not None:
            kept = np.where(bits.unpack(packed, self.size), self.unit_sizes, 0)
            return np.array([int(part.sum()) for part in self.split(kept).values()])
        mask = self.expand(packed)
        layers = [self.weights.layer(name) for name in self.names]
        return np.array([bits.count(mask, layer.start, layer.stop) for layer in layers])

    def sizes(self) -> NDArray[np.int64]:
        """Count the weights of each layer that bits gate, shape (L,)."""
        if self.unit_sizes is not None:
            return np.array([int(part.sum()) for part in self.split(self.unit_sizes).values()])
        return np.array([self.weights.layer(name).size for name in self.names])

    def capacity(self) -> NDArray[np.int64]:
        """Count the weights that each of these layers can keep at most, shape (L,)."""
        if not self.grouped:
            return self.sizes()
        inputs = [(layer.shape[1], layer.size // layer.shape[1]) for layer in self.layers]
        return np.array([(n // GROUP * MOST + min(n % GROUP, MOST)) * m for n, m in inputs])

    def least_sizes(self) -> NDArray[np.int64]:
        """Count the weights of each layer's smallest unit, shape (L,)."""
        if self.unit_sizes is None:
            return np.ones(len(self.layers), dtype=np.int64)
        return np.array([int(part.min()) for part in self.split(self.unit_sizes).values()])

    @property
    def least_units(self) -> NDArray[np.int64]:
        """Units that operators leave each layer at least, of those that count to it, shape (L,)."""
        shares = np.array([self.floor * layer.size for layer in self.layers])
        return np.maximum(1, np.ceil(shares - 1e-9)).astype(np.int64)

    def root_mean_square(self, values: Vector) -> Vector:
        """Return the root of the mean square of each unit's weights (D,), shape (G,).

        Pruning the units of least mean square loses the least energy, the sum of w^2, for the
        weights that it saves. Vectors do not count: biases and factors are of other sizes than
        weights.
        """
        squares = self._sums(np.square(values, dtype=np.float64))
        roots: Vector = np.sqrt(
            squares if self.unit_sizes is None else squares / self._ranked_sizes
        )
        return roots

    def describe(self) -> dict[str, Any]:
        """Return what makes this layout from that of its weights, as plain data."""
        found: dict[str, Any] = {
            "unit": self.unit,
            "tiles": [tile and list(tile) for tile in self.tiles],
        }
        if self._ties is not None:
            ties = (self._ties.get(name) for name in self.weights.names)
            found["ties"] = [None if tie is None else tie.tolist() for tie in ties]
        return found

    def __repr__(self) -> str:
        return f"UnitLayout({self.size} units {self.unit!r} of {self.weights!r})"

    def _tile(self, name: str) -> Tile:
        """Return the rows and columns of a masked layer's units."""
        return self._tiled[name]

    def _unit_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a layer's units: a vector of neurons, else a grid."""
        if self.unit == TWO_OF_FOUR:
            return self.weights.layer(name).shape
        rows, columns = self._grids[name]
        return (rows * columns,) if self.unit == NEURON else (rows, columns)

    def _sums(self, values: Vector) -> Vector:
        """Return the sum over each unit of some numbers of the weights (D,), shape (G,).

        Those of vectors do not count.
        """
        parts = {}
        for name in self._ranked:
            layer, (rows, columns) = self.weights.layer(name), self._tile(name)
            part = values[layer.start : layer.stop].reshape(layer.shape[0], layer.row)
            parts[name] = _summed_columns(_summed_rows(part, rows), columns).reshape(-1)
        return self._gathered(parts)


def nothing_to_gate(unit: str, names: Sequence[str], hint: str = "") -> NetsError:
    """Return the error for weights that hold no unit."""
    return _checks.bad_value(
        "maskable",
        f"leave something to gate by unit {unit!r}",
        "a layer whose outputs can be cut, besides the network's own",
        names,
        hint,
    )


def _tile_of(tile: Sequence[int] | None) -> Tile | None:
    """Return rows and columns as two whole numbers >= 1, or None."""
    if tile is None:
        return None
    _checks.length("tiles", len(tile), 2, "rows and columns")
    return _checks.whole("tiles", tile[0]), _checks.whole("tiles", tile[1])


def _repeated(units: bits.Mask, tile: Tile, whole: bits.Mask) -> None:
    """Write the bit of each unit to all of its tile; tiles that stick out are cut off.

    Args:
        units: Bool (rows, columns), of the grid of tiles.
        tile: Rows and columns of a unit.
        whole: Bool, the matrix of weights, written to.
    """
    rows, columns = tile
    width = whole.shape[1]
    if columns >= width:
        wide = np.broadcast_to(units, (len(units), width))
    else:
        wide = units if columns == 1 else np.repeat(units, columns, axis=1)[:, :width]
    # Columns first, while rows are few; then whole rows of weights are copied at a time.
    even = len(whole) // rows
    whole[: even * rows].reshape(even, rows, width)[...] = wide[:even, None]
    whole[even * rows :] = wide[even:]


def _summed_rows(part: Vector, rows: int) -> Vector:
    """Return sums over each ``rows`` rows of a matrix, and over those that are left at its end."""
    if rows == 1:
        return part
    even = len(part) // rows
    sums: Vector = part[: even * rows].reshape(even, rows, part.shape[1]).sum(axis=1)
    rest = part[even * rows :]
    return np.concatenate([sums, rest.sum(axis=0, keepdims=True)]) if len(rest) else sums


def _summed_columns(part: Vector, columns: int) -> Vector:
    """Return sums over each ``columns`` columns of a matrix, and over those that are left."""
    if columns == 1:
        return part
    width = part.shape[1]
    if columns >= width:
        whole: Vector = part.sum(axis=1, keepdims=True)
        return whole
    even = width // columns * columns
    sums = part[:, :even:columns].copy()  # column by column: numpy is slow at sums of a few
    for i in range(1, columns):
        sums += part[:, i:even:columns]
    rest = part[:, even:]
    return np.hstack([sums, rest.sum(axis=1, keepdims=True)]) if rest.shape[1] else sums


def _ranks(keys: Vector) -> NDArray[np.int8]:
    """Return how many of the four keys (n, 4) of a row come before each: larger ones first.

    Of equal ones those that stand before; NaN last. Six comparisons of whole columns take a tenth
    of the time of sorting all rows.
    """
    known = [np.ascontiguousarray(column) for column in np.fmax(keys, -np.inf).T]
    ranks = np.zeros((GROUP, len(keys)), dtype=np.int8)
    for one, other in itertools.combinations(range(GROUP), 2):
        later = known[one] >= known[other]
        ranks[other] += later
        ranks[one] += ~later
    found: NDArray[np.int8] = ranks.T
    return found


def _groups_of(weights: MaskLayout) -> NDArray[np.int32]:
    """Return the bits of each group of inputs, shape (groups, 4); where there are fewer, D."""
    groups = []
    for layer in weights.layers:
        places = np.arange(layer.start, layer.stop, dtype=np.int32).reshape(layer.shape)
        rows = np.moveaxis(places, 1, -1).reshape(-1, layer.shape[1])
        more = -layer.shape[1] % GROUP
        padded = np.pad(rows, ((0, 0), (0, more)), constant_values=weights.size)
        groups.append(padded.reshape(-1, GROUP))
    return np.concatenate(groups)

"""``Genotype``: packed bits that behave like a list of fixed length, and the mask they make."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any, overload

import numpy as np

from nets_deap import _checks
from nets_deap.errors import CallOrderError
from nets_deap.names import WEIGHT
from nets_deap.tickets import bits
from nets_deap.tickets.layout import MaskLayout, known_layout
from nets_deap.tickets.units import UnitLayout


class Genotype:
    """A list of bits of fixed length, held packed, each of which gates a weight, or a unit of them.

    What DEAP's own operators need of a list: single bits read as ``bool``; slices are copies (bool
    arrays).

    Args:
        mask: The bits (bool, or numbers 0 and 1), 1 = kept.
        layout: The layout they belong to; None for a plain vector of bits.
    """

    unit: str = WEIGHT
    # What follows from the bits, once it has been asked for; None again when they change.
    _digest: str | None = None
    _kept: int | None = None

    def __init__(self, mask: Iterable[Any] = (), layout: MaskLayout | None = None) -> None:
        array = bits.as_mask(mask)
        self._size = int(array.size)
        self._packed = bits.pack(array)
        if layout is not None:
            layout.check_bits(self._size)
            if layout.unit != WEIGHT:
                self.unit = layout.unit
        self._layout = layout
        self._layout_key = layout.key if layout is not None else ""

    # ---- the bits, all at once

    @property
    def packed(self) -> bits.Bytes:
        """The packed bits, shape (ceil(D / 8),), as a read-only view; write with ``assign``."""
        view: bits.Bytes = self._packed.view()
        view.setflags(write=False)
        return view

    def assign(self, packed: bits.Bytes) -> None:
        """Replace all bits by packed ones."""
        _checks.shape("packed", packed.shape, self._packed.shape, "(ceil(D / 8),)")
        fresh = packed.astype(np.uint8, copy=True)
        bits.clear_padding(fresh, self._size)
        self._packed = fresh
        self._forget()

    @property
    def gates(self) -> bits.Mask:
        """The bits as a fresh bool vector; assign to it to replace them."""
        return bits.unpack(self._packed, self._size)

    @gates.setter
    def gates(self, gates: Iterable[Any]) -> None:
        array = bits.as_mask(gates, "gates")
        _checks.length("gates", array.size, self._size, "bits")
        self.assign(bits.pack(array))

    @property
    def digest(self) -> str:
        """A digest of the bits, 32 hexadecimal digits, the same on every machine."""
        if self._digest is None:
            self._digest = bits.digest(self._packed, self._size)
        return self._digest

    # ---- a list of bits

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, key: int) -> bool: ...
    @overload
    def __getitem__(self, key: slice) -> bits.Mask: ...
    def __getitem__(self, key: int | slice) -> bool | bits.Mask:
        if isinstance(key, slice):
            start, stop, step = key.indices(self._size)
            if step == 1:
                return bits.unpack_range(self._packed, start, max(start, stop))
            strided: bits.Mask = self.gates[key].copy()
            return strided
        i = self._index(key)
        return bool(self._packed[i >> 3] >> (i & 7) & 1)

    def __setitem__(self, key: int | slice, value: Any) -> None:
        if isinstance(key, slice):
            gates, new = self.gates, bits.as_mask(value, "value")
            selected = len(range(*key.indices(self._size)))
            _checks.length("value", new.size, selected, "bits in the slice", "Length is fixed.")
            gates[key] = new
            self.assign(bits.pack(gates))
            return
        i = self._index(key)
        bit = bits.as_mask([value], "value")[0]
        if bit != self[i]:
            self._packed[i >> 3] ^= 1 << (i & 7)
            self._forget()

    def __iter__(self) -> Iterator[bool]:
        return iter(self.gates.tolist())

    def __contains__(self, bit: object) -> bool:
        ones = bits.count(self._packed)
        return bit in (0, 1) and (ones > 0 if bit else ones < self._size)

    # ---- the layout

    @property
    def has_layout(self) -> bool:
        """Whether the layout is at hand."""
        return self._find_layout() is not None

    @property
    def layout(self) -> MaskLayout:
        """The layout of the bits.

        Raises:
            CallOrderError: The ticket has none, or its task has not been built in this process.
        """
        layout = self._find_layout()
        if layout is None:
            why = "was made without one" if not self._layout_key else "came from another process"
            raise CallOrderError(
                f"The ticket has no layout: it {why}. Make tickets with Ticket(mask, layout=...), "
                "or build the same task (model and seed) before unpickling."
            )
        return layout

    @property
    def layout_key(self) -> str:
        """The key of the layout, known even where the layout is not at hand; empty for none."""
        return self._layout_key

    @property
    def units(self) -> UnitLayout | None:
        """The layout of a structured ticket; None where each bit gates one weight."""
        if self.unit == WEIGHT:
            return None
        layout = self.layout
        assert isinstance(layout, UnitLayout)
        return layout

    # ---- the weights that the bits keep

    @property
    def mask(self) -> bits.Mask:
        """The mask of weights as a fresh bool vector (D,); assign to it to replace the bits.

        Raises:
            InvalidValueError: What is assigned has another length, or parts of units.
        """
        units = self.units
        return self.gates if units is None else units.mask_of(self.gates)

    @mask.setter
    def mask(self, mask: Iterable[Any]) -> None:
        array, units = bits.as_mask(mask), self.units
        if units is not None:
            array = units.bits_of(array)
        _checks.length("mask", array.size, self._size, "D")
        self.assign(bits.pack(array))

    @property
    def packed_mask(self) -> bits.Bytes:
        """The packed mask of weights, shape (ceil(D / 8),); ``packed`` where a bit is a weight."""
        units = self.units
        return self.packed if units is None else units.expand(self._packed)

    @property
    def n_weights(self) -> int:
        """Number of maskable weights, D."""
        units = self.units
        return self._size if units is None else units.weights.size

    @property
    def kept(self) -> int:
        """Number of kept weights."""
        if self._kept is None:
            self._kept = bits.count(self.packed_mask)
        return self._kept

    @property
    def density(self) -> float:
        """Kept / maskable over the whole network, in [0, 1]; 0.0 for a ticket of no bits."""
        return self.kept / self.n_weights if self._size else 0.0

    @property
    def layer_densities(self) -> dict[str, float]:
        """Density of each layer by parameter name."""
        layout = self.layout.weights
        counts = layout.counts(self.packed_mask)
        return {la.name: int(n) / la.size for la, n in zip(layout.layers, counts, strict=True)}

    # ---- within

    def _forget(self) -> None:
        """Forget what followed from the bits before they changed."""
        self._digest = self._kept = None

    def _find_layout(self) -> MaskLayout | None:
        """Return the layout, looking it up again after unpickling."""
        if self._layout is None and self._layout_key:
            self._layout = known_layout(self._layout_key)
        return self._layout

    def _index(self, key: Any) -> int:
        """Return a position in [0, D) from an index as lists take it."""
        i = operator.index(key)
        if not -self._size <= i < self._size:
            raise IndexError(
                f"ticket index out of range: expected -{self._size}..{self._size - 1}, got {i}"
            )
        return i % self._size


def packed_mask_for(layout: MaskLayout, ticket: Any) -> bits.Bytes:
    """Return the packed mask of weights of a ticket of a task with this layout.

    A plain ticket of the same weights belongs to a task of structured ones too.

    Raises:
        InvalidTypeError: It is not a ticket.
        InvalidValueError: The ticket belongs to another layout.
    """
    if not isinstance(ticket, Genotype):
        raise _checks.bad_type("ticket", "be a ticket", "a nets.Ticket", ticket)
    key = ticket.layout_key
    for own in (layout, layout.weights):
        if len(ticket) == own.size and key in ("", own.key):
            return own.expand(ticket.packed)
    raise _checks.bad_value(
        "ticket",
        "belong to this task",
        f"layout {layout.key[:12]} of D = {layout.size} weights",
        f"layout {key[:12] or 'none'} of {len(ticket)}",
        "Make it with this task, or build the task with the ticket's model and seed.",
    )

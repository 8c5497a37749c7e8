"""``Genotype``: a packed list of bits, and the mask of weights that they make."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from nets_deap import _checks
from nets_deap.errors import CallOrderError
from nets_deap.names import WEIGHT
from nets_deap.tickets import bits
from nets_deap.tickets.layout import MaskLayout, known_layout
from nets_deap.tickets.packed_list import PackedList
from nets_deap.tickets.units import UnitLayout

Self = TypeVar("Self", bound="Genotype")


class Genotype(PackedList):
    """A list of bits of fixed length, held packed, each of which gates a weight, or a unit of them.

    Args:
        mask: The bits (bool, or numbers 0 and 1), 1 = kept.
        layout: The layout they belong to; None for a plain vector of bits.
    """

    __slots__ = ("_layout", "_layout_key", "_unit")

    _layout: MaskLayout | None
    _layout_key: str
    _unit: str

    def __new__(cls: type[Self], *_: Any, **__: Any) -> Self:
        """Return a genotype of no bits and without a layout."""
        new = super().__new__(cls)
        new._layout, new._layout_key, new._unit = None, "", WEIGHT
        return new

    def __init__(self, mask: Iterable[Any] = (), layout: MaskLayout | None = None) -> None:
        super().__init__(mask)
        if layout is not None:
            layout.check_bits(self._size)
            self._layout, self._layout_key, self._unit = layout, layout.key, layout.unit

    # ---- the layout

    @property
    def unit(self) -> str:
        """The name of what a bit gates, ``"weight"`` or a unit of several."""
        return self._unit

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
        return self.gates if units is None else bits.unpack(self.packed_mask, units.weights.size)

    @mask.setter
    def mask(self, mask: Iterable[Any]) -> None:
        array, units = bits.as_mask(mask), self.units
        if units is not None:
            array = units.bits_of(array)
        _checks.length("mask", array.size, self._size, "D")
        self.assign(bits.pack(array))

    @property
    def packed_mask(self) -> bits.Bytes:
        """The packed mask of weights, shape (ceil(D / 8),), read-only.

        ``packed`` where a bit is a weight; else worked out once, and kept until bits change.
        """
        units = self.units
        if units is None:
            return self.packed
        if "packed_mask" not in self._known:
            found = units.expand(self._packed)
            found.setflags(write=False)
            self._known["packed_mask"] = found
        known: bits.Bytes = self._known["packed_mask"]
        return known

    @property
    def n_weights(self) -> int:
        """Number of maskable weights, D."""
        units = self.units
        return self._size if units is None else units.weights.size

    @property
    def kept(self) -> int:
        """Number of kept weights."""
        if "kept" not in self._known:
            known = self.has_layout
            self._known["kept"] = sum(self.layer_counts) if known else bits.count(self.packed_mask)
        found: int = self._known["kept"]
        return found

    @property
    def layer_counts(self) -> tuple[int, ...]:
        """Number of kept weights of each layer of the weights, in order."""
        if "layer_counts" not in self._known:
            counts = self.layout.weights.counts(self.packed_mask)
            self._known["layer_counts"] = tuple(counts.tolist())
        found: tuple[int, ...] = self._known["layer_counts"]
        return found

    @property
    def density(self) -> float:
        """Kept / maskable over the whole network, in [0, 1]; 0.0 for a ticket of no bits."""
        return self.kept / self.n_weights if self._size else 0.0

    @property
    def layer_densities(self) -> dict[str, float]:
        """Density of each layer by parameter name."""
        layout = self.layout.weights
        pairs = zip(layout.layers, self.layer_counts, strict=True)
        return {layer.name: n / layer.size for layer, n in pairs}

    # ---- within

    def _find_layout(self) -> MaskLayout | None:
        """Return the layout, looking it up again after unpickling."""
        if self._layout is None and self._layout_key:
            self._layout = known_layout(self._layout_key)
        return self._layout


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
        "Make it with this task, or build the task with the ticket's model and seed. The same mask "
        "over other initial weights: nets.Ticket.from_masks(ticket.masks(), task.model).",
    )

"""``Ticket``: the DEAP individual, a packed mask over a model's initial weights."""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

from nets_deap import _checks, bits
from nets_deap.errors import CallOrderError
from nets_deap.learnt import Learnt
from nets_deap.masks import MaskLayout, known_layout

if TYPE_CHECKING:
    from torch import nn

Self = TypeVar("Self", bound="Ticket")


class Ticket:
    """A mask over initial weights, as a list-like DEAP individual of ``D`` bits.

    Holds packed bits, 33 kB for LeNet-300-100. Single bits read as ``bool``; slices are copies
    (bool arrays), so DEAP's own operators work on it as on a list. Its length is fixed. It can be
    a base in ``creator.create``.

    Args:
        mask: D bits (bool, or numbers 0 and 1), 1 = kept.
        layout: The layout they belong to; None for a plain vector of bits.
        fitness: A DEAP fitness; ``toolbox.individual`` and ``creator`` provide one.

    Raises:
        InvalidValueError: The mask is not a vector of bits, or of another length than the layout.
    """

    fitness: Any = None

    def __init__(
        self, mask: Iterable[Any] = (), layout: MaskLayout | None = None, fitness: Any = None
    ) -> None:
        array = bits.as_mask(mask)
        if layout is not None:
            layout.check_bits(array.size)
        self._size = int(array.size)
        self._packed = bits.pack(array)
        self._layout = layout
        self._layout_key = layout.key if layout is not None else ""
        self._learnt: Learnt | None = None
        if fitness is not None:
            self.fitness = fitness

    # ---- the mask

    @property
    def packed(self) -> bits.Bytes:
        """The packed bits, shape (ceil(D / 8),), as a read-only view; write with ``assign``."""
        view: bits.Bytes = self._packed.view()
        view.setflags(write=False)
        return view

    def assign(self, packed: bits.Bytes) -> None:
        """Replace all bits by packed ones; what was learnt is forgotten if they differ."""
        _checks.shape("packed", packed.shape, self._packed.shape, "(ceil(D / 8),)")
        fresh = packed.astype(np.uint8, copy=True)
        bits.clear_padding(fresh, self._size)
        if not np.array_equal(fresh, self._packed):
            self._packed = fresh
            self._learnt = None

    @property
    def mask(self) -> bits.Mask:
        """The mask as a fresh bool vector (D,); assign to it to replace the bits."""
        return bits.unpack(self._packed, self._size)

    @mask.setter
    def mask(self, mask: Iterable[Any]) -> None:
        array = bits.as_mask(mask)
        _checks.length("mask", array.size, self._size, "D")
        self.assign(bits.pack(array))

    @property
    def kept(self) -> int:
        """Number of kept weights."""
        return bits.count(self._packed)

    @property
    def density(self) -> float:
        """Kept / maskable over the whole network, in [0, 1]; 0.0 for a ticket of no bits."""
        return self.kept / self._size if self._size else 0.0

    @property
    def layer_densities(self) -> dict[str, float]:
        """Density of each layer by parameter name."""
        layout = self.layout
        counts = layout.counts(self._packed)
        return {la.name: int(n) / la.size for la, n in zip(layout.layers, counts, strict=True)}

    @property
    def digest(self) -> str:
        """A digest of the mask, 32 hexadecimal digits, the same on every machine."""
        return bits.digest(self._packed, self._size)

    # ---- what belongs to it

    @property
    def has_layout(self) -> bool:
        """Whether the layout is at hand."""
        return self._find_layout() is not None

    @property
    def layout(self) -> MaskLayout:
        """The layout of the mask.

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
    def learnt(self) -> Learnt | None:
        """What the last training of exactly this mask learnt; None if never or no longer."""
        if self._learnt is not None and self._learnt.digest != self.digest:
            self._learnt = None
        return self._learnt

    @learnt.setter
    def learnt(self, learnt: Learnt | None) -> None:
        if learnt is not None:
            _checks.shape("learnt.values", learnt.values.shape, (self.kept,), "(kept,)")
            if learnt.digest != self.digest:
                raise _checks.bad_value(
                    "learnt", "belong to this mask", f"digest {self.digest}", learnt.digest
                )
            learnt.values.setflags(write=False)
        self._learnt = learnt

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
            strided: bits.Mask = self.mask[key].copy()
            return strided
        i = self._index(key)
        return bool(self._packed[i >> 3] >> (i & 7) & 1)

    def __setitem__(self, key: int | slice, value: Any) -> None:
        if isinstance(key, slice):
            mask, new = self.mask, bits.as_mask(value, "value")
            selected = len(range(*key.indices(self._size)))
            _checks.length("value", new.size, selected, "bits in the slice", "Length is fixed.")
            mask[key] = new
            self.assign(bits.pack(mask))
            return
        i = self._index(key)
        bit = bits.as_mask([value], "value")[0]
        if bit != self[i]:
            self._packed[i >> 3] ^= 1 << (i & 7)
            self._learnt = None

    def __iter__(self) -> Iterator[bool]:
        return iter(self.mask.tolist())

    def __contains__(self, bit: object) -> bool:
        return bit in (0, 1) and (self.kept > 0 if bit else self.kept < self._size)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ticket):
            return NotImplemented
        return (
            self._size == other._size
            and self._layout_key == other._layout_key
            and np.array_equal(self._packed, other._packed)
        )

    __hash__ = None  # type: ignore[assignment]  # mutable, as lists are

    # ---- copies

    def __deepcopy__(self: Self, memo: dict[int, Any]) -> Self:
        new = self.__class__.__new__(self.__class__)
        memo[id(self)] = new
        for name, value in self.__dict__.items():
            if name == "_packed":
                value = value.copy()
            elif name not in _SHARED:
                value = copy.deepcopy(value, memo)
            new.__dict__[name] = value
        return new

    def __copy__(self: Self) -> Self:
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_layout"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _layout=known_layout(state["_layout_key"]))
        if self._learnt is not None:
            self._learnt.values.setflags(write=False)  # NumPy unpickles arrays writeable

    def __repr__(self) -> str:
        values = getattr(self.fitness, "values", ()) if self.fitness is not None else ()
        return (
            f"{type(self).__name__}({self.kept} of {self._size} weights, "
            f"density {self.density:.4f}, fitness {tuple(values)})"
        )

    # ---- files and models

    def save(self, path: str | Path, *, include_initial: bool = False) -> Path:
        """Save as safetensors: packed bits, layout, objectives and a SHA-256.

        Args:
            path: Where to; written to a temporary file first, then put in place.
            include_initial: Also store W0 (4 bytes a weight); else only its digest.

        Returns:
            The path.
        """
        from nets_deap import ticket_files

        return ticket_files.save(self, path, include_initial=include_initial)

    @classmethod
    def load(cls: type[Self], path: str | Path) -> Self:
        """Load a saved ticket; nothing in the file is ever executed.

        Raises:
            TicketFileError: The file is damaged, of a newer schema or no ticket.
        """
        from nets_deap import ticket_files

        return ticket_files.load(cls, path)

    def apply(self, model: nn.Module) -> nn.Module:
        """Turn ``model`` into the ticket, in place: its weights become W0 times the mask.

        Where W0 is known (the task was built in this process, or the file includes it) the
        maskable weights are set to it; else the model must still hold W0 itself, which is checked
        by its digest. Parameters that are not maskable, biases among them, stay as they are.

        Returns:
            The model.

        Raises:
            InvalidValueError: The model has other layers, or other initial weights.
        """
        from nets_deap import ticket_files

        return ticket_files.apply(self, model)

    # ---- private

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


_SHARED = frozenset(("_size", "_layout", "_layout_key", "_learnt"))

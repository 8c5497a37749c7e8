"""``Genome``: a ticket whose initial weights evolve together with its mask."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.tickets import bits
from nets_deap.tickets.layout import MaskLayout
from nets_deap.tickets.ticket import Ticket

if TYPE_CHECKING:
    from torch import nn

Self = TypeVar("Self", bound="Genome")


@_checks.signed
class Genome(Ticket):
    """A mask together with initial weights of its own, which start at W0.

    Each gene is a weight and its gate, the bit that keeps it. Training starts from the genome's
    own weights, never from W0. Weights of pruned genes are dormant: they belong to the genome, so
    that they are there when it regrows, but not to the network. Two genomes are equal where their
    networks are: layout, mask and weights of the kept genes.

    Cross genomes with ``operators.cx_genes``: crossovers of masks, DEAP's own for lists among
    them, exchange gates without their weights.

    Args:
        mask: D bits (bool, or numbers 0 and 1), 1 = kept.
        layout: The layout they belong to; needed.
        fitness: A DEAP fitness.
        weights: Initial weights (D,), finite; None for W0.

    Raises:
        InvalidTypeError: No layout.
        InvalidValueError: Mask or weights are of another length, weights are not finite, or the
            layout is that of structured tickets.
        CallOrderError: No weights, and the layout does not know W0.

    Reference:
        Jackson et al. 2023, Neuroevolution Ticket Search.
    """

    __slots__ = ("_weights",)
    _shared: ClassVar[tuple[str, ...]] = (*Ticket._shared, *__slots__)
    _weights: NDArray[Any]

    def __new__(cls: type[Self], *_: Any, **__: Any) -> Self:
        """Return a genome of no genes."""
        new = super().__new__(cls)
        new._weights = np.zeros(0)
        return new

    def __init__(
        self,
        mask: Iterable[Any] = (),
        layout: MaskLayout | None = None,
        fitness: Any = None,
        *,
        weights: NDArray[Any] | None = None,
    ) -> None:
        if not isinstance(layout, MaskLayout):
            raise _checks.bad_type("layout", "be given for a genome", "a nets.MaskLayout", layout)
        if layout.unit != "weight":
            raise _checks.bad_value(
                "layout",
                "have a gate for each weight of a genome",
                "unit 'weight'",
                layout.unit,
                "Build the task with unit='weight', or evolve tickets.",
            )
        super().__init__(mask, layout, fitness)
        if weights is None:
            self._weights = layout.require_initial()
        else:
            self._weights = self._checked(weights)

    @property
    def weights(self) -> NDArray[Any]:
        """The initial weights (D,), read-only; copies of the genome share them. Assign new ones.

        What is inherited stays with the new weights as a guess: the way that each trained weight
        went is taken from the new one.
        """
        return self._weights

    @weights.setter
    def weights(self, weights: NDArray[Any]) -> None:
        old, new = self._weights, self._checked(weights)
        known = self.inherited
        if known is not None:
            moved = (new - old)[bits.places(bits.unpack(known.packed, len(self)))]
            if moved.any():
                self.inherited = replace(known, digest="", values=known.values + moved)
        self._weights = new

    @property
    def network_key(self) -> tuple[Any, ...]:
        """Layout, size, bits and kept weights, which make two genomes the same network."""
        return *super().network_key, self.own_values().tobytes()

    @property
    def digest(self) -> str:
        """A digest of mask and kept weights, 32 hexadecimal digits, the same on every machine."""
        values = self.own_values()
        content = values.astype(values.dtype.newbyteorder("<")).tobytes()
        return hashlib.blake2b(super().digest.encode() + content, digest_size=16).hexdigest()

    def own_values(self) -> NDArray[Any]:
        """Return the genome's own initial weights at its kept positions, shape (kept,)."""
        return np.array(self._weights[bits.places(self.mask)])

    # ---- comparison and copies

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Genome):
            return super().__eq__(other) and np.array_equal(self.own_values(), other.own_values())
        return False  # a list of bits has no weights

    __hash__ = None  # mutable, as lists are

    def __setstate__(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        super().__setstate__(state)
        self._weights.setflags(write=False)  # NumPy unpickles arrays writeable

    # ---- files and models

    def export(self) -> Ticket:
        """Return a plain ticket whose W0 are the genome's weights, with its fitness.

        Its layout holds these weights and so is another one than the genome's: it stands for
        itself, and does not belong to the task on which the genome evolved.
        """
        layout = self.layout
        own = MaskLayout([(layer.name, layer.shape) for layer in layout.layers], self._weights)
        ticket = Ticket(self.mask, layout=own, fitness=copy.deepcopy(self.fitness))
        state = self.trained
        ticket.trained = None if state is None else replace(state, digest=ticket.digest)
        ticket.adaptation, ticket.origin = self.adaptation, self.origin
        ticket._parent_digests = self.parent_digests
        return ticket

    def save(self, path: str | Path, *, include_initial: bool = True, task: Any = None) -> Path:
        """Save as a complete ticket of the genome's own weights; see ``Ticket.save``.

        Both ``Ticket.load`` and ``Genome.load`` read the file.

        Args:
            path: Where to.
            include_initial: Must be True: nothing but the genome knows its weights.
            task: See ``Ticket.save``.

        Raises:
            InvalidValueError: ``include_initial`` is False.
        """
        if not include_initial:
            raise _checks.bad_value(
                "include_initial",
                "be True for a genome",
                "a file with the genome's own weights",
                include_initial,
                "They are found nowhere else.",
            )
        return self.export().save(path, include_initial=True, task=task)

    @classmethod
    def load(cls: type[Self], path: str | Path, *, layout: MaskLayout | None = None) -> Self:
        """Load a genome from a ticket file; nothing in the file is ever executed.

        Args:
            path: The file.
            layout: The layout to load it into, of the same layers: that of a task, to train it
                there. None: a layout whose W0 are the genome's weights.

        Raises:
            TicketFileError: The file is damaged, of a newer schema or no ticket.
            InvalidValueError: The layout has other layers.
            CallOrderError: The file holds no weights, and they are not known here.
        """
        loaded = super().load(path)
        if layout is None:
            return loaded
        wanted, found = (
            [(layer.name, layer.shape) for layer in some.layers] for some in (layout, loaded.layout)
        )
        if wanted != found:
            raise _checks.bad_value("layout", "have the layers of the file", str(found), wanted)
        return cls(loaded.mask, layout, loaded.fitness, weights=loaded.weights)

    def apply(
        self, model: nn.Module, how: str = "inplace", *, values: str | None = "initial"
    ) -> Any:
        """Make the maskable weights of ``model`` the genome's own times its mask.

        See ``Ticket.apply``, with the genome's weights for W0, which no other model holds: so they
        are put over what is there, if ``values`` says nothing else.
        """
        return self.export().apply(model, how, values=values)

    def _checked(self, weights: NDArray[Any]) -> NDArray[Any]:
        """Return a read-only copy of weights, in W0's dtype."""
        initial = self.layout.initial
        array = np.array(weights, dtype=None if initial is None else initial.dtype)
        _checks.shape("weights", array.shape, (len(self),), "(D,)")
        if not np.isfinite(array).all():
            n = int((~np.isfinite(array)).sum())
            raise _checks.bad_value("weights", "be finite", "no NaN or infinity", f"{n} of them")
        array.setflags(write=False)
        return array

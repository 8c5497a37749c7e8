"""``Ticket``: the DEAP individual, a packed mask over a model's initial weights."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.names import WEIGHT
from nets_deap.tickets import bits
from nets_deap.tickets.hub import Shareable
from nets_deap.tickets.layout import MaskLayout, known_layout
from nets_deap.tickets.trained import Average, TrainedState

Self = TypeVar("Self", bound="Ticket")


@_checks.signed
class Ticket(Shareable):
    """A mask over initial weights, as a list-like DEAP individual of ``D`` bits.

    Holds packed bits, 33 kB for LeNet-300-100. Single bits read as ``bool``; slices are copies
    (bool arrays), so DEAP's own operators work on it as on a list. Its length is fixed. It can be
    a base in ``creator.create``.

    In a structured ticket a bit gates a whole unit of weights (see ``nets.Task``): the ticket is
    a list of G bits, ``gates``, while ``mask``, ``kept``, ``density`` and ``trained`` are about the
    D weights.

    Args:
        mask: The bits (bool, or numbers 0 and 1), 1 = kept.
        layout: The layout they belong to; None for a plain vector of bits.
        fitness: A DEAP fitness; ``toolbox.individual`` and ``creator`` provide one.

    Attributes:
        strategy: Strategy parameters that evolve with the ticket, by name: a layer's name for the
            logarithm of the factor that its weights' saliency has in ``mut_prune``. Operators
            replace it, never change it.
        evaluations: How often its fitness has been measured.
        diverged: Whether its last training diverged.
        parents: Digests of the masks whose training its first one started out from: one after
            mutation, two after crossover, none in a first population. Those of the nearest
            ancestors that did not diverge.

    Raises:
        InvalidValueError: The mask is not a vector of bits, or of another length than the layout.

    >>> ticket = Ticket([1, 0, 1, 1], MaskLayout([("weight", (2, 2))]))
    >>> ticket
    Ticket(3 of 4 weights, density 0.7500, fitness ())
    >>> ticket[0] = False
    >>> ticket.mask.tolist(), ticket.layer_densities
    ([False, False, True, True], {'weight': 0.5})
    """

    fitness: Any = None
    strategy: dict[str, float] = MappingProxyType({})  # type: ignore[assignment]
    evaluations: int = 0
    diverged: bool = False
    parents: tuple[str, ...] = ()

    def __init__(
        self, mask: Iterable[Any] = (), layout: MaskLayout | None = None, fitness: Any = None
    ) -> None:
        super().__init__(mask, layout)
        self._trained: TrainedState | Average | None = None
        if fitness is not None:
            self.fitness = fitness

    # ---- what belongs to it

    @property
    def trained(self) -> TrainedState | None:
        """What the last training ended with if it was of exactly this mask, else None."""
        state = self._trained
        if not isinstance(state, TrainedState) or not state.digest:
            return None
        return state if np.array_equal(state.packed, self.packed_mask) else None

    @trained.setter
    def trained(self, state: TrainedState | None) -> None:
        if state is not None:
            _checks.shape("trained.values", state.values.shape, (self.kept,), "(kept,)")
            if state.digest != self.digest:
                raise _checks.bad_value(
                    "trained", "belong to this mask", f"digest {self.digest}", state.digest
                )
        self.inherited = state

    @property
    def inherited(self) -> TrainedState | None:
        """What the last training of this ticket or its ancestors ended with; None if never trained.

        Mutation leaves it as it is, so it may belong to another mask than the ticket's own;
        crossover averages the parents'. Operators take saliency from it, and with
        ``inherit="weights"`` training goes on from it.
        """
        if isinstance(self._trained, Average):
            self._trained = self._trained.get()
        return self._trained

    @inherited.setter
    def inherited(self, state: TrainedState | None) -> None:
        if state is not None:
            expected = (bits.n_bytes(self.n_weights),)
            _checks.shape("inherited.packed", state.packed.shape, expected, "(bytes,)")
            state.freeze()
        self._trained = state

    def inherit(self, average: Average) -> None:
        """Inherit an average, without working it out yet."""
        self._trained = average

    def note_parents(self) -> None:
        """Take down whose training is inherited, unless it is the ticket's own."""
        sources = () if self._trained is None else self._trained.sources
        if sources and sources != (self.digest,):
            self.parents = sources

    @property
    def genes(self) -> tuple[Any, ...]:
        """Layout, size and bits, which make two tickets the same network."""
        return self._layout_key, self._size, self._packed.tobytes()

    def own_values(self) -> NDArray[Any] | None:
        """Return initial weights of the ticket's own at its kept positions; None for W0."""
        return None

    # ---- comparison and copies

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ticket):
            return NotImplemented
        return (
            self._size == other._size
            and self._layout_key == other._layout_key
            and np.array_equal(self._packed, other._packed)
        )

    __hash__ = None  # type: ignore[assignment]  # mutable, as lists are

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
        state = {k: v for k, v in self.__dict__.items() if k != "_layout"}
        return {**state, "_trained": self.inherited}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _layout=known_layout(state["_layout_key"]))
        if self.inherited is not None:
            self.inherited.freeze()  # NumPy unpickles arrays writeable

    def __repr__(self) -> str:
        values = getattr(self.fitness, "values", ()) if self.fitness is not None else ()
        held = f"{bits.count(self._packed)} of {self._size} units {self.unit!r}"
        if self.has_layout or self.unit == WEIGHT:
            weights = f"{self.kept} of {self.n_weights} weights, density {self.density:.4f}"
            held = weights if self.unit == WEIGHT else f"{held}, {weights}"
        return f"{type(self).__name__}({held}, fitness {tuple(values)})"


_SHARED = frozenset(
    ("_size", "unit", "_layout", "_layout_key", "_trained", "strategy", "origin", "parents")
)

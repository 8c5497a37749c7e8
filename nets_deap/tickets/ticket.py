"""``Ticket``: the DEAP individual, a packed mask over a model's initial weights.

One file: it is one class, and a third of it says what its attributes are.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.names import WEIGHT
from nets_deap.tickets import bits
from nets_deap.tickets.hub import Shareable
from nets_deap.tickets.layout import MaskLayout, known_layout
from nets_deap.tickets.packed_list import PackedList
from nets_deap.tickets.trained import Average, TrainedState

Self = TypeVar("Self", bound="Ticket")

_NOTES = "_evaluations", "_evaluated", "_diverged", "_parent_digests", "_evaluator"


@_checks.signed
class Ticket(Shareable):
    """A mask over initial weights, as a list-like DEAP individual of ``D`` bits.

    Holds packed bits, 33 kB for LeNet-300-100. It does what a list of the numbers 0 and 1 does, so
    that DEAP's own operators work on it; its length is fixed. It can be a base in
    ``creator.create``.

    In a structured ticket a bit gates a whole unit of weights (see ``nets.Task``): the ticket is
    a list of G bits, ``gates``, while ``mask``, ``kept``, ``density`` and ``trained`` are about the
    D weights.

    Attributes that a program sets, such as ``strategy``, ``best`` or ``age``, are its own: copies
    of the ticket have copies of them. The names listed here, those of methods among them, are the
    package's: a class cannot have data of its own under them.

    Args:
        mask: The bits (bool, or numbers 0 and 1), 1 = kept.
        layout: The layout they belong to; None for a plain vector of bits.
        fitness: A DEAP fitness; ``toolbox.individual`` and ``creator`` provide one.

    Raises:
        InvalidValueError: The mask is not a vector of bits, or of another length than the layout;
            or a class made from this one has data under a name of the package.

    >>> ticket = Ticket([1, 0, 1, 1], MaskLayout([("weight", (2, 2))]))
    >>> ticket
    Ticket(3 of 4 weights, density 0.7500, fitness ())
    >>> ticket[0] = 0
    >>> ticket[:2] + ticket[2:], ticket.mask.tolist(), ticket.layer_densities
    ([0, 0, 1, 1], [False, False, True, True], {'weight': 0.5})
    """

    __slots__ = (
        "_adaptation",
        "_diverged",
        "_evaluated",
        "_evaluations",
        "_evaluator",
        "_parent_digests",
        "_trained",
    )

    fitness: Any = None

    # What copies share, as nothing of it is ever changed in place.
    _shared: ClassVar[tuple[str, ...]] = ("_layout", "_layout_key", "_unit", *__slots__)
    _adaptation: Mapping[str, float]
    _diverged: bool
    _evaluated: str  # digest of the bits that were evaluated last
    _evaluations: int
    _evaluator: str
    _parent_digests: tuple[str, ...]
    _trained: TrainedState | Average | None

    def __new__(cls: type[Self], *_: Any, **__: Any) -> Self:
        """Return a ticket of no bits that nothing is known of."""
        new = super().__new__(cls)
        new._adaptation, new._parent_digests = {}, ()
        new._evaluations, new._diverged, new._trained = 0, False, None
        new._evaluator = new._evaluated = ""
        return new

    def __init__(
        self, mask: Iterable[Any] = (), layout: MaskLayout | None = None, fitness: Any = None
    ) -> None:
        super().__init__(mask, layout)
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
            _check_state("trained", state)
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
            _check_state("inherited", state)
            expected = (bits.n_bytes(self.n_weights),)
            _checks.shape("inherited.packed", state.packed.shape, expected, "(bytes,)")
            state.freeze()
        self._trained = state

    def inherit(self, average: Average) -> None:
        """Inherit an average, without working it out yet."""
        self._trained = average

    @property
    def adaptation(self) -> Mapping[str, float]:
        """Parameters of operators that evolve with the ticket, by name; assign to replace them.

        A layer's name for the logarithm of the factor that its weights' saliency has in
        ``mut_prune``; the names of ``mut_shrink`` are in its own description.
        """
        return MappingProxyType(self._adaptation)

    @adaptation.setter
    def adaptation(self, adaptation: Mapping[str, float]) -> None:
        if not isinstance(adaptation, Mapping):
            raise _checks.bad_type("adaptation", "be numbers by name", "a mapping", adaptation)
        self._adaptation = {
            str(name): _checks.real(f"adaptation[{name!r}]", value)
            for name, value in adaptation.items()
        }

    @property
    def evaluations(self) -> int:
        """How often an evaluator has measured it with the mask that it has now, >= 0."""
        return self._evaluations if self._evaluated == self._digest_of_bits() else 0

    @property
    def diverged(self) -> bool:
        """Whether its last training diverged; an evaluator notes it."""
        return self._diverged

    @property
    def parent_digests(self) -> tuple[str, ...]:
        """Digests of the masks whose training its first one started out from.

        One after mutation, two after crossover, none in a first population. Those of the nearest
        ancestors that did not diverge.
        """
        return self._parent_digests

    @property
    def evaluator_key(self) -> str:
        """The key of the evaluator that has trained it last; empty for none."""
        return self._evaluator

    def note_evaluator(self, key: str) -> None:
        """Take down the key of the evaluator that has trained it."""
        self._evaluator = key

    def note_evaluations(self, times: int) -> None:
        """Take down how often this mask has been measured by now."""
        self._evaluations = _checks.whole("times", times, low=0)
        self._evaluated = self._digest_of_bits()

    def _digest_of_bits(self) -> str:
        """Return the digest of the bits alone."""
        digest: str = PackedList.digest.__get__(self)
        return digest

    def note_training(self, state: TrainedState | None) -> None:
        """Take down what a training ended with; None if it diverged.

        Whose training the ticket started out from is taken down with it, unless it was its own.
        """
        sources = () if self._trained is None else self._trained.sources
        if sources and sources != (self.digest,):
            self._parent_digests = sources
        self.inherited, self._diverged = state, state is None

    def evaluation_notes(self) -> dict[str, Any]:
        """Return what evaluation changes in a ticket, for the ticket that this is a copy of."""
        return {**{name: getattr(self, name) for name in _NOTES}, "_trained": self.inherited}

    def take_notes(self, notes: Mapping[str, Any]) -> None:
        """Take over what evaluation has changed in a copy, as in another process."""
        for name in _NOTES:
            setattr(self, name, notes[name])
        self.inherited = notes["_trained"]

    @property
    def network_key(self) -> tuple[Any, ...]:
        """Layout, size and bits, which make two tickets the same network."""
        return self._layout_key, self._size, bytes(self._bytes)

    def own_values(self) -> NDArray[Any] | None:
        """Return initial weights of the ticket's own at its kept positions; None for W0."""
        return None

    # ---- comparison and copies

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Ticket) and self._layout_key != other._layout_key:
            return False
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]  # mutable, as lists are

    def copy(self: Self) -> Self:
        """Return a copy, with copies of its fitness and of all that programs have set."""
        return copy.deepcopy(self)

    __copy__ = copy

    def __deepcopy__(self: Self, memo: dict[int, Any]) -> Self:
        new = self.__class__.__new__(self.__class__)
        memo[id(self)] = new
        new._hold(self._packed, self._size)
        for name in self._shared:
            object.__setattr__(new, name, getattr(self, name))
        if self._known:
            new._known = dict(self._known)
            if "origin" in self._known:  # nothing else of it is ever changed in place
                new._known["origin"] = copy.deepcopy(self._known["origin"])
        new.set_users_attributes(
            {n: copy.deepcopy(value, memo) for n, value in self.users_attributes().items()}
        )
        return new

    def __getstate__(self) -> dict[str, dict[str, Any]]:
        """Return all that the ticket is but for its class, for pickles and checkpoints.

        Returns:
            ``own``: what the package holds of it, by name; ``users``: the attributes that programs
            have set, fitness among them.
        """
        # Keys of evaluators mean nothing in another process.
        away = "_layout", "_evaluator", "_evaluated"
        own = {n: getattr(self, n) for n in self._shared if n not in away}
        own |= {"_evaluations": self.evaluations}  # which tells whether these bits were evaluated
        own |= {"_size": self._size, "_packed": self._packed, "_trained": self.inherited}
        return {"own": {**own, "origin": dict(self.origin)}, "users": self.users_attributes()}

    def __setstate__(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        own = dict(state["own"])
        self._hold(own.pop("_packed"), own.pop("_size"))
        origin = own.pop("origin")
        for name, value in own.items():
            setattr(self, name, value)
        if self._evaluations:
            self._evaluated = self._digest_of_bits()
        if origin:
            self.origin = origin
        self._layout = known_layout(self._layout_key)
        if self.inherited is not None:
            self.inherited.freeze()  # NumPy unpickles arrays writeable
        self.set_users_attributes(state["users"])

    def __repr__(self) -> str:
        values = getattr(self.fitness, "values", ()) if self.fitness is not None else ()
        held = f"{bits.count(self._packed)} of {self._size} units {self.unit!r}"
        if self.has_layout or self.unit == WEIGHT:
            weights = f"{self.kept} of {self.n_weights} weights, density {self.density:.4f}"
            held = weights if self.unit == WEIGHT else f"{held}, {weights}"
        return f"{type(self).__name__}({held}, fitness {tuple(values)})"


def _check_state(argument: str, state: object) -> None:
    """Raise unless something is a trained state."""
    if not isinstance(state, TrainedState):
        raise _checks.bad_type(
            argument,
            "be what a training ended with",
            "a TrainedState or None",
            state,
            "Keep data of your own under another name.",
        )


# What to give where tickets of a population are meant.
OWN_CLASS = (
    "Take toolbox.population of nets.make_toolbox, its toolbox.individual(mask) for bits of your "
    "own, or a class of your own over nets.Ticket, as creator.create('Individual', nets.Ticket, "
    "fitness=...)."
)


def check_individual(individual: object) -> None:
    """Raise unless an individual is a ticket."""
    if not isinstance(individual, Ticket):
        raise _checks.bad_type("individual", "be a ticket", "a nets.Ticket", individual, OWN_CLASS)


def several(tickets: Any, hint: str) -> list[Ticket]:
    """Return tickets as a list; raise where one alone, or something else, was given.

    Args:
        tickets: Any iterable of them. A ticket is one as well, of its bits.
        hint: What to give.
    """
    if isinstance(tickets, Ticket) or not isinstance(tickets, Iterable):
        raise _checks.bad_type("tickets", "be several", "a list of nets.Ticket", tickets, hint)
    return list(tickets)

"""``MaskLayout``: which tensors of a model are maskable, and flat bits <-> named tensors."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.errors import CallOrderError
from nets_deap.models.maskable import Selector, parameters_of
from nets_deap.models.tensors import check_finite, digest_of, values_of
from nets_deap.models.wrappers import named_parameters
from nets_deap.names import WEIGHT
from nets_deap.tickets import bits

if TYPE_CHECKING:
    from torch import nn

_registry: weakref.WeakValueDictionary[str, MaskLayout] = weakref.WeakValueDictionary()


@dataclass(frozen=True)
class Layer:
    """One maskable tensor: its parameter name, shape, and place [start, stop) in the mask."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def stop(self) -> int:
        """One past its last position in the mask."""
        return self.start + self.size

    @property
    def row(self) -> int:
        """Number of weights that lead into one neuron or filter (the first axis counts those)."""
        return self.size // self.shape[0]


@_checks.signed
class MaskLayout:
    """Layout of a mask: D maskable weights in L layers, with their initial weights W0.

    Layers stand in the model's own order; within a layer the order is row-major. Two layouts with
    the same names, shapes and W0 have the same ``key``. Each bit gates one weight; see ``units``
    for bits that gate more.

    Args:
        layers: Pairs (parameter name, shape).
        initial: W0 of the maskable weights, shape (D,); None where only its digest is known.
        initial_digest: SHA-256 of W0; needed only where ``initial`` is None.
    """

    unit = "weight"

    def __init__(
        self,
        layers: Sequence[tuple[str, Sequence[int]]],
        initial: NDArray[Any] | None = None,
        *,
        initial_digest: str | None = None,
    ) -> None:
        self._place(layers)
        if initial is not None:
            _checks.shape("initial", initial.shape, (self.size,), "(D,)")
            initial = np.ascontiguousarray(initial).copy()
            initial.setflags(write=False)
            initial_digest = digest_of(initial)
        self.initial = initial
        self.initial_digest: str = initial_digest or ""
        names = json.dumps([[layer.name, layer.shape] for layer in self.layers])
        text = f"{names}\n{self.initial_digest}"
        self._register(hashlib.sha256(text.encode()).hexdigest())

    def _place(self, layers: Sequence[tuple[str, Sequence[int]]]) -> None:
        """Give each layer its place in the mask."""
        placed: list[Layer] = []
        for name, shape in layers:
            start = placed[-1].stop if placed else 0
            placed.append(Layer(name, tuple(int(n) for n in shape), start))
        if not placed or any(n < 1 for layer in placed for n in layer.shape):
            raise _checks.bad_value(
                "layers", "hold weights", "at least one layer, none of size 0", list(layers)
            )
        if len({layer.name for layer in placed}) < len(placed):
            raise _checks.bad_value(
                "layers", "have names of their own", "each name once", list(layers)
            )
        self.layers: tuple[Layer, ...] = tuple(placed)
        self.size: int = placed[-1].stop
        self._position = {layer.name: layer for layer in placed}

    def _register(self, key: str) -> None:
        """Let the layout be found by its key."""
        self.key: str = key
        known = _registry.get(self.key)
        if known is None or known.initial is None:
            _registry[self.key] = self

    @classmethod
    def of(cls, model: nn.Module, maskable: Selector = None, *, unit: str = WEIGHT) -> MaskLayout:
        """Lay out the maskable weights of ``model`` with its present weights as W0.

        Args:
            model: Any module.
            maskable: None for all weights but those of embeddings and normalisation; or names,
                patterns or types; or a predicate; see ``models.maskable.parameters_of``.
            unit: What a bit will gate, on which depends what None selects.

        Raises:
            InvalidValueError: A name, pattern or type matches nothing, nothing is maskable, or a
                weight is not finite.
        """
        named = dict(named_parameters(model))
        chosen = {p.name: named[p.name] for p in parameters_of(model, maskable, unit) if p.maskable}
        flat = [values_of(name, p).reshape(-1) for name, p in chosen.items()]
        for name, p in chosen.items():
            check_finite(name, p)
        shapes = [(name, tuple(p.shape)) for name, p in chosen.items()]
        return cls(shapes, np.concatenate(flat))

    @property
    def weights(self) -> MaskLayout:
        """The layout of the weights that the bits gate; itself where each bit gates one."""
        return self

    @property
    def density_range(self) -> tuple[float, float]:
        """Least and greatest density of a ticket without an empty layer."""
        return len(self.layers) / self.size, 1.0

    def expand(self, packed: bits.Bytes) -> bits.Bytes:
        """Return the packed weight mask of packed bits: themselves, where each gates one."""
        return packed

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names of the layers, in order."""
        return tuple(self._position)

    @property
    def n_bytes(self) -> int:
        """Bytes of a packed mask."""
        return bits.n_bytes(self.size)

    def layer(self, name: str) -> Layer:
        """Return a layer by its parameter name."""
        return self._position[_checks.choice("layer", name, self._position)]

    def split(self, flat: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Split a vector (D,), or vectors (P, D), into views of the layers' shapes, by name."""
        if flat.ndim == 0 or flat.shape[-1] != self.size:
            raise _checks.bad_value(
                "flat", "have the right shape", f"(D,) or (P, D) with D = {self.size}", flat.shape
            )
        head = flat.shape[:-1]
        return {
            layer.name: flat[..., layer.start : layer.stop].reshape(*head, *layer.shape)
            for layer in self.layers
        }

    def join(self, tensors: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Put named arrays back into one vector (D,); the inverse of ``split``."""
        missing = [name for name in self.names if name not in tensors]
        if missing or len(tensors) != len(self.layers):
            raise _checks.bad_value(
                "tensors", "name every layer once", f"the names {self.names}", tuple(tensors)
            )
        for layer in self.layers:
            _checks.shape(
                f"tensors[{layer.name!r}]", tensors[layer.name].shape, layer.shape, "shape"
            )
        return np.concatenate([np.asarray(tensors[name]).reshape(-1) for name in self.names])

    def counts(self, packed: bits.Bytes) -> NDArray[np.int64]:
        """Count the kept weights of each layer, shape (L,)."""
        return np.array([bits.count(packed, layer.start, layer.stop) for layer in self.layers])

    def sizes(self) -> NDArray[np.int64]:
        """Count the maskable weights of each layer, shape (L,)."""
        return np.array([layer.size for layer in self.layers])

    def check_bits(self, size: int) -> None:
        """Raise if a mask of ``size`` bits cannot belong to this layout."""
        _checks.length("mask", size, self.size, "D", "The mask belongs to another layout.")

    @functools.cached_property
    def deviations(self) -> tuple[float, ...]:
        """Standard deviation of W0 in each layer; raises if only its digest is known."""
        return tuple(float(part.std()) for part in self.split(self.require_initial()).values())

    def require_initial(self) -> NDArray[Any]:
        """Return W0 (D,); raise if only its digest is known."""
        if self.initial is None:
            raise CallOrderError(
                "The initial weights are not known here, only their digest. Build the task that "
                "the ticket was made for, or load it from a file that was saved with "
                "include_initial=True; include_initial=False saves the digest alone."
            )
        return self.initial

    def __repr__(self) -> str:
        layers = ", ".join(f"{layer.name} {layer.shape}" for layer in self.layers)
        return f"MaskLayout({self.size} weights: {layers})"


def known_layout(key: str) -> MaskLayout | None:
    """Return the layout with this key if some part of the program holds it."""
    return _registry.get(key)

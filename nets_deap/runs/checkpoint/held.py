"""What the package holds of a ticket in a checkpoint, looked at before a ticket is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nets_deap.errors import RunFileError
from nets_deap.tickets import bits
from nets_deap.tickets.genome import Genome

# Beside its fitness and its trained state.
HELD = (
    *("size", "packed", "layout_key", "unit", "adaptation", "evaluations", "diverged"),
    *("parent_digests", "origin"),
)


def check_held(own: Mapping[str, Any], kind: type) -> None:
    """Raise unless what the package holds of a ticket of a class is what it should be."""
    names = {*HELD, "weights"} if issubclass(kind, Genome) else set(HELD)
    if set(own) != names:
        raise RunFileError(f"a ticket has {sorted(own)} where {sorted(names)} should be")
    size, weights = own["size"], own.get("weights")
    check_bits(own["packed"], size)
    parents, times = own["parent_digests"], own["evaluations"]
    right = (
        isinstance(own["layout_key"], str) and isinstance(own["unit"], str),
        isinstance(own["adaptation"], dict) and isinstance(own["origin"], dict),
        all(type(value) is float for value in own["adaptation"].values()),
        isinstance(parents, tuple) and all(type(each) is str for each in parents),
        type(times) is int and times >= 0 and type(own["diverged"]) is bool,
        weights is None or (isinstance(weights, np.ndarray) and weights.shape == (size,)),
    )
    if not all(right):
        raise RunFileError("a ticket holds something else than a ticket does")


def check_bits(packed: Any, size: Any) -> None:
    """Raise unless packed bits are bytes for ``size`` bits, with nothing beyond them."""
    fits = isinstance(packed, np.ndarray) and packed.dtype == np.uint8 and type(size) is int
    if not fits or packed.shape != (bits.n_bytes(size),):
        raise RunFileError("a mask has other bits than weights")
    if size % 8 and packed[-1] >> size % 8:
        raise RunFileError("the padding bits of a mask are not zero")

"""What a checkpoint holds of the package's own, looked at before anything is made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from nets_deap.errors import RunFileError
from nets_deap.tickets import bits
from nets_deap.tickets.genome import Genome
from nets_deap.tickets.trained import TrainedState

# Beside its fitness and its trained state.
HELD = (
    *("size", "packed", "layout_key", "unit", "adaptation", "evaluations", "diverged"),
    *("parent_digests", "origin"),
)

# Places in a trained state, and what stands beside each of them.
_PLACES = (("candidates", "scores"), ("pruned", "remembered"))


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


def check_trained(state: TrainedState) -> None:
    """Raise unless every field of a trained state is what training and operators leave there."""
    check_bits(state.packed, 8 * state.packed.size)
    kept = (bits.count(state.packed),)
    beside = (state.gradients, kept), (state.scores, None), (state.remembered, None)
    right = [_is_array(state.values, "f", kept)]
    right += [found is None or _is_array(found, "f", shape) for found, shape in beside]
    if not all(right):
        raise RunFileError("a trained state has other values than kept weights")
    for name, scores in _PLACES:
        places, numbers = getattr(state, name), getattr(state, scores)
        flat = places is None or (_is_array(places, "i") and places.dtype == np.int64)
        if not flat or (numbers is not None and np.shape(places) != numbers.shape):
            raise RunFileError(f"a trained state has other {name} than {scores}")
    metrics, unmasked = state.metrics, state.unmasked
    right = [
        type(state.steps) is int and state.steps >= 0 and type(state.digest) is str,
        isinstance(metrics, Mapping) and all(isinstance(each, Real) for each in metrics.values()),
        isinstance(unmasked, Mapping) and all(isinstance(a, np.ndarray) for a in unmasked.values()),
    ]
    if not all(right):
        raise RunFileError("a trained state holds something else than training leaves")


def _is_array(found: Any, kind: str, shape: tuple[int, ...] | None = None) -> bool:
    """Return whether something is a flat array of a kind of numbers, and of a shape if given."""
    flat = isinstance(found, np.ndarray) and found.dtype.kind == kind and found.ndim == 1
    return flat and shape in (None, found.shape)


def check_bits(packed: Any, size: Any) -> None:
    """Raise unless packed bits are bytes for ``size`` bits, with nothing beyond them."""
    fits = isinstance(packed, np.ndarray) and packed.dtype == np.uint8 and type(size) is int
    if not fits or packed.shape != (bits.n_bytes(size),):
        raise RunFileError("a mask has other bits than weights")
    if size % 8 and packed[-1] >> size % 8:
        raise RunFileError("the padding bits of a mask are not zero")


def check_state(recorder: Mapping[str, Any], evaluator: Any) -> None:
    """Raise unless what is used in the next generation only is what it should be."""
    numbers = [] if evaluator is None else [evaluator["generation"]]
    if not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
        raise RunFileError("its evaluator is at no generation")
    names = ("spent", "between", "active_below", "active_share", "front_steps")
    amounts = [evaluator.get(n) or 0 for n in names] if evaluator else []
    if not all(type(n) in (int, float) and 0 <= n < 2**63 for n in amounts):
        raise RunFileError("what its evaluator has spent is not a number")
    worst = [] if evaluator is None else evaluator.get("worst", [])
    if not isinstance(worst, list) or not all(
        type(x) in (int, float) and math.isfinite(x) for x in worst
    ):
        raise RunFileError("its worst values are not numbers")
    reference, stopped = recorder["reference"], recorder["stopped"]
    if reference is not None and not (
        isinstance(reference, list) and all(type(x) in (int, float) for x in reference)
    ):
        raise RunFileError("its reference point is not a point")
    if not (stopped is None or isinstance(stopped, str)):
        raise RunFileError("the reason to stop is not text")

"""Repair: a decorator for operators that keeps density within a range."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from nets_deap import _checks
from nets_deap.evolution.operators._common import (
    generator,
    kept_by_bits,
    marked,
    saliency,
    settle,
    spans_of,
    spare,
    write,
)
from nets_deap.tickets import bits
from nets_deap.tickets.choice import Rng
from nets_deap.tickets.choice_of_units import choose_of, smallest_of, together, weights_in
from nets_deap.tickets.ticket import Ticket

Operator = Callable[..., tuple[Any, ...]]


@_checks.signed
def keep_density(
    low: float, high: float = 1.0, *, rng: Rng | None = None
) -> Callable[[Operator], Operator]:
    """Return a decorator that brings children back to a density in [low, high].

    Use it as ``toolbox.decorate("mutate", keep_density(0.01, 0.5))``. Too dense children lose their
    weights of smallest ``|w|``, of the trained weights when they have them, else of W0 (random ones
    where neither is known), but never a layer's last one; too sparse ones regrow random ones.
    Structured tickets lose or regrow as many whole units as that takes. In place; returns what the
    operator returns; fitness untouched.

    Args:
        low: Least density, in (0, 1].
        high: Greatest density, in [low, 1].
        rng: NumPy generator; None for one seeded from ``random`` at each call.
    """
    _checks.interval("(low, high)", (low, high), _checks.density)

    return functools.partial(_Repaired, low, high, rng)


class _Repaired:
    """An operator whose children are brought into a range; can go to other processes."""

    def __init__(self, low: float, high: float, rng: Rng | None, operator: Operator) -> None:
        functools.update_wrapper(self, operator)
        self._range, self._rng, self._operator = (low, high), rng, operator

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        children = self._operator(*args, **kwargs)
        for child in children:
            if isinstance(child, Ticket):
                _repair(child, *self._range, self._rng)
        return children


def _repair(child: Ticket, low: float, high: float, rng: Rng | None) -> None:
    """Bring one ticket into the range with as few changes as possible."""
    settle(child)
    size, kept = child.n_weights, child.kept
    least, most = max(1, int(np.ceil(low * size - 1e-9))), max(1, int(np.floor(high * size + 1e-9)))
    if least <= kept <= most:
        return
    source, mask = generator(rng), child.gates
    if kept < least:
        free = together(child.units, ~mask, source, mask)
        mask |= choose_of(child.units, free, least - kept, source, at_least=True)
    else:
        ones = bits.Ones(mask)
        places, scores = ones.places, saliency(child, ones)
        if scores is None:
            scores = source.random(int(np.count_nonzero(mask)))
        scores = scores.astype(np.result_type(scores, np.float32), copy=False)
        # The best weight of each layer is spared, or as many units as its floor has, so that no
        # layer needs mending above the range.
        spans = spans_of(child)
        floors = [1] * len(spans) if child.units is None else child.units.least_units.tolist()
        spare(scores, spans, floors)
        spared = sum(span.start < span.stop for span in spans)
        if child.units is not None:
            spared = weights_in(child.units, marked(len(child), places, scores == np.inf))
        n = min(kept - most, kept_by_bits(child) - spared)
        mask ^= marked(
            len(child), places, smallest_of(child.units, places, scores, n, at_least=True)
        )
    write(child, mask, source, allow_empty_layers=True)

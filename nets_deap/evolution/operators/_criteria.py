"""By what weights are pruned and regrown: saliency, gradient, or chance."""

from __future__ import annotations

import numpy as np

from nets_deap import _checks
from nets_deap.errors import NetsError
from nets_deap.evolution.operators._common import layers_of, marked, saliency, spans_of, weighted
from nets_deap.tickets import bits
from nets_deap.tickets.choice import Rng, lognormal
from nets_deap.tickets.choice_of_units import choose_of, smallest_of
from nets_deap.tickets.layout import Layer
from nets_deap.tickets.ticket import Ticket

CRITERIA = ("magnitude", "gradient", "random")
GROWTH = ("random", "gradient")


def least(
    individual: Ticket,
    mask: bits.Mask,
    k: int,
    by: str,
    rng: Rng,
    *,
    noise: float = 0.0,
    within: Layer | None = None,
) -> bits.Mask:
    """Mark ``k`` weights of the ticket's bits ``mask``: of least saliency, or random ones."""
    check_by(individual, by)
    if by == "random":
        if within is not None:
            mask = mask.copy()
            mask[: within.start] = mask[within.stop :] = False
        return choose_of(individual.units, mask, k, rng)
    kept = bits.places(mask)
    scores = weighted(individual, saliency(individual, kept, by))
    assert scores is not None
    if noise:
        scores = scores * lognormal(noise, len(scores), rng)
    if within is not None:
        inside = spans_of(individual)[layers_of(individual).index(within)]
        scores = scores[inside]
        kept = kept[inside] if isinstance(kept, np.ndarray) else inside
    return marked(len(individual), kept, smallest_of(individual.units, kept, scores, k))


def to_regrow(individual: Ticket, free: bits.Mask, k: int, by: str, rng: Rng) -> bits.Mask:
    """Mark up to ``k`` pruned weights: those of largest gradient, or random ones."""
    inherited = individual.inherited
    if _checks.choice("by", by, GROWTH) == "random" or inherited is None:
        return choose_of(individual.units, free, k, rng)
    if inherited.candidates is None:
        raise _no_gradient("by", by)
    mask = np.zeros(len(individual), dtype=np.bool_)
    first = inherited.candidates[free[inherited.candidates]]
    units = individual.units
    if units is not None and units.unit_sizes is not None:
        order = np.arange(len(first), dtype=np.float64)
        mask[first[smallest_of(individual.units, first, order, k)]] = True
    else:
        mask[first[:k]] = True
    return mask


def check_by(individual: Ticket, by: str) -> None:
    """Raise unless the ticket has what the criterion ``by`` needs."""
    _checks.choice("by", by, CRITERIA)
    inherited = individual.inherited
    initial = individual.layout.initial if individual.has_layout else None
    if by != "random" and initial is None and inherited is None:
        raise _checks.bad_value(
            "by",
            "have weights to go by",
            "a ticket with trained or initial weights",
            "neither",
            "Give the ticket a layout with initial weights, or prune by='random'.",
        )
    if by == "gradient" and inherited is not None and inherited.gradients is None:
        raise _no_gradient("by", by)


def _no_gradient(argument: str, by: str) -> NetsError:
    """Return the message that a ticket has no gradient to go by."""
    return _checks.bad_value(
        argument,
        "have gradients to go by",
        "a ticket that an evaluator with gradients=True has trained",
        f"{by!r} for one without",
        "Make the toolbox with gradient=True, or go by magnitude.",
    )

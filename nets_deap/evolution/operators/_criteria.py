"""By what weights are pruned and regrown: saliency, gradient, or chance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.errors import NetsError
from nets_deap.evolution.operators._common import (
    Positions,
    layers_of,
    marked,
    saliency,
    spans_of,
    spare,
    weighted,
)
from nets_deap.names import BY_SIZE
from nets_deap.tickets import bits
from nets_deap.tickets.choice import Rng, Scores, lognormal
from nets_deap.tickets.choice_of_units import (
    choose_of,
    places_for,
    smallest_of,
    together,
    weights_in,
)
from nets_deap.tickets.layout import Layer
from nets_deap.tickets.relative import dearness, relative
from nets_deap.tickets.ticket import Ticket

# Multiply-adds of a weight, or of a neuron or filter, by the name of its layer.
Costs = Mapping[str, float]

CRITERIA = (*BY_SIZE, "gradient", "random")
OF_AVERAGES = (*BY_SIZE, "random")  # which have no gradients
GROWTH = ("random", "gradient", "memory")


def least(
    individual: Ticket,
    mask: bits.Mask,
    k: int,
    by: str,
    rng: Rng,
    *,
    noise: float = 0.0,
    within: Layer | None = None,
    costs: Costs | None = None,
    dear: bool = False,
) -> bits.Mask:
    """Mark ``k`` weights of the ticket's bits ``mask``: of least saliency, or random ones.

    With ``dear`` units that cost ``k`` multiply-adds together, by ``costs``.
    """
    check_by(individual, by)
    own = check_costs(individual, by, costs)
    if by == "random":
        if within is not None:
            mask = mask.copy()
            mask[: within.start] = mask[within.stop :] = False
        return choose_of(individual.units, mask, k, rng)
    kept = bits.Ones(mask)
    scores = worth(individual, kept, by, own)
    assert scores is not None
    sizes = spread_over(individual, own) if dear and own is not None else None
    if noise:
        scores = scores * lognormal(noise, len(scores), rng)
    inside = slice(None)
    if within is not None:
        inside = spans_of(individual)[layers_of(individual).index(within)]
    units, lost = individual.units, np.zeros(len(scores), dtype=np.bool_)
    lost[inside] = smallest_of(
        units, places_for(units, kept, inside), scores[inside], k, sizes=sizes
    )
    return kept.marked(lost)


def spread_over(individual: Ticket, costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the costs (L,) of layers at each of the ticket's bits, shape (G,)."""
    return np.repeat(costs, [layer.size for layer in layers_of(individual)])


def worth(
    individual: Ticket, kept: bits.Ones, by: str, costs: NDArray[np.float64] | None
) -> Scores | None:
    """Return what all kept weights are worth by a criterion, as ``saliency``, times their factors.

    Args:
        individual: The ticket.
        kept: Its bits that are set.
        by: Any criterion but ``"random"``.
        costs: Multiply-adds of a weight or unit of each layer (L,), for ``"cost"``; else None.
    """
    scores = saliency(individual, kept, by)
    if scores is not None and by in ("lamp", "cost"):
        scores = relative(scores, spans_of(individual), costs)
    scores, units = weighted(individual, scores), individual.units
    if scores is not None and units is not None and units.floor:
        scores = scores.astype(np.result_type(scores, np.float32), copy=False)
        spare(scores, spans_of(individual), units.least_units.tolist())
    return scores


def to_regrow(
    individual: Ticket,
    free: bits.Mask,
    k: int,
    by: str,
    rng: Rng,
    *,
    noise: float = 0.0,
    costs: Costs | None = None,
) -> bits.Mask:
    """Mark ``k`` of the pruned weights ``free``, as many as there are.

    Those of largest gradient or last known |w|, both with noise, then random ones. Where weights
    cost differently, the squares count over the costs, as they do where weights are pruned.
    """
    units, inherited = individual.units, individual.inherited
    if _checks.choice("by", by, GROWTH) == "random" or inherited is None:
        return choose_of(units, free, k, rng)
    places, scores = _promising(individual, free, by)
    if costs is not None:
        layers = layers_of(individual)
        ends = np.array([layer.stop for layer in layers])
        dear = np.sqrt(dearness(np.array([costs[layer.name] for layer in layers])))
        scores = scores / dear[np.searchsorted(ends, places, side="right")]
    if noise:
        scores = scores * lognormal(noise, len(scores), rng)
    mask = marked(len(individual), places, smallest_of(units, places, -scores, k))
    left = k - weights_in(units, mask)
    if left > 0 and len(places) == np.count_nonzero(mask):  # all that are known
        mask |= choose_of(units, free & ~mask, left, rng)
    return mask


def best_free(individual: Ticket, by: str, held: bits.Mask, rng: Rng) -> bits.Mask:
    """Mark the pruned bits that may be regrown beside those held, the most promising first.

    Only where bits share places, as two of four do, is that not simply all of them.
    """
    units, free = individual.units, ~individual.gates
    blind = by == "random" or individual.inherited is None
    if units is None or not units.grouped or blind:
        return together(units, free, rng, held)
    keys = rng.random(len(free))
    places, scores = _promising(individual, free, by)
    keys[places[np.argsort(scores, kind="stable")]] = 1 + np.arange(len(places))
    return units.fitting(free, keys, held)


def _promising(individual: Ticket, free: bits.Mask, by: str) -> tuple[Positions, Scores]:
    """Return which pruned bits are known to be worth something, and how much."""
    inherited = individual.inherited
    assert inherited is not None
    if by == "memory":
        if inherited.pruned is None:
            raise _unknown(by, "a memory", "an evaluator with memory=True")
        places, scores = inherited.last_known(individual.gates, individual.units)
    else:
        if inherited.candidates is None:
            raise no_gradient(by)
        places, known = inherited.candidates, inherited.scores
        # Of earlier versions the order is all there is.
        scores = 1 / np.arange(1.0, len(places) + 1) if known is None else known
    inside = free[places]
    return places[inside], scores[inside]


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
        raise no_gradient(by)


def check_costs(individual: Ticket, by: str, costs: Costs | None) -> NDArray[np.float64] | None:
    """Return what a weight of each layer costs (L,); raise unless just ``by="cost"`` has them."""
    names = [layer.name for layer in layers_of(individual)]
    if by != "cost" and costs is not None:
        raise _checks.bad_value("costs", "come with by='cost'", "None", f"them with by={by!r}")
    if by != "cost":
        return None
    if not isinstance(costs, Mapping) or not {*names} <= {*costs}:
        raise _checks.bad_value(
            "costs",
            "say what a weight of each layer costs, for by='cost'",
            f"multiply-adds by name, of {names}",
            costs,
            "Give costs=task.weight_costs.",
        )
    return np.array([_checks.real("costs", costs[n], low=0, open_low=True) for n in names])


def no_gradient(by: str) -> NetsError:
    """Return the message that a ticket has no gradient to go by."""
    return _unknown(
        by, "gradients", "an evaluator with gradients=True", "Make the toolbox with gradient=True"
    )


def _unknown(by: str, what: str, source: str, remedy: str = "") -> NetsError:
    """Return the message that a ticket lacks what a criterion goes by."""
    return _checks.bad_value(
        "by",
        f"have {what} to go by",
        f"a ticket that {source} has trained",
        f"{by!r} for one without",
        f"{remedy or f'Evaluate with {source}'}, or go by magnitude or at random.",
    )

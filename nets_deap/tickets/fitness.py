"""Fitness classes made from objectives: DEAP's ``base.Fitness`` with the objectives' names."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from deap import base


class TicketFitness(base.Fitness):  # type: ignore[misc]
    """A DEAP fitness that knows the name and the hypervolume reference of each objective.

    With a value that is not finite it is worse than any other fitness that has none, in all
    objectives: in DEAP's own selections and halls of fame, too. They compare with ``<`` and
    ``dominates``, for which NaN has no place in an order.

    Get a usable class from ``fitness_class``; its instances pickle without a global name.
    """

    weights: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    reference: tuple[float, ...] = ()

    def setValues(self, values: Any) -> None:
        """Take values as plain numbers, whatever holds each one: a tensor, say."""
        if hasattr(values, "__iter__"):
            values = tuple(map(plain_number, values))
        super().setValues(values)

    values = property(base.Fitness.getValues, setValues, base.Fitness.delValues)

    def __le__(self, other: Any) -> bool:
        return _ordered(self) <= _ordered(other)

    def __lt__(self, other: Any) -> bool:
        return _ordered(self) < _ordered(other)

    def dominates(self, other: Any, obj: slice = slice(None)) -> bool:
        """Return whether it is nowhere worse than another one, and somewhere better.

        Args:
            other: Of the same objectives.
            obj: Which objectives count.
        """
        pairs = list(zip(_ordered(self)[obj], _ordered(other)[obj], strict=True))
        return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)

    def __reduce__(self) -> Any:
        state = {k: v for k, v in self.__dict__.items() if k != "wvalues"}
        return _restore, (self.names, self.weights, self.reference, self.wvalues, state)


def plain_number(value: Any) -> Any:
    """Return the number that a scalar, an array or a tensor of one element holds; else itself."""
    return value.item() if hasattr(value, "item") else value


def _ordered(fitness: Any) -> tuple[float, ...]:
    """Return what DEAP compares of a fitness, all as bad as can be where a value is not finite."""
    values: tuple[float, ...] = fitness.wvalues
    return values if all(map(math.isfinite, values)) else (-math.inf,) * len(values)


@cache
def fitness_class(
    names: tuple[str, ...], weights: tuple[float, ...], reference: tuple[float, ...] = ()
) -> type[TicketFitness]:
    """Return the fitness class of M objectives; the same arguments give the same class.

    Args:
        names: M names, as they appear in logs and files.
        weights: M DEAP weights: -1.0 minimises, 1.0 maximises.
        reference: M reference values for the hypervolume, or empty where none is fixed yet.
    """
    body = {"names": names, "weights": weights, "reference": reference, "__module__": __name__}
    return type("TicketFitness", (TicketFitness,), body)


def _restore(
    names: tuple[str, ...],
    weights: tuple[float, ...],
    reference: tuple[float, ...],
    wvalues: tuple[float, ...],
    state: dict[str, Any],
) -> TicketFitness:
    """Rebuild a fitness from its pickle."""
    fitness = fitness_class(names, weights, reference)()
    fitness.__dict__.update(state)
    fitness.wvalues = wvalues
    return fitness

"""Fitness classes made from objectives: DEAP's ``base.Fitness`` with the objectives' names."""

from __future__ import annotations

from functools import cache
from typing import Any

from deap import base


class TicketFitness(base.Fitness):  # type: ignore[misc]
    """A DEAP fitness that knows the name and the hypervolume reference of each objective.

    Get a usable class from ``fitness_class``; its instances pickle without a global name.
    """

    weights: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    reference: tuple[float, ...] = ()

    def __reduce__(self) -> Any:
        state = {k: v for k, v in self.__dict__.items() if k != "wvalues"}
        return _restore, (self.names, self.weights, self.reference, self.wvalues, state)


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

"""``knee``, ``best`` and ``hypervolume`` of whatever holds a front: what users call them with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from deap import tools
from numpy.typing import ArrayLike

from nets_deap import _checks
from nets_deap.evolution import fronts
from nets_deap.runs.storage.reader import RunReader
from nets_deap.tickets.fitness import fitness_class
from nets_deap.tickets.ticket import Ticket

_EXPECTED = (
    "evaluated tickets: a front or population, what nets.search returned, a recorder, a run "
    "folder, or results of training"
)
_EVALUATE = (
    "Tickets of a baseline have none: train them, and give what baseline.train(task, steps=...) or "
    "task.train_all(tickets) returned."
)
_OF_RESULTS = fitness_class(("val_loss", "density"), (-1.0, -1.0))


class TrainedMember:
    """What stands for a result of training in a front: its validation loss and its density.

    Args:
        result: A ``TrainResult``.
    """

    def __init__(self, result: Any) -> None:
        self.result, self.density = result, float(result.density)
        self.fitness = _OF_RESULTS((result.val_loss, result.density))
        self.digest = f"{id(result):x}"


def members_of(given: Any, name: str = "front") -> list[Any]:
    """Return the individuals with a fitness that something holds; none where it is empty.

    Args:
        given: A front or another list of individuals, a search's result, a recorder, a baseline, a
            run folder, or results of training, each then as a ``TrainedMember``; or a list of
            these.
        name: What it is called in errors.

    Raises:
        InvalidTypeError: It is nothing of these.
        InvalidValueError: A ticket has not been evaluated.
    """
    members = _flat(given, name)
    for one in members:
        if not getattr(getattr(one, "fitness", None), "wvalues", ()):
            raise _checks.bad_value(
                name, "be evaluated", "tickets with a fitness", _shown(one), _EVALUATE
            )
    return members


def _flat(given: Any, name: str) -> list[Any]:
    """Return the individuals that something holds, evaluated or not."""
    if isinstance(given, (str, Path)):
        reader = RunReader(given)
        reader.facts()  # raises where it is not a run folder
        reader.warn_unsettled()
        return list(reader.tickets())
    if hasattr(given, "fitness"):
        return [given]
    if hasattr(given, "val_loss") and hasattr(given, "density"):
        return [TrainedMember(given)]
    for held in ("front", "tickets"):
        inside = getattr(given, held, None)
        if isinstance(inside, Iterable):
            return list(inside)
    if isinstance(given, (bool, int, float, dict, np.ndarray)) or not isinstance(given, Iterable):
        raise _checks.bad_type(name, "hold a front", _EXPECTED, given)
    return [one for part in given for one in _flat(part, name)]


@_checks.signed
def knee(front: Any) -> Any:
    """Return the member of a front that lies farthest from the line between its ends.

    Objectives are scaled to [0, 1] over the front; with three and more, the member nearest to the
    ideal point is returned. Members with values that are not finite do not count.

    Args:
        front: Evaluated tickets, a search's result, a recorder or a run folder; or results of
            training, by validation loss and density.

    Raises:
        InvalidValueError: The front is empty, not evaluated, or has no member with finite values.
        InvalidTypeError: It is none.
    """
    return _result(fronts.knee(members_of(front)))


@_checks.signed
def best(front: Any, *, max_density: float | None = None, objective: int | str = 0) -> Any:
    """Return the member that is best in one objective among those sparse enough.

    Members with values that are not finite do not count.

    Args:
        front: As for ``knee``.
        max_density: Only members of at most this density, in (0, 1]; None for all.
        objective: The position of the objective, or its name.

    Raises:
        InvalidValueError: The front is empty, not evaluated, or has no member that sparse with
            finite values.
        InvalidTypeError: It is none.
    """
    members = members_of(front)
    return _result(fronts.best(members, max_density=max_density, objective=objective))


@_checks.signed
def hypervolume(costs: Any, reference: ArrayLike | None = None) -> float:
    """Return the volume that points dominate up to a reference point.

    Args:
        costs: Shape (F, M), all minimised: points that are not better than the reference in all M
            count nothing, so infinitely bad ones do not either. Or a front, as for ``knee``.
        reference: Shape (M,): of points, in their units; of a front, in those of its objectives,
            whatever their directions, and None for the objectives' own.

    Returns:
        The volume; 0.0 for no points, infinite where a point that counts is infinitely good.

    Raises:
        InvalidValueError: The shapes do not match, a number is NaN, or there is no reference.

    >>> hypervolume([[1.0, 3.0], [2.0, 1.0]], reference=[4.0, 4.0])
    7.0
    """
    if not _holds_individuals(costs):
        if reference is None:
            raise _checks.bad_value("reference", "come with points", "shape (M,)", None)
        return fronts.hypervolume(costs, reference)
    members = members_of(costs, "costs")
    if not members:
        return 0.0
    weights = np.asarray(members[0].fitness.weights, dtype=np.float64)
    own = getattr(members[0].fitness, "reference", ())
    if reference is None and not own:
        raise _checks.bad_value(
            "reference", "be given", f"{len(weights)} values, one an objective", None
        )
    point = np.asarray(own if reference is None else reference, dtype=np.float64)
    _checks.shape("reference", point.shape, weights.shape, "(M,)")
    return fronts.hypervolume(fronts.costs_of(members), -weights * point)


def _holds_individuals(given: Any) -> bool:
    """Whether something is a front rather than points."""
    if isinstance(given, (str, Path)) or hasattr(given, "front") or hasattr(given, "tickets"):
        return True
    listed = isinstance(given, Sequence) and len(given) > 0 and hasattr(given[0], "fitness")
    return listed or isinstance(given, tools.HallOfFame)


def _result(member: Any) -> Any:
    """Return what a member of a front stands for."""
    return member.result if isinstance(member, TrainedMember) else member


def _shown(individual: Any) -> str:
    """Return what an error shows of an individual."""
    kind = type(individual).__name__
    return f"a {kind} without" if isinstance(individual, Ticket) else kind

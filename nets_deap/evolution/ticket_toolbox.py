"""``TicketToolbox``: a DEAP toolbox that knows its evaluator, whatever is registered in it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from deap import base

from nets_deap.evolution.any_map import AnyMap
from nets_deap.evolution.batch_map import batch_map, evaluator_in, unwrap
from nets_deap.evolution.evaluator import Evaluator
from nets_deap.evolution.ray_map import RayMap
from nets_deap.tickets.ticket import Ticket

Function = Callable[..., Any]


class TicketToolbox(base.Toolbox):  # type: ignore[misc]
    """A ``deap.base.Toolbox`` in which anything may be registered, and tickets still count right.

    What is registered under these names is called as it is, and more is done:

    - ``map``: a call over ``evaluate`` is one generation, and what other processes have learnt
      and spent comes home; see ``AnyMap``.
    - ``select``: tickets evaluated one by one belong to the next generation from here on; with
      ``reevaluate`` those who survive are evaluated again with it.
    - ``population``: evaluated by itself, what it returns begins a new run at generation 0;
      tickets without a fitness get one.
    - ``generate``: registering it begins a new run; tickets without a fitness get one.

    Args:
        evaluator: Registered as ``evaluate``.
        reevaluate: Whether survivors are evaluated again.
    """

    def __init__(self, evaluator: Evaluator, *, reevaluate: bool = False) -> None:
        self._made_with, self._reevaluate = evaluator, reevaluate
        super().__init__()
        self.register("evaluate", evaluator)

    def register(self, alias: str, function: Function, *args: Any, **kargs: Any) -> None:
        """Register a function as DEAP does; see above for what some names mean."""
        super().register(alias, self._watched(alias, function), *args, **kargs)
        if alias == "generate":
            self._evaluator().generations.note_population()

    def __setattr__(self, alias: str, function: Any) -> None:
        if alias in _WATCHED and not isinstance(unwrap(function), (*_KINDS, RayMap)):
            function = functools.partial(self._watched(alias, function))
        super().__setattr__(alias, function)

    def _watched(self, alias: str, function: Function) -> Function:
        """Return what to register for a function."""
        inner = unwrap(function)
        if alias not in _WATCHED or isinstance(inner, (*_KINDS, RayMap)) or inner is batch_map:
            return function
        return AnyMap(function) if alias == "map" else _WATCHED[alias](function, self)

    def _evaluator(self) -> Evaluator:
        """Return the evaluator in ``evaluate``, or the one it was made with."""
        found = evaluator_in(getattr(self, "evaluate", None))
        return found if isinstance(found, Evaluator) else self._made_with


class _Watched:
    """A function of a toolbox, and what else its calls mean to the evaluator."""

    def __init__(self, function: Function, toolbox: TicketToolbox) -> None:
        functools.update_wrapper(self, function, updated=())  # type: ignore[arg-type]
        self.function, self.toolbox = function, toolbox

    def _evaluator(self) -> Evaluator:
        return self.toolbox._evaluator()

    def _with_fitness(self, drawn: Any) -> Any:
        """Give tickets without a fitness one of the evaluator's objectives; return all."""
        for one in drawn if isinstance(drawn, list | tuple) else ():
            if isinstance(one, Ticket) and one.fitness is None:
                one.fitness = self._evaluator().fitness()
        return drawn


class _Select(_Watched):
    """Selection: with it a generation ends."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        evaluator = self._evaluator()
        evaluator.end_generation()
        survivors = self.function(*args, **kwargs)
        evaluator.residents = list(survivors)
        if self.toolbox._reevaluate:
            evaluator.again = list({id(ticket): ticket for ticket in survivors}.values())
        return survivors


class _Population(_Watched):
    """The drawing of a population: with it a run may begin."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        drawn = self._with_fitness(self.function(*args, **kwargs))
        self._evaluator().generations.note_population()
        self._evaluator().residents = list(drawn)
        return drawn


class _Generate(_Watched):
    """Generation after generation: populations that it draws begin no run."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        evaluator = self._evaluator()
        with evaluator.generations.same_run():
            return self._with_fitness(self.function(*args, **kwargs))


_WATCHED: dict[str, Callable[..., Any]] = {
    "map": AnyMap,
    "select": _Select,
    "population": _Population,
    "generate": _Generate,
}
_KINDS = (AnyMap, _Watched)

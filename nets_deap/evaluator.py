"""``Evaluator``: the batched ``evaluate`` of a toolbox, and the ``map`` that makes it batched."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import Any

from nets_deap import _checks
from nets_deap.learnt import Learnt
from nets_deap.objectives import Measured, Objective, resolve, values_of, worst_values
from nets_deap.task import Task
from nets_deap.ticket import Ticket
from nets_deap.training.problem import Plan

logger = logging.getLogger("nets_deap")

Values = tuple[float, ...]
Genes = tuple[str, int, bytes]


class _Request(BaseException):
    """Raised by the evaluator under ``batch_map`` to say what it would train."""

    def __init__(self, evaluator: Evaluator, ticket: Ticket) -> None:
        self.evaluator, self.ticket = evaluator, ticket


_answers: ContextVar[list[Values] | None] = ContextVar("nets_deap_answers", default=None)


class Evaluator:
    """Trains tickets and returns their objectives; register it as a toolbox's ``evaluate``.

    With ``batch_map`` as the toolbox's ``map``, each generation trains as one batch, also through
    decorators such as ``tools.DeltaPenalty``. A single call trains a batch of one.

    All tickets of a generation see the same minibatches; the next generation sees others. Equal
    masks in one batch are trained once.

    Args:
        task: What to train on.
        objectives: Names or ``Objective``s, M of them.

    Returns (when called with a ticket):
        M plain floats. A network that diverged (any number not finite) gets the worst value of
        every objective and is counted in ``task.ledger.diverged``.
    """

    __slots__ = ("generation", "objectives", "task")

    def __init__(self, task: Task, objectives: str | Objective | Sequence[str | Objective]) -> None:
        if not isinstance(task, Task):
            raise _checks.bad_type("task", "be a task", "a nets.Task", task)
        self.task = task
        self.objectives = resolve(objectives)
        names = [objective.name for objective in self.objectives]
        if "val_accuracy" in names and task.recipe.loss == "mse":
            raise _checks.bad_value(
                "objectives", "be defined for the loss", "losses only under mse", names
            )
        self.generation = 0

    def __call__(self, ticket: Ticket) -> Values:
        """Train one ticket from W0 and return its objectives, M plain floats."""
        answers = _answers.get()
        if answers is None:
            return self._evaluate([ticket])[0]
        if answers:
            return answers.pop(0)
        raise _Request(self, ticket)

    def batch(self, tickets: Iterable[Ticket]) -> list[Values]:
        """Evaluate one generation as one batch; then go on to the next generation's minibatches.

        Returns:
            Values in the order of ``tickets``; empty for none.
        """
        tickets = list(tickets)
        for ticket in tickets:
            self._check_fitness(ticket)
        values = self._evaluate(tickets)
        self.generation += 1
        return values

    def _check_fitness(self, ticket: Ticket) -> None:
        """Raise if a ticket's fitness has other directions than the objectives."""
        weights = getattr(getattr(ticket, "fitness", None), "weights", None)
        wanted = [objective.weight for objective in self.objectives]
        if weights and [w > 0 for w in weights] != [w > 0 for w in wanted]:
            names = [objective.name for objective in self.objectives]
            raise _checks.bad_value(
                "fitness.weights",
                "have the signs of the objectives",
                f"{wanted} for {names}",
                weights,
            )

    def _evaluate(self, tickets: list[Ticket]) -> list[Values]:
        """Train each distinct mask once, with this generation's minibatches."""
        if not tickets:
            return []
        for ticket in tickets:
            if not isinstance(ticket, Ticket):
                raise _checks.bad_type("individual", "be a ticket", "a nets.Ticket", ticket)
        places: dict[Genes, list[Ticket]] = {}
        for ticket in tickets:
            places.setdefault(_genes(ticket), []).append(ticket)
        curve = any(objective.needs_curve for objective in self.objectives)
        plan = Plan(
            steps=self.task.steps,
            seed=self.task.derived_seed(self.generation),
            curve_points=self.task.recipe.val_points if curve else 0,
        )
        outcome = self.task.run([twins[0] for twins in places.values()], plan)
        found: dict[Genes, Values] = {}
        diverged = 0
        for i, (genes, twins) in enumerate(places.items()):
            metrics = {
                name: float(outcome.metrics[name][i])
                for name in ("train_loss", "val_loss", "val_accuracy")
            }
            measured = Measured(
                twins[0], metrics, plan.steps, outcome.curve_steps, outcome.curve[i]
            )
            values = values_of(self.objectives, measured)
            if values is None:
                diverged += 1
                found[genes] = worst_values(self.objectives)
                for twin in twins:
                    twin.learnt = None
                continue
            found[genes] = values
            for twin in twins:
                twin.learnt = Learnt(twin.digest, plan.steps, outcome.values[i], metrics)
        if diverged:
            self.task.ledger.diverged += diverged
            logger.warning(
                "%d of %d networks diverged and got the worst values", diverged, len(places)
            )
        return [found[_genes(ticket)] for ticket in tickets]


def batch_map(function: Callable[..., Any], *iterables: Iterable[Any]) -> list[Any]:
    """Map as ``builtins.map`` does, but evaluate all tickets as one batch; a toolbox's ``map``.

    A registered ``Evaluator`` gets the whole list. A function that calls one inside (a decorated
    ``evaluate``) runs up to each of its evaluations, all those are trained as one batch, and it
    runs again with the results; so it should have no side effects before it evaluates. Anything
    else is simply called for each element.

    Returns:
        A list as long as the shortest iterable; empty for no elements.
    """
    inner = unwrap(function)
    if isinstance(inner, Evaluator):
        if len(iterables) != 1 or (function is not inner and _extras(function)):
            raise _checks.bad_value(
                "evaluate", "take tickets only", "map(evaluate, tickets)", "further arguments"
            )
        return inner.batch(iterables[0])
    calls = list(zip(*iterables, strict=False))
    results: list[Any] = [None] * len(calls)
    answers: list[list[Values]] = [[] for _ in calls]
    waiting = list(range(len(calls)))
    while waiting:
        requests: list[tuple[int, _Request]] = []
        for i in waiting:
            token = _answers.set(list(answers[i]))
            try:
                results[i] = function(*calls[i])
            except _Request as request:
                requests.append((i, request))
            finally:
                _answers.reset(token)
        for evaluator in {id(r.evaluator): r.evaluator for _, r in requests}.values():
            mine = [(i, r.ticket) for i, r in requests if r.evaluator is evaluator]
            for (i, _), values in zip(mine, evaluator._evaluate([t for _, t in mine]), strict=True):
                answers[i].append(values)
        waiting = [i for i, _ in requests]
        for evaluator in {id(r.evaluator): r.evaluator for _, r in requests}.values():
            evaluator.generation += 1
    return results


def unwrap(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what was registered, from inside any number of partials."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _genes(ticket: Ticket) -> Genes:
    """Return what makes two tickets the same network: layout, size and bits."""
    return ticket._layout_key, len(ticket), ticket.packed.tobytes()


def _extras(function: Callable[..., Any]) -> bool:
    """Tell whether any of the partials around a function holds arguments."""
    while isinstance(function, functools.partial):
        if function.args or function.keywords:
            return True
        function = function.func
    return False

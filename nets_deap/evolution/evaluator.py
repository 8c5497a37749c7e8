"""``Evaluator``: the batched ``evaluate`` of a toolbox."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.evolution.batch_map import Batched, Values
from nets_deap.evolution.budget import StepBudget
from nets_deap.evolution.measured import Measured
from nets_deap.evolution.objectives import Objective, resolve, values_of, worst_values
from nets_deap.models.modes import neutral
from nets_deap.tickets import bits
from nets_deap.tickets.ticket import Ticket
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.gradients import dense_gradient
from nets_deap.training.problem import Outcome, Plan, Start
from nets_deap.training.recipe import name_of
from nets_deap.training.task import Task, check_task

logger = logging.getLogger("nets_deap")

Genes = tuple[Any, ...]

_latest: weakref.WeakKeyDictionary[Task, weakref.ref[Evaluator]] = weakref.WeakKeyDictionary()
INHERIT = ("none", "weights")
GRADIENT_BATCHES = 10


@_checks.signed
class Evaluator(Batched):
    """Trains tickets and returns their objectives; register it as a toolbox's ``evaluate``.

    With ``batch_map`` as the toolbox's ``map``, each generation trains as one batch, also through
    decorators such as ``tools.DeltaPenalty``. A single call trains a batch of one.

    All tickets of a generation see the same minibatches; the next generation sees others. Equal
    tickets in one batch are trained once.

    Args:
        task: What to train on.
        objectives: M names, or each a ``nets.Objective``.
        inherit: ``"none"``: every ticket trains from W0 (Baldwinian); ``"weights"``: from the
            trained values of its parent's kept weights, regrown ones from 0 (Lamarckian).
        budget: Shares steps x networks out over the generations; None trains the recipe's steps.
        gradients: Also measure the gradient after training, over 10 minibatches, which count as 10
            steps; operators with ``by="gradient"`` need it.

    Returns (when called with a ticket):
        M plain floats. A network that diverged (any number not finite) gets the worst value of
        every objective and is counted in ``task.ledger.diverged``.
    """

    __slots__ = ("__weakref__", "again", "budget", "gradients", "inherit", "objectives", "task")

    def __init__(
        self,
        task: Task,
        objectives: str | Objective | Sequence[str | Objective],
        *,
        inherit: str = "none",
        budget: StepBudget | None = None,
        gradients: bool = False,
    ) -> None:
        check_task("task", task)
        self.task = task
        self.objectives = resolve(objectives)
        self.inherit = _checks.choice("inherit", inherit, INHERIT)
        self.budget, self.gradients = budget, gradients
        if any(o.needs_accuracy for o in self.objectives) and not task.has_accuracy:
            raise _checks.bad_value(
                "objectives",
                "be defined for the loss",
                f"losses only under {name_of(task.recipe.loss)}",
                [objective.name for objective in self.objectives],
            )
        self.restart()

    def restart(self) -> None:
        """Begin at generation 0 again, with the budget unspent."""
        _latest[self.task] = weakref.ref(self)
        self.generation = 0
        self.again: list[Ticket] = []
        if self.budget is not None:
            self.budget.spent = 0

    def batch(self, tickets: Iterable[Ticket]) -> list[Values]:
        """Evaluate one generation as one batch; then go on to the next generation's minibatches.

        Tickets in ``again`` are evaluated with them, on the same minibatches, and get the mean of
        all their evaluations as fitness, or where weights are inherited the last one.

        Returns:
            Values in the order of ``tickets``; empty for none.
        """
        tickets = list(tickets)
        for ticket in tickets:
            self._check_fitness(ticket)
        values = self._with_survivors(tickets)
        self.generation += 1
        return values

    def _with_survivors(self, tickets: list[Ticket]) -> list[Values]:
        """Evaluate tickets, and with them those that are waiting to be evaluated again."""
        _latest[self.task] = weakref.ref(self)
        again, self.again = self.again if tickets else [], []
        values = self._evaluate([*tickets, *again])
        for ticket in tickets:
            ticket.note_evaluations(1)
        for ticket, fresh in zip(again, values[len(tickets) :], strict=True):
            self._renew(ticket, fresh)
        return values[: len(tickets)]

    def _renew(self, ticket: Ticket, fresh: Values) -> None:
        """Give a ticket that has been evaluated again its new fitness."""
        n = ticket.evaluations
        old = ticket.fitness.values
        worst = worst_values(self.objectives)
        if self.inherit == "none" and fresh != worst and old != worst:
            fresh = tuple((n * then + now) / (n + 1) for then, now in zip(old, fresh, strict=True))
        ticket.fitness.values = fresh
        ticket.note_evaluations(n + 1)

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
        """Train each distinct network once, with this generation's minibatches."""
        if not tickets:
            return []
        for ticket in tickets:
            if not isinstance(ticket, Ticket):
                raise _checks.bad_type("individual", "be a ticket", "a nets.Ticket", ticket)
        keys = [self._genes(ticket) for ticket in tickets]
        places: dict[Genes, list[Ticket]] = {}
        for key, ticket in zip(keys, tickets, strict=True):
            places.setdefault(key, []).append(ticket)
        trained = self._train([twins[0] for twins in places.values()])
        found: dict[Genes, Values] = {}
        diverged = 0
        for (key, twins), (measured, state) in zip(places.items(), trained, strict=True):
            with neutral(self.task.device, self.task.problem.dtype):  # the user's functions, too
                values = values_of(self.objectives, measured)
            if values is None:
                diverged += 1
            found[key] = worst_values(self.objectives) if values is None else values
            for twin in twins:
                twin.note_training(None if values is None else state)
        if diverged:
            self.task.ledger.diverged += diverged
            logger.warning(
                "%d of %d networks diverged and got the worst values", diverged, len(places)
            )
        return [found[key] for key in keys]

    def _train(self, tickets: list[Ticket]) -> list[tuple[Measured, TrainedState]]:
        """Train tickets that are all different; return what was measured, and the weights."""
        steps = [self.task.steps] * len(tickets)
        if self.budget is not None:
            cost = GRADIENT_BATCHES if self.gradients else 0
            shares = self.budget.allocate(len(tickets), self.generation, least=1 + cost)
            steps = [share - cost for share in shares]
        found: dict[int, tuple[Measured, TrainedState]] = {}
        for length in sorted(set(steps)):
            places = [i for i, own in enumerate(steps) if own == length]
            some = [tickets[i] for i in places]
            plan = Plan(
                steps=length,
                seed=self.task.derived_seed(self.generation),
                curve_points=self.task.recipe.val_points
                if any(objective.needs_curve for objective in self.objectives)
                else 0,
                keep_states=any(objective.needs_state for objective in self.objectives),
            )
            starts = [self._start(ticket) for ticket in some]
            outcome = self.task.run(some, plan, starts=starts)
            for place, ticket, part in zip(places, some, outcome.split(), strict=True):
                found[place] = self._read(ticket, part, plan)
        return [found[i] for i in range(len(tickets))]

    def _start(self, ticket: Ticket) -> Start:
        """Return where a ticket's training starts; None for W0."""
        before = ticket.inherited if self.inherit == "weights" else None
        return None if before is None else TrainedState(before.at(ticket.mask), before.unmasked)

    def _read(self, ticket: Ticket, part: Outcome, plan: Plan) -> tuple[Measured, TrainedState]:
        """Return what was measured of one trained ticket, and its weights."""
        names = ("train_loss", "val_loss", "val_accuracy")
        metrics = {name: float(part.metrics[name][0]) for name in names}
        measured = Measured(
            ticket,
            metrics,
            plan.steps,
            part.curve_steps,
            part.curve[0],
            task=self.task,
            state=(lambda: part.states[0]) if part.states else None,
        )
        (state,) = part.trained
        before = ticket.inherited if self.inherit == "weights" else None
        gradients, candidates = self._gradients(ticket, state) if self.gradients else (None, None)
        state = replace(
            state,
            packed=ticket.packed_mask.copy(),
            steps=plan.steps + (0 if before is None else before.steps),
            digest=ticket.digest,
            metrics=metrics,
            gradients=gradients,
            candidates=candidates,
        )
        return measured, state

    def _gradients(
        self, ticket: Ticket, state: TrainedState
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return |gradient| at the kept weights, and the pruned bits where it is largest."""
        batch = self.task.recipe.batch_size
        plan = Plan(GRADIENT_BATCHES, self.task.derived_seed(self.generation, 1))
        rows = plan.batches(self.task.problem.n_examples, batch).reshape(-1)
        units, gates = ticket.units, ticket.gates
        mask = gates if units is None else units.mask_of(gates)
        gradient = np.abs(dense_gradient(self.task.problem, mask, rows, state))
        self.task.ledger.network_steps += GRADIENT_BATCHES
        kept, free = gradient[mask], np.flatnonzero(~gates)
        if units is not None:  # what can be regrown are units
            gradient = units.root_mean_square(gradient)
        most = min(len(free), max(1, bits.count(ticket.packed) // 2))
        first = free[np.argpartition(-gradient[free], most - 1)[:most]] if most else free
        return kept, first[np.argsort(-gradient[first], kind="stable")]

    def _genes(self, ticket: Ticket) -> Genes:
        """Return what makes two tickets the same training: genes and inheritance."""
        return *ticket.network_key, id(ticket.inherited) if self.inherit == "weights" else 0


def evaluator_of(task: Task) -> Evaluator | None:
    """Return the evaluator that was made or trained last on a task, while it is in use."""
    known = _latest.get(task)
    return None if known is None else known()

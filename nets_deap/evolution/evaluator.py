"""``Evaluator``: the batched ``evaluate`` of a toolbox.

One file: it is one class, and a third of it says what its callers may rely on.
"""

from __future__ import annotations

import copy
import logging
import os
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from nets_deap import _checks
from nets_deap.errors import CallOrderError
from nets_deap.evolution.batch_map import Batched, Values, by_key, make_known
from nets_deap.evolution.budget import Budget
from nets_deap.evolution.carrying import Spent, carried_home
from nets_deap.evolution.coroutines import Calls
from nets_deap.evolution.generations import Generations
from nets_deap.evolution.hints import Gradients, gradients_of, memory_of
from nets_deap.evolution.measured import Measured
from nets_deap.evolution.objectives import Objective, resolve, values_of, worst_values
from nets_deap.evolution.rewinding import rewinds_at
from nets_deap.names import NEURON
from nets_deap.tickets import bits
from nets_deap.tickets.fitness import TicketFitness, fitness_class
from nets_deap.tickets.ticket import Ticket, check_individual
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.cost import gradient_share, ticket_share
from nets_deap.training.engines.dispatch import together_by
from nets_deap.training.folds import check_folds, folded
from nets_deap.training.problem import Fold, Outcome, Plan, Start, at_work
from nets_deap.training.recipe import name_of
from nets_deap.training.task import Task, Totals, check_task

logger = logging.getLogger("nets_deap")

Genes = tuple[Any, ...]

_latest: weakref.WeakKeyDictionary[Task, weakref.ref[Evaluator]] = weakref.WeakKeyDictionary()
INHERIT = ("none", "weights")
HOLDOUT = ("fixed", "folds")
# Of an evaluator, what no copy in another process has.
_AT_HOME = ("__weakref__", "again", "around", "overrun", "residents", "stations")
# Places in the random sequence beside those of generations.
AHEAD, FRONT = 2, 3
# Exponent of a network's training with the sparsity that it has beyond ``active_below``. At equal
# cost, equal multiply-adds (1) leave sparse lineages too few rounds, and equal steps (0) too short
# ones: on MNIST both ended worse at 0.2 %.
DEEPER = 0.4


@_checks.signed
class Evaluator(Batched):
    """Trains tickets and returns their objectives; register it as a toolbox's ``evaluate``.

    With ``batch_map`` as the toolbox's ``map``, each generation trains as one batch, also through
    decorators such as ``tools.DeltaPenalty``. A single call trains a batch of one.

    All tickets of a generation see the same minibatches; the next generation sees others. One call
    of ``batch_map``, of ``RayMap`` or of what ``nets.make_toolbox`` has as ``map`` is a generation.
    Tickets that are evaluated one by one without these belong to one generation until
    ``end_generation``, which that toolbox's ``select`` and ``nets.Recorder`` call; a loop with
    neither has to call it itself, and is warned. Equal tickets in one batch are trained once.

    A run begins at generation 0: with ``restart``, with ``nets.search``, and when the toolbox of
    ``nets.make_toolbox`` has drawn a population that is evaluated by itself; not where it is
    evaluated with tickets of the run, and not before the last generation of a ``budget``. A
    ``generate`` that is registered there anew begins one, too.

    In other processes tickets are evaluated through the ``map`` of ``nets.make_toolbox``, which
    brings home what was learnt and spent.

    Args:
        task: What to train on.
        objectives: M names, or each a ``nets.Objective``.
        inherit: ``"none"``: every ticket trains from W0 (Baldwinian); ``"weights"``: from the
            trained values of its parent's kept weights, regrown ones from 0 (Lamarckian).
        budget: What all networks may cost, shared out over the generations, each among all of its
            tickets at once; None trains the recipe's steps.
        holdout: ``"fixed"``: the task's validation part measures every generation. ``"folds"``: the
            validation part is drawn anew each generation, from training and validation data, and
            the rest trains; see ``training.folds``. The final ``task.train`` is as ever. Values of
            one generation compare; those of another fold do not, so survivors must be evaluated
            again (``again``), and their fitness is then what the newest fold gave. Not with
            inherited weights, whose ancestors have trained on the fold: that loss would reward
            what was learnt by heart.
        gradients: Also measure the gradient by all weights after training, over one minibatch,
            which counts as a step, and in multiply-adds as ``gradient_share``; operators that go by
            gradient need it.
        rewinds: How often lineages start from W0 again instead of from what they inherit: in the
            first generation, and then evenly over the run, ten generations apart at the least
            (thirty where nobody has said how long it is). A ticket is trained from W0 in the end;
            a lineage that only ever goes on from its weights comes to fit those instead. All
            tickets of such a generation start alike, so that they compare.
        memory: Also keep the last known ``|w|`` of weights that ancestors have lost, of four times
            as many as are kept at most, the largest; operators that grow by ``"memory"`` need it.

    Attributes:
        generations: Counts them.
        again: Tickets to evaluate with the next ones, for a new fitness.
        residents: The tickets that live now, among which mating finds neighbours; the toolbox of
            ``nets.make_toolbox`` and the recorder keep it.
        active_below: Density below which lineages go on, because pruning has begun to hurt there;
            None where no ``Descent`` has found one. Networks train for the recipe's steps there,
            the sparser the longer; denser ones for as many multiply-adds as those.
        active_share: The ``dense_share`` of the ticket of that density; None for the density.
        planned: Generations after the first population, where somebody has said how many.
        ahead: The totals of the task's ledger before and after what was trained for this run ahead
            of its first generation; None for nothing, or once a recorder has entered it.
        ahead_cost: What that cost, in the unit of the budget.
        ahead_seconds: How long it took, likewise.
        front_steps: Steps from W0 by which a front is measured, those of a round of the descent;
            None for the recipe's.
        overrun: Refers to what is called with the budget for a generation that it was not planned
            for, ahead of the error; None for nothing. A recorder ends the search there.
        stations: Of the descents there have been, by their first and last density.
        worst: What a diverged network gets from now on: the objectives' declared worst values, or
            worse ones where a network has done worse than that, so that it ranks below all others.

    Returns (when called with a ticket):
        M plain floats. A network that diverged (any number not finite) gets the worst value of
        every objective and is counted in ``task.ledger.diverged``.

    Raises:
        InvalidValueError: (when called) The ticket is of another layout, or its fitness has other
            directions or another number of values.
        CallOrderError: (when called) Something would be lost: a budget cannot be shared out, or
            what is learnt would stay in another process.
    """

    __slots__ = (
        "__weakref__",
        "_front_values",
        "_home",
        "active_below",
        "active_share",
        "again",
        "ahead",
        "ahead_cost",
        "ahead_seconds",
        "budget",
        "front_steps",
        "generations",
        "gradients",
        "holdout",
        "inherit",
        "memory",
        "objectives",
        "overrun",
        "planned",
        "residents",
        "rewinds",
        "stations",
        "task",
        "worst",
    )

    def __init__(
        self,
        task: Task,
        objectives: str | Objective | Sequence[str | Objective],
        *,
        inherit: str = "none",
        budget: Budget | None = None,
        gradients: bool = False,
        memory: bool = False,
        holdout: str = "fixed",
        rewinds: int = 0,
    ) -> None:
        check_task("task", task)
        self.task = task
        self.objectives = resolve(objectives)
        self.inherit = _checks.choice("inherit", inherit, INHERIT)
        self.budget, self.gradients, self.memory = budget, gradients, memory
        self.rewinds = _checks.whole("rewinds", rewinds, low=0)
        if rewinds and inherit == "none":
            raise _checks.bad_value(
                "rewinds",
                "be 0 where nothing is inherited",
                "inherit='weights', or no rewinds",
                f"{rewinds} with inherit='none'",
                "There every ticket trains from W0 in every generation.",
            )
        self.active_below: float | None = None
        self.active_share: float | None = None
        self.planned: int | None = None
        self.overrun: weakref.WeakMethod[Callable[[Budget], None]] | None = None
        self.ahead: tuple[Totals, Totals] | None = None
        self.ahead_cost = self.ahead_seconds = 0.0
        self.stations: dict[Any, list[Ticket]] = {}
        self.front_steps: int | None = None
        self._front_values: dict[Any, Values | None] = {}
        self.holdout = _checks.choice("holdout", holdout, HOLDOUT)
        if holdout == "folds":
            self._check_folds()
        if any(o.needs_accuracy for o in self.objectives) and not task.has_accuracy:
            raise _checks.bad_value(
                "objectives",
                "be defined for the loss",
                f"losses only under {name_of(task.recipe.loss)}",
                [objective.name for objective in self.objectives],
            )
        self.key, self.around = uuid.uuid4().hex, None
        self.restart()
        make_known(self)

    def __getstate__(self) -> dict[str, Any]:
        self.generations.sent = True
        return self._state()

    def _state(self) -> dict[str, Any]:
        """Return what a copy has, too."""
        names = ("key", *(name for name in self.__slots__ if name not in _AT_HOME))
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        # Who is to be evaluated again, or lives now, has stayed where it lives.
        self.again: list[Ticket] = []
        self.residents: list[Ticket] = []
        self.stations, self.around, self.overrun = {}, None, None
        make_known(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Evaluator:
        """Copy where it is; the task stays the same one, as it never changes."""
        new = self.__class__.__new__(self.__class__)
        memo[id(self)] = new
        own = {name: copy.deepcopy(getattr(self, name)) for name in ("budget", "generations")}
        new.__setstate__({**self._state(), **own, "key": uuid.uuid4().hex})
        new.again = copy.deepcopy(self.again, memo)
        new.residents = copy.deepcopy(self.residents, memo)
        new.stations = copy.deepcopy(self.stations, memo)
        return new

    def fitness(self) -> TicketFitness:
        """Return a fitness of the objectives, without values."""
        task, objectives = self.task, self.objectives
        dense = task.dense_ticket()
        return fitness_class(
            tuple(objective.name for objective in objectives),
            tuple(objective.weight for objective in objectives),
            tuple(o.reference_for(task.chance_loss, dense, task) for o in objectives),
        )()

    def _check_folds(self) -> None:
        """Raise where folds would not be held out, or cannot be made."""
        if self.inherit == "weights":
            raise _checks.bad_value(
                "holdout",
                "be 'fixed' where weights are inherited",
                "inherit='none' with holdout='folds'",
                "inherit='weights'",
                "Ancestors have trained on the examples of the fold in earlier generations, so "
                "that nothing would be held out. Keep a larger validation part instead.",
            )
        check_folds(self.task.problem)

    @property
    def fold(self) -> Fold | None:
        """What validates in the next evaluation; None for the task's own validation part."""
        return Fold(self.task.seed, self.generation) if self.holdout == "folds" else None

    # ---- which generation it is

    @property
    def generation(self) -> int:
        """The generation that the next evaluation belongs to."""
        return self.generations.now

    @generation.setter
    def generation(self, generation: int) -> None:
        self.generations = Generations(generation)

    def __repr__(self) -> str:
        names = tuple(objective.name for objective in self.objectives)
        return f"Evaluator({names}, inherit={self.inherit!r}, generation {self.generation})"

    def restart(self) -> None:
        """Begin at generation 0 again, with the budget unspent."""
        _note_latest(self)
        self._home = os.getpid()
        self.generation = 0
        self.again, self.residents = [], []
        self.worst: Values = worst_values(self.objectives, self.task.chance_loss)
        if self.budget is not None:
            self.budget.begin(self.ahead_cost)

    def end_generation(self) -> None:
        """Let the next ticket that is evaluated by itself belong to the next generation.

        Where none has been since the last generation ended, nothing happens: a batch ends its own.
        """
        self.generations.end()

    def close(self, generation: int) -> None:
        """Go on to the next generation, unless that one is over already."""
        self.generations.close(generation)

    def open(self, tickets: Sequence[Ticket]) -> None:
        """Take note of which tickets are evaluated next, perhaps one by one."""
        before = self.generations
        if before.begins_run(tickets):
            planned = None if self.budget is None else self.budget.generations
            if planned is not None and before.now <= planned:
                logger.warning(
                    "A new population goes on with generation %d of the %d that the budget is "
                    "planned for. To begin a new run, call restart() of the evaluator before.",
                    before.now,
                    planned,
                )
            else:
                self.restart()
                self.generations = Generations(0, after=before.now)
        self.generations.open(tickets)

    def _is_spent(self, generation: int) -> bool:
        """Return whether the budget ends before a generation."""
        assert self.budget is not None
        planned = self.budget.generations
        return self.budget.left <= 0 if planned is None else generation > planned

    # ---- evaluation

    def batch(self, tickets: Iterable[Ticket]) -> list[Values]:
        """Evaluate one generation as one batch; then go on to the next generation's minibatches.

        Tickets in ``again`` are evaluated with them, on the same minibatches, and get the mean of
        all their evaluations as fitness, or where weights are inherited or folds change the last.

        Returns:
            Values in the order of ``tickets``; empty for none.
        """
        self._home = os.getpid()  # tickets and evaluator are where the algorithm runs
        values = self.together(list(tickets))
        self.close(self.generation)
        return values

    def together(self, tickets: Sequence[Ticket]) -> list[Values]:
        """Evaluate tickets of a generation, and those that are waiting to be evaluated again."""
        with at_work(self.task.problem):  # calls from several threads take turns
            for ticket in tickets:
                self._check(ticket)
            self.open(tickets)
            _note_latest(self)
            if not tickets:
                return []
            values = self._with_again(tickets)
            self.generations.begun = True
            return values

    def _with_again(self, tickets: Sequence[Ticket]) -> list[Values]:
        """Evaluate tickets with those that are waiting to be evaluated again."""
        again, self.again = self.again, []
        before = [ticket.diverged for ticket in again]
        values = self._evaluate([*tickets, *again])
        for ticket in tickets:
            ticket.note_evaluations(1)
        self._renew(again, before, values[len(tickets) :])
        return values[: len(tickets)]

    def alone(self, ticket: Ticket) -> Values:
        """Evaluate a ticket of a generation by itself."""
        self._check(ticket)
        carried = carried_home(ticket)
        if os.getpid() != self._home:
            self._check_away(carried is not None)
        elif carried is None and self.generations.is_overdue(ticket) and "passes" not in _warned:
            _warned.add("passes")
            logger.warning(
                "Tickets, their children and grandchildren are evaluated one by one on the same "
                "minibatches, as one generation. Evaluate each generation by one call of "
                "nets.batch_map(evaluator, tickets), or call evaluator.end_generation() after it."
            )
        ledger = self.task.ledger
        with at_work(self.task.problem):
            before = ledger.totals()
            (values,) = self.together([ticket])
            cost = ledger.since(before)
        if carried is not None:
            carried.append(Spent(self.key, self.generation, *cost))
        return values

    def settle(self, spent: Sequence[Spent]) -> None:
        """Enter what copies of it in other processes have spent on a generation."""
        if not spent:
            return
        for each in spent:
            self.task.ledger.add(each.networks, each.network_steps, each.diverged, each.dense_steps)
        _note_latest(self)
        with at_work(self.task.problem):
            self._with_again([])

    def _renew(
        self, tickets: Sequence[Ticket], before: Sequence[bool], values: Sequence[Values]
    ) -> None:
        """Give tickets that have been evaluated again their new fitness.

        Where one diverged, now or before, that is the new one: nothing has a mean with the worst.
        """
        for ticket, diverged, fresh in zip(tickets, before, values, strict=True):
            n, old = ticket.evaluations, ticket.fitness.values
            if (
                self.inherit == "none"
                and self.holdout == "fixed"
                and not (diverged or ticket.diverged)
            ):
                fresh = tuple(
                    (n * then + now) / (n + 1) for then, now in zip(old, fresh, strict=True)
                )
            ticket.fitness.values = fresh
            ticket.note_evaluations(n + 1)

    def _check(self, ticket: Any) -> None:
        """Raise if an individual is not a ticket, or its fitness is made for other objectives.

        A ticket without a fitness passes: it is asked for its numbers.
        """
        check_individual(ticket)
        weights = getattr(ticket.fitness, "weights", None)
        if weights is None:
            return
        wanted = [objective.weight for objective in self.objectives]
        rule = None
        if len(weights) != len(wanted):
            rule = "have one value for each objective"
        elif [w > 0 for w in weights] != [w > 0 for w in wanted]:
            rule = "have the signs of the objectives"
        if rule is not None:
            names = [objective.name for objective in self.objectives]
            raise _checks.bad_value(
                "fitness.weights",
                rule,
                f"{wanted} for {names}",
                weights,
                "Where your evaluate makes other values of these, make them by a nets.Objective of "
                "your own, or evaluate a copy whose fitness is None.",
            )

    def _check_away(self, carried: bool) -> None:
        """Raise if what an evaluation in another process learns or spends would be lost there."""
        lost = {
            "a budget": self.budget is not None,
            "gradients": self.gradients and not carried,
            "inherit='weights'": self.inherit == "weights" and not carried,
        }
        names = [name for name, is_lost in lost.items() if is_lost]
        if names:
            raise CallOrderError(
                f"evaluate must stay in its process with {' and '.join(names)}: expected "
                "toolbox.map = nets.batch_map, or nets.RayMap(task, workers=...) for several "
                "processes, got a call in another process. "
                + (
                    "A budget is shared out among all tickets of a generation at once."
                    if carried
                    else "Without a budget, any other map will do if it is registered as map in "
                    "the toolbox of nets.make_toolbox and called as toolbox.map."
                )
            )
        if not carried:
            self.generations.forget_population()  # home goes on counting, as it sees none of them
        if not carried and "away" not in _warned:
            _warned.add("away")
            logger.warning(
                "What tickets learn in another process, and what that costs, is lost there: only "
                "their numbers come home. Register the map as toolbox.map of nets.make_toolbox, "
                "and evaluate by toolbox.map(toolbox.evaluate, tickets)."
            )

    def _evaluate(self, tickets: list[Ticket]) -> list[Values]:
        """Train each distinct network once, with this generation's minibatches."""
        if not tickets:
            return []
        keys = [self._genes(ticket) for ticket in tickets]
        places: dict[Genes, list[Ticket]] = {}
        for key, ticket in zip(keys, tickets, strict=True):
            places.setdefault(key, []).append(ticket)
        trained = self._train([twins[0] for twins in places.values()])
        numbers = [values_of(self.objectives, measured) for measured, _ in trained]
        for values in numbers:
            if values is not None:
                pairs = zip(self.objectives, values, self.worst, strict=True)
                self.worst = tuple(o.beyond(value, worst) for o, value, worst in pairs)
        found: dict[Genes, Values] = {}
        diverged = numbers.count(None)
        each = zip(places.items(), trained, numbers, strict=True)
        for (key, twins), (_, state), values in each:
            found[key] = self.worst if values is None else values
            for twin in twins:
                twin.note_training(None if values is None else state)
                twin.note_evaluator(self.key)
        if diverged:
            self.task.ledger.diverged += diverged
            logger.warning(
                "%d of %d networks diverged and got the worst values", diverged, len(places)
            )
        return [found[key] for key in keys]

    def _train(self, tickets: list[Ticket]) -> list[tuple[Measured, TrainedState]]:
        """Train tickets that are all different; return what was measured, and the weights.

        Those that have been trained ahead, and not changed since, are measured already.
        """
        found = {i: self._known(ticket) for i, ticket in enumerate(tickets)}
        new = [i for i, known in found.items() if known is None]
        if new:
            some = [tickets[i] for i in new]
            found.update(zip(new, self.train(some, self._steps(some)), strict=True))
        return [known for known in found.values() if known is not None]

    def _known(self, ticket: Ticket) -> tuple[Measured, TrainedState] | None:
        """Return what is known of a ticket that has been trained ahead; None where it must train.

        Its training is that of a generation before the first one.
        """
        state = ticket.trained
        plain = not any(o.needs_curve or o.needs_state for o in self.objectives)
        if not self._inherits or state is None or ticket.evaluations or not plain:
            return None
        childless = self._childless
        if not state.metrics or (self.gradients and state.gradients is None and not childless):
            return None
        return Measured(ticket, state.metrics, state.steps, task=self.task), state

    def _steps(self, tickets: Sequence[Ticket]) -> list[int]:
        """Return the steps of each ticket of a generation."""
        shares = [ticket_share(self.task.problem, ticket) for ticket in tickets]
        lengths = [self._length(share) for share in shares]
        usual = [max(1, round(self.task.steps * length)) for length in lengths]
        if self.budget is None:
            return usual
        last = self.budget.generations
        over = None if self.overrun is None else self.overrun()
        if over is not None and last is not None and self.generation > last:
            over(self.budget)
        if self.generations.begun:
            raise CallOrderError(
                f"The budget has shared generation {self.generation} out already, as it must "
                "among all tickets of it at once: expected one call of map(evaluate, tickets) "
                "with map = nets.batch_map or nets.RayMap(task), and one evaluation in it for "
                "each ticket, got another evaluation. Where the generation is over, call "
                "end_generation() of the evaluator."
            )
        price = self.budget.price
        beside = sum(price(1, gradient_share(one)) for one in shares) if self.gradients else 0.0
        return self.budget.allocate(
            shares, self.generation, lengths=lengths, usual=usual, beside=beside
        )

    def _length(self, share: float) -> float:
        """Return how long a network trains: its steps over the recipe's."""
        begin = self.active_below if self.active_share is None else self.active_share
        if begin is None:
            return 1.0
        ratio = begin / share
        return ratio if ratio < 1 else ratio**DEEPER

    @property
    def _generations(self) -> int | None:
        """How many generations there will be after the first; None where nobody has said so."""
        return self.planned if self.budget is None else self.budget.generations

    @property
    def _childless(self) -> bool:
        """Whether nothing comes after the first population."""
        return self.budget is not None and self.budget.generations == 0

    @property
    def progress(self) -> float | None:
        """How far the run has come, from 0 to 1; None where nobody has said how long it is."""
        if self.budget is not None and self.budget.generations is None:
            return self.budget.progress
        planned = self._generations
        return None if planned is None else min(1.0, self.generation / max(1, planned))

    @property
    def _inherits(self) -> bool:
        """Whether the next generation starts from what it inherits, and not from W0."""
        if self.inherit == "none":
            return False
        return self._childless or not rewinds_at(self.generation, self.rewinds, self._generations)

    def train(
        self,
        tickets: Sequence[Ticket],
        steps: Sequence[int],
        *place: int,
        inherit: bool | None = None,
        notes: bool = True,
    ) -> list[tuple[Measured, TrainedState]]:
        """Train tickets, each for its own steps; return what was measured, and the weights.

        Args:
            tickets: Some, all different.
            steps: Optimiser steps of each.
            *place: Of the minibatches in the random sequence; none for those of the generation.
            inherit: Whether they start from what they inherit; None for what ``inherit`` says.
            notes: Whether to measure and keep what operators go by beside the weights.
        """
        warn_of_last_units(tickets)
        lamarckian = self._inherits if inherit is None else inherit
        seed = self.task.derived_seed(*(place or (self.generation,)))
        measured = self._rows() if self.gradients and notes else None
        found: dict[int, tuple[Measured, TrainedState]] = {}
        for length in sorted(set(steps)):
            places = [i for i, own in enumerate(steps) if own == length]
            some = [tickets[i] for i in places]
            plan = Plan(
                steps=length,
                seed=seed,
                curve_points=self.task.recipe.val_points
                if any(objective.needs_curve for objective in self.objectives)
                else 0,
                keep_states=any(objective.needs_state for objective in self.objectives),
                fold=self.fold,
            )
            starts = [self._start(ticket) if lamarckian else None for ticket in some]
            outcome = self.task.run(some, plan, starts=starts)
            each = zip(some, outcome.split(), strict=True)
            read = [self._read(ticket, part, plan, lamarckian) for ticket, part in each]
            states = [state for _, state in read]
            if notes:
                states = self._with_notes(some, states, measured)
            own = zip((measures for measures, _ in read), states, strict=True)
            found.update(zip(places, own, strict=True))
        return [found[i] for i in range(len(tickets))]

    def note_gradients(self, ticket: Ticket) -> None:
        """Measure the gradient at the weights that a ticket has been trained to, if none is known.

        For operators that ask for it as soon as a ticket becomes a parent, which most never do.
        """
        state = ticket.trained
        if state is None or state.candidates is not None:
            return
        before = self.task.ledger.totals()
        with at_work(self.task.problem):
            state.note(*next(self._gradients([ticket], [state], self._rows())))
        if self.budget is not None:
            _, steps, _, dense = self.task.ledger.since(before)
            self.budget.spend(self.budget.price(steps, dense))

    def measure(self, tickets: Sequence[Ticket]) -> list[Values]:
        """Return the objectives of tickets that are trained from W0, all for the same steps.

        For ``front_steps``, or the recipe's; all on the same minibatches, whatever generation they
        are of, so that their values compare. Nothing of it is taken down in the tickets. As for a
        final training, no budget pays for it; the task's ledger has it. Where tickets are evaluated
        through a function around the evaluator, so are these.
        """
        return [values for values, _ in self.through_around(tickets, self._measure(tickets))]

    def through_around(
        self, tickets: Sequence[Ticket], values: Sequence[Values]
    ) -> list[tuple[Values, bool]]:
        """Return what the function around makes of the evaluator's values, if there is one.

        Args:
            tickets: P of them, which the function may change.
            values: What the evaluator has measured of each.

        Returns:
            Of each the values, and whether the function has asked for the evaluator's.
        """
        if self.around is None:
            return [(own, True) for own in values]
        known = {t.network_key: own for t, own in zip(tickets, values, strict=True)}
        asked: set[Any] = set()

        def answer(questions: list[tuple[Evaluator, Ticket]]) -> list[Values]:
            asked.update(ticket.network_key for _, ticket in questions)
            return [
                known[ticket.network_key]
                if evaluator is self and ticket.network_key in known
                else evaluator._measure([ticket])[0]
                for evaluator, ticket in questions
            ]

        keys = [ticket.network_key for ticket in tickets]
        found = Calls(self.around, [(ticket,) for ticket in tickets], answer).run()
        return [(own, key in asked) for own, key in zip(found, keys, strict=True)]

    def _measure(self, tickets: Sequence[Ticket]) -> list[Values]:
        """Return what the evaluator itself measures of tickets from W0."""
        steps, known = self.front_steps or self.task.steps, self._front_values
        keys = [(ticket.network_key, steps) for ticket in tickets]
        with at_work(self.task.problem):
            places = {key: i for i, key in enumerate(keys) if key not in known}
            new = [tickets[i] for i in places.values()]
            if new:
                each = [steps] * len(new)
                trained = self.train(new, each, FRONT, FRONT, inherit=False, notes=False)
                values = (values_of(self.objectives, measured) for measured, _ in trained)
                known.update(zip(places, values, strict=True))
        found = [known[key] for key in keys]
        return [self.worst if own is None else own for own in found]

    @property
    def steps_of_front(self) -> int | None:
        """Steps from W0 that all members of a front are measured after; None where they differ."""
        if self.inherit == "weights":
            return self.front_steps or self.task.steps
        return self.task.steps if self.budget is None else None

    def _start(self, ticket: Ticket) -> Start:
        """Return where a ticket's training starts; None for W0."""
        before = ticket.inherited
        return None if before is None else TrainedState(before.at(ticket.mask), before.unmasked)

    def _read(
        self, ticket: Ticket, part: Outcome, plan: Plan, lamarckian: bool
    ) -> tuple[Measured, TrainedState]:
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
            fold=plan.fold,
        )
        (state,) = part.trained
        before = ticket.inherited if lamarckian else None
        state = replace(
            state,
            packed=ticket.packed_mask.copy(),
            steps=plan.steps + (0 if before is None else before.steps),
            digest=ticket.digest,
            metrics=metrics,
        )
        return measured, state

    def _with_notes(
        self, tickets: Sequence[Ticket], states: list[TrainedState], rows: Tensor | None
    ) -> list[TrainedState]:
        """Return trained states with what operators go by beside the weights.

        Args:
            tickets: Whose they are.
            states: Of their trainings.
            rows: The examples of the gradient; None where none is asked for.
        """
        if rows is not None:
            each = zip(states, self._gradients(tickets, states, rows), strict=True)
            states = [
                replace(state, gradients=gradients, candidates=candidates, scores=scores)
                for state, (gradients, candidates, scores) in each
            ]
        if self.memory:
            remembered = zip(states, map(memory_of, tickets), strict=True)
            states = [
                replace(s, pruned=pruned, remembered=last) for s, (pruned, last) in remembered
            ]
        return states

    def _rows(self) -> Tensor:
        """Return the examples on which a generation's gradients are measured: one minibatch."""
        plan = Plan(1, self.task.derived_seed(self.generation, 1))
        n_examples = folded(self.task.problem, self.fold).n_examples
        return plan.batches(n_examples, self.task.recipe.batch_size)[0]

    def _gradients(
        self, tickets: Sequence[Ticket], states: Sequence[TrainedState], rows: Tensor
    ) -> Iterator[Gradients]:
        """Measure the gradients of tickets, and enter what that costs in the ledger."""
        task, problem = self.task, folded(self.task.problem, self.fold)
        for ticket in tickets:
            task.ledger.network_steps += 1
            task.ledger.dense_steps += gradient_share(ticket_share(problem, ticket))
        at_once = together_by(problem, task.engine, task.chunk)
        return gradients_of(problem, tickets, states, rows, at_once=at_once)

    def _genes(self, ticket: Ticket) -> Genes:
        """Return what makes two tickets the same training: genes and inheritance."""
        return *ticket.network_key, id(ticket.inherited) if self._inherits else 0


_warned: set[str] = set()  # in this process


def warn_of_last_units(tickets: Iterable[Ticket]) -> None:
    """Warn, once for each layer, where tickets keep one neuron or filter of many."""
    for ticket in tickets:
        units = ticket.units
        if units is None or units.unit != NEURON:
            continue
        for layer in units.layers:
            key = f"{units.key}: {layer.name}"
            one = bits.count(ticket.packed, layer.start, layer.stop) == 1 < layer.size
            if one and key not in _warned:
                _warned.add(key)
                logger.warning(
                    "Layer %r is down to one of its %d units in some tickets: all that comes "
                    "after it sees one number. Give the task a larger floor=..., or the search a "
                    "larger least density.",
                    layer.name,
                    layer.size,
                )


def _note_latest(evaluator: Evaluator) -> None:
    """Let an evaluator be the latest of its task, and its task the last."""
    _latest.pop(evaluator.task, None)  # else its place would stay that of the task's first
    _latest[evaluator.task] = weakref.ref(evaluator)


def evaluator_of(task: Task) -> Evaluator | None:
    """Return the evaluator that was made or trained last on a task, while it is in use."""
    known = _latest.get(task)
    return None if known is None else known()


def evaluator_for(ticket: Ticket) -> Evaluator | None:
    """Return the evaluator that has trained a ticket last, while it is in use.

    Where it is not known, as after a resume, the latest made of a task that has its layout.
    """
    found = by_key(ticket.evaluator_key)
    if isinstance(found, Evaluator):
        return found
    found = None
    for task, known in list(_latest.items()):
        if task.layout.key == ticket.layout_key:
            found = known() or found
    return found

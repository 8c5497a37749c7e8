"""``Descent``: first tickets of all densities, pruned and trained on from one dense network."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.evolution.criterion import criterion
from nets_deap.evolution.evaluator import AHEAD, Evaluator
from nets_deap.evolution.objectives import values_of
from nets_deap.evolution.operators import init_from, mut_prune
from nets_deap.names import NEURON
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.cost import dense_share, gradient_share, uses

# Of the kept weights, pruned a round: a fifth, as the literature has it.
FRACTION = 0.2
# Of a budget, the most that a descent may take, unless nothing comes after it.
SHARE = 0.3
# Pruning has begun to hurt where the validation loss is this many times the least of denser ones,
# or has gone this part of the way from there to chance. Where data are noisy, and the least loss is
# near chance, no loss is that many times larger (measured on MNIST with two labels of five redrawn:
# by the first rule alone 1.7 points less over 20 to 0.5 %). Denser tickets are as good as they get:
# populations gain nothing there that is not the selection of lucky validation examples (measured on
# MNIST from 1.2 % upwards).
HURT = 1.3
TO_CHANCE = 0.05


class Descent:
    """Draws a first population from the stations of one descent.

    A dense network is trained for a few steps, loses a fifth of its weights, those of smallest
    |w| or by another criterion, is trained on, and so forth, down to the least density: iterative
    pruning with fine-tuning (Renda et al. 2020), at the cost of five dense trainings of as many
    steps, as the sparse rounds cost next to nothing. Its stations are tickets that inherit the
    weights they had, so that populations need not find again what one lineage finds as well. The
    stations are measured already, and cost nothing more when they are evaluated.

    From then on lineages go on below the density where pruning has begun to hurt: there populations
    have something to gain, and deep lineages cost little. Networks of that density train for the
    recipe's steps, sparser ones for longer, denser ones for as many multiply-adds as those.

    Args:
        evaluator: Trains; its budget pays.
        first: Returns the first ticket.
        low: Density of the last station, in (0, 1].
        make: Returns a ticket of a mask and a layout.
        fraction: Of the kept weights, the most that a round prunes, in (0, 1); by cost of what
            neurons and filters cost.
        by: What weights are pruned by; see ``mut_prune``.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        first: Callable[[], Ticket],
        low: float,
        make: Callable[..., Ticket],
        fraction: float = FRACTION,
        by: str = "magnitude",
    ) -> None:
        self._fraction, self._by = fraction, by
        self._evaluator, self._first, self._low, self._make = evaluator, first, low, make

    def __call__(self, n: int, *, seeds: Any = None) -> list[Ticket]:
        """Return ``n`` stations from which lineages go on, spread evenly over log density.

        Densest first. The first call trains; later ones return copies of the same tickets. A
        ``ParetoFront`` takes in the denser stations by itself.

        Args:
            n: How many, >= 0. More than there are stations are copies of the sparser ones.
            seeds: Tickets to begin with instead of a descent, or a baseline's or search's result;
                see ``init_from``. Fewer than ``n`` stand more than once.
        """
        _checks.whole("n", n, low=0)
        if not n:
            return []
        evaluator, layout = self._evaluator, self._evaluator.task.layout
        if seeds is not None:
            drawn = init_from(self._make, layout, n, seeds=seeds)
            self._go_on(drawn)
            return drawn
        first = self._first()
        key = first.density, self._low
        if key not in evaluator.stations:
            evaluator.stations[key] = self._descend(first)
        stations = evaluator.stations[key]
        high = self._go_on(stations)
        active = [ticket for ticket in stations if ticket.density <= high]
        return init_from(self._make, layout, n, seeds=active)

    def _go_on(self, stations: Sequence[Ticket]) -> float:
        """Let lineages go on where pruning hurts some stations; return the density of the first."""
        evaluator = self._evaluator
        high = evaluator.active_below = hurt_below(stations, evaluator.task.chance_loss)
        first = next(ticket for ticket in stations if ticket.density == high)
        evaluator.active_share = dense_share(evaluator.task.problem, first.packed_mask)
        return high

    def _descend(self, ticket: Ticket) -> list[Ticket]:
        """Train and prune, from a first ticket down to the least density; return all stations."""
        evaluator = self._evaluator
        task, ledger = evaluator.task, evaluator.task.ledger
        begun, clock = ledger.totals(), time.monotonic()
        sizes = self._sizes(ticket)
        steps = evaluator.front_steps = self._steps_a_round(self._shares(ticket, sizes))
        rng = np.random.default_rng(task.derived_seed(AHEAD, AHEAD))
        stations = []
        for i, size in enumerate(sizes):
            if i:
                ticket = self._pruned(ticket, size, rng)
            ((measured, state),) = evaluator.train(
                [ticket], [steps], AHEAD, AHEAD, i, inherit=True, notes=self._notes
            )
            values = values_of(evaluator.objectives, measured)
            if values is not None:
                ticket.note_training(state)
                ticket.note_evaluator(evaluator.key)
                ticket.note_evaluations(1)
                ticket.fitness.values = values
            else:  # the next ones go on from what was before
                ledger.diverged += 1
            stations.append(ticket)
        before = begun if evaluator.ahead is None else evaluator.ahead[0]
        evaluator.ahead = before, ledger.totals()
        evaluator.ahead_seconds += time.monotonic() - clock
        if evaluator.budget is not None:
            _, steps, _, dense = ledger.since(begun)
            cost = evaluator.budget.price(steps, dense)
            evaluator.ahead_cost += cost
            evaluator.budget.spent += cost
        return stations

    def _pruned(self, ticket: Ticket, size: float, rng: np.random.Generator) -> Ticket:
        """Return a copy of a ticket that keeps ``size`` weights, rounded; see ``_sizes``."""
        ticket = copy.deepcopy(ticket)
        fraction = self._fraction if self._by_cost else max(0.0, 1 - round(size) / ticket.kept)
        by = criterion(self._evaluator.task, self._by, ticket, self._evaluator.objectives)
        mut_prune(ticket, fraction=fraction, rng=rng, **by)
        return ticket

    @property
    def _by_cost(self) -> bool:
        """Whether rounds take a fraction of what neurons and filters cost, not of weights."""
        return self._by == "cost" and self._evaluator.task.layout.unit == NEURON

    def _sizes(self, ticket: Ticket) -> NDArray[np.float64]:
        """Return how many weights each round keeps, from a first ticket on.

        By cost about so many, which depends on what goes: until the least density or the floors of
        all layers are reached.
        """
        if not self._by_cost:
            rounds = max(0, rounds_to(self._low / ticket.density, self._fraction))
            return np.geomspace(ticket.kept, max(1, self._low * ticket.n_weights), rounds + 1)
        rng, found = np.random.default_rng(0), [ticket.kept]
        while ticket.density > self._low:
            ticket = self._pruned(ticket, 0, rng)
            if ticket.kept == found[-1]:
                break
            found.append(ticket.kept)
        return np.array(found, dtype=np.float64)

    def _shares(self, ticket: Ticket, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what a step of each round will cost, in dense steps, from a first ticket on.

        Where all weights cost the same, the density. Else it depends on which layers lose weights:
        about as many as they would lose before any training.
        """
        problem = self._evaluator.task.problem
        times = uses(problem)
        if (times == times[0]).all():
            return sizes / ticket.n_weights
        rng, found = np.random.default_rng(0), []
        for i, size in enumerate(sizes):
            if i or not self._by_cost:
                ticket = self._pruned(ticket, size, rng)
            found.append(dense_share(problem, ticket.packed_mask))
        return np.array(found)

    def _steps_a_round(self, shares: NDArray[np.float64]) -> int:
        """Return the recipe's steps, or fewer where a budget is small."""
        steps, budget = self._evaluator.task.steps, self._evaluator.budget
        if budget is None:
            return steps
        cost = sum(budget.price(1, one) for one in shares.tolist())
        gradients = sum(budget.price(1, gradient_share(one)) for one in shares.tolist())
        beside = gradients if self._notes else 0.0
        share = SHARE if self._notes else 1.0
        affordable = int((share * budget.left - beside) / cost + 1e-9)
        if affordable < 1:
            raise _checks.bad_value(
                "budget",
                "suffice for a first descent",
                f"at least {(cost + beside) / share:.6g} {budget.unit} for {len(shares)} rounds",
                f"{budget.left:.6g}",
                "Give a larger budget, or tickets to begin with: toolbox.population(n, seeds=...).",
            )
        return min(steps, affordable)

    @property
    def _notes(self) -> bool:
        """Whether the stations will have children, so that what operators go by is measured."""
        budget = self._evaluator.budget
        return budget is None or budget.generations != 0


def rounds_to(share: float, fraction: float = FRACTION) -> int:
    """Return the rounds, each of which prunes a fraction, until at most a share is kept.

    A thousandth of a round is none: sizes are whole weights.
    """
    return math.ceil(math.log(share) / math.log(1 - fraction) - 1e-3)


def hurt_below(stations: Sequence[Ticket], chance: float) -> float:
    """Return the density of the densest ticket from which on pruning hurts.

    Those are a row of stations, densest first, all of which have more than ``HURT`` times the
    least validation loss of all, or have gone ``TO_CHANCE`` of the way from it to chance. Where
    there are fewer than three, the sparsest three count.

    Args:
        stations: Tickets that a descent has trained, densest first.
        chance: The loss of the best constant output.
    """
    states = [ticket.inherited for ticket in stations]
    known = [None if state is None else state.metrics.get("val_loss") for state in states]
    losses = [math.inf if loss is None else loss for loss in known]
    least = min(losses)
    limit = least + min((HURT - 1) * abs(least), TO_CHANCE * max(0.0, chance - least))
    first = len(losses)
    while first and losses[first - 1] > limit:
        first -= 1
    return stations[max(0, min(first, len(losses) - 3))].density

"""The final training: members of a front from W0, beside the dense baseline and random masks."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nets_deap import _checks
from nets_deap._table import Brief
from nets_deap.evolution.criterion import criterion
from nets_deap.evolution.descent import rounds_to
from nets_deap.evolution.measured import Measured
from nets_deap.evolution.measures import multiply_adds
from nets_deap.evolution.operators import mut_prune, random_mask
from nets_deap.experiments.chain import chain, steps_a_round
from nets_deap.tickets import bits
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.cost import dense_share
from nets_deap.training.result import TrainResult
from nets_deap.training.task import Task

# Of the learning curves.
POINTS = 20
# Times its least validation loss, a network has been trained for too long. A little more is usual
# where accuracy still rises.
OVERTRAINED = 1.5


@dataclass(frozen=True, repr=False)
class FinalRow(Brief):
    """One member of a front after the final training, with tickets of as many weights beside it.

    Attributes:
        ticket: The member.
        trained: The member, trained.
        random: A random mask of its layer densities, trained.
        pruned: A ticket that a chain of pruning found at the cost of the search, trained; None
            where none was asked for.
        share: Multiply-adds of the kept weights over those of the dense network, of the member and
            of its random mask; see ``training.cost.dense_share``.
        pruned_share: The same of the chain's ticket.
        compact: Multiply-adds of the member without its dead units over those of the dense network,
            as the objective ``"multiply_adds"`` counts them.
        random_compact: The same of its random mask.
        pruned_compact: The same of the chain's ticket.
    """

    ticket: Ticket
    trained: TrainResult
    random: TrainResult
    pruned: TrainResult | None = None
    share: float = math.nan
    pruned_share: float | None = None
    compact: float = math.nan
    random_compact: float = math.nan
    pruned_compact: float | None = None


@dataclass(frozen=True, repr=False)
class FinalTraining(Brief):
    """The trained members, densest first, and the dense baseline."""

    rows: list[FinalRow]
    dense: TrainResult
    steps: int

    def remarks(self) -> list[str]:
        """Return what a reader of the rows should know, in words; none where all is as expected."""
        found = [text for text in [overtrained(self.dense, self.steps)] if text]
        sparse = [row for row in self.rows if row.ticket.density < 1]
        column = "test_accuracy" if math.isfinite(self.dense.test_accuracy) else "val_accuracy"
        lost = [r for r in sparse if getattr(r.random, column) > getattr(r.trained, column)]
        if 2 * len(lost) > len(sparse):
            found.append(
                f"Random masks are better than {len(lost)} of {len(sparse)} tickets: the search "
                "has found nothing here. Give it more training, by a larger budget, fewer "
                "generations or a smaller population."
            )
        return found

    def curves(self) -> dict[str, Any]:
        """Return the learning curves as plain data: validation losses at the same steps."""
        return {
            "steps": [step for step, _ in self.dense.curve],
            "dense": [loss for _, loss in self.dense.curve],
            "tickets": [
                {
                    "ticket": row.ticket.digest[:16],
                    "density": row.ticket.density,
                    "val_loss": [loss for _, loss in row.trained.curve],
                    "random": [loss for _, loss in row.random.curve],
                }
                for row in self.rows
            ],
        }


def overtrained(dense: TrainResult, steps: int) -> str:
    """Return in words that a dense network has been trained for too long; empty if it has not.

    Args:
        dense: Its result, with a curve.
        steps: Optimiser steps that it had.
    """
    curve = [(loss, step) for step, loss in dense.curve if math.isfinite(loss)]
    least, at = min(curve, default=(math.inf, steps))
    if at >= steps or not dense.val_loss > OVERTRAINED * least:
        return ""
    return (
        f"The dense network is overtrained: its validation loss was {least:.4g} after {at} steps, "
        f"and is {dense.val_loss:.4g} after {steps}. Sparse ones suffer less from that, so compare "
        f"after fewer steps, too: final.steps={at}."
    )


def train_front(
    task: Task,
    front: Sequence[Ticket],
    *,
    steps: int,
    members: int,
    chain: float | None = None,
    by: str = "magnitude",
    on_trained: Callable[[int, int], None] | None = None,
) -> FinalTraining:
    """Train members of a front from W0, the dense network and random masks, all alike.

    All see the same minibatches, which the search never used. A random mask keeps as many weights
    of each layer as its ticket does. Equal networks are trained once.

    Args:
        task: The task.
        front: Evaluated tickets, not empty.
        steps: Optimiser steps of each.
        members: How many members, spread evenly over log density and with both ends.
        chain: What a chain of pruning may cost whose tickets are trained beside the members, in
            dense steps: what the search has cost; see ``prune_alike``. None for no chain.
        by: What that chain prunes by.
        on_trained: Called with (networks done, networks in all).
    """
    chosen = spread(front, members)
    rng = np.random.default_rng(task.derived_seed(_checks.whole("steps", steps), 1))
    controls = [_shuffled(task, ticket, rng) for ticket in chosen]
    rivals = [] if chain is None else prune_alike(task, chosen, chain, by)
    everyone = [task.dense_ticket(), *chosen, *controls, *rivals]
    distinct = {ticket.digest: ticket for ticket in everyone}  # a dense member is the baseline
    done = 0

    def count(networks: int) -> None:
        nonlocal done
        done += networks
        if on_trained is not None:
            on_trained(done, len(distinct))

    trained = task.train_all(list(distinct.values()), steps=steps, on_chunk=count, points=POINTS)
    by_digest = dict(zip(distinct, trained, strict=True))
    dense, *results = (by_digest[ticket.digest] for ticket in everyone)
    ours, random, theirs = (results[i * len(chosen) : (i + 1) * len(chosen)] for i in range(3))
    shares = [dense_share(task.problem, ticket.packed_mask) for ticket in (*chosen, *rivals)]
    whole = _compact_adds(task, everyone[0])
    compact = [_compact_adds(task, ticket) / whole for ticket in everyone[1:]]
    n = len(chosen)
    rows = [
        FinalRow(
            ticket,
            ours[i],
            random[i],
            theirs[i] if rivals else None,
            shares[i],
            shares[n + i] if rivals else None,
            compact[i],
            compact[n + i],
            compact[2 * n + i] if rivals else None,
        )
        for i, ticket in enumerate(chosen)
    ]
    return FinalTraining(rows, dense, steps)


def _compact_adds(task: Task, ticket: Ticket) -> float:
    """Return the multiply-adds of a ticket's network without its dead units."""
    return multiply_adds(Measured.untrained(ticket, task))


def prune_alike(
    task: Task, tickets: Sequence[Ticket], dense_steps: float, by: str = "magnitude"
) -> list[Ticket]:
    """Return tickets of as many weights as some have, from one chain of pruning.

    That is ``baselines.finetune``: a fifth of the kept weights a round, rounds of equal length,
    going on from the trained weights. In its last round each ticket prunes as far as it has to.

    Args:
        task: The task.
        tickets: Of bits that are weights, densest first.
        dense_steps: What the chain may cost.
        by: What it prunes by; see ``baselines.finetune``.
    """
    size = task.layout.size
    rounds = max(1, rounds_to(max(tickets[-1].kept, 1) / size))
    levels = chain(task, rounds, max(1, steps_a_round(dense_steps, rounds)), by=by).tickets
    saliency = criterion(task, by)
    rng = np.random.default_rng(0)  # for ties alone
    found = []
    for ticket in tickets:
        below = next((one for one in levels if one.kept <= ticket.kept), levels[-1])
        state = below.inherited  # of the ticket that this one was pruned from
        assert state is not None
        denser = task.ticket(bits.unpack(state.packed, size))
        denser.inherited = state
        fraction = 1 - ticket.kept / denser.kept
        (pruned,) = mut_prune(denser, fraction=fraction, rng=rng, **saliency)
        found.append(task.ticket(pruned.gates))
    return found


def _shuffled(task: Task, ticket: Ticket, rng: np.random.Generator) -> Ticket:
    """Return a random mask of a ticket's layer densities over the same initial weights."""
    other = copy.deepcopy(ticket)  # a genome brings its own weights along
    other.inherited = None
    other.gates = random_mask(task.layout, task.layout.counts(ticket.packed), rng)
    return other


def spread(front: Sequence[Ticket], members: int) -> list[Ticket]:
    """Return at most ``members`` tickets of a front, densest first, spread over log density.

    Both ends are among them; tickets of equal mask count once.
    """
    _checks.whole("members", members)
    distinct = {ticket.digest: ticket for ticket in front}
    ordered = sorted(distinct.values(), key=lambda t: (-t.kept, t.fitness.values, t.digest))
    if not ordered:
        raise _checks.bad_value("front", "have members", "at least one", 0)
    if len(ordered) <= members:
        return ordered
    logs = np.log([max(ticket.kept, 1) for ticket in ordered])
    picked: list[int] = []
    for goal in np.linspace(logs[0], logs[-1], members):
        free = [i for i in range(len(ordered)) if i not in picked]
        picked.append(min(free, key=lambda i: abs(logs[i] - goal)))
    return [ordered[i] for i in sorted(picked)]

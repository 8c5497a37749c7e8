"""``check``: whether a ticket is a winning one, by the controls that such a claim needs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nets_deap import _checks
from nets_deap._table import Brief, table
from nets_deap.evolution.operators import random_mask
from nets_deap.experiments.statistics import bootstrap_interval
from nets_deap.tickets import bits
from nets_deap.tickets.ticket import Ticket
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.problem import Start
from nets_deap.training.recipe import name_of
from nets_deap.training.result import TrainResult
from nets_deap.training.task import FINAL_TRAINING, Task, check_task

VARIANTS = ("ticket", "shuffled", "re-initialised", "inverted", "dense")
SPLITS = {"test": "Test", "val": "Validation"}
WINNING = "winning ticket"

# Places of the derived seeds; a trailing 0 would not tell two places apart.
MINIBATCHES, DRAWS = 1, 2
ROUNDING = 1e-9


@dataclass(frozen=True, repr=False)
class Variant(Brief):
    """One kind of network over R replicates.

    Attributes:
        name: One of ``VARIANTS``.
        density: Kept / maskable, in [0, 1].
        mean: Mean accuracy, in [0, 1].
        deviation: Standard deviation of the accuracy (R - 1 degrees of freedom).
        values: Accuracy of each replicate, R of them.
        diverged: Replicates whose loss was not finite at the end.
    """

    name: str
    density: float
    mean: float
    deviation: float
    values: tuple[float, ...]
    diverged: int


@dataclass(frozen=True)
class Difference:
    """Mean of ticket - variant over paired replicates, with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, repr=False)
class SanityReport(Brief):
    """What ``check`` measured, and its verdict.

    Attributes:
        variants: By name, in the order of ``VARIANTS``.
        differences: Ticket - variant, paired, by the name of each other variant.
        density: Density of the ticket.
        steps: Optimiser steps of each network.
        split: Where accuracy was measured: ``"test"``, or ``"val"`` for a task without one.
        tolerance: How far below the dense network a winning ticket may be, in accuracy.
        margin: How far below the ticket its controls must be, in accuracy.
        failures: Each condition that failed, with its numbers; empty for a winning ticket.
    """

    variants: dict[str, Variant]
    differences: dict[str, Difference]
    density: float
    steps: int
    split: str
    tolerance: float
    margin: float
    failures: tuple[str, ...]

    @property
    def winning(self) -> bool:
        """Whether every condition holds."""
        return not self.failures

    @property
    def verdict(self) -> str:
        """``"winning ticket"``, or ``"not a winning ticket: "`` and the conditions that failed."""
        return WINNING if self.winning else f"not a {WINNING}: {'; '.join(self.failures)}"

    def table(self) -> str:
        """Return the report as aligned text, accuracies in %, without a newline at its end."""
        head = ("variant", "density", "mean", "s.d.", "ticket - variant", "95 % interval")
        lines = [(*head, "replicates")]
        for name, one in self.variants.items():
            gap = self.differences.get(name)
            lines.append(
                (
                    name,
                    f"{100 * one.density:.2f}",
                    f"{100 * one.mean:.2f}",
                    f"{100 * one.deviation:.2f}",
                    "" if gap is None else f"{100 * gap.mean:+.2f}",
                    "" if gap is None else f"[{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]",
                    " ".join(f"{100 * value:6.2f}" for value in one.values),
                )
            )
        n = len(self.variants["ticket"].values)
        title = (
            f"{SPLITS[self.split]} accuracy in %, {self.steps:,} steps from scratch, {n} replicates"
        )
        rule = (
            f"A {WINNING} is at most {100 * self.tolerance:g} pp below dense, and at least "
            f"{100 * self.margin:g} pp above shuffled and re-initialised."
        )
        return "\n".join(
            [title, table(lines, left=(0, len(head))), rule, f"Verdict: {self.verdict}"]
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain data that JSON can hold."""
        plain = {**asdict(self), "winning": self.winning, "verdict": self.verdict}
        plain["failures"] = list(self.failures)
        for variant in plain["variants"].values():
            variant["values"] = list(variant["values"])
        return plain


@_checks.signed
def check(
    ticket: Ticket,
    task: Task,
    *,
    steps: int | None = None,
    seeds: int = 5,
    tolerance: float = 0.001,
    margin: float = 0.005,
) -> SanityReport:
    """Train a ticket beside its controls and judge whether it is a winning ticket.

    In each replicate five networks are trained from scratch, all on the same minibatches:

    - ``ticket``: its mask over W0;
    - ``shuffled``: a random mask that keeps as many weights (or units) of each layer, over W0;
    - ``re-initialised``: its mask over other initial weights: W0 permuted within each layer, which
      keeps each layer's distribution exactly, whatever drew it;
    - ``inverted``: as many weights of each layer drawn from those that the ticket pruned (all of
      them where they are fewer), over W0;
    - ``dense``: every weight.

    Parameters outside of the mask start as at W0 in all of them. Replicates differ in their
    minibatches, which neither the search nor ``task.train`` uses by default, and in their draws;
    W0 is the task's. The same arguments give the same report.

    A *winning ticket* has mean(ticket) >= mean(dense) - tolerance, mean(shuffled) <= mean(ticket)
    - margin, and mean(re-initialised) <= mean(ticket) - margin; and of these networks none
    diverged. The inverted mask is shown, not judged. Accuracy is on the test split if the task has
    one, else on the validation split.

    Cost: 5 x seeds networks of ``steps`` steps, entered in the task's ledger.

    Args:
        ticket: A ticket of the task that keeps some weights and prunes some.
        task: The task; its loss must define an accuracy.
        steps: Optimiser steps; None for the recipe's.
        seeds: Replicates R >= 2.
        tolerance: In accuracy, in [0, 1]; 0.001 is 0.1 pp.
        margin: In accuracy, in [0, 1]; 0.005 is 0.5 pp.

    Raises:
        InvalidValueError: The ticket keeps all or nothing or belongs to another task; the task's
            loss is mse; an option is out of range.
        InvalidTypeError: An argument is of the wrong kind.

    Reference:
        Frankle & Carbin 2019, https://arxiv.org/abs/1803.03635 (re-initialisation); Frankle et al.
        2021, https://arxiv.org/abs/2009.08576 (shuffling, re-initialisation, inversion; what
        is inverted there is a score, which a bare mask does not have).
    """
    _check_pair(ticket, task)
    count = None if steps is None else _checks.whole("steps", steps)
    replicates = _checks.whole("seeds", seeds, low=2)
    allowed = _checks.real("tolerance", tolerance, low=0, high=1)
    wanted = _checks.real("margin", margin, low=0, high=1)
    results: dict[str, list[TrainResult]] = {name: [] for name in VARIANTS}
    for replicate in range(1, replicates + 1):
        draws = task.derived_seed(FINAL_TRAINING, DRAWS, replicate)
        tickets, starts = _variants(ticket, task, np.random.default_rng(draws))
        order = task.derived_seed(FINAL_TRAINING, MINIBATCHES, replicate)
        trained = task.train_all(tickets, steps=count, seed=order, starts=starts)
        for name, result in zip(VARIANTS, trained, strict=True):
            results[name].append(result)
    split = "val" if task.problem.test is None else "test"
    variants = {name: _variant(name, some, split) for name, some in results.items()}
    return SanityReport(
        variants=variants,
        differences={
            name: _difference(variants["ticket"], other)
            for name, other in variants.items()
            if name != "ticket"
        },
        density=ticket.density,
        steps=results["ticket"][0].steps,
        split=split,
        tolerance=allowed,
        margin=wanted,
        failures=_failures(variants, allowed, wanted),
    )


def _check_pair(ticket: Ticket, task: Task) -> None:
    """Raise unless the ticket can be compared with controls on this task."""
    check_task("task", task)
    if not isinstance(ticket, Ticket):
        raise _checks.bad_type("ticket", "be a ticket", "a nets.Ticket", ticket)
    if not task.has_accuracy:
        raise _checks.bad_value(
            "task",
            "have an accuracy",
            "cross_entropy or binary_cross_entropy",
            f"the loss {name_of(task.recipe.loss)}",
            "The verdict is about accuracy; losses are in the results of task.train_all.",
        )
    task.layout.check_bits(len(ticket))
    if not 0 < ticket.kept < task.layout.weights.size:
        raise _checks.bad_value(
            "ticket",
            "keep some weights and prune some",
            f"1 to {task.layout.weights.size - 1} kept of D = {task.layout.weights.size}",
            f"{ticket.kept} kept",
        )


def _variants(
    ticket: Ticket, task: Task, rng: np.random.Generator
) -> tuple[list[Ticket], list[Start]]:
    """Return the networks of one replicate, in the order of ``VARIANTS``, and their starts."""
    layout, gates = task.layout, ticket.gates
    initial = layout.require_initial().copy()
    inverted: bits.Mask = np.zeros_like(gates)
    masked = {layer.name: layer for layer in layout.layers}
    for weights in layout.weights.layers:
        rng.shuffle(initial[weights.start : weights.stop])
        layer = masked.get(weights.name)
        if layer is not None:
            own = gates[layer.start : layer.stop]
            pruned = layer.start + np.flatnonzero(~own)
            kept = min(int(own.sum()), len(pruned))
            inverted[rng.choice(pruned, kept, replace=False, shuffle=False)] = True
    shuffled = task.ticket(random_mask(layout, layout.counts(ticket.packed), rng))
    tickets = [ticket, shuffled, ticket, task.ticket(inverted), task.dense_ticket()]
    return tickets, [None, None, TrainedState(initial[ticket.mask]), None, None]


def _variant(name: str, results: list[TrainResult], split: str) -> Variant:
    """Summarise the replicates of one variant."""
    values = [float(getattr(result, f"{split}_accuracy")) for result in results]
    losses = [(result.train_loss, getattr(result, f"{split}_loss")) for result in results]
    return Variant(
        name=name,
        density=results[0].density,
        mean=float(np.mean(values)),
        deviation=float(np.std(values, ddof=1)),
        values=tuple(values),
        diverged=sum(not np.isfinite(pair).all() for pair in losses),
    )


def _difference(ticket: Variant, other: Variant) -> Difference:
    """Compare a variant with the ticket, replicate by replicate."""
    gaps = np.subtract(ticket.values, other.values)
    return Difference(float(gaps.mean()), *bootstrap_interval(gaps))


def _failures(variants: dict[str, Variant], tolerance: float, margin: float) -> tuple[str, ...]:
    """Return the conditions of a winning ticket that do not hold, in words."""
    ticket, dense = variants["ticket"].mean, variants["dense"].mean
    found = []
    for name in ("ticket", "dense", "shuffled", "re-initialised"):
        if variants[name].diverged:
            n = len(variants[name].values)
            found.append(f"{name} diverged in {variants[name].diverged} of {n} replicates")
    if ticket < dense - tolerance - ROUNDING:
        found.append(
            f"ticket {100 * ticket:.2f} % is below dense {100 * dense:.2f} % by more than "
            f"{100 * tolerance:g} pp"
        )
    for name in ("shuffled", "re-initialised"):
        control = variants[name].mean
        if control > ticket - margin + ROUNDING:
            found.append(
                f"{name} {100 * control:.2f} % is not at least {100 * margin:g} pp below "
                f"ticket {100 * ticket:.2f} %"
            )
    return tuple(found)

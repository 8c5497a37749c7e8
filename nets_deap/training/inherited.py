"""Networks that tickets hold, as their lineages have trained them: to measure, or to go on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from nets_deap import _checks
from nets_deap.inputs.call import call_with
from nets_deap.tickets.ticket import Ticket
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.batches import eval_batches
from nets_deap.training.precision import slow_path
from nets_deap.training.problem import METRICS, Outcome, Problem, Split, Start, State, working
from nets_deap.training.score import Score


def held_by(ticket: Ticket) -> TrainedState:
    """Return the trained weights that a ticket has, its own or its ancestors'.

    Raises:
        InvalidValueError: It has none.
    """
    state = ticket.inherited
    if state is None:
        raise _checks.bad_value(
            "ticket",
            "hold trained weights for start='inherited'",
            "a ticket that a search or a baseline has trained",
            "one without",
            "Take it from nets.search(...).front, or train it from W0: start='initial'. Files of "
            "tickets hold none.",
        )
    return state


def own_start(ticket: Ticket) -> TrainedState:
    """Return where a training starts that goes on from what a ticket holds."""
    state = held_by(ticket)
    return TrainedState(state.at(ticket.mask), state.unmasked)


@working
def as_they_are(problem: Problem, tickets: Sequence[Ticket], starts: Sequence[Start]) -> Outcome:
    """Measure networks without training; the loss of the training split is not known, NaN."""
    parts = []
    for ticket, start in zip(tickets, starts, strict=True):
        assert start is not None
        state = {**problem.initial, **problem.buffers}
        for name, tensor in start.tensors(problem.layout, ticket.mask).items():
            state[name] = tensor.to(state[name])
        nothing = float("nan"), float("nan")
        splits = (problem.val, problem.test)
        each = [nothing if split is None else _measured(problem, state, split) for split in splits]
        numbers = [float("nan"), *each[0], *each[1]]
        parts.append(
            Outcome(
                metrics={n: np.array([x]) for n, x in zip(METRICS, numbers, strict=True)},
                curve_steps=(),
                curve=np.zeros((1, 0)),
                trained=[start],
                states=[{name: tensor.cpu().clone() for name, tensor in state.items()}],
            )
        )
    return Outcome.concatenate(parts)


def _measured(problem: Problem, state: State, split: Split) -> tuple[float, float]:
    """Return the loss and the accuracy of a network on a split, in evaluation mode."""
    model, mode = problem.model, problem.model.training
    score = Score(problem.recipe.loss, split[1], problem.ignored)
    try:
        model.eval()
        with torch.no_grad(), slow_path():
            for n, x, y in eval_batches(split):
                score.add(n, call_with(model, state, x), y)
    finally:
        model.train(mode)
    return score.result()

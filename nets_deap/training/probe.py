"""What a module computes and draws in a training step, found by trying one."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from nets_deap.training.batches import rows_of
from nets_deap.training.noise import keyed
from nets_deap.training.problem import Problem, once


@dataclass(frozen=True)
class Probe:
    """What was found.

    Attributes:
        flops: Operations of a forward pass of a minibatch.
        drops: Whether dropout is at work, so that each network needs keys; see ``noise``.
        draws: Whether random numbers of other kinds are drawn, which only a network alone can.
    """

    flops: float
    drops: bool
    draws: bool


@once
def probe(problem: Problem) -> Probe:
    """Take the forward pass of a minibatch, as training does, and look."""
    model = copy.deepcopy(problem.model).train()
    rows = slice(0, problem.recipe.batch_size)
    batch = rows_of(problem.train[0], rows)
    key = torch.zeros(2, dtype=torch.int32, device=problem.device)
    with torch.random.fork_rng(devices=_cuda(problem)), torch.no_grad():
        before = _states(problem)
        with FlopCounterMode(display=False) as counter, keyed(key) as drawn:
            model(batch)
            drops = drawn() > 0
        draws = any(not torch.equal(a, b) for a, b in zip(before, _states(problem), strict=True))
    return Probe(float(counter.get_total_flops()), drops, draws)


def _cuda(problem: Problem) -> list[torch.device]:
    """Return the CUDA device of a problem, if it has one."""
    return [problem.device] if problem.device.type == "cuda" else []


def _states(problem: Problem) -> list[torch.Tensor]:
    """Return the states of torch's generators that a problem could draw from."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in _cuda(problem))]

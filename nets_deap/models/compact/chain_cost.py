"""``chain_multiply_adds``: what a mask leaves of a task's network with convolutions."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from nets_deap.models.compact.sequential import Step, analyse, chain_of
from nets_deap.tickets import bits
from nets_deap.training.problem import Problem, once


@dataclass(frozen=True, eq=False)
class Plan:
    """A chain, and how often each of its layers is used for one example.

    Attributes:
        steps: The chain.
        uses: Places in the image that each layer works at, by the step's name; 1 once flattened.
    """

    steps: tuple[Step, ...]
    uses: Mapping[str, int]


def chain_multiply_adds(problem: Problem, mask: bits.Mask) -> int:
    """Count the multiply-adds for one example after cutting out a chain of layers.

    Each layer takes live in x live out x kernel at each place of its output. Filters that no
    input reaches count as gone: what they send is known only after training, and where it meets a
    border of zeros ``cut_out`` keeps one of them. Layers that are not maskable count whole.

    Args:
        problem: The task's; its model is a chain (see ``models.compact.compact.cut_out``).
        mask: Kept weights, bool (D,).

    Raises:
        InvalidValueError: The model is not a chain.
    """
    plan = _plan(problem)
    masks = problem.layout.split(mask)
    weighing = [step for step in plan.steps if step.weighs]
    gates = {
        step.name: masks.get(f"{step.name}.weight", np.ones(step.module.weight.shape, np.bool_))
        for step in weighing
    }
    inputs = analyse(plan.steps, gates, constants=False)
    selects = isinstance(weighing[0].module, nn.Linear)
    total = 0
    for i, step in enumerate(weighing):
        n_out, n_in, *kernel = step.module.weight.shape
        if i or selects:
            n_in = int(inputs[step.name].live.sum())
        if i + 1 < len(weighing):
            n_out = int(inputs[weighing[i + 1].name].live_channels.sum())
        total += plan.uses[step.name] * n_out * n_in * int(np.prod(kernel, dtype=np.int64))
    return total


@once
def _plan(problem: Problem) -> Plan:
    """Return the chain of a problem's model, with one example passed through it."""
    model = copy.deepcopy(problem.model).eval()
    steps, uses = chain_of(model), {}

    def look(name: str) -> Any:
        def hook(layer: Any, given: Any, output: torch.Tensor) -> None:
            uses[name] = output[0].numel() // layer.weight.shape[0]

        return hook

    for step in steps:
        if step.weighs:
            step.module.register_forward_hook(look(step.name))
    with torch.no_grad():
        model(problem.train[0][:1].clone())
    return Plan(steps, uses)

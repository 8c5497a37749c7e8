"""One masked network as a plain module: how it is filled, measured and handed over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from nets_deap.tickets import bits
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.batches import pieces
from nets_deap.training.engines.dropout import dropping
from nets_deap.training.losses import Loss, loss_of, n_correct
from nets_deap.training.problem import METRICS, Outcome, Plan, Problem, Split, Start


def fill(
    model: nn.Module, problem: Problem, packed: bits.Bytes, start: Start | None
) -> dict[str, Tensor]:
    """Put the initial state times a mask into a module, or a start; return the masks by name."""
    model.load_state_dict({**problem.initial, **problem.buffers}, strict=False)
    mask = bits.unpack(packed, problem.layout.size)
    gates = {
        name: torch.from_numpy(gate.copy()).to(problem.device)
        for name, gate in problem.layout.split(mask).items()
    }
    everything = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for name, tensor in problem.buffers.items():  # also those that are in no state dict
            everything[name].copy_(tensor)
        for name, gate in gates.items():
            everything[name].masked_fill_(~gate, 0)
        if start is not None:
            for name, tensor in start.tensors(problem.layout, mask).items():
                everything[name].copy_(tensor)
    return gates


def measure(
    model: nn.Module, problem: Problem, split: Split, keys: Tensor | None, loss: Loss
) -> tuple[float, float]:
    """Return loss and accuracy on a whole split, in evaluation mode.

    Args:
        model: The network.
        problem: What it belongs to.
        split: Inputs and targets.
        keys: The network's, for a module that drops out in evaluation, too; see ``noise``.
        loss: The network's loss.
    """
    model.eval()
    total, correct = 0.0, 0.0
    with torch.no_grad():
        for i, (n, x, y) in enumerate(pieces(split)):
            with dropping(keys, -1 - i):
                output = model(x)
                total += float(loss_of(loss, output, y)) * n
            correct += float(n_correct(loss, output, y))
    return total / len(split[0]), correct / len(split[0])


def outcome_of(
    model: nn.Module,
    problem: Problem,
    packed: bits.Bytes,
    plan: Plan,
    train_loss: float,
    curve: Sequence[float],
    keys: Tensor | None,
    loss: Loss,
) -> Outcome:
    """Measure a trained network as the plan says, and return all there is to know of it."""
    test = problem.test if plan.test else None
    none = (np.nan, np.nan)
    measured = (
        train_loss,
        *measure(model, problem, problem.val, keys, loss),
        *(none if test is None else measure(model, problem, test, keys, loss)),
    )
    mask = bits.unpack(packed, problem.layout.size)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    state = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    flat = torch.cat([state[name].reshape(-1) for name in problem.layout.names])
    return Outcome(
        metrics={
            n: np.array([m], dtype=np.float64) for n, m in zip(METRICS, measured, strict=True)
        },
        curve_steps=plan.curve_steps,
        curve=np.array([curve], dtype=np.float64).reshape(1, -1),
        trained=[TrainedState(flat.numpy()[mask], problem.unmasked_of(state))],
        states=[state] if plan.keep_states else [],
    )

"""The slow reference: each masked network trained alone, with plain autograd and plain loops.

It shares only the recipe's arithmetic and the minibatches with the other engines.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from nets_deap import bits
from nets_deap.training.device import seeded
from nets_deap.training.losses import loss_of, n_correct
from nets_deap.training.optimizers import make_optimizer, set_lr
from nets_deap.training.problem import METRICS, Outcome, Plan, Problem, Split, Start


def train_one_by_one(
    problem: Problem,
    masks: list[bits.Bytes],
    plan: Plan,
    *,
    starts: list[Start | None] | None = None,
    on_chunk: Callable[[int], None] | None = None,
) -> Outcome:
    """Train one network for each mask in turn; the same contract as ``train_stacked``."""
    parts = []
    for packed, start in zip(masks, starts or [None] * len(masks), strict=True):
        with seeded(plan.seed, problem.device):
            parts.append(_train(problem, packed, plan, start))
        if on_chunk is not None:
            on_chunk(1)
    return Outcome.concatenate(parts)


def _train(problem: Problem, packed: bits.Bytes, plan: Plan, start: Start | None) -> Outcome:
    """Train and measure one network."""
    model = copy.deepcopy(problem.model)
    model.load_state_dict({**problem.initial, **problem.buffers}, strict=False)
    mask = bits.unpack(packed, problem.layout.size)
    gates = {
        name: torch.from_numpy(gate.copy()).to(problem.device)
        for name, gate in problem.layout.split(mask).items()
    }
    named = dict(model.named_parameters())
    with torch.no_grad():
        for name, gate in gates.items():
            named[name].masked_fill_(~gate, 0)
        if start is not None:
            everything = {**named, **dict(model.named_buffers())}
            for name, tensor in start.tensors(problem.layout, mask).items():
                everything[name].copy_(tensor)
    trainable = [p for name, p in named.items() if name not in problem.frozen]
    optimizer = make_optimizer(problem.recipe, trainable, fused=False)
    batches = plan.batches(len(problem.train[0]), problem.recipe.batch_size).to(problem.device)
    tail, curve = 0.0, []
    for step, rows in enumerate(batches):
        model.train()
        optimizer.zero_grad()
        loss = loss_of(problem.recipe.loss, model(problem.train[0][rows]), problem.train[1][rows])
        loss.backward()  # type: ignore[no-untyped-call]
        for p in trainable:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        for name, gate in gates.items():
            if name not in problem.frozen:
                named[name].grad.masked_fill_(~gate, 0)  # type: ignore[union-attr]
        set_lr(optimizer, problem.recipe.lr_at(step, plan.steps))
        optimizer.step()
        if step >= plan.steps - plan.tail:
            tail += float(loss.detach())
        if step + 1 in plan.curve_steps:
            curve.append(_measure(model, problem.recipe.loss, problem.val)[0])
    test = problem.test if plan.test else None
    val_loss, val_accuracy = _measure(model, problem.recipe.loss, problem.val)
    test_loss, test_accuracy = (
        _measure(model, problem.recipe.loss, test) if test is not None else (np.nan, np.nan)
    )
    flat = torch.cat([named[name].detach().reshape(-1) for name in problem.layout.names])
    measured = (tail / plan.tail, val_loss, val_accuracy, test_loss, test_accuracy)
    return Outcome(
        metrics={
            n: np.array([m], dtype=np.float64) for n, m in zip(METRICS, measured, strict=True)
        },
        curve_steps=plan.curve_steps,
        curve=np.array([curve], dtype=np.float64).reshape(1, -1),
        values=[flat.cpu().numpy()[mask]],
        others=[problem.others_of(_full_state(model))],
        states=[_full_state(model)] if plan.keep_states else [],
    )


def _measure(model: nn.Module, loss: str, split: Split) -> tuple[float, float]:
    """Return loss and accuracy on a whole split."""
    model.eval()
    total = correct = 0.0
    parts = -(-len(split[0]) // 1000)
    with torch.no_grad():
        for x, y in zip(split[0].chunk(parts), split[1].chunk(parts), strict=True):
            output = model(x)
            total += float(loss_of(loss, output, y)) * len(x)
            correct += float(n_correct(loss, output, y))
    return total / len(split[0]), correct / len(split[0])


def _full_state(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of parameters and buffers by name, tied ones once."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}

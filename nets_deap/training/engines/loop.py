"""The slow reference: each masked network trained alone, with plain autograd and plain loops.

It shares only the recipe's arithmetic, the minibatches and the patterns of dropout with the other
engines. What draws random numbers of other kinds draws all from generators that a network's own
seed sets.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext

import torch

from nets_deap.tickets import bits
from nets_deap.training import interrupt
from nets_deap.training.batches import minibatch
from nets_deap.training.device import seeded
from nets_deap.training.engines.dropout import dropping, keys_of, seed_of
from nets_deap.training.engines.optimizers import make_optimizer, set_lr
from nets_deap.training.engines.probe import probe
from nets_deap.training.engines.single import fill, measure, outcome_of
from nets_deap.training.losses import loss_of
from nets_deap.training.problem import OnPart, Outcome, Plan, Problem, Start


def train_loop(
    problem: Problem,
    masks: list[bits.Bytes],
    plan: Plan,
    *,
    starts: list[Start | None] | None = None,
    on_chunk: Callable[[int], None] | None = None,
    on_part: OnPart | None = None,
) -> Outcome:
    """Train one network for each mask in turn; the same contract as ``train_vmap``."""
    parts = []
    pairs = zip(masks, starts or [None] * len(masks), strict=True)
    for i, (packed, start) in enumerate(pairs):
        seed = seed_of(packed, plan.seed)
        with seeded(seed, problem.device) if probe(problem).draws else nullcontext():
            parts.append(_train(problem, packed, plan, start))
        if on_part is not None:
            on_part([i], parts[-1])
        if on_chunk is not None:
            on_chunk(1)
    return Outcome.concatenate(parts)


def _train(problem: Problem, packed: bits.Bytes, plan: Plan, start: Start | None) -> Outcome:
    """Train and measure one network."""
    model = copy.deepcopy(problem.model)
    gates = fill(model, problem, packed, start)
    named = dict(model.named_parameters())
    trainable = [p for name, p in named.items() if name not in problem.frozen]
    optimizer = make_optimizer(problem.recipe, trainable, fused=False)
    batches = plan.batches(len(problem.train[0]), problem.recipe.batch_size).to(problem.device)
    keys = None
    if probe(problem).drops and not probe(problem).draws:
        keys = keys_of([packed], plan.seed, problem.device)[0]
    loss_function = problem.fresh_loss()
    tail, curve = 0.0, []
    for step, rows in enumerate(batches):
        interrupt.check()
        problem.begin(model)
        optimizer.zero_grad()
        inputs, targets = minibatch(problem, plan, step, rows)
        with dropping(keys, step):
            loss = loss_of(loss_function, model(inputs), targets)
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
            curve.append(measure(model, problem, problem.val, keys, loss_function)[0])
    return outcome_of(model, problem, packed, plan, tail / plan.tail, curve, keys, loss_function)

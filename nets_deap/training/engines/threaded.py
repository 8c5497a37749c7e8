"""The threaded engine: any module on the CPU, each network alone, the threads sharing networks.

Large products and convolutions gain nothing from a batch of networks on a few cores, and threads
that work on one network wait for each other; threads with networks of their own do not.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import torch
from torch import Tensor

from nets_deap import _checks
from nets_deap.tickets import bits
from nets_deap.training.batches import minibatch
from nets_deap.training.engines.cuda.optimizer import BITS
from nets_deap.training.engines.dropout import dropping, keys_of
from nets_deap.training.engines.optimizers import make_optimizer, set_lr
from nets_deap.training.engines.probe import probe
from nets_deap.training.engines.single import fill, measure, outcome_of
from nets_deap.training.engines.threads import Stop, share_out
from nets_deap.training.losses import loss_of
from nets_deap.training.problem import OnPart, Outcome, Plan, Problem, Start

# A forward pass of a minibatch with at least so many operations outweighs what Python costs.
WORTH_FLOPS = 5e6


_alone = threading.RLock()


def suits(problem: Problem) -> bool:
    """Return whether the threaded engine can train this problem.

    It takes any module on the CPU with data in memory, but none that draws random numbers other
    than those of dropout: threads would draw from torch's one generator in any order.
    """
    in_memory = isinstance(problem.train[0], Tensor)
    return problem.device.type == "cpu" and in_memory and not probe(problem).draws


def worth(problem: Problem) -> bool:
    """Return whether the module computes so much that threads beat a batch of networks."""
    return probe(problem).flops >= WORTH_FLOPS


def train_threaded(
    problem: Problem,
    masks: list[bits.Bytes],
    plan: Plan,
    *,
    starts: list[Start | None] | None = None,
    chunk: int | None = None,
    on_chunk: Callable[[int], None] | None = None,
    on_part: OnPart | None = None,
) -> Outcome:
    """Train one network for each mask; the same contract as ``train_vmap``.

    As many networks as torch has threads train at a time, at most ``chunk``.
    """
    begin: list[Start | None] = [None] * len(masks) if starts is None else starts
    with _alone:
        before = torch.get_num_threads()
    workers = min(before, len(masks))
    if chunk is not None:
        workers = min(workers, _checks.whole("chunk", chunk))
    batches = plan.batches(len(problem.train[0]), problem.recipe.batch_size)

    parts: list[Outcome] = []

    def work(i: int, stop: Stop) -> Outcome:
        return _train(problem, masks[i], plan, begin[i], batches, stop)

    def done(i: int, part: Outcome) -> None:
        parts.append(part)
        if on_part is not None:
            on_part([i], part)
        if on_chunk is not None:
            on_chunk(1)

    if workers == 1:  # torch's own threads share the one network
        for i in range(len(masks)):
            done(i, work(i, Stop()))
        return Outcome.concatenate(parts)
    # One call at a time: the number of threads belongs to the whole process.
    with _alone:
        torch.set_num_threads(max(1, before // workers))  # new threads take it over
        try:
            share_out(work, range(len(masks)), workers, done)
        finally:
            torch.set_num_threads(before)
    return Outcome.concatenate(parts)


def _train(
    problem: Problem, packed: bits.Bytes, plan: Plan, start: Start | None, batches: Tensor,
    stop: Stop,
) -> Outcome:  # fmt: skip
    """Train and measure one network."""
    model, recipe = copy.deepcopy(problem.model), problem.recipe
    gates = fill(model, problem, packed, start)
    trained = {n: p for n, p in model.named_parameters() if n not in problem.frozen}
    # Gradients are masked bit by bit: zero also where they are not finite.
    kept = {n: -g.to(BITS[trained[n].dtype]) for n, g in gates.items() if n in trained}
    optimizer = make_optimizer(recipe, list(trained.values()), fused=True)
    keys = keys_of([packed], plan.seed, problem.device)[0] if probe(problem).drops else None
    loss_function = problem.fresh_loss()
    tail, curve = torch.zeros((), dtype=torch.float64), []
    problem.begin(model)
    for step, rows in enumerate(batches):
        stop.check()
        optimizer.zero_grad()
        inputs, targets = minibatch(problem, plan, step, rows)
        with dropping(keys, step):
            loss = loss_of(loss_function, model(inputs), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        for name, p in trained.items():
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            if name in kept:
                p.grad = p.grad.contiguous()
                p.grad.view(kept[name].dtype).bitwise_and_(kept[name])
        set_lr(optimizer, recipe.lr_at(step, plan.steps))
        optimizer.step()
        if step >= plan.steps - plan.tail:
            tail += loss.detach()
        if step + 1 in plan.curve_steps:
            curve.append(measure(model, problem, problem.val, keys, loss_function)[0])
            problem.begin(model)
    return outcome_of(
        model, problem, packed, plan, float(tail) / plan.tail, curve, keys, loss_function
    )

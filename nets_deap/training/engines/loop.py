"""The loop engine: each masked network alone, with plain autograd; threads share the networks.

It trains any module. With ``threads=1`` it is the slow reference of all engines: plain loops that
share only the recipe's arithmetic, the minibatches and the patterns of dropout with the others.

Large products and convolutions gain nothing from a batch of networks on a few cores, and threads
that work on one network wait for each other; threads with networks of their own do not. But they
would draw from the one random state of the process in any order: what draws random numbers of other
kinds than dropout's trains in one thread, all its states seeded by the network's own seed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from nets_deap import _checks
from nets_deap.inputs.call import call
from nets_deap.models.private import copied, set_state
from nets_deap.tickets import bits
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.batches import eval_batches, minibatch
from nets_deap.training.device import seeded, threads_allowed, threads_limited
from nets_deap.training.engine import Engine
from nets_deap.training.engines.dropout import dropping, keys_of, seed_of
from nets_deap.training.engines.probe import probe
from nets_deap.training.losses import Loss, loss_of
from nets_deap.training.optimizers import is_known, limit, make_optimizer, set_lr, stackable
from nets_deap.training.precision import slow_path
from nets_deap.training.problem import METRICS, OnPart, Outcome, Plan, Problem, Split, Start
from nets_deap.training.score import Score
from nets_deap.training.step import WHOLE, backward
from nets_deap.training.threads import Stop, share_out

# A forward pass of a minibatch with at least so many operations outweighs what Python costs.
WORTH_FLOPS = 5e6


def takes_threads(problem: Problem) -> bool:
    """Return whether networks of a problem may train in threads, each with its own.

    On the CPU, with data in memory, and no random numbers but dropout's.
    """
    return problem.device.type == "cpu" and problem.in_memory and not probe(problem).draws


def worth_threads(problem: Problem) -> bool:
    """Return whether threads, where a problem takes them, beat a batch of networks."""
    return takes_threads(problem) and probe(problem).flops >= WORTH_FLOPS


def at_once(problem: Problem) -> int:
    """Return how many networks train at a time."""
    return threads_allowed() if takes_threads(problem) else 1


def train_loop(
    problem: Problem,
    masks: list[bits.Bytes],
    plan: Plan,
    *,
    starts: list[Start] | None = None,
    chunk: int | None = None,
    on_part: OnPart | None = None,
    threads: int | None = None,
) -> Outcome:
    """Train one network for each mask; see ``Train``.

    ``threads`` is 1 for the slow reference, None for as many as torch has. Where the problem takes
    no threads it is 1.
    """
    begin: list[Start] = [None] * len(masks) if starts is None else starts
    limit = len(masks) if chunk is None else _checks.whole("chunk", chunk)
    batches = plan.batches(problem.n_examples, problem.recipe.batch_size)
    if problem.in_memory:
        batches = batches.to(problem.device)
    plain = threads == 1 or not takes_threads(problem)
    parts: list[Outcome] = []

    def work(i: int, stop: Stop) -> Outcome:
        draws = probe(problem).draws
        own = seeded(seed_of(masks[i], plan.seed), problem.device) if draws else nullcontext()
        with own, slow_path():
            return _train(problem, masks[i], plan, begin[i], batches, stop.check, fused=not plain)

    def done(i: int, part: Outcome) -> None:
        parts.append(part)
        if on_part is not None:
            on_part([i], part)

    before = threads_allowed()
    workers = 1 if plain else min(threads or before, len(masks), limit)
    if workers == 1:  # torch's own threads share the one network
        for i in range(len(masks)):
            done(i, work(i, Stop()))
        return Outcome.concatenate(parts)
    each = max(1, before // workers)
    with threads_limited(each):
        begin_thread = functools.partial(torch.set_num_threads, each)
        share_out(work, range(len(masks)), workers, done, begin_thread)
    return Outcome.concatenate(parts)


def suits(problem: Problem) -> bool:
    """Return True: it trains any module, which ``probe`` sees take a step, with any optimiser.

    Raises:
        InvalidValueError: The recipe's factory does not make an optimiser of the parameters.
    """
    stackable(problem)  # or not: here it is whether there is an optimiser at all
    return bool(probe(problem))


ENGINE = Engine("loop", train_loop, suits, at_once, "any module")


def _train(
    problem: Problem,
    packed: bits.Bytes,
    plan: Plan,
    start: Start,
    batches: Tensor,
    check: Callable[[], None],
    *,
    fused: bool,
) -> Outcome:
    """Train and measure one network; ``check`` raises where it is to stop."""
    model = copied(problem.model)
    pruned = _fill(model, problem, packed, start)
    trained = {n: p for n, p in model.named_parameters() if n not in problem.frozen}
    recipe, tensors = problem.recipe, list(trained.values())
    optimizer = make_optimizer(recipe, tensors, fused=fused)
    keys = None
    if probe(problem).drops and not probe(problem).draws:
        keys = keys_of([packed], plan.seed, problem.device)[0]
    loss_function, own = problem.fresh_loss(), problem.own_step(model)
    tail, curve = torch.zeros((), dtype=torch.float64, device=problem.device), []
    missing = torch.zeros_like(tail)
    problem.begin(model)
    for step, rows in enumerate(batches):
        check()
        optimizer.zero_grad()
        inputs, targets = minibatch(problem, plan, step, rows)
        with dropping(keys, step):
            if own is None:
                losses = {WHOLE: loss_of(loss_function, call(model, inputs), targets)}
            else:
                losses = own(inputs, targets)
        loss = backward(losses, trained)
        for name, p in trained.items():
            # Without a gradient an optimiser skips decay and momentum, which the others apply.
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad.to_dense().contiguous()
            if name in pruned:  # filled, not multiplied: zero also where it is not finite
                p.grad.masked_fill_(pruned[name], 0)
        limit(recipe, tensors)
        set_lr(optimizer, recipe.lr_at(step, plan.steps))
        optimizer.step()
        if not is_known(recipe):  # others may move also what has no gradient
            with torch.no_grad():
                for name in pruned.keys() & trained.keys():
                    trained[name].masked_fill_(pruned[name], 0)
        if step >= plan.steps - plan.tail:
            # As in ``Chunk``: without labels a minibatch has no loss, and trains nothing.
            none = loss.detach().isnan() & (not recipe.descends_named)
            tail += loss.detach().masked_fill(none, 0)
            missing += none
        if step + 1 in plan.curve_steps:
            curve.append(_measure(model, problem, problem.val, keys, loss_function)[0])
            problem.begin(model)
    counted = plan.tail - float(missing)
    train_loss = float(tail) / counted if counted else torch.nan
    return _outcome(model, problem, packed, plan, train_loss, curve, keys, loss_function)


def _fill(
    model: nn.Module, problem: Problem, packed: bits.Bytes, start: Start
) -> dict[str, Tensor]:
    """Put W0 times a mask into a module, or a start; return what is pruned (bool) by name."""
    set_state(model, {**problem.initial, **problem.buffers})
    mask = bits.unpack(packed, problem.layout.size)
    pruned = {
        name: torch.from_numpy(~kept).to(problem.device)
        for name, kept in problem.layout.split(mask).items()
    }
    everything = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for name, gone in pruned.items():
            everything[name].masked_fill_(gone, 0)
        if start is not None:
            for name, tensor in start.tensors(problem.layout, mask).items():
                everything[name].copy_(tensor)
    return pruned


def _measure(
    model: nn.Module, problem: Problem, split: Split, keys: Tensor | None, loss: Loss
) -> tuple[float, float]:
    """Return loss and accuracy on a whole split, in evaluation mode.

    Args:
        model: The network.
        problem: What it belongs to.
        split: Inputs and targets.
        keys: The network's, for a module that drops out in evaluation, too; see ``dropout``.
        loss: The network's loss.
    """
    model.eval()
    score, pieces = Score(loss, split[1], problem.ignored), 0
    with torch.no_grad():
        for n, x, y in eval_batches(split):
            pieces += 1
            with dropping(keys, -pieces):
                score.add(n, call(model, x), y)
        with dropping(keys, -1 - pieces):
            return score.result()


def _outcome(
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
        *_measure(model, problem, problem.val, keys, loss),
        *(none if test is None else _measure(model, problem, test, keys, loss)),
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

"""The vmap engine: P masked networks of any module as one batch, through ``torch.func``.

Parameters are stacked along a leading axis P. One vectorised gradient, one fused optimiser step and
one pass of the masks serve all networks of a chunk. Because a gradient is masked before
the optimiser sees it, pruned weights, momenta and second moments stay exactly zero. On CUDA the
same step is replayed as a graph; see ``replayed``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from nets_deap import _checks
from nets_deap.tickets import bits
from nets_deap.tickets.trained import TrainedState
from nets_deap.training import interrupt
from nets_deap.training.batches import minibatch
from nets_deap.training.device import threads_for
from nets_deap.training.engines.cuda.chunk import memory_limit, train_with
from nets_deap.training.engines.cuda.optimizer import BITS
from nets_deap.training.engines.dropout import keys_of
from nets_deap.training.engines.engine import Engine
from nets_deap.training.engines.functional import Functional
from nets_deap.training.engines.optimizers import make_optimizer, set_lr
from nets_deap.training.engines.probe import probe
from nets_deap.training.engines.replayed import Replayed
from nets_deap.training.problem import METRICS, OnPart, Outcome, Plan, Problem, Split, Start, State

CPU_CHUNK_BYTES = 64 * 2**20
CPU_CHUNK_MAX = 512

Watch = Callable[[int, State, torch.optim.Optimizer], None]


def suits(problem: Problem) -> bool:
    """Return whether the engine can train this problem: nothing random in it but dropout."""
    return not probe(problem).draws


def train_vmap(
    problem: Problem,
    masks: list[bits.Bytes],
    plan: Plan,
    *,
    starts: list[Start | None] | None = None,
    chunk: int | None = None,
    on_part: OnPart | None = None,
    watch: Watch | None = None,
) -> Outcome:
    """Train one network for each mask, from W0, all on the same minibatches.

    Args:
        problem: Model, data and recipe.
        masks: P packed masks, not empty.
        plan: Steps, seed and what to measure.
        starts: Where each training starts; None for W0.
        chunk: Networks trained at once; None chooses by memory. It does not change the results
            beyond float rounding.
        on_part: Called with a finished chunk's places among the masks, and its outcome.
        watch: Called after every step with (step, stacked parameters, optimiser), for tests.

    Returns:
        The outcome in the order of ``masks``.
    """
    size = default_chunk(problem) if chunk is None else _checks.whole("chunk", chunk)
    in_place = isinstance(problem.train[0], Tensor) and problem.augment is None
    if problem.device.type == "cuda" and watch is None and in_place:
        return train_with(
            Replayed, problem, masks, plan,
            starts=starts, size=size, on_part=on_part,
        )  # fmt: skip
    batches = plan.batches(len(problem.train[0]), problem.recipe.batch_size).to(problem.device)
    parts = []
    for start in range(0, len(masks), size):
        stack = np.stack(masks[start : start + size])
        own: list[Start | None] = [None] * len(stack)
        if starts is not None:
            own = starts[start : start + size]
        parts.append(_Chunk(problem, stack, plan, own).run(batches, watch))
        if on_part is not None:
            on_part(range(start, start + len(stack)), parts[-1])
    return Outcome.concatenate(parts)


def default_chunk(problem: Problem) -> int:
    """Return how many networks to train at once: what the cache (CPU) or memory (CUDA) holds.

    Counts a weight, its gradient, two optimiser moments and its mask for each parameter. On two
    CPU cores, pieces that stay near the cache train fastest; large ones are several times slower.
    On CUDA see ``Replayed.bytes_of_one``.
    """
    if problem.device.type == "cuda":
        return max(1, memory_limit(problem.device) // Replayed.bytes_of_one(problem))
    one = 5 * problem.dtype.itemsize * sum(p.numel() for p in problem.initial.values())
    return max(1, min(CPU_CHUNK_MAX, CPU_CHUNK_BYTES // one))


ENGINE = Engine(
    "vmap",
    train_vmap,
    suits,
    default_chunk,
    "no random numbers in module and loss but dropout's",
)


class _Chunk:
    """Networks that train together: their stacked parameters, masks and buffers."""

    def __init__(
        self, problem: Problem, stack: bits.Bytes, plan: Plan, starts: list[Start | None]
    ) -> None:
        self.problem, self.plan, self.p = problem, plan, len(stack)
        self.masks = np.stack([bits.unpack(row, problem.layout.size) for row in stack])
        device = problem.device
        self.keys = keys_of(list(stack), plan.seed, device)
        self.trained: State = {}
        self.fixed: State = {}
        self.gates: State = {}
        self.shared: State = {}
        self._functional = Functional(problem, self.shared)
        gates = problem.layout.split(self.masks)
        for name, start in problem.initial.items():
            if name in problem.frozen and name not in gates:
                self.shared[name] = start
                continue
            tensor = start.unsqueeze(0).repeat(self.p, *[1] * start.ndim)
            if name in gates:
                gate = torch.from_numpy(np.ascontiguousarray(gates[name])).to(device)
                tensor.masked_fill_(~gate, 0)
                if name not in problem.frozen and not bool(gate.all()):
                    self.gates[name] = -gate.to(BITS[tensor.dtype])
            (self.fixed if name in problem.frozen else self.trained)[name] = tensor
        self.buffers: State = {
            name: start.unsqueeze(0).repeat(self.p, *[1] * start.ndim)
            for name, start in problem.buffers.items()
        }
        for i, begin in enumerate(starts):
            if begin is not None:
                for name, tensor in begin.tensors(problem.layout, self.masks[i]).items():
                    home = next(s for s in (self.trained, self.fixed, self.buffers) if name in s)
                    home[name][i] = tensor

    def run(self, batches: Tensor, watch: Watch | None) -> Outcome:
        """Train, measure and hand everything over as NumPy arrays."""
        plan = self.plan
        weights = sum(tensor.numel() for tensor in self.trained.values())
        device = self.problem.device
        with threads_for(weights, device):
            train_loss, curve = self._train(batches, watch)
            val_loss, val_accuracy = curve[-1] if curve else self._measure(self.problem.val)
            nothing = torch.full((self.p,), torch.nan, dtype=torch.float64)
            test_loss, test_accuracy = nothing, nothing
            if plan.test and self.problem.test is not None:
                test_loss, test_accuracy = self._measure(self.problem.test)
        stacked = {**self.trained, **self.fixed}
        flat = torch.cat([stacked[n].reshape(self.p, -1) for n in self.problem.layout.names], 1)
        final = flat.cpu().numpy()
        changed = {**self.trained, **self.buffers}.items()
        measured = (train_loss, val_loss, val_accuracy, test_loss, test_accuracy)
        return Outcome(
            metrics={n: t.cpu().numpy() for n, t in zip(METRICS, measured, strict=True)},
            curve_steps=plan.curve_steps,
            curve=np.stack([loss.cpu().numpy() for loss, _ in curve], axis=1)
            if curve
            else np.zeros((self.p, 0)),
            trained=[
                TrainedState(weights[mask], self.problem.unmasked_of({n: t[i] for n, t in changed}))
                for i, (weights, mask) in enumerate(zip(final, self.masks, strict=True))
            ],
            states=[self._state(i) for i in range(self.p)] if plan.keep_states else [],
        )

    def _train(
        self, batches: Tensor, watch: Watch | None
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Take all steps; return the training loss (P,) and the points of the curve."""
        problem, plan, tensors = self.problem, self.plan, list(self.trained.values())
        optimizer = make_optimizer(problem.recipe, tensors, fused=True)
        gradients_of = self._functional.gradients()
        tail = torch.zeros(self.p, dtype=torch.float64, device=problem.device)
        curve: list[tuple[Tensor, Tensor]] = []
        self._functional.begin()
        for step in range(plan.steps):
            interrupt.check()
            keys = self._functional.keys_at(self.keys, step)
            inputs, targets = minibatch(problem, plan, step, batches[step])
            batch = (self.trained, self.fixed, self.buffers, keys, inputs, targets)
            with self._functional.worded():
                gradients, (loss, self.buffers) = gradients_of(*batch)
            for name, tensor in self.trained.items():
                # Fused optimisers read memory in order, whatever the strides say.
                tensor.grad = gradients[name].contiguous()
                if name in self.gates:
                    gate = self.gates[name]
                    tensor.grad.view(gate.dtype).bitwise_and_(gate)
            set_lr(optimizer, problem.recipe.lr_at(step, plan.steps))
            optimizer.step()
            if step >= plan.steps - plan.tail:
                tail += loss.double()
            if watch is not None:
                watch(step, self.trained, optimizer)
            if step + 1 in plan.curve_steps:
                curve.append(self._measure(problem.val))
                self._functional.begin()
        return tail / plan.tail, curve

    def _measure(self, split: Split) -> tuple[Tensor, Tensor]:
        """Return loss (P,) and accuracy (P,) on a whole split, in evaluation mode."""
        state = (self.trained, self.fixed, self.buffers)
        return self._functional.measure(*state, self.keys, split)

    def _state(self, i: int) -> State:
        """Return parameters and buffers of one network, on the CPU."""
        own = {
            k: v[i].cpu().clone() for k, v in {**self.trained, **self.fixed, **self.buffers}.items()
        }
        return {**own, **{name: tensor.cpu() for name, tensor in self.shared.items()}}

"""What the engines are measured against: a lean torch loop, and plain ``torch.func.vmap``.

Both are written as an expert would write them for speed: data on the device, in-place masks, fused
optimisers, no synchronisation inside. Neither measures anything on the validation split.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from nets_deap.tickets import bits
from nets_deap.training.losses import loss_of
from nets_deap.training.optimizers import make_optimizer
from nets_deap.training.task import Task

Steps = Callable[[Tensor], None]
Named = dict[str, Tensor]


def one_at_a_time(task: Task, packed: bits.Bytes) -> tuple[Steps, Named]:
    """Return a function that trains one masked network on minibatches (S, B), and its tensors."""
    model = task.model.to(task.device).train()
    parameters: Named = dict(model.named_parameters())
    gates = _gates(task, packed)
    optimizer = make_optimizer(task.recipe, list(parameters.values()), fused=True)
    with torch.no_grad():
        for name, gate in gates.items():
            parameters[name].mul_(gate)
    inputs, targets = task.problem.train

    def run(batches: Tensor) -> None:
        for rows in batches:
            optimizer.zero_grad()
            loss = loss_of(task.recipe.loss, model(inputs[rows]), targets[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                for name, gate in gates.items():
                    parameters[name].grad.mul_(gate)  # type: ignore[union-attr]
            optimizer.step()

    return run, parameters


def plain_vmap(task: Task, masks: list[bits.Bytes]) -> tuple[Steps, Named]:
    """Return a function that trains P masked networks by ``torch.func.vmap``, and their tensors."""
    model = task.model.to(task.device).train()
    buffers = {
        name: b.unsqueeze(0).repeat(len(masks), *[1] * b.ndim) for name, b in model.named_buffers()
    }
    each = [_gates(task, packed) for packed in masks]
    gates = {name: torch.stack([one[name] for one in each]) for name in each[0]}
    stacked = {
        name: p.detach().unsqueeze(0).repeat(len(masks), *[1] * p.ndim)
        for name, p in model.named_parameters()
    }
    for name, gate in gates.items():
        stacked[name].mul_(gate)
    optimizer = make_optimizer(task.recipe, list(stacked.values()), fused=True)

    def loss_one(parameters: Named, own: Named, x: Tensor, y: Tensor) -> Tensor:
        fresh = {name: buffer.clone() for name, buffer in own.items()}  # written in place
        output = functional_call(model, {**parameters, **fresh}, (x,))
        return loss_of(task.recipe.loss, output, y)

    gradients = vmap(grad(loss_one), in_dims=(0, 0, None, None), randomness="different")
    inputs, targets = task.problem.train

    def run(batches: Tensor) -> None:
        for rows in batches:
            for name, gradient in gradients(stacked, buffers, inputs[rows], targets[rows]).items():
                if name in gates:
                    gradient.mul_(gates[name])
                stacked[name].grad = gradient.contiguous()
            optimizer.step()

    return run, stacked


def _gates(task: Task, packed: bits.Bytes) -> Named:
    """Return a mask as float tensors by name, on the task's device."""
    mask = bits.unpack(packed, task.layout.size)
    dtype = next(iter(task.problem.initial.values())).dtype
    return {
        name: torch.from_numpy(np.ascontiguousarray(gate)).to(task.device, dtype)
        for name, gate in task.layout.split(mask).items()
    }

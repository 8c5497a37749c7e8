"""Dense gradients of one masked network: what saliency and regrowth go by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nets_deap.inputs.call import call_with
from nets_deap.tickets import bits
from nets_deap.training.batches import rows_of
from nets_deap.training.losses import loss_of
from nets_deap.training.precision import plain_attention
from nets_deap.training.problem import Problem, Start, working


@contextmanager
def differentiable(model: nn.Module) -> Iterator[None]:
    """Compute with kernels whose gradients torch has in evaluation mode, and twice.

    Fused attention has no second derivative; cuDNN's recurrent layers have one in no mode, and the
    first in training mode only.
    """
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    cudnn = torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()
    with plain_attention(), cudnn:
        yield


@working
def dense_gradient(
    problem: Problem, mask: bits.Mask, rows: torch.Tensor, start: Start = None
) -> NDArray[Any]:
    """Return the gradient of the mean training loss by every maskable weight, pruned ones too.

    Args:
        problem: Model, data and recipe; the model works in evaluation mode here.
        mask: Kept weights, bool (D,); pruned weights are zero.
        rows: Indices of the training examples, shape (N,).
        start: Weights to take it at; None for W0.

    Returns:
        Shape (D,), in mask order, on the CPU; zero for weights that the loss does not depend on.
    """
    state = {**problem.initial, **problem.buffers}
    if start is not None:
        state.update(
            {n: t.to(problem.device) for n, t in start.tensors(problem.layout, mask).items()}
        )
    leaves = {}
    for name, gate in problem.layout.split(mask).items():
        kept = torch.from_numpy(np.ascontiguousarray(gate)).to(problem.device)
        leaves[name] = state[name].detach().masked_fill(~kept, 0).requires_grad_()
    model = problem.model
    mode = model.training
    try:
        with differentiable(model.eval()):
            output = call_with(model, {**state, **leaves}, rows_of(problem.train[0], rows))
            loss = loss_of(problem.recipe.loss, output, rows_of(problem.train[1], rows))
            found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    finally:
        model.train(mode)
    flat = [
        (torch.zeros_like(leaf) if gradient is None else gradient).reshape(-1)
        for leaf, gradient in zip(leaves.values(), found, strict=True)
    ]
    return torch.cat(flat).cpu().numpy()

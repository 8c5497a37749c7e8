"""Dense gradients of one masked network: what saliency and regrowth go by."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nets_deap.inputs.call import call_with
from nets_deap.tickets import bits
from nets_deap.training.batches import rows_of
from nets_deap.training.losses import loss_of
from nets_deap.training.problem import Problem, Start, working


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
        output = call_with(model.eval(), {**state, **leaves}, rows_of(problem.train[0], rows))
        loss = loss_of(problem.recipe.loss, output, rows_of(problem.train[1], rows))
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    finally:
        model.train(mode)
    flat = [
        (torch.zeros_like(leaf) if gradient is None else gradient).reshape(-1)
        for leaf, gradient in zip(leaves.values(), found, strict=True)
    ]
    return torch.cat(flat).cpu().numpy()

"""Saliency of weights at W0: SNIP, GraSP and SynFlow, larger = keep."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nets_deap import _checks
from nets_deap.inputs.call import call_with
from nets_deap.inputs.nested import each
from nets_deap.inputs.parts import tensors_of
from nets_deap.models.private import copied
from nets_deap.tickets import bits
from nets_deap.training.batches import rows_of
from nets_deap.training.gradients import dense_gradient, differentiable
from nets_deap.training.losses import loss_of
from nets_deap.training.problem import at_work, working
from nets_deap.training.task import Task

# Modules that SynFlow replaces by the identity: a linear network conserves saliency.
_ACTIVATIONS = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SELU,
    nn.SiLU,
    nn.Hardtanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.Tanh,
)


def snip_scores(task: Task, rows: NDArray[np.int64]) -> NDArray[np.floating]:
    """Return |g * w| at W0, shape (D,), with g the gradient of the mean loss over ``rows``.

    Args:
        task: The task.
        rows: Indices of training examples, shape (N,).
    """
    dense, initial = task.dense_ticket(), task.layout.require_initial()
    gradient = dense_gradient(task.problem, dense.mask, torch.from_numpy(rows))
    scores: NDArray[np.floating] = np.abs(gradient * initial)
    return scores


@working
def grasp_scores(task: Task, rows: NDArray[np.int64], temperature: float) -> NDArray[np.floating]:
    """Return w * (H g) at W0, shape (D,), with the loss over outputs divided by ``temperature``.

    This is the paper's score with its sign turned round: its largest are pruned, these are kept.

    Args:
        task: The task.
        rows: Indices of training examples, shape (N,).
        temperature: What logits are divided by, > 0.
    """
    problem = task.problem
    names = task.layout.names
    leaves = {name: problem.initial[name].detach().clone().requires_grad_() for name in names}
    state = {**problem.initial, **problem.buffers, **leaves}
    chosen = torch.from_numpy(rows)
    inputs, targets = rows_of(problem.train[0], chosen), rows_of(problem.train[1], chosen)
    model, mode = problem.model, problem.model.training
    try:
        with differentiable(model.eval()):
            output = call_with(model, state, inputs)
            if temperature != 1:  # else outputs may be anything, such as a dictionary
                output = output / temperature
            loss = loss_of(problem.recipe.loss, output, targets)
            weights = list(leaves.values())
            first = torch.autograd.grad(loss, weights, create_graph=True, materialize_grads=True)
            # The gradient of g'g with one g held fixed is H g.
            product = torch.stack([(g.detach() * g).sum() for g in first]).sum()
            second = torch.autograd.grad(product, weights, materialize_grads=True)
    finally:
        model.train(mode)
    return _flat([w.detach() * hg for w, hg in zip(weights, second, strict=True)])


class SynFlow:
    """Synaptic flow of a task's network: |w * dR/dw| under a mask, without data.

    R is the sum of the outputs for an input of ones when every parameter is replaced by its
    absolute value and every activation module by the identity. Inputs that are not floating-point,
    such as indices and masks, are those of the first training example. In float64: products over
    many layers leave the range of float32. The model works in evaluation mode.

    Args:
        task: The task.
    """

    def __init__(self, task: Task) -> None:
        self.layout, self.problem = task.layout, task.problem
        with at_work(self.problem):
            self.model = _linearised(self.problem.model).double().eval()
            everything = {**self.problem.initial, **self.problem.buffers}
            self.state = {
                name: t.detach().double().abs() if t.is_floating_point() else t.clone()
                for name, t in everything.items()
            }
            self.ones = each(rows_of(self.problem.train[0], slice(0, 1)), _ones)

    @working
    def scores(self, mask: bits.Mask) -> NDArray[np.floating]:
        """Return the scores of all maskable weights, shape (D,); 0 for pruned ones.

        Args:
            mask: Kept weights, shape (D,).

        Raises:
            InvalidValueError: R overflows even float64.
        """
        leaves: dict[str, Tensor] = {}
        for name, gate in self.layout.split(mask).items():
            kept = torch.from_numpy(np.ascontiguousarray(gate)).to(self.problem.device)
            leaves[name] = (self.state[name] * kept).requires_grad_()
        with differentiable(self.model):
            given = call_with(self.model, {**self.state, **leaves}, self.ones)
            flow = torch.stack([output.sum() for output in tensors_of(given)]).sum()
            weights = list(leaves.values())
            gradients = torch.autograd.grad(flow, weights, materialize_grads=True)
        found = _flat([(w.detach() * g).abs() for w, g in zip(weights, gradients, strict=True)])
        if not np.isfinite(found).all():
            raise _checks.bad_value(
                "model",
                "have a finite synaptic flow",
                "products of |w| over all layers within float64",
                float(flow.detach()),
                "Scale the initial weights down.",
            )
        return found


def _ones(tensor: Tensor) -> Tensor:
    """Return ones for floating-point inputs; indices and masks as they are."""
    real = tensor.is_floating_point()
    return torch.ones_like(tensor, dtype=torch.float64) if real else tensor


def _linearised(model: nn.Module) -> nn.Module:
    """Return a copy of a module in which activation modules pass their input through."""
    linear = copied(model)
    for module in list(linear.modules()):
        for name, child in list(module._modules.items()):  # a shared one each time
            if isinstance(child, _ACTIVATIONS):
                setattr(module, name, nn.Identity())
    return linear


def _flat(tensors: list[Tensor]) -> NDArray[np.floating]:
    """Return tensors as one vector (D,) in mask order."""
    flat: NDArray[np.floating] = torch.cat([t.reshape(-1) for t in tensors]).cpu().numpy()
    return flat

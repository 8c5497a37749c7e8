"""Dense gradients of masked networks: what saliency and regrowth go by.

``dense_gradient`` is torch's own, of one network of any module; ``cheap_gradient`` is the same for
networks that the compiled engine trains, at a third of the time where few weights are kept;
``gradients_together`` is the same of several networks as one batch, as the vmap engine trains them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import nn
from torch.func import grad, vmap

from nets_deap.inputs.call import call_with
from nets_deap.models.feedforward import Feedforward, feedforward_of
from nets_deap.models.modes import quiet
from nets_deap.models.private import copied
from nets_deap.tickets import bits
from nets_deap.training.batches import rows_of
from nets_deap.training.device import threads_for
from nets_deap.training.engines.cpu.arguments import RELU, TANH
from nets_deap.training.engines.cpu.engine import suits
from nets_deap.training.engines.cpu.geometry import ACTIVATIONS
from nets_deap.training.engines.cuda.weights import Weights
from nets_deap.training.engines.functional import NO_RULE
from nets_deap.training.engines.memory import Pieces
from nets_deap.training.losses import loss_of
from nets_deap.training.precision import plain_attention
from nets_deap.training.problem import Problem, Start, State, once, working

# A layer that keeps less than this share of its weights is quicker as a sparse matrix.
SPARSE_BELOW = 0.1


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


@working
def gradients_together(
    problem: Problem,
    masks: Sequence[bits.Bytes],
    rows: torch.Tensor,
    starts: Sequence[Start],
    *,
    at_once: int,
) -> list[NDArray[Any]]:
    """Return what ``dense_gradient`` does, to rounding, of several networks as one batch.

    Args:
        problem: One whose networks the vmap engine trains.
        masks: Packed masks of n networks.
        rows: Indices of the training examples, shape (N,), the same for all.
        starts: As many as masks: weights to take it at; None for W0.
        at_once: Networks in one batch, at most; fewer where memory runs out.

    Returns:
        Of each network shape (D,), as ``dense_gradient``.
    """
    pieces = Pieces(max(1, min(at_once, len(masks))), 1, problem.device)
    # Copies: both may keep what they see, and would keep batched tensors.
    model, loss_function = copied(problem.model).eval(), problem.fresh_loss()

    def loss(leaves: State, others: State, buffers: State, x: Any, y: Any) -> torch.Tensor:
        # A module may write to its buffers, even in evaluation mode.
        fresh = {name: buffer.clone() for name, buffer in buffers.items()}
        return loss_of(loss_function, call_with(model, {**others, **leaves, **fresh}, x), y)

    def of(some: slice, _: int) -> NDArray[Any]:
        packed = np.stack(masks[some])
        weights = Weights(problem, len(packed))
        weights.refill(packed, list(starts[some]))
        inputs, targets = (rows_of(part, rows) for part in problem.train)
        own = {**weights.fixed, **weights.trained}
        leaves = {name: own.pop(name) for name in problem.layout.names}

        def of_one(leaves: State, own: State, buffers: State) -> State:
            others = {**weights.shared, **own}
            one: State = grad(loss)(leaves, others, buffers, inputs, targets)
            return one

        with differentiable(model), quiet.held(NO_RULE):
            found: State = vmap(of_one)(leaves, own, weights.buffers)
        flat = [found[name].reshape(len(packed), -1) for name in problem.layout.names]
        together: NDArray[Any] = torch.cat(flat, 1).cpu().numpy()
        return together

    return list(np.concatenate(pieces.of(of, len(masks))))


@working
def cheap_gradient(
    problem: Problem, mask: bits.Mask, rows: torch.Tensor, start: Start = None
) -> NDArray[Any]:
    """Return what ``dense_gradient`` does, to rounding, in the quickest way.

    Of the three products of a fully connected layer those that read its weights are as sparse as
    these, so that only the last one, deltas times inputs, is dense.
    """
    network = _fully_connected(problem)
    if network is None:
        return dense_gradient(problem, mask, rows, start)
    values = {name: tensor.numpy() for name, tensor in problem.initial.items()}
    kept = None
    if start is not None:
        kept = start.values
        values.update(start.unmasked)
    layout, dtype = problem.layout, values[network.weights[0]].dtype
    weights, at = {}, 0
    for layer in layout.layers:
        gate = mask[layer.start : layer.stop]
        own = bits.places(gate)
        initial = values[layer.name].reshape(-1)[own]
        n = len(initial)
        weights[layer.name] = _matrix(
            layer.shape, own, initial if kept is None else kept[at : at + n]
        )
        at += n
    inputs = rows_of(problem.train[0], rows).reshape(len(rows), -1).numpy()
    assert network.activation is not None
    kind, acts = ACTIVATIONS[network.activation], [np.ascontiguousarray(inputs.T)]  # (units, B)
    # Warnings would be of a network that diverged; torch has none either.
    with np.errstate(all="ignore"), threads_for(layout.size, problem.device):
        for i, (name, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
            sums = _product(weights.get(name, values[name]), acts[-1])
            if bias is not None:
                sums += weights.get(bias, values[bias]).astype(dtype, copy=False)[:, None]
            acts.append(sums if i == len(network.weights) - 1 else _activated(kind, sums))
        with torch.enable_grad():
            output = torch.from_numpy(np.ascontiguousarray(acts.pop().T)).requires_grad_()
            loss = loss_of(problem.recipe.loss, output, rows_of(problem.train[1], rows))
            (found,) = torch.autograd.grad(loss, output)
        deltas = np.ascontiguousarray(found.numpy().T)
        gradient = np.empty(layout.size, dtype)
        split = layout.split(gradient)
        pairs = zip(network.weights, network.biases, strict=True)
        for name, bias in reversed([*pairs]):
            before = acts.pop()
            if bias in split:
                np.sum(deltas, axis=1, out=split[bias])
            if name in split:
                torch.mm(
                    *map(torch.from_numpy, (deltas, before.T)), out=torch.from_numpy(split[name])
                )
            if acts:
                back = _product(weights.get(name, values[name]).T, deltas)
                deltas = back * _derivative(kind, before)
    return gradient


@once
def _fully_connected(problem: Problem) -> Feedforward | None:
    """Return the layers of a network that the compiled engine trains; None for any other."""
    return feedforward_of(problem.model) if suits(problem) else None


def _matrix(shape: tuple[int, ...], own: bits.Places, values: NDArray[Any]) -> Any:
    """Return a layer's weights (units, inputs), or biases, from the kept ones and their places."""
    if len(shape) == 1:
        biases = np.zeros(shape, values.dtype)
        biases[own] = values
        return biases
    n_out, n_in = shape
    if isinstance(own, slice) or len(own) > SPARSE_BELOW * n_out * n_in:
        whole = np.zeros(n_out * n_in, values.dtype)
        whole[own] = values
        return whole.reshape(shape)
    starts = np.searchsorted(own, n_in * np.arange(n_out + 1))
    return csr_array((values, own % n_in, starts), shape=shape)


def _product(weights: Any, units: NDArray[Any]) -> NDArray[Any]:
    """Return weights (n, m), sparse or not, times units (m, B)."""
    if isinstance(weights, np.ndarray):  # by torch, whose threads are counted
        return torch.mm(torch.from_numpy(weights), torch.from_numpy(units)).numpy()
    found: NDArray[Any] = weights @ units
    return found


def _activated(kind: int, sums: NDArray[Any]) -> NDArray[Any]:
    """Return the activations of a hidden layer, from its sums."""
    if kind == RELU:
        found: NDArray[Any] = np.maximum(sums, 0)
    else:
        found = np.tanh(sums) if kind == TANH else 1 / (1 + np.exp(-sums))
    return found


def _derivative(kind: int, acts: NDArray[Any]) -> NDArray[Any]:
    """Return the derivative of the activation, from its values; at 0 that of ReLU is 0."""
    if kind == RELU:
        found: NDArray[Any] = acts > 0
    else:
        found = 1 - acts * acts if kind == TANH else acts * (1 - acts)
    return found

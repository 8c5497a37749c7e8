"""Compiled optimiser: the limits of a network's gradient, and a step of a layer's parameters."""

from __future__ import annotations

import numpy as np

from nets_deap.training.engines.cpu._compile import compiled
from nets_deap.training.engines.cpu.arguments import (
    Array,
    Convolutions,
    Kept,
    Layers,
    Optimizer,
    Parameters,
    Together,
)


@compiled
def clip(
    layers: Layers, own: Kept, convolutions: Convolutions | None, together: Together | None,
    optimizer: Optimizer, grad: Array,
) -> None:  # fmt: skip
    """Limit the gradient of a network: each number of it, or the norm of what is trained."""
    most, zero = grad.dtype.type(optimizer.clip_value), grad.dtype.type(0)
    if optimizer.clip_value > 0:
        for i in range(len(grad)):  # comparisons that NaN passes, as in torch
            g = grad[i]
            grad[i] = most if g > most else -most if g < -most else g
        return
    total = 0.0
    for layer in range(len(own.starts) - 1):
        i, j = own.starts[layer], own.starts[layer + 1]
        mask = own.masks[own.mask_starts[layer] : own.mask_starts[layer + 1]]
        for k in range(len(mask)):
            grad[i + k] = grad[i + k] if mask[k] else zero
        # Behind the weights come biases, and in stages factors and terms, which may not be trained.
        vectors, n = 1, 0
        if layer >= layers.stages:
            n = layers.sizes[layer - layers.stages + 1]
        elif convolutions is not None:
            n = convolutions.stages.filters[layer]
        elif together is not None:
            n = together.net.stages.filters[layer]
            vectors = 3 if together.norms.kinds[layer] else 1
            for leaf in range(1, vectors):
                if not together.norms.trains[layer, leaf - 1]:
                    grad[j - (3 - leaf) * n : j - (2 - leaf) * n] = 0
        if not layers.biased[layer]:
            grad[j - vectors * n : j - (vectors - 1) * n] = 0
        for k in range(i, j):
            total += grad[k] * grad[k]
    limit = optimizer.clip_norm / (np.sqrt(total) + 1e-6)
    if not limit >= 1:  # also where it is NaN
        factor = grad.dtype.type(limit)
        for k in range(len(grad)):
            grad[k] *= factor


@compiled
def optimizer_step(
    optimizer: Optimizer, own: Parameters, grad: Array, mask: Array, lr: float, step: int
) -> None:
    """Take one step of a layer's parameters; ``step`` counts from 1.

    A layer with a mask has its pruned weights' gradients set to zero first.
    """
    theta, m, v = own
    one, zero = theta.dtype.type(1), theta.dtype.type(0)
    # A pruned weight starts at 0. With no gradient its momentum stays 0, and decay of 0 is 0, so
    # that it stays exactly 0 under every rule. Sparse layers hold no pruned weights, and have no
    # mask unless biases or the like are pruned; nor has a whole matrix that keeps all.
    if len(mask):
        for i in range(len(mask)):
            grad[i] = grad[i] if mask[i] else zero
    # The settings are float64; ``one *`` rounds them to the networks' dtype, without which numba
    # would widen a float32 loop to float64, at half the lanes. What needs powers and roots is
    # rounded only after those, as in torch.
    b1, l2, keep = one * optimizer.momentum, one * optimizer.l2, one * (1 - lr * optimizer.decay)
    if optimizer.adam:
        # The corrections of both means for having started at 0, taken out of the loop over the
        # weights: that of m goes into the step's size, that of v into a factor of its root (not
        # into v, because eps is added to the corrected root).
        size = one * (lr / (1 - optimizer.momentum**step))
        root = one * (1 / np.sqrt(1 - optimizer.beta2**step))
        b2, eps = one * optimizer.beta2, one * 1e-8
        for i in range(len(theta)):
            w = theta[i] * keep
            g = grad[i] + l2 * w
            m[i] += (g - m[i]) * (one - b1)
            v[i] = v[i] * b2 + g * g * (one - b2)
            theta[i] = w - size * m[i] / (np.sqrt(v[i]) * root + eps)
    else:
        # Nesterov's step is g + b1 m, the plain one m: a factor 0 or 1 instead of a branch.
        rate, ahead = one * lr, one * optimizer.nesterov
        for i in range(len(theta)):
            g = grad[i] + l2 * theta[i]
            m[i] = m[i] * b1 + g
            theta[i] -= rate * (m[i] + ahead * (g + m[i] * b1 - m[i]))

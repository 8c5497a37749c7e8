"""Compiled losses: the loss of a block of examples, its gradient, and what counts as correct."""

from __future__ import annotations

import numpy as np

from nets_deap.training.engines.cpu._compile import compiled
from nets_deap.training.engines.cpu.arguments import BINARY, CROSS_ENTROPY, SQUARED, Array
from nets_deap.training.engines.cpu.blocks import LANES


@compiled
def loss_and_deltas(
    kind: int, outputs: Array, labels: Array, targets: Array, n: int, size: int, deltas: Array
) -> float:
    """Return the summed loss of ``n`` examples; write the gradient of the mean over ``size``.

    ``outputs`` and ``deltas`` are (units, LANES), flat; ``labels`` (n,) are classes for the cross
    entropy, ``targets`` (n, units) numbers for the other losses, whose sums are over units / units.
    """
    if kind == CROSS_ENTROPY:
        return _cross_entropy(outputs, labels, n, size, deltas)
    units = len(outputs) // LANES
    zero, one = outputs.dtype.type(0), outputs.dtype.type(1)
    # float64 for the loss alone: it is reported, while training sees only the deltas, which keep
    # the networks' dtype. ``one *`` in the divisors keeps the integers from widening them.
    total = 0.0
    for c in range(units):
        for b in range(n):
            z, t = outputs[c * LANES + b], targets[b, c]
            if kind == BINARY:
                # log(1 + exp(z)) - z t, written so that exp only gets numbers below 0 and cannot
                # overflow.
                far = np.exp(-abs(z))
                total += max(z, zero) - z * t + np.log1p(far)
                # Stable on either side, and exactly 0 or 1 where the output is certain.
                share = one / (one + far) if z >= zero else far / (one + far)
                deltas[c * LANES + b] = (share - t) / (one * size * units)
            else:
                total += (z - t) * (z - t)
                deltas[c * LANES + b] = (one + one) * (z - t) / (one * size * units)
        # backward sums over whole vectors: a lane without an example must add nothing.
        deltas[c * LANES + n : (c + 1) * LANES] = 0
    return total / units


@compiled
def _cross_entropy(logits: Array, labels: Array, n: int, size: int, deltas: Array) -> float:
    """Return the summed cross entropy of ``n`` examples; write its gradient over ``size``."""
    classes = len(logits) // LANES
    one = logits.dtype.type(1)
    top = logits[:LANES].copy()
    sums = np.zeros(LANES, logits.dtype)
    # Classes outside and lanes inside in every loop, as the memory lies. The greatest logit of each
    # example goes first: exp(logit - top) is at most 1, and 1 for one class, so that neither does
    # exp overflow nor the sum vanish. A NaN may lose the comparison; it comes back through exp.
    for c in range(1, classes):
        own = logits[c * LANES : (c + 1) * LANES]
        for b in range(LANES):
            top[b] = own[b] if own[b] > top[b] else top[b]
    for c in range(classes):
        for b in range(n):
            e = np.exp(logits[c * LANES + b] - top[b])
            deltas[c * LANES + b] = e
            sums[b] += e
    total = 0.0
    for b in range(n):
        total += np.log(sums[b]) + top[b] - logits[labels[b] * LANES + b]
    # Softmax first, then - 1, then / size: where the output is certain, e / sum is exactly 1 and
    # the delta exactly 0. Any other order leaves a rounding error, which Adam, whose steps do not
    # depend on the gradient's size, would turn into steps of the full learning rate.
    for c in range(classes):
        for b in range(n):
            deltas[c * LANES + b] /= sums[b]
        deltas[c * LANES + n : (c + 1) * LANES] = 0
    for b in range(n):
        deltas[labels[b] * LANES + b] -= one
    for c in range(classes):
        for b in range(n):
            deltas[c * LANES + b] /= one * size
    return total


@compiled
def count_correct(kind: int, outputs: Array, labels: Array, targets: Array, n: int) -> float:
    """Count the correct outputs of ``n`` examples; NaN where the loss defines none."""
    units, correct = len(outputs) // LANES, 0.0
    if kind == SQUARED:
        return np.nan
    for b in range(n):
        if kind == CROSS_ENTROPY:
            best = 0
            for c in range(units):
                # Strictly greater: the first of equal ones counts, as in torch's argmax.
                if outputs[c * LANES + b] > outputs[best * LANES + b]:
                    best = c
            correct += best == labels[b]
        else:
            for c in range(units):
                right = (outputs[c * LANES + b] > 0) == (targets[b, c] > 0.5)
                correct += right / units
    return correct

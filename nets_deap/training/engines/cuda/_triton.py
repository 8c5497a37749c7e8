"""Triton kernels: an optimiser's step and the mask in one pass over a stacked tensor.

A tensor of P networks has ``size`` weights for each. Learning rate and bias corrections are read
from a schedule at a counter on the device; ``hyper`` holds beta1, beta2, epsilon, momentum, the L2
term and the decoupled decay, in the weights' precision. Arguments have no annotations but
``constexpr``, because the compiler reads them.

One pass over weight, gradient, moments and mask is what these kernels are for: torch's fused
optimiser and a mask of its own read and write the gradient once more, and memory is what a step of
many small networks waits for. A captured launch repeats its arguments: what changes from step to
step is read on the device.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _updated(
    w, g, m, v, rates, counter, hyper,
    KIND: tl.constexpr, MOMENTUM: tl.constexpr, NESTEROV: tl.constexpr,
):  # fmt: skip
    """Return weights and moments after one step, as torch.optim computes them."""
    at = rates + 3 * tl.load(counter)
    lr = tl.load(at)
    w_new = w
    if KIND == 1:
        # Adam's m / (1 - beta1^t) and v / (1 - beta2^t) without powers: the schedule holds
        # lr / (1 - beta1^t) and the root of (1 - beta2^t) of each step.
        beta1, beta2 = tl.load(hyper), tl.load(hyper + 1)
        g = g + tl.load(hyper + 4) * w
        w_new = w - lr * tl.load(hyper + 5) * w
        m = m + (1 - beta1) * (g - m)
        v = beta2 * v + (1 - beta2) * g * g
        w_new = w_new - tl.load(at + 1) * m / (tl.sqrt(v) / tl.load(at + 2) + tl.load(hyper + 2))
    else:
        g = g + tl.load(hyper + 4) * w
        if MOMENTUM:
            momentum = tl.load(hyper + 3)
            m = momentum * m + g
            g = g + momentum * m if NESTEROV else m
        w_new = w - lr * g
    return w_new, m, v


@triton.jit
def dense_step(
    weights, gradients, firsts, seconds, halves, packed,
    rates, counter, hyper, size, start, n_bytes,
    KIND: tl.constexpr, MOMENTUM: tl.constexpr, NESTEROV: tl.constexpr,
    MASKED: tl.constexpr, HALVES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Step all weights of one network's tensor: programs (blocks of a network, networks).

    Pruned weights and their moments are written as exact zeros, whatever their gradients are. The
    mask is read packed: the bits from ``start`` on of each network's ``n_bytes``.
    """
    network = tl.program_id(1).to(tl.int64)
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = o < size
    base = network * size
    w = tl.load(weights + base + o, mask=inside, other=0.0)
    g = tl.load(gradients + base + o, mask=inside, other=0.0).to(w.dtype)
    m, v = w, w
    if MOMENTUM:
        m = tl.load(firsts + base + o, mask=inside, other=0.0)
    if KIND == 1:
        v = tl.load(seconds + base + o, mask=inside, other=0.0)
    w, m, v = _updated(w, g, m, v, rates, counter, hyper, KIND, MOMENTUM, NESTEROV)
    if MASKED:
        place = start + o
        byte = tl.load(packed + network * n_bytes + (place >> 3), mask=inside, other=0).to(tl.int32)
        kept = ((byte >> (place & 7)) & 1) != 0
        w = tl.where(kept, w, 0.0)
        m = tl.where(kept, m, 0.0)
        v = tl.where(kept, v, 0.0)
    tl.store(weights + base + o, w, mask=inside)
    if HALVES:
        tl.store(halves + base + o, w.to(halves.dtype.element_ty), mask=inside)
    if MOMENTUM:
        tl.store(firsts + base + o, m, mask=inside)
    if KIND == 1:
        tl.store(seconds + base + o, v, mask=inside)


@triton.jit
def kept_step(
    weights, gradients, firsts, seconds, halves, places,
    count, rates, counter, hyper,
    KIND: tl.constexpr, MOMENTUM: tl.constexpr, NESTEROV: tl.constexpr,
    HALVES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Step the kept weights of a tensor alone, listed by ``places``; moments stand in that order.

    Programs stride over the list, whose length ``count`` is read on the device: the same launch
    serves masks of any density that the list has capacity for.
    """
    n = tl.load(count)
    for block in range(tl.program_id(0), tl.cdiv(n, BLOCK), tl.num_programs(0)):
        # One weight a thread: a list's end stands nowhere in particular, so that no thread can load
        # four at once, and neighbours would load every fourth.
        o = tl.max_contiguous(block * BLOCK + tl.arange(0, BLOCK), 1)
        inside = o < n
        at = tl.load(places + o, mask=inside, other=0)
        w = tl.load(weights + at, mask=inside, other=0.0)
        g = tl.load(gradients + at, mask=inside, other=0.0).to(w.dtype)
        m, v = w, w
        if MOMENTUM:
            m = tl.load(firsts + o, mask=inside, other=0.0)
        if KIND == 1:
            v = tl.load(seconds + o, mask=inside, other=0.0)
        w, m, v = _updated(w, g, m, v, rates, counter, hyper, KIND, MOMENTUM, NESTEROV)
        tl.store(weights + at, w, mask=inside)
        if HALVES:
            tl.store(halves + at, w.to(halves.dtype.element_ty), mask=inside)
        if MOMENTUM:
            tl.store(firsts + o, m, mask=inside)
        if KIND == 1:
            tl.store(seconds + o, v, mask=inside)


@triton.jit
def cross_entropy(
    outputs, labels, losses, deltas, classes, width, batch,
    CLASSES: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Write one network's mean loss and its gradient by the outputs (classes, width).

    Columns from ``batch`` on are padding without loss and gradient. One program a network.
    """
    network = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, CLASSES)[:, None]
    b = tl.arange(0, WIDTH)[None, :]
    inside = (c < classes) & (b < width)
    at = network * classes * width + c * width + b
    z = tl.load(outputs + at, mask=inside, other=-float("inf")).to(losses.dtype.element_ty)
    y = tl.load(labels + b, mask=b < width, other=0)
    # Padded columns would be -inf all through: their top is set to 0 before it is subtracted.
    top = tl.where(b < width, tl.max(z, axis=0)[None, :], 0.0)
    e = tl.exp(z - top)
    total = tl.where(b < width, tl.sum(e, axis=0)[None, :], 1.0)
    true = c == y
    chosen = tl.sum(tl.where(true & inside, z, 0.0), axis=0)[None, :]
    counted = b < batch
    loss = tl.where(counted, tl.log(total) - (chosen - top), 0.0)
    tl.store(losses + network, tl.sum(tl.sum(loss, axis=1), axis=0) / batch)
    delta = tl.where(counted, (e / total - tl.where(true, 1.0, 0.0)) / batch, 0.0)
    tl.store(deltas + at, delta.to(deltas.dtype.element_ty), mask=inside)

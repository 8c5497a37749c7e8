"""Compiled loops of the sparse trainer: fully connected networks whose cost falls with density.

A network is one vector of parameters: for each layer its kept weights row by row, then its biases.
``rows`` says where each neuron's weights start in that vector (for each layer one number more than
it has neurons: the last is where its biases start), ``cols`` which unit of the layer before each
weight reads. The minibatch is the vector dimension: activations have the shape (units, WIDTH).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

WIDTH = 64

# Sums may be reordered; comparisons with NaN stay true to IEEE, or divergence would go unseen.
_FAST = {"reassoc", "contract", "arcp", "nsz"}
_compiled = numba.njit(cache=True, fastmath=_FAST, nogil=True)


@_compiled
def forward(sizes: Any, biased: Any, rows: Any, cols: Any, theta: Any, acts: Any) -> None:
    """Fill the activations of all units after the inputs; the last layer stays linear."""
    before, unit, row = 0, sizes[0], 0
    last = len(sizes) - 2
    for layer in range(last + 1):
        n_out = sizes[layer + 1]
        for o in range(n_out):
            out = acts[unit + o]
            bias = theta[rows[row + n_out] + o] if biased[layer] else theta[0] * 0
            for b in range(WIDTH):
                out[b] = bias
            k, stop = rows[row + o], rows[row + o + 1]
            while k + 4 <= stop:
                w0, w1, w2, w3 = theta[k], theta[k + 1], theta[k + 2], theta[k + 3]
                x0, x1 = acts[before + cols[k]], acts[before + cols[k + 1]]
                x2, x3 = acts[before + cols[k + 2]], acts[before + cols[k + 3]]
                for b in range(WIDTH):
                    out[b] += w0 * x0[b] + w1 * x1[b] + w2 * x2[b] + w3 * x3[b]
                k += 4
            while k < stop:
                w, x = theta[k], acts[before + cols[k]]
                for b in range(WIDTH):
                    out[b] += w * x[b]
                k += 1
            if layer < last:
                for b in range(WIDTH):
                    if out[b] < 0:
                        out[b] = 0
        before = unit
        unit += n_out
        row += n_out + 1


@_compiled
def backward(
    sizes: Any, biased: Any, rows: Any, cols: Any, theta: Any, acts: Any, deltas: Any, grad: Any
) -> None:
    """Turn the deltas of the last layer, in ``deltas``, into the gradient of all parameters."""
    row, unit, zero = len(rows), len(acts), theta[0] * 0
    for layer in range(len(sizes) - 2, -1, -1):
        n_out, n_in = sizes[layer + 1], sizes[layer]
        row -= n_out + 1
        unit -= n_out
        before = unit - n_in
        if layer > 0:
            deltas[before:unit] = 0
        for o in range(n_out):
            d = deltas[unit + o]
            if biased[layer]:
                total = zero
                for b in range(WIDTH):
                    total += d[b]
                grad[rows[row + n_out] + o] = total
            k, stop = rows[row + o], rows[row + o + 1]
            while k + 4 <= stop:
                x0, x1 = acts[before + cols[k]], acts[before + cols[k + 1]]
                x2, x3 = acts[before + cols[k + 2]], acts[before + cols[k + 3]]
                t0, t1, t2, t3 = zero, zero, zero, zero
                for b in range(WIDTH):
                    t0 += d[b] * x0[b]
                    t1 += d[b] * x1[b]
                    t2 += d[b] * x2[b]
                    t3 += d[b] * x3[b]
                grad[k], grad[k + 1], grad[k + 2], grad[k + 3] = t0, t1, t2, t3
                k += 4
            while k < stop:
                x = acts[before + cols[k]]
                total = zero
                for b in range(WIDTH):
                    total += d[b] * x[b]
                grad[k] = total
                k += 1
            if layer > 0:
                for k in range(rows[row + o], rows[row + o + 1]):
                    w, back = theta[k], deltas[before + cols[k]]
                    for b in range(WIDTH):
                        back[b] += w * d[b]
        if layer > 0:
            for i in range(before, unit):
                for b in range(WIDTH):
                    if acts[i, b] <= 0:
                        deltas[i, b] = 0


@_compiled
def loss_and_deltas(logits: Any, labels: Any, n: int, deltas: Any) -> Any:
    """Return the summed cross entropy of ``n`` examples; write d(mean loss)/d(logits)."""
    classes = len(logits)
    total = 0.0
    for b in range(n):
        top = logits[0, b]
        for c in range(classes):
            if logits[c, b] > top:
                top = logits[c, b]
        one = top * 0 + 1
        sum_ = top * 0
        for c in range(classes):
            e = np.exp(logits[c, b] - top)
            deltas[c, b] = e
            sum_ += e
        total += np.log(sum_) + top - logits[labels[b], b]
        # Softmax first, then - 1, then / n: exactly zero where the output is certain.
        for c in range(classes):
            deltas[c, b] /= sum_
        deltas[labels[b], b] -= one
        for c in range(classes):
            deltas[c, b] /= one * n
    deltas[:, n:] = 0
    return total


@_compiled
def adam(
    theta: Any, grad: Any, m: Any, v: Any, lr: Any, beta1: Any, beta2: Any, decay: Any,
    shrink: Any, step: int,
) -> None:  # fmt: skip
    """Take one step of Adam; ``decay`` is an L2 term, ``shrink`` AdamW's decoupled one."""
    one = theta[0] * 0 + 1
    size = one * (lr / (1 - beta1**step))
    root = one * (1 / np.sqrt(1 - beta2**step))
    b1, b2, eps, keep, l2 = (
        one * beta1,
        one * beta2,
        one * 1e-8,
        one * (1 - lr * shrink),
        one * decay,
    )
    for i in range(len(theta)):
        w = theta[i] * keep
        g = grad[i] + l2 * w
        m[i] += (g - m[i]) * (one - b1)
        v[i] = v[i] * b2 + g * g * (one - b2)
        theta[i] = w - size * m[i] / (np.sqrt(v[i]) * root + eps)


@_compiled
def train(
    data: Any, labels: Any, batches: Any, live: Any, sizes: Any, biased: Any, where: Any,
    all_rows: Any, cols: Any, theta: Any, m: Any, v: Any, lrs: Any, hyper: Any, first: int,
    losses: Any, tail: int,
) -> None:  # fmt: skip
    """Take the steps of ``batches`` (S, B) with all networks between ``where``'s places."""
    units, n_rows = 0, 0
    for layer in range(len(sizes)):
        units += sizes[layer]
        if layer:
            n_rows += sizes[layer] + 1
    acts = np.zeros((units, WIDTH), theta.dtype)
    deltas = np.zeros((units, WIDTH), theta.dtype)
    grad = np.zeros(len(theta), theta.dtype)
    y = np.zeros(WIDTH, np.int64)
    n = batches.shape[1]
    top = units - sizes[-1]
    for s in range(len(batches)):
        for b in range(n):
            y[b] = labels[batches[s, b]]
        for i in range(len(live)):
            for b in range(n):
                acts[i, b] = data[batches[s, b], live[i]]
        for p in range(len(where) - 1):
            a, z = where[p], where[p + 1]
            rows = all_rows[p * n_rows : (p + 1) * n_rows]
            w, c, g = theta[a:z], cols[a:z], grad[a:z]
            forward(sizes, biased, rows, c, w, acts)
            loss = loss_and_deltas(acts[top:], y, n, deltas[top:])
            backward(sizes, biased, rows, c, w, acts, deltas, g)
            adam(
                w, g, m[a:z], v[a:z], lrs[s], hyper[0], hyper[1], hyper[2], hyper[3], first + s + 1
            )
            if first + s >= tail:
                losses[p] += loss / n


@_compiled
def measure(
    data: Any, labels: Any, sizes: Any, biased: Any, rows: Any, cols: Any, theta: Any
) -> tuple[float, float]:
    """Return the mean cross entropy and the accuracy of one network on a whole split."""
    units = 0
    for layer in range(len(sizes)):
        units += sizes[layer]
    acts = np.zeros((units, WIDTH), theta.dtype)
    deltas = np.zeros((sizes[-1], WIDTH), theta.dtype)
    top = units - sizes[-1]
    total, correct = 0.0, 0
    for start in range(0, len(labels), WIDTH):
        n = min(WIDTH, len(labels) - start)
        y = labels[start : start + n]
        for i in range(sizes[0]):
            for b in range(n):
                acts[i, b] = data[start + b, i]
        forward(sizes, biased, rows, cols, theta, acts)
        total += loss_and_deltas(acts[top:], y, n, deltas)
        for b in range(n):
            best = 0
            for c in range(sizes[-1]):
                if acts[top + c, b] > acts[top + best, b]:
                    best = c
            correct += best == y[b]
    return total / len(labels), correct / len(labels)

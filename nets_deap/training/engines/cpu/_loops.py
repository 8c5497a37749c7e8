"""Compiled loops over steps and networks: minibatches, optimiser, validation.

How a network is held: see ``_layers``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nets_deap.training.engines.cpu._layers import backward, compiled, forward
from nets_deap.training.engines.cpu._losses import count_correct, loss_and_deltas
from nets_deap.training.engines.cpu.network import LANES, TILE


@compiled
def optimise(
    theta: Any, grad: Any, m: Any, v: Any, gates: Any, rule: Any, lr: float, step: int
) -> None:
    """Take one step of the optimiser; where there are gates, pruned weights stay exactly zero.

    ``rule``: 0 for Adam or 1 for SGD, beta1 or momentum, beta2 or 1 for Nesterov's, L2 term,
    decoupled decay.
    """
    one, zero = theta.dtype.type(1), theta.dtype.type(0)
    if len(gates):
        for i in range(len(gates)):
            grad[i] = grad[i] if gates[i] else zero
    b1, l2, keep = one * rule[1], one * rule[3], one * (1 - lr * rule[4])
    if rule[0] == 0:
        size = one * (lr / (1 - rule[1] ** step))
        root = one * (1 / np.sqrt(1 - rule[2] ** step))
        b2, eps = one * rule[2], one * 1e-8
        for i in range(len(theta)):
            w = theta[i] * keep
            g = grad[i] + l2 * w
            m[i] += (g - m[i]) * (one - b1)
            v[i] = v[i] * b2 + g * g * (one - b2)
            theta[i] = w - size * m[i] / (np.sqrt(v[i]) * root + eps)
    else:
        rate, ahead = one * lr, one * rule[2]
        for i in range(len(theta)):
            g = grad[i] + l2 * theta[i]
            m[i] = m[i] * b1 + g
            theta[i] -= rate * (m[i] + ahead * (g + m[i] * b1 - m[i]))


@compiled
def fetch(data: Any, chosen: Any, live: Any, x: Any, x0: int, xt: Any, xt0: int) -> None:
    """Put examples into a block: (inputs, LANES) of the live inputs, and example by example."""
    n, width = len(chosen), data.shape[1]
    stride = (width + TILE - 1) // TILE * TILE
    if len(xt):
        for b in range(n):
            xt[xt0 + b * stride : xt0 + b * stride + width] = data[chosen[b]]
    for b in range(n, LANES):
        for j in range(len(live)):
            x[(x0 + live[j]) * LANES + b] = 0
    for j in range(len(live)):
        i = live[j]
        own = x[(x0 + i) * LANES : (x0 + i + 1) * LANES]
        for b in range(n):
            own[b] = data[chosen[b], i]


@compiled
def train(
    kinds: Any, data: Any, labels: Any, targets: Any, batches: Any, live: Any, sizes: Any,
    biased: Any, dense: Any, starts: Any, col_starts: Any, gate_starts: Any, rows: Any,
    cols: Any, gates: Any, theta: Any, m: Any, v: Any, lrs: Any, rule: Any, first: int,
    losses: Any, tail: int, span: int,
    x: Any, xt: Any, acts: Any, deltas: Any, turned: Any, grad: Any, more: Any,
) -> None:  # fmt: skip
    """Take the steps of ``batches`` (S, B) with G networks, ``span`` steps of each in turn.

    ``kinds`` are the activation and the loss; examples have labels or targets, not both.
    The arrays after ``span`` are room to work in; ``starts`` and its like have a row a network.
    """
    size, n_in = batches.shape[1], sizes[0]
    blocks = (size + LANES - 1) // LANES
    stride = (n_in + TILE - 1) // TILE * TILE
    top = len(acts) - sizes[-1] * LANES
    y = np.zeros((span * blocks, LANES), np.int64)
    t = np.zeros((span * blocks, LANES, targets.shape[1]), targets.dtype)
    for s0 in range(0, len(batches), span):
        s1 = min(s0 + span, len(batches))
        for s in range(s0, s1):
            for block in range(blocks):
                chosen = batches[s, block * LANES : (block + 1) * LANES]
                place = (s - s0) * blocks + block
                fetch(data, chosen, live, x, place * n_in, xt, place * LANES * stride)
                for b in range(len(chosen)):
                    if len(labels):
                        y[place, b] = labels[chosen[b]]
                    else:
                        t[place, b] = targets[chosen[b]]
        for p in range(len(starts)):
            a, z = starts[p, 0], starts[p, -1]
            own, w, g = starts[p] - a, theta[a:z], grad[: z - a]
            for s in range(s0, s1):
                loss = 0.0
                for block in range(blocks):
                    place = (s - s0) * blocks + block
                    n = min(LANES, size - block * LANES)
                    forward(
                        kinds[0], sizes, biased, dense[p], own, col_starts[p], rows[p], cols, w,
                        x, place * n_in, acts, n,
                    )  # fmt: skip
                    loss += loss_and_deltas(
                        kinds[1], acts[top:], y[place], t[place], n, size, deltas[top:]
                    )
                    into = g if block == 0 else more[: z - a]
                    backward(
                        kinds[0], sizes, biased, dense[p], own, col_starts[p], rows[p], cols, w,
                        x, place * n_in, xt, place * LANES * stride, acts, deltas, turned, into, n,
                    )  # fmt: skip
                    if block > 0:
                        for i in range(z - a):
                            g[i] += into[i]
                for layer in range(len(sizes) - 1):
                    i, j = starts[p, layer], starts[p, layer + 1]
                    gate = gates[gate_starts[p, layer] : gate_starts[p, layer + 1]]
                    optimise(
                        theta[i:j], grad[i - a : j - a], m[i:j], v[i:j], gate, rule, lrs[s],
                        first + s + 1,
                    )  # fmt: skip
                if first + s >= tail:
                    losses[p] += loss / size


@compiled
def measure(
    kinds: Any, x: Any, labels: Any, targets: Any, n_examples: int, sizes: Any, biased: Any,
    dense: Any, starts: Any, col_starts: Any, rows: Any, cols: Any, theta: Any, acts: Any,
    deltas: Any,
) -> tuple[float, float]:  # fmt: skip
    """Return the mean loss and the accuracy of one network on a split in blocks."""
    top = len(acts) - sizes[-1] * LANES
    total, correct = 0.0, 0.0
    for first in range(0, n_examples, LANES):
        n = min(LANES, n_examples - first)
        y, t = labels[first : first + n], targets[first : first + n]
        forward(
            kinds[0], sizes, biased, dense, starts, col_starts, rows, cols, theta,
            x, first // LANES * sizes[0], acts, n,
        )  # fmt: skip
        total += loss_and_deltas(kinds[1], acts[top:], y, t, n, n, deltas[top:])
        correct += count_correct(kinds[1], acts[top:], y, t, n)
    return total / n_examples, correct / n_examples

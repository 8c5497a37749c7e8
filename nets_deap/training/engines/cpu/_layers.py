"""Compiled loops over layers: forward and backward of one network on one block of examples.

A network is one vector ``theta``, layer after layer: its weights, then its biases. A sparse layer
holds its kept weights row by row; ``cols`` tells which unit of the layer before each one reads. A
dense layer holds all weights, its rows padded with zeros to a multiple of ``TILE`` columns;
``masks`` marks those that are kept. ``rows`` says where each unit's weights start within the
layer. Examples come in blocks of ``LANES``: activations have the shape (units, LANES), flat.
"""

from __future__ import annotations

import numpy as np

from nets_deap.training.engines.cpu._compile import compiled
from nets_deap.training.engines.cpu._vectors import (
    TILE_ROWS,
    rectified_sum,
    sparse_back,
    sparse_dot,
    sparse_gradient,
    tile_of_one,
    tile_of_rows,
)
from nets_deap.training.engines.cpu.arguments import RELU, TANH, Array, Buffers, Kept, Layers
from nets_deap.training.engines.cpu.blocks import LANES, TILE


@compiled
def product(
    a: Array, a0: int, a_row: int, a_step: int, steps: int, b: Array, b0: int, b_step: int,
    c: Array, c0: int, c_row: int, n_rows: int, n_columns: int,
) -> None:  # fmt: skip
    """Set c = a b, dense, tile by tile; TILE divides ``n_columns``.

    Each matrix is a flat array and where it starts. ``a`` (n_rows, steps) has any two strides, so
    that it may be a transposed view; the rows of ``b`` (steps, n_columns) and ``c`` (n_rows,
    n_columns) are contiguous.
    """
    whole = n_rows - n_rows % TILE_ROWS
    for r in range(0, whole, TILE_ROWS):
        for j in range(0, n_columns, TILE):
            tile_of_rows(
                a, a0 + r * a_row, a_row, a_step, steps, b, b0 + j, b_step,
                c, c0 + r * c_row + j, c_row,
            )  # fmt: skip
    # The last one to three rows one at a time: each is at most 1 / TILE_ROWS of a full pass.
    for r in range(whole, n_rows):
        for j in range(0, n_columns, TILE):
            tile_of_one(
                a, a0 + r * a_row, a_row, a_step, steps, b, b0 + j, b_step,
                c, c0 + r * c_row + j, c_row,
            )  # fmt: skip


@compiled
def activate(act: int, units: Array, n: int) -> None:
    """Apply tanh or the logistic function to the first ``n`` lanes of all units, in place."""
    one = units.dtype.type(1)
    # exp and tanh are a call of the C library for each number, so that empty lanes are left out.
    for i in range(0, len(units), LANES):
        for b in range(i, i + n):
            units[b] = np.tanh(units[b]) if act == TANH else one / (one + np.exp(-units[b]))


@compiled
def multiply_derivatives(act: int, acts: Array, deltas: Array) -> None:
    """Multiply deltas by the derivative of tanh or the logistic function, from its value."""
    one = acts.dtype.type(1)
    for i in range(len(deltas)):
        derivative = one - acts[i] * acts[i] if act == TANH else acts[i] * (one - acts[i])
        deltas[i] *= derivative


@compiled
def forward(
    layers: Layers, kept: Kept, theta: Array, inputs: Array, block: int, acts: Array, n: int
) -> None:
    """Fill the activations of all units from one block of inputs; the last layer stays linear.

    Of ``n`` examples; the lanes beyond are zero in all units that pass gradients on, so that
    nothing that overflows there reaches a gradient.
    """
    act, sizes, rows, cols = layers.activation, layers.sizes, kept.rows, kept.cols
    zero = theta.dtype.type(0)
    # The layer before: unit ``before`` of ``inputs``, which are the activations after layer 0.
    before, unit, row = block * sizes[0], 0, 0
    if layers.stages:
        inputs, before, unit = acts, 0, sizes[0]
    last = len(sizes) - 2
    for layer in range(last + 1):
        held = layers.stages + layer
        n_in, n_out, start = sizes[layer], sizes[layer + 1], kept.starts[held]
        # The end of the last row is where the weights end and the biases start.
        bias = start + rows[row + n_out]
        if kept.dense[held]:
            stride = rows[row + 1]
            product(
                theta, start, stride, 1, n_in, inputs, before * LANES, LANES,
                acts, unit * LANES, LANES, n_out, LANES,
            )  # fmt: skip
            for o in range(n_out):
                own = acts[(unit + o) * LANES : (unit + o + 1) * LANES]
                add = theta[bias + o] if layers.biased[held] else zero
                for b in range(LANES):
                    own[b] += add
                if layer < last and act == RELU:
                    for b in range(LANES):
                        # Not max(): NaN is not below zero and stays, as in torch.
                        own[b] = zero if own[b] < zero else own[b]
        else:
            # The bias and ReLU are done while the unit's sum is still in registers.
            weights = theta[start:bias]
            columns = cols[kept.col_starts[held] : kept.col_starts[held + 1]]
            for o in range(n_out):
                add = theta[bias + o] if layers.biased[held] else zero
                sparse_dot(
                    weights, columns, rows[row + o], rows[row + o + 1], inputs, before, add,
                    acts, unit + o, layer < last and act == RELU,
                )  # fmt: skip
        if layer < last:
            own = acts[unit * LANES : (unit + n_out) * LANES]
            if act != RELU:
                activate(act, own, n)
            # An empty lane holds what the biases alone give. Its delta is 0, but 0 times an
            # activation that overflowed is NaN, and sums over whole vectors would take that in.
            for o in range(n_out):
                own[o * LANES + n : (o + 1) * LANES] = 0
        inputs, before = acts, unit
        unit += n_out
        row += n_out + 1


@compiled
def backward(
    layers: Layers, kept: Kept, theta: Array, work: Buffers, block: int, grad: Array, n: int
) -> None:
    """Turn the deltas of the last layer, in ``work``, into the gradient of all parameters.

    ``work`` also holds the inputs of the block and the activations that ``forward`` left.
    """
    act, sizes, rows, cols = layers.activation, layers.sizes, kept.rows, kept.cols
    acts, deltas = work.acts, work.deltas
    row, unit = len(rows), len(acts) // LANES
    last = len(sizes) - 2
    for layer in range(last, -1, -1):
        held = layers.stages + layer
        n_in, n_out, start = sizes[layer], sizes[layer + 1], kept.starts[held]
        row -= n_out + 1
        unit -= n_out
        before = unit - n_in
        bias = start + rows[row + n_out]
        if layer < last and act != RELU:
            multiply_derivatives(
                act, acts[unit * LANES :], deltas[unit * LANES : (unit + n_out) * LANES]
            )
        # One pass over the deltas for both: ReLU's derivative, and the biases' gradient.
        for o in range(n_out):
            total = rectified_sum(deltas, acts, unit + o, layer < last and act == RELU)
            if layers.biased[held]:
                grad[bias + o] = total
        if kept.dense[held]:
            # Gradient (n_out, padded inputs) = deltas (n_out, n) times inputs (n, padded inputs):
            # here the vector is a row of weights, so that the inputs must lie example by example.
            # Those of the network were gathered like that, where any network needs it.
            stride = rows[row + 1]
            if held == 0:
                product(
                    deltas, unit * LANES, LANES, 1, n,
                    work.examples, block * LANES * stride, stride,
                    grad, start, stride, n_out, stride,
                )  # fmt: skip
            else:
                transpose(acts[before * LANES :], n_in, stride, work.transposed)
                product(
                    deltas, unit * LANES, LANES, 1, n, work.transposed, 0, stride,
                    grad, start, stride, n_out, stride,
                )  # fmt: skip
                # Deltas of the layer before = transposed weights times deltas: ``a`` read with its
                # two strides swapped. Pruned weights are zeros in theta, so that they add nothing.
                product(
                    theta, start, 1, stride, n_out, deltas, unit * LANES, LANES,
                    deltas, before * LANES, LANES, n_in, LANES,
                )  # fmt: skip
        else:
            weights, gradient = theta[start:bias], grad[start:bias]
            columns = cols[kept.col_starts[held] : kept.col_starts[held + 1]]
            # The kept weights of a row scatter into the deltas before, which thus start at zero;
            # the dense product above sets them. The network's own inputs need no deltas.
            if held > 0:
                deltas[before * LANES : unit * LANES] = 0
            for o in range(n_out):
                k, stop = rows[row + o], rows[row + o + 1]
                if held == 0:
                    x0 = block * n_in
                    sparse_gradient(deltas, unit + o, work.inputs, x0, columns, k, stop, gradient)
                else:
                    sparse_gradient(deltas, unit + o, acts, before, columns, k, stop, gradient)
                    sparse_back(weights, columns, k, stop, deltas, unit + o, deltas, before)


@compiled
def transpose(units: Array, n: int, stride: int, out: Array) -> None:
    """Transpose activations (n, LANES) into (LANES, stride), the columns beyond n zero."""
    # The zeros make the gradient of the padding zero, which thus stays zero in theta.
    for b in range(LANES):
        out[b * stride + n : (b + 1) * stride] = 0
    for i in range(n):
        for b in range(LANES):
            out[b * stride + i] = units[i * LANES + b]

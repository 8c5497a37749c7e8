"""Compiled loops over layers: forward and backward of one network on one block of examples.

A network is one vector ``theta``, layer after layer: its weights, then its biases. A sparse layer
holds its kept weights row by row; ``cols`` tells which unit of the layer before each one reads. A
dense layer holds all weights, its rows padded with zeros to a multiple of ``TILE`` columns;
``gates`` marks those that are kept. ``rows`` says where each neuron's weights start within the
layer. Examples come in blocks of ``LANES``: activations have the shape (units, LANES), flat.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numba
import numpy as np

from nets_deap.training.engines.cpu._vectors import (
    FAST,
    TILE_ROWS,
    rectified_sum,
    sparse_back,
    sparse_dot,
    sparse_gradient,
    tile_of_one,
    tile_of_rows,
)
from nets_deap.training.engines.cpu.network import LANES, TILE

RELU, TANH, SIGMOID = 0, 1, 2

_SOURCES = ("_vectors.py", "_layers.py", "_losses.py", "_loops.py", "network.py")


def _stamp() -> tuple[Any, ...]:
    """Return what tells the sources of all compiled code from other versions of them."""
    found = (Path(__file__).with_name(name).stat() for name in _SOURCES)
    return tuple((one.st_mtime_ns, one.st_size) for one in found)


def compiled(function: Any) -> Any:
    """Compile a function, kept on disk until any of the sources changes.

    numba looks at the function's own file alone, although compiled functions hold the code of
    those that they call.
    """
    made: Any = numba.njit(cache=True, fastmath=set(FAST), nogil=True, error_model="numpy")(
        function
    )
    made._cache._cache_file._source_stamp = _stamp()
    return made


@compiled
def product(
    a: Any, a0: int, a_row: int, a_step: int, steps: int, b: Any, b0: int, b_step: int,
    c: Any, c0: int, c_row: int, n_rows: int, n_columns: int,
) -> None:  # fmt: skip
    """Set a dense product tile by tile; see ``_vectors``. TILE divides ``n_columns``."""
    whole = n_rows - n_rows % TILE_ROWS
    for r in range(0, whole, TILE_ROWS):
        for j in range(0, n_columns, TILE):
            tile_of_rows(
                a, a0 + r * a_row, a_row, a_step, steps, b, b0 + j, b_step,
                c, c0 + r * c_row + j, c_row,
            )  # fmt: skip
    for r in range(whole, n_rows):
        for j in range(0, n_columns, TILE):
            tile_of_one(
                a, a0 + r * a_row, a_row, a_step, steps, b, b0 + j, b_step,
                c, c0 + r * c_row + j, c_row,
            )  # fmt: skip


@compiled
def bend(act: int, units: Any, n: int) -> None:
    """Apply tanh or the logistic function to the first ``n`` lanes of all units, in place."""
    one = units.dtype.type(1)
    for i in range(0, len(units), LANES):
        for b in range(i, i + n):
            units[b] = np.tanh(units[b]) if act == TANH else one / (one + np.exp(-units[b]))


@compiled
def unbend(act: int, acts: Any, deltas: Any) -> None:
    """Multiply deltas by the slope of the activation, told from its value."""
    one = acts.dtype.type(1)
    for i in range(len(deltas)):
        slope = one - acts[i] * acts[i] if act == TANH else acts[i] * (one - acts[i])
        deltas[i] *= slope


@compiled
def forward(
    act: int, sizes: Any, biased: Any, dense: Any, starts: Any, col_starts: Any, rows: Any,
    cols: Any,
    theta: Any, x: Any, x0: int, acts: Any, n: int,
) -> None:  # fmt: skip
    """Fill the activations of all units after the inputs; the last layer stays linear.

    Of ``n`` examples; the lanes beyond are zero in all units that pass gradients on, so that
    nothing that overflows there reaches a gradient.
    """
    zero = theta.dtype.type(0)
    inputs, before, unit, row = x, x0, 0, 0
    last = len(sizes) - 2
    for layer in range(last + 1):
        n_in, n_out, start = sizes[layer], sizes[layer + 1], starts[layer]
        bias = start + rows[row + n_out]
        if dense[layer]:
            stride = rows[row + 1]
            product(
                theta, start, stride, 1, n_in, inputs, before * LANES, LANES,
                acts, unit * LANES, LANES, n_out, LANES,
            )  # fmt: skip
            for o in range(n_out):
                own = acts[(unit + o) * LANES : (unit + o + 1) * LANES]
                add = theta[bias + o] if biased[layer] else zero
                for b in range(LANES):
                    own[b] += add
                if layer < last and act == RELU:
                    for b in range(LANES):
                        own[b] = zero if own[b] < zero else own[b]
        else:
            weights = theta[start:bias]
            columns = cols[col_starts[layer] : col_starts[layer + 1]]
            for o in range(n_out):
                add = theta[bias + o] if biased[layer] else zero
                sparse_dot(
                    weights, columns, rows[row + o], rows[row + o + 1], inputs, before, add,
                    acts, unit + o, layer < last and act == RELU,
                )  # fmt: skip
        if layer < last:
            own = acts[unit * LANES : (unit + n_out) * LANES]
            if act != RELU:
                bend(act, own, n)
            for o in range(n_out):
                own[o * LANES + n : (o + 1) * LANES] = 0
        inputs, before = acts, unit
        unit += n_out
        row += n_out + 1


@compiled
def backward(
    act: int, sizes: Any, biased: Any, dense: Any, starts: Any, col_starts: Any, rows: Any,
    cols: Any,
    theta: Any, x: Any, x0: int, xt: Any, xt0: int, acts: Any, deltas: Any, turned: Any,
    grad: Any, n: int,
) -> None:  # fmt: skip
    """Turn the deltas of the last layer, in ``deltas``, into the gradient of all parameters.

    ``xt`` holds the inputs example by example, (LANES, padded inputs), where the first layer is
    dense; ``turned`` is room for the same of any other layer.
    """
    row, unit = len(rows), len(acts) // LANES
    last = len(sizes) - 2
    for layer in range(last, -1, -1):
        n_in, n_out, start = sizes[layer], sizes[layer + 1], starts[layer]
        row -= n_out + 1
        unit -= n_out
        before = unit - n_in
        bias = start + rows[row + n_out]
        if layer < last and act != RELU:
            unbend(act, acts[unit * LANES :], deltas[unit * LANES : (unit + n_out) * LANES])
        for o in range(n_out):
            total = rectified_sum(deltas, acts, unit + o, layer < last and act == RELU)
            if biased[layer]:
                grad[bias + o] = total
        if dense[layer]:
            stride = rows[row + 1]
            if layer == 0:
                product(
                    deltas, unit * LANES, LANES, 1, n, xt, xt0, stride,
                    grad, start, stride, n_out, stride,
                )  # fmt: skip
            else:
                turn(acts[before * LANES :], n_in, stride, turned)
                product(
                    deltas, unit * LANES, LANES, 1, n, turned, 0, stride,
                    grad, start, stride, n_out, stride,
                )  # fmt: skip
                product(
                    theta, start, 1, stride, n_out, deltas, unit * LANES, LANES,
                    deltas, before * LANES, LANES, n_in, LANES,
                )  # fmt: skip
        else:
            weights, slopes = theta[start:bias], grad[start:bias]
            columns = cols[col_starts[layer] : col_starts[layer + 1]]
            if layer > 0:
                deltas[before * LANES : unit * LANES] = 0
            for o in range(n_out):
                k, stop = rows[row + o], rows[row + o + 1]
                if layer == 0:
                    sparse_gradient(deltas, unit + o, x, x0, columns, k, stop, slopes)
                else:
                    sparse_gradient(deltas, unit + o, acts, before, columns, k, stop, slopes)
                    sparse_back(weights, columns, k, stop, deltas, unit + o, deltas, before)


@compiled
def turn(units: Any, n: int, stride: int, out: Any) -> None:
    """Transpose activations (n, LANES) into (LANES, stride), the columns beyond n zero."""
    for b in range(LANES):
        out[b * stride + n : (b + 1) * stride] = 0
    for i in range(n):
        for b in range(LANES):
            out[b * stride + i] = units[i * LANES + b]

"""Compiled loops over convolutions: forward and backward of one network's stages.

How feature maps lie in memory is told in ``geometry``, how kept weights are listed in
``convolutions``, what the arguments are in ``arguments``. One file: forward and backward read the
same maps, and each undoes what the other did.
"""

from __future__ import annotations

import numpy as np

from nets_deap.training.engines.cpu._compile import compiled
from nets_deap.training.engines.cpu._conv_vectors import (
    gate_one,
    pool_one,
    products_of_four,
    products_of_one,
    products_of_two,
    spread_one,
    sums_of_all,
    sums_of_four,
    sums_of_one,
    sums_of_two,
)
from nets_deap.training.engines.cpu.arguments import (
    AVERAGE,
    FROM_SUMS,
    LINEAR,
    MAXIMUM,
    NO_POOL,
    RELU,
    SIGMOID,
    TANH,
    TO_SUMS,
    Array,
    Convolutions,
    Kept,
    Layers,
    Lists,
    Uses,
)
from nets_deap.training.engines.cpu.blocks import LANES
from nets_deap.training.engines.cpu.geometry import COLUMNS, SEGMENTS

POSITIONS = SEGMENTS * COLUMNS[0]


@compiled
def lists_of(lists: Lists, p: int) -> Lists:
    """Return what one network of a group keeps."""
    return Lists(
        lists.offsets, lists.starts[p], lists.rows, lists.row_starts[p], lists.blocks[p],
        lists.turned, lists.origins, lists.turned_starts[p], lists.turned_rows,
        lists.turned_row_starts[p], lists.turned_blocks[p],
    )  # fmt: skip


@compiled
def run(
    uses: Uses, use: int, whole: bool, weights: Array, offsets: Array, rows: Array, blocks: int,
    biases: Array, x: Array, x0: int, y: Array, y0: int, gates: Array, codes: Array, g0: int,
    sums: Array,
) -> None:  # fmt: skip
    """Take one pass of tiles: every position of every channel that it writes.

    ``biases`` (filters,) may be empty for none. Where it is ``whole``, all channels have weights at
    the same offsets.
    """
    table, first, filters, mode = uses.table, uses.first[use], uses.filters[use], uses.mode[use]
    y_channel, y_odd, y_pair = uses.y_channel[use], uses.y_odd[use], uses.y_pair[use]
    g_channel, g_odd, g_pair = uses.g_channel[use], uses.g_odd[use], uses.g_pair[use]
    zero = weights.dtype.type(0)
    lanes = 64 // weights.itemsize
    together = filters - filters % 3 if whole else 0
    for segment in range(first[0], first[1], 2):
        for o in range(0, together, 3):
            b0, b1, b2 = zero, zero, zero
            if len(biases):
                b0, b1, b2 = biases[o], biases[o + 1], biases[o + 2]
            sums_of_all(
                weights, offsets, rows[o], rows[o + 1], rows[o + 2], rows[o + 1], x, x0,
                table, segment, b0, b1, b2, y, y0 + o * y_channel, y_odd, y_pair,
                gates, codes, g0 + o * g_channel, g_odd, g_pair, mode, y_channel, g_channel,
            )  # fmt: skip
    # Tiles outside, channels inside: what a tile reads stays in the cache for all of them.
    for kind in range(3):
        for segment in range(first[kind], first[kind + 1], SEGMENTS):
            for block in range(blocks):
                part = FROM_SUMS * (block > 0) + TO_SUMS * (block < blocks - 1)
                for o in range(together if kind == 0 else 0, filters):
                    row = o * blocks + block
                    start, stop = rows[row], rows[row + 1]
                    bias = biases[o] if len(biases) else zero
                    at, y1, g1 = o * POSITIONS * lanes, y0 + o * y_channel, g0 + o * g_channel
                    if kind == 0:
                        sums_of_four(
                            weights, offsets, start, stop, x, x0, table, segment, bias,
                            y, y1, y_odd, y_pair, gates, codes, g1, g_odd, g_pair, mode,
                            sums, at, part,
                        )  # fmt: skip
                    elif kind == 1:
                        sums_of_two(
                            weights, offsets, start, stop, x, x0, table, segment, bias,
                            y, y1, y_odd, y_pair, gates, codes, g1, g_odd, g_pair, mode,
                            sums, at, part,
                        )  # fmt: skip
                    else:
                        sums_of_one(
                            weights, offsets, start, stop, x, x0, table, segment, bias,
                            y, y1, y_odd, y_pair, gates, codes, g1, g_odd, g_pair, mode,
                            sums, at, part,
                        )  # fmt: skip


@compiled
def add_gradient(
    uses: Uses, use: int, slopes: Array, z0: int, z_channel: int, offsets: Array, rows: Array,
    blocks: int, x: Array, x0: int, grad: Array, bias: int,
) -> None:  # fmt: skip
    """Add the gradient of a stage's weights to ``grad``, that of its biases from ``bias`` on.

    Of one block of lanes; ``bias`` is negative for none.
    """
    table, first, filters = uses.table, uses.first[use], uses.filters[use]
    for kind in range(3):
        for segment in range(first[kind], first[kind + 1], SEGMENTS):
            for block in range(blocks):
                for o in range(filters):
                    row = o * blocks + block
                    start, stop = rows[row], rows[row + 1]
                    own = bias + o if bias >= 0 and block == 0 else -1
                    if start == stop and own < 0:
                        continue
                    d0 = z0 + o * z_channel
                    if kind == 0:
                        products_of_four(
                            slopes, d0, offsets, start, stop, x, x0, table, segment, grad, own
                        )
                    elif kind == 1:
                        products_of_two(
                            slopes, d0, offsets, start, stop, x, x0, table, segment, grad, own
                        )
                    else:
                        products_of_one(
                            slopes, d0, offsets, start, stop, x, x0, table, segment, grad, own
                        )


@compiled
def transform(act: int, values: Array, start: int, stop: int) -> None:
    """Apply an activation to the numbers from start to stop, in place."""
    zero, one = values.dtype.type(0), values.dtype.type(1)
    for i in range(start, stop):
        value = values[i]
        if act == RELU:
            # Not max(): NaN is not below zero and stays, as in torch.
            values[i] = zero if value < zero else value
        elif act == TANH:
            values[i] = np.tanh(value)
        elif act == SIGMOID:
            values[i] = one / (one + np.exp(-value))


@compiled
def settle(net: Convolutions, s: int, y: Array, y0: int, f0: int, code0: int) -> None:
    """Do what tiles have left to do of a stage: its activation and pooling, from f or within y."""
    stages, lanes, f = net.stages, net.lanes, net.maps.maps
    act, pool, pools_first = stages.activation[s], stages.pool[s], stages.pools_first[s]
    pooling, f_row, width = stages.pooling[s], stages.f_row[s], stages.width[s]
    n, positions = stages.height[s] * width, stages.positions[s]
    apart = act == TANH or act == SIGMOID  # ReLU was applied by the tiles where it comes first
    if apart and pooling != NO_POOL and not pools_first:
        transform(act, f, f0, f0 + stages.f_size[s])
    for o in range(stages.filters[s]):
        for q in range(n):
            at = y0 + o * stages.y_channel[s] + stages.places[positions + q]
            if pooling != NO_POOL:
                corner = f0 + o * stages.f_channel[s]
                corner += pool * (q // width * f_row + q % width * lanes)
                code = code0 + (o * n + q) * lanes
                pool_one(f, corner, f_row, pool, pooling == MAXIMUM, y, at, net.maps.codes, code)
            if pooling == NO_POOL or pools_first:
                transform(act, y, at, at + lanes)


@compiled
def descend(
    net: Convolutions, s: int, d: Array, d0: int, d_channel: int, apart: bool, y: Array, y0: int,
    f0: int, code0: int,
) -> None:  # fmt: skip
    """Turn the gradient by what comes out of a stage into that by its convolution's sums.

    The positions of ``d`` are those of y where it is not ``apart``, else one after the other.
    """
    stages, lanes, slopes = net.stages, net.lanes, net.maps.slopes
    act, pool, width = stages.activation[s], stages.pool[s], stages.width[s]
    f_row, z_row, fused = stages.f_row[s], stages.z_row[s], stages.fused[s]
    n, positions = stages.height[s] * width, stages.positions[s]
    # The derivative is known from what comes out, but where unlike activations were averaged.
    inside = stages.pooling[s] == AVERAGE and not stages.pools_first[s] and act != LINEAR
    z0 = stages.z_start[s] + stages.z_origin[s]
    for o in range(stages.filters[s]):
        for q in range(n):
            place = stages.places[positions + q]
            at = d0 + o * d_channel + (q * lanes if apart else place)
            corner = z0 + o * stages.z_channel[s]
            corner += pool * (q // width * z_row + q % width * lanes)
            if not inside and not fused:
                gate_one(y, y0 + o * stages.y_channel[s] + place, act, d, at)
            code = code0 + (o * n + q) * lanes
            spread_one(
                d, at, net.maps.codes, code, slopes, corner, z_row, pool,
                stages.pooling[s] == MAXIMUM,
            )  # fmt: skip
            if inside:
                first = f0 + o * stages.f_channel[s]
                first += pool * (q // width * f_row + q % width * lanes)
                for i in range(pool * pool):
                    r, c = i // pool, i % pool * lanes
                    gate_one(
                        net.maps.maps, first + r * f_row + c, act, slopes, corner + r * z_row + c
                    )


@compiled
def convolve(
    layers: Layers, kept: Kept, net: Convolutions, lists: Lists, theta: Array, inputs: Array,
    block: int, acts: Array, n: int,
) -> None:  # fmt: skip
    """Fill the maps and the features, the first of ``acts``, from one block of inputs.

    Of ``n`` examples; the lanes beyond are zero in the features.
    """
    stages, maps, lanes = net.stages, net.maps, net.lanes
    last, zero = layers.stages - 1, theta.dtype.type(0)
    for g in range((n + lanes - 1) // lanes):
        for s in range(last + 1):
            end = kept.starts[s + 1]
            bias = end - stages.filters[s]
            offsets = lists.offsets[lists.starts[s] : lists.starts[s + 1]]
            rows = lists.rows[lists.row_starts[s] : lists.row_starts[s + 1]]
            biases = theta[bias : end if layers.biased[s] else bias]
            x, x0 = maps.maps, stages.x_start[s] + g * stages.x_size[s]
            if s == 0:
                x, x0 = inputs, (block * (LANES // lanes) + g) * stages.x_size[s]
            y, y0 = acts, g * lanes
            if s < last:
                y, y0 = maps.maps, stages.x_start[s + 1] + g * stages.x_size[s + 1]
            code0 = stages.code_start[s] + g * stages.code_size[s]
            f0 = stages.f_start[s] + g * stages.f_size[s]
            out, out0 = y, y0
            if stages.f_size[s]:
                out, out0 = maps.maps, f0
            run(
                net.uses, s, kept.dense[s], theta[kept.starts[s] : bias], offsets, rows,
                lists.blocks[s], biases, x, x0, out, out0, maps.maps, maps.codes, code0, maps.sums,
            )  # fmt: skip
            alone = stages.activation[s] == TANH or stages.activation[s] == SIGMOID
            if stages.f_size[s] or alone:
                settle(net, s, y, y0, f0, code0)
    # Lanes of blocks that were left out hold what another network may have left there: its deltas
    # are 0, but 0 times what overflowed is NaN.
    for unit in range(layers.sizes[0]):
        for b in range(unit * LANES + n, (unit + 1) * LANES):
            acts[b] = zero


@compiled
def convolve_back(
    layers: Layers, kept: Kept, net: Convolutions, lists: Lists, theta: Array, inputs: Array,
    block: int, acts: Array, deltas: Array, grad: Array, n: int,
) -> None:  # fmt: skip
    """Set the gradient of all parameters of the stages, from the deltas of the features.

    The maps are those that ``convolve`` left; the deltas change.
    """
    stages, maps, lanes = net.stages, net.maps, net.lanes
    last, nothing, zero = layers.stages - 1, theta[:0], theta.dtype.type(0)
    for k in range(kept.starts[last + 1]):
        grad[k] = zero
    turned0 = lists.turned_starts[0]
    for s in range(1, last + 1):
        first, turn = kept.starts[s], stages.turns[s] - len(stages.filters)
        for k in range(lists.turned_starts[turn], lists.turned_starts[turn + stages.n_turns[s]]):
            maps.turned[k - turned0] = theta[first + lists.origins[k]]
    for g in range((n + lanes - 1) // lanes):
        for s in range(last, -1, -1):
            start, end = kept.starts[s], kept.starts[s + 1]
            x, x0 = maps.maps, stages.x_start[s] + g * stages.x_size[s]
            if s == 0:
                x, x0 = inputs, (block * (LANES // lanes) + g) * stages.x_size[s]
            f0 = stages.f_start[s] + g * stages.f_size[s]
            code0 = stages.code_start[s] + g * stages.code_size[s]
            if s == last:
                channel = stages.y_channel[s]
                descend(net, s, deltas, g * lanes, channel, False, acts, g * lanes, f0, code0)
            elif stages.pooling[s] != NO_POOL:
                y0 = stages.x_start[s + 1] + g * stages.x_size[s + 1]
                channel = stages.height[s] * stages.width[s] * lanes
                descend(
                    net, s, maps.slopes, stages.p_start[s], channel, True, maps.maps, y0, f0, code0
                )
            add_gradient(
                net.uses, s, maps.slopes, stages.z_start[s], stages.z_channel[s],
                lists.offsets[lists.starts[s] : lists.starts[s + 1]],
                lists.rows[lists.row_starts[s] : lists.row_starts[s + 1]], lists.blocks[s],
                x, x0, grad[start:end],
                end - start - stages.filters[s] if layers.biased[s] else -1,
            )  # fmt: skip
            for use in range(stages.turns[s], stages.turns[s] + stages.n_turns[s]):
                turn = use - len(stages.filters)
                k, stop = lists.turned_starts[turn], lists.turned_starts[turn + 1]
                row, row_end = lists.turned_row_starts[turn], lists.turned_row_starts[turn + 1]
                # Straight into the gradient by the sums of the stage before, if that has no pool.
                into = stages.z_start[s - 1]
                if stages.pooling[s - 1] != NO_POOL:
                    into = stages.p_start[s - 1]
                run(
                    net.uses, use, kept.dense[s], maps.turned[k - turned0 : stop - turned0],
                    lists.turned[k:stop], lists.turned_rows[row:row_end],
                    lists.turned_blocks[turn], nothing, maps.slopes, stages.z_start[s],
                    maps.slopes, into, maps.maps, maps.codes, x0, maps.sums,
                )  # fmt: skip

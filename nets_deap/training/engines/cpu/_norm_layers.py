"""Compiled loops over stages that all of a minibatch goes through before any goes on.

Of networks with batch normalisation, whose statistics are those of the whole minibatch, and of
those whose maps are read by several stages, whose gradients add up. A stage's sums are kept; then
they are normalised, what an earlier stage gave is added, and activation and pooling follow. What
the arguments are is told in ``arguments``. One file: backward undoes what forward did.
"""

from __future__ import annotations

import numpy as np

from nets_deap.training.engines.cpu._compile import compiled
from nets_deap.training.engines.cpu._conv_layers import add_gradient, run, transform
from nets_deap.training.engines.cpu._conv_vectors import gate_one, pool_one, spread_one
from nets_deap.training.engines.cpu._norm_vectors import (
    descend_channel,
    gate_channel,
    lane_squares,
    lane_sums,
    normalise_channel,
    pass_on,
)
from nets_deap.training.engines.cpu.arguments import (
    BATCH,
    LINEAR,
    MAXIMUM,
    NO_NORM,
    NO_POOL,
    RELU,
    UNTRACKED,
    Array,
    Convolutions,
    Kept,
    Layers,
    Lists,
    Norms,
    Together,
)
from nets_deap.training.engines.cpu.blocks import LANES


@compiled
def note_moments(
    net: Convolutions, norms: Norms, s: int, f0: int, filled: int, count: int
) -> None:  # fmt: skip
    """Add one block of lanes, ``filled`` of them, to a stage's means and sums of squares.

    ``count`` numbers of each channel came before.
    """
    stages, f = net.stages, net.maps.maps
    positions = stages.z_height[s] * stages.z_width[s]
    new = positions * filled
    one = f.dtype.type(1)
    for o in range(stages.filters[s]):
        c, at = norms.firsts[s] + o, f0 + o * stages.f_channel[s]
        lane_sums(f, at, positions, norms.lanes)
        total = 0.0
        for b in range(filled):
            total += norms.lanes[b]
        # Squares about the block's own mean, which lose nothing where that is far from 0.
        own = total / new
        lane_squares(f, at, positions, one * own, norms.lanes)
        squares = 0.0
        for b in range(filled):
            squares += norms.lanes[b]
        away = own - norms.mean[c]
        norms.mean[c] += away * new / (count + new)
        norms.spread[c] += squares + away * away * count * new / (count + new)


@compiled
def set_scales(norms: Norms, s: int, p: int, filters: int, count: int) -> None:
    """Set the means and reciprocal deviations that a stage is normalised by.

    From what is noted of ``count`` numbers of each channel, which also go into the running
    statistics of network ``p``; or where there are none, from those.
    """
    tracked = norms.kinds[s] == BATCH
    if count and tracked:
        norms.batches[p, s] += 1
    share = norms.momentum[s]
    if share < 0:
        share = 1.0 / max(norms.batches[p, s], 1)
    for c in range(norms.firsts[s], norms.firsts[s] + filters):
        if count:
            mean, squares = norms.mean[c], norms.spread[c]
            if tracked:
                whole = squares / (count - 1)
                norms.means[p, c] = norms.means[p, c] * (1 - share) + share * mean
                norms.variances[p, c] = norms.variances[p, c] * (1 - share) + share * whole
            norms.spread[c] = 1 / np.sqrt(squares / count + norms.eps[s])
        elif norms.kinds[s] == NO_NORM:
            norms.mean[c], norms.spread[c] = 0.0, 1.0
        else:
            norms.mean[c] = norms.means[p, c]
            norms.spread[c] = 1 / np.sqrt(norms.variances[p, c] + norms.eps[s])


@compiled
def finish_stage(
    net: Convolutions, norms: Norms, s: int, theta: Array, factors: int, g: int, y: Array, y0: int
) -> None:
    """Turn a stage's sums on one block of lanes into what comes out of it."""
    stages, lanes, maps = net.stages, net.lanes, net.maps.maps
    act, pooling, a = stages.activation[s], stages.pooling[s], stages.adds[s]
    filters, width, positions = stages.filters[s], stages.width[s], stages.positions[s]
    sums, n = stages.z_height[s] * stages.z_width[s], stages.height[s] * width
    one, inside = theta.dtype.type(1), pooling != NO_POOL
    own = LINEAR if inside and stages.pools_first[s] else act
    for o in range(filters):
        c, channel = norms.firsts[s] + o, o - stages.added_channel[s]
        factor, term = one, one - one
        if norms.kinds[s] != NO_NORM:
            factor, term = (
                one * (theta[factors + o] * norms.spread[c]),
                theta[factors + filters + o],
            )
        adds = a >= 0 and channel >= 0 and channel < stages.filters[a]
        x0 = stages.y_start[a] + g * stages.y_size[a] + channel * stages.y_channel[a] if adds else 0
        f0 = stages.f_start[s] + g * stages.f_size[s] + o * stages.f_channel[s]
        out, out0, places = y, y0 + o * stages.y_channel[s], positions
        if inside:
            out, places = maps, 0
            out0 = stages.u_start[s] + g * stages.f_size[s] + o * stages.f_channel[s]
        normalise_channel(
            maps, f0, sums, one * norms.mean[c], factor, term, adds, maps, x0, stages.places,
            stages.added[s], out, out0, places, own == RELU,
        )  # fmt: skip
        if own != RELU and own != LINEAR:
            for q in range(sums):
                at = out0 + stages.places[places + q]
                transform(own, out, at, at + lanes)
        if inside:
            for q in range(n):
                corner = out0 + q // width * stages.pool_height[s] * stages.f_row[s]
                corner += q % width * stages.pool_width[s] * lanes
                at = y0 + o * stages.y_channel[s] + stages.places[positions + q]
                code = stages.code_start[s] + g * stages.code_size[s] + (o * n + q) * lanes
                pool_one(
                    maps, corner, stages.f_row[s], stages.pool_height[s], stages.pool_width[s],
                    pooling == MAXIMUM, y, at, net.maps.codes, code,
                )  # fmt: skip
                if stages.pools_first[s]:
                    transform(act, y, at, at + lanes)


@compiled
def input_of(net: Convolutions, s: int, g: int, inputs: Array, first: int) -> tuple[Array, int]:
    """Return the map that a stage reads on one block of lanes, and where that starts."""
    stages = net.stages
    if stages.source[s] < 0:
        return inputs, (first + g) * stages.x_size[s]
    return net.maps.maps, stages.x_start[s] + g * stages.x_size[s]


@compiled
def output_of(net: Convolutions, s: int, g: int) -> tuple[Array, int]:
    """Return the map of what comes out of a stage, and where that starts."""
    stages = net.stages
    if s == len(stages.filters) - 1:
        each = LANES // net.lanes
        return net.maps.features, g // each * stages.y_size[s] + g % each * net.lanes
    return net.maps.maps, stages.y_start[s] + g * stages.y_size[s]


@compiled
def convolve_together(
    layers: Layers, kept: Kept, together: Together, lists: Lists, p: int, theta: Array,
    inputs: Array, first: int, n: int, training: bool,
) -> None:  # fmt: skip
    """Fill the maps and the features from ``n`` examples, from a block of lanes on."""
    net, norms = together
    stages, maps, lanes = net.stages, net.maps, net.lanes
    groups = (n + lanes - 1) // lanes
    for s in range(layers.stages + 1):
        by_batch, count = False, 0
        if s < layers.stages:
            by_batch = (training and norms.kinds[s] == BATCH) or norms.kinds[s] == UNTRACKED
        if by_batch:
            first_channel, filters = norms.firsts[s], stages.filters[s]
            norms.mean[first_channel : first_channel + filters] = 0
            norms.spread[first_channel : first_channel + filters] = 0
        for g in range(groups):
            # What comes out of a stage is made when the next one begins, which mostly reads it, and
            # block by block: maps of a whole minibatch outgrow the caches, those of a block do not.
            if s > 0:
                y, y0 = output_of(net, s - 1, g)
                finish_stage(
                    net, norms, s - 1, theta, factors_of(kept, net, lists, s - 1), g, y, y0
                )
            if s == layers.stages:
                continue
            start, factors = kept.starts[s], factors_of(kept, net, lists, s)
            bias = factors - stages.filters[s]
            x, x0 = input_of(net, s, g, inputs, first)
            f0 = stages.f_start[s] + g * stages.f_size[s]
            run(
                net.uses, s, kept.dense[s], theta[start:bias],
                lists.offsets[lists.starts[s] : lists.starts[s + 1]],
                lists.rows[lists.row_starts[s] : lists.row_starts[s + 1]], lists.blocks[s],
                theta[bias : factors if layers.biased[s] else bias],
                x, x0, maps.maps, f0, maps.maps, maps.codes, 0, maps.sums,
            )  # fmt: skip
            if by_batch:
                filled = min(lanes, n - g * lanes)
                note_moments(net, norms, s, f0, filled, count)
                count += stages.z_height[s] * stages.z_width[s] * filled
        if s < layers.stages:
            set_scales(norms, s, p, stages.filters[s], count)


@compiled
def factors_of(kept: Kept, net: Convolutions, lists: Lists, s: int) -> int:
    """Return where the parameters of a stage begin that follow its weights and biases."""
    weights: int = lists.starts[s + 1] - lists.starts[s]
    return kept.starts[s] + weights + net.stages.filters[s]  # type: ignore[no-any-return]


@compiled
def give_features(layers: Layers, net: Convolutions, block: int, acts: Array, n: int) -> None:
    """Copy a block's features into the activations before the layers, lanes beyond ``n`` zero."""
    size, zero = layers.sizes[0] * LANES, acts.dtype.type(0)
    for unit in range(layers.sizes[0]):
        at = unit * LANES
        for b in range(LANES):
            acts[at + b] = net.maps.features[block * size + at + b] if b < n else zero


@compiled
def measure_together(
    layers: Layers, kept: Kept, together: Together, lists: Lists, p: int, theta: Array,
    inputs: Array, first: int, acts: Array, n: int,
) -> None:  # fmt: skip
    """Fill the features, the first of ``acts``, of ``n`` examples from a block of lanes on.

    By running statistics, as in evaluation.
    """
    net, zero = together.net, acts.dtype.type(0)
    lanes = net.lanes
    # Block by block: nothing is shared by all of them here, and a block's maps stay in the cache.
    for g in range((n + lanes - 1) // lanes):
        filled = min(lanes, n - g * lanes)
        convolve_together(layers, kept, together, lists, p, theta, inputs, first + g, filled, False)
        for unit in range(layers.sizes[0]):
            at = unit * LANES
            for b in range(lanes):
                value = net.maps.features[at + b]
                acts[at + g * lanes + b] = value if b < filled else zero
    for unit in range(layers.sizes[0]):
        for b in range(unit * LANES + n, (unit + 1) * LANES):
            acts[b] = zero


@compiled
def take_slopes(layers: Layers, net: Convolutions, block: int, deltas: Array, n: int) -> None:
    """Copy the gradient by a block's features to where that of the last stage lies."""
    stages, maps, lanes = net.stages, net.maps.maps, net.lanes
    s, zero = layers.stages - 1, deltas.dtype.type(0)
    each = LANES // lanes
    for g in range((n + lanes - 1) // lanes):
        d0 = stages.d_start[s] + (block * each + g) * stages.d_size[s]
        for o in range(stages.filters[s]):
            for q in range(stages.height[s] * stages.width[s]):
                at = o * stages.y_channel[s] + stages.places[stages.positions[s] + q] + g * lanes
                to = d0 + o * stages.d_channel[s] + q * lanes
                for b in range(lanes):
                    maps[to + b] = deltas[at + b] if g * lanes + b < n else zero


@compiled
def begin_descent(net: Convolutions, norms: Norms, s: int, g: int, filled: int) -> None:
    """Turn the gradient by what comes out of a stage into that by its normalised sums.

    Of one block of lanes. It also goes to what was added to them, and into ``norms.slopes``.
    """
    stages, lanes, maps = net.stages, net.lanes, net.maps.maps
    act, a = stages.activation[s], stages.adds[s]
    sums, width = stages.z_height[s] * stages.z_width[s], stages.width[s]
    n, zero = stages.height[s] * width, maps.dtype.type(0)
    inside = stages.pooling[s] != NO_POOL
    own = LINEAR if inside and stages.pools_first[s] else act
    y, y0 = output_of(net, s, g)
    if a >= 0 and stages.sets[s]:
        whole = stages.filters[a] == stages.filters[s]
        if not whole or sums != stages.height[a] * stages.width[a]:
            start = stages.d_start[a] + g * stages.d_size[a]
            maps[start : start + stages.d_size[a]] = zero
    for o in range(stages.filters[s]):
        c, channel = norms.firsts[s] + o, o - stages.added_channel[s]
        f0 = stages.f_start[s] + g * stages.f_size[s] + o * stages.f_channel[s]
        d0 = stages.d_start[s] + g * stages.d_size[s] + o * stages.d_channel[s]
        out, out0, places = y, y0 + o * stages.y_channel[s], stages.positions[s]
        if inside:
            e0 = stages.e_start[s] + g * stages.f_size[s] + o * stages.f_channel[s]
            maps[e0 : e0 + sums * lanes] = zero
            for q in range(n):
                if stages.pools_first[s]:
                    gate_one(out, out0 + stages.places[places + q], act, maps, d0 + q * lanes)
                corner = e0 + q // width * stages.pool_height[s] * stages.f_row[s]
                corner += q % width * stages.pool_width[s] * lanes
                code = stages.code_start[s] + g * stages.code_size[s] + (o * n + q) * lanes
                spread_one(
                    maps, d0 + q * lanes, net.maps.codes, code, maps, corner, stages.f_row[s],
                    stages.pool_height[s], stages.pool_width[s], stages.pooling[s] == MAXIMUM,
                )  # fmt: skip
            d0, out, places = e0, maps, 0
            out0 = stages.u_start[s] + g * stages.f_size[s] + o * stages.f_channel[s]
        gate_channel(
            maps, d0, sums, own, out, out0, stages.places, places, maps, f0,
            maps.dtype.type(norms.mean[c]), norms.lanes,
        )  # fmt: skip
        for b in range(filled):
            norms.slopes[0, c] += norms.lanes[b]
            norms.slopes[1, c] += norms.lanes[lanes + b]
        if a >= 0 and channel >= 0 and channel < stages.filters[a]:
            to = stages.d_start[a] + g * stages.d_size[a] + channel * stages.d_channel[a]
            pass_on(
                maps, d0, sums, maps, to, stages.places, stages.added_slopes[s], stages.sets[s] > 0
            )


@compiled
def end_descent(
    net: Convolutions, norms: Norms, s: int, theta: Array, factors: int, g: int, filled: int,
    count: int,
) -> None:  # fmt: skip
    """Turn the gradient by a stage's normalised sums into that by its sums, on a block of lanes.

    ``count`` numbers of each channel are normalised together.
    """
    stages, maps, one = net.stages, net.maps.maps, theta.dtype.type(1)
    inside = stages.pooling[s] != NO_POOL
    for o in range(stages.filters[s]):
        c = norms.firsts[s] + o
        f0 = stages.f_start[s] + g * stages.f_size[s] + o * stages.f_channel[s]
        d0 = stages.d_start[s] + g * stages.d_size[s] + o * stages.d_channel[s]
        if inside:
            d0 = stages.e_start[s] + g * stages.f_size[s] + o * stages.f_channel[s]
        z0 = stages.z_start[s] + stages.z_origin[s] + o * stages.z_channel[s]
        factor, by_value, term = 1.0, 0.0, 0.0
        if norms.kinds[s] != NO_NORM:
            factor = theta[factors + o] * norms.spread[c]
        if norms.kinds[s] >= BATCH:
            square = norms.spread[c] * norms.spread[c]
            by_value = -factor * square * norms.slopes[1, c] / count
            term = -factor * norms.slopes[0, c] / count
        descend_channel(
            maps, d0, maps, f0, one * norms.mean[c], one * factor, one * by_value, one * term,
            filled, net.maps.slopes, z0, stages.z_row[s], stages.z_height[s], stages.z_width[s],
        )  # fmt: skip


@compiled
def convolve_together_back(
    layers: Layers, kept: Kept, together: Together, lists: Lists, theta: Array,
    inputs: Array, first: int, grad: Array, n: int,
) -> None:  # fmt: skip
    """Set the gradient of all parameters of the stages, from that by what comes out of the last.

    The maps are those that ``convolve_together`` left.
    """
    net, norms = together
    stages, maps, lanes = net.stages, net.maps, net.lanes
    nothing, groups = theta[:0], (n + lanes - 1) // lanes
    grad[: kept.starts[layers.stages]] = 0
    norms.slopes[:] = 0
    for g in range(groups):
        begin_descent(net, norms, layers.stages - 1, g, min(lanes, n - g * lanes))
    for s in range(layers.stages - 1, -1, -1):
        start, filters, c0 = kept.starts[s], stages.filters[s], norms.firsts[s]
        factors, turn0 = factors_of(kept, net, lists, s), stages.turns[s] - len(stages.filters)
        bias = factors - filters
        if norms.kinds[s] != NO_NORM:
            for o in range(filters):
                grad[factors + o] = norms.slopes[1, c0 + o] * norms.spread[c0 + o]
                grad[factors + filters + o] = norms.slopes[0, c0 + o]
        turned0 = lists.turned_starts[turn0]
        for k in range(turned0, lists.turned_starts[turn0 + stages.n_turns[s]]):
            maps.turned[k - turned0] = theta[start + lists.origins[k]]
        for g in range(groups):
            filled = min(lanes, n - g * lanes)
            x, x0 = input_of(net, s, g, inputs, first)
            end_descent(
                net, norms, s, theta, factors, g, filled,
                stages.z_height[s] * stages.z_width[s] * n,
            )  # fmt: skip
            add_gradient(
                net.uses, s, maps.slopes, stages.z_start[s], stages.z_channel[s],
                lists.offsets[lists.starts[s] : lists.starts[s + 1]],
                lists.rows[lists.row_starts[s] : lists.row_starts[s + 1]], lists.blocks[s],
                x, x0, grad[start:factors], bias - start if layers.biased[s] else -1,
            )  # fmt: skip
            into = stages.d_start[stages.source[s]] + g * stages.d_size[stages.source[s]]
            for turn in range(turn0, turn0 + stages.n_turns[s]):
                k, stop = lists.turned_starts[turn], lists.turned_starts[turn + 1]
                row, row_end = lists.turned_row_starts[turn], lists.turned_row_starts[turn + 1]
                run(
                    net.uses, turn + len(stages.filters), kept.dense[s],
                    maps.turned[k - turned0 : stop - turned0], lists.turned[k:stop],
                    lists.turned_rows[row:row_end], lists.turned_blocks[turn], nothing,
                    maps.slopes, stages.z_start[s], maps.maps, into, maps.maps, maps.codes, x0,
                    maps.sums,
                )  # fmt: skip
            # The stage before has got all of its gradient on this block, which is in the cache.
            if s > 0:
                begin_descent(net, norms, s - 1, g, filled)

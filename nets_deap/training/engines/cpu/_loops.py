"""Compiled loops over steps and networks: minibatches, validation.

How a network is held: see ``_layers`` and ``_conv_layers``; what the arguments are: ``arguments``.
"""

from __future__ import annotations

from nets_deap.training.engines.cpu._compile import compiled
from nets_deap.training.engines.cpu._conv_layers import convolve, convolve_back, lists_of
from nets_deap.training.engines.cpu._layers import backward, forward
from nets_deap.training.engines.cpu._losses import count_correct, loss_and_deltas
from nets_deap.training.engines.cpu._norm_layers import (
    convolve_together,
    convolve_together_back,
    give_features,
    measure_together,
    take_slopes,
)
from nets_deap.training.engines.cpu._optimizer import clip, optimizer_step
from nets_deap.training.engines.cpu.arguments import (
    Array,
    Buffers,
    Convolutions,
    Data,
    Kept,
    Layers,
    Optimizer,
    Parameters,
    Schedule,
    Together,
)
from nets_deap.training.engines.cpu.blocks import LANES, TILE


@compiled
def network_of(kept: Kept, p: int) -> Kept:
    """Return what one network of a group keeps, its layers' starts counted from its own."""
    # cols and masks stay those of the group: slices of them would need starts of their own.
    return Kept(
        kept.dense[p], kept.starts[p] - kept.starts[p, 0], kept.col_starts[p], kept.mask_starts[p],
        kept.rows[p], kept.cols, kept.masks, kept.live,
    )  # fmt: skip


@compiled
def fetch(data: Data, chosen: Array, live: Array, block: int, work: Buffers) -> None:
    """Gather chosen examples, at most LANES, into one block of the buffers."""
    n, width = len(chosen), data.inputs.shape[1]
    stride = (width + TILE - 1) // TILE * TILE
    x, x0 = work.inputs, block * width
    if len(work.examples):
        # The padding beyond width was zero when the buffer was made, and is never written.
        for b in range(n):
            at = (block * LANES + b) * stride
            work.examples[at : at + width] = data.inputs[chosen[b]]
    # Inputs that no network reads (most of MNIST's edge, for sparse tickets) are not gathered:
    # their places in the buffer hold whatever was there, and nothing looks there.
    for b in range(n, LANES):
        for j in range(len(live)):
            x[(x0 + live[j]) * LANES + b] = 0
    for j in range(len(live)):
        i = live[j]
        own = x[(x0 + i) * LANES : (x0 + i + 1) * LANES]
        for b in range(n):
            own[b] = data.inputs[chosen[b], i]
    for b in range(n):
        if len(data.labels):
            work.labels[block, b] = data.labels[chosen[b]]
        else:
            work.targets[block, b] = data.targets[chosen[b]]


@compiled
def fetch_maps(data: Data, chosen: Array, net: Convolutions, block: int, work: Buffers) -> None:
    """Gather chosen examples, at most LANES, into one block of first maps of a network."""
    n, lanes, size, x = len(chosen), net.lanes, net.stages.x_size[0], work.inputs
    for g in range((n + lanes - 1) // lanes):
        x0 = (block * (LANES // lanes) + g) * size
        for i in range(len(net.places)):
            for b in range(lanes):
                # Lanes that are left over repeat the last example: with deltas of 0 they add
                # nothing, and they overflow only where that one does.
                example = chosen[min(g * lanes + b, n - 1)]
                x[x0 + net.places[i] + b] = data.inputs[example, i]
    for b in range(n):
        if len(data.labels):
            work.labels[block, b] = data.labels[chosen[b]]
        else:
            work.targets[block, b] = data.targets[chosen[b]]


@compiled
def train(
    layers: Layers, kept: Kept, parameters: Parameters, data: Data, optimizer: Optimizer,
    schedule: Schedule, losses: Array, work: Buffers, convolutions: Convolutions | None,
    together: Together | None,
) -> None:  # fmt: skip
    """Take the steps of a schedule with G networks, ``span`` steps of each in turn.

    ``kept``, ``parameters`` and the convolutions, in a row or ``together``, are those of the group.
    The networks' mean losses of the steps from ``tail`` on are added to ``losses``, float64 (G,).
    """
    # numba leaves out what an argument of None rules out: without convolutions none are compiled,
    # and only those of one kind otherwise.
    batches, span, starts = schedule.batches, schedule.span, kept.starts
    size = batches.shape[1]
    blocks = (size + LANES - 1) // LANES
    top = len(work.acts) - layers.sizes[-1] * LANES
    for s0 in range(0, len(batches), span):
        s1 = min(s0 + span, len(batches))
        # Gathering is done once for all networks of the group: they see the same minibatches.
        for s in range(s0, s1):
            for block in range(blocks):
                chosen = batches[s, block * LANES : (block + 1) * LANES]
                place = (s - s0) * blocks + block
                if together is not None:
                    fetch_maps(data, chosen, together.net, place, work)
                elif convolutions is not None:
                    fetch_maps(data, chosen, convolutions, place, work)
                else:
                    fetch(data, chosen, kept.live, place, work)
        for p in range(len(starts)):
            own = network_of(kept, p)
            a, z = starts[p, 0], starts[p, -1]
            theta, m, v = parameters.theta[a:z], parameters.m[a:z], parameters.v[a:z]
            grad = work.grad[: z - a]
            for s in range(s0, s1):
                loss = 0.0
                if together is not None:
                    lists, first = lists_of(together.net.lists, p), (s - s0) * blocks * LANES
                    convolve_together(
                        layers, own, together, lists, p, theta, work.inputs,
                        first // together.net.lanes, size, True,
                    )  # fmt: skip
                for block in range(blocks):
                    place = (s - s0) * blocks + block
                    n = min(LANES, size - block * LANES)
                    if together is not None:
                        give_features(layers, together.net, block, work.acts, n)
                    elif convolutions is not None:
                        lists = lists_of(convolutions.lists, p)
                        convolve(
                            layers, own, convolutions, lists, theta, work.inputs, place,
                            work.acts, n,
                        )  # fmt: skip
                    forward(layers, own, theta, work.inputs, place, work.acts, n)
                    loss += loss_and_deltas(
                        layers.loss, work.acts[top:], work.labels[place], work.targets[place],
                        n, size, work.deltas[top:],
                    )  # fmt: skip
                    # backward sets a gradient rather than adding to it, which spares a pass that
                    # clears it; the usual minibatch fits one block and needs no second pass.
                    into = grad if block == 0 else work.block_grad[: z - a]
                    backward(layers, own, theta, work, place, into, n)
                    if together is not None:
                        take_slopes(layers, together.net, block, work.deltas, n)
                    elif convolutions is not None:
                        convolve_back(
                            layers, own, convolutions, lists, theta, work.inputs, place,
                            work.acts, work.deltas, into, n,
                        )  # fmt: skip
                    if block > 0:
                        for i in range(z - a):
                            grad[i] += into[i]
                if together is not None:
                    convolve_together_back(
                        layers, own, together, lists, theta, work.inputs,
                        first // together.net.lanes, grad, size,
                    )  # fmt: skip
                if optimizer.clip_norm > 0 or optimizer.clip_value > 0:
                    clip(layers, own, convolutions, together, optimizer, grad)
                for layer in range(len(own.starts) - 1):
                    i, j = own.starts[layer], own.starts[layer + 1]
                    mask = own.masks[own.mask_starts[layer] : own.mask_starts[layer + 1]]
                    lr, step = schedule.lrs[s], schedule.first + s + 1
                    if together is not None and layer < layers.stages:
                        # Factors and terms at the end, which may be none, or not be trained.
                        n = together.net.stages.filters[layer]
                        for i0 in (
                            range(j - 2 * n, j, n) if together.norms.kinds[layer] else range(0)
                        ):
                            if together.norms.trains[layer, (i0 - j) // n + 2]:
                                i1 = i0 + n
                                part = Parameters(theta[i0:i1], m[i0:i1], v[i0:i1])
                                optimizer_step(
                                    optimizer, part, grad[i0:i1], mask[i0 - i : i1 - i], lr, step
                                )
                        j -= 2 * n if together.norms.kinds[layer] else 0
                    part = Parameters(theta[i:j], m[i:j], v[i:j])
                    optimizer_step(optimizer, part, grad[i:j], mask[: j - i], lr, step)
                if schedule.first + s >= schedule.tail:
                    losses[p] += loss / size


@compiled
def measure(
    layers: Layers, kept: Kept, p: int, theta: Array, data: Data, acts: Array, deltas: Array,
    convolutions: Convolutions | None, together: Together | None, rows: int,
) -> tuple[float, float]:  # fmt: skip
    """Return the mean loss and the accuracy of one network of a group on a split in blocks.

    Where ``rows`` is not 0, so many examples are normalised together, and begin a block.
    """
    own, theta = network_of(kept, p), theta[kept.starts[p, 0] : kept.starts[p, -1]]
    n_examples = max(len(data.labels), len(data.targets))
    top = len(acts) - layers.sizes[-1] * LANES
    total, correct, block = 0.0, 0.0, 0
    each = rows if rows else n_examples
    for begin in range(0, n_examples, each):
        end = min(begin + each, n_examples)
        for first in range(begin, end, LANES):
            n = min(LANES, end - first)
            y, t = data.labels[first : first + n], data.targets[first : first + n]
            if together is not None:
                lists, group = lists_of(together.net.lists, p), block * LANES // together.net.lanes
                if rows and first == begin:
                    convolve_together(
                        layers, own, together, lists, p, theta, data.inputs, group, end - begin,
                        False,
                    )  # fmt: skip
                if rows:
                    give_features(layers, together.net, (first - begin) // LANES, acts, n)
                else:
                    measure_together(
                        layers, own, together, lists, p, theta, data.inputs, group, acts, n
                    )
            elif convolutions is not None:
                lists = lists_of(convolutions.lists, p)
                convolve(layers, own, convolutions, lists, theta, data.inputs, block, acts, n)
            forward(layers, own, theta, data.inputs, block, acts, n)
            total += loss_and_deltas(layers.loss, acts[top:], y, t, n, n, deltas[top:])
            correct += count_correct(layers.loss, acts[top:], y, t, n)
            block += 1
    return total / n_examples, correct / n_examples

"""``Convolution``: one masked convolution as the compiled kernels take it; lists of a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap.training.engines.cpu.arguments import Array, Convolutions, Lists, Maps
from nets_deap.training.engines.cpu.blocks import aligned_zeros
from nets_deap.training.engines.cpu.geometry import (
    COLUMNS,
    REGISTER,
    SEGMENTS,
    UNREACHED,
    Geometry,
    Layout,
)

# Of the first level's cache, what the inputs of a tile may take; the rest is for weights, offsets
# and sums.
TILE_BYTES = 24 * 2**10
# Kept weights of an output channel that read one block of input channels, on average, from which on
# blocks gain more than their sums cost: 20 % of a pass at density 0.2 and 3x3.
WORTH_BLOCKS = 3
# A convolution that keeps at least this share of its weights trains faster with all of them, where
# three channels share a load of an input.
WHOLE_FROM = 0.75


@dataclass(frozen=True)
class _Order:
    """Kept weights by output channel and block of input channels, for one pass of tiles.

    ``offsets`` int32 and ``origins`` int32 (kept,), ``rows`` int64 (channels x blocks + 1,).
    """

    offsets: Array
    origins: Array
    rows: Array
    blocks: int

    @classmethod
    def of(
        cls, outputs: Array, inputs: Array, offsets: Array, origins: Array, n: tuple[int, int],
        layout: Layout, whole: bool,
    ) -> _Order:  # fmt: skip
        """Sort weights that read some of n[1] channels for n[0] others."""
        taps = layout.taps
        rows = taps.reach(0) + taps.stride[0] * SEGMENTS
        columns = taps.reach(1) + taps.stride[1] * COLUMNS[0]
        each = max(1, TILE_BYTES // (rows * columns * REGISTER))
        blocks = -(-n[1] // each)
        if whole or len(offsets) < WORTH_BLOCKS * n[0] * blocks:
            each, blocks = n[1], 1
        cells = outputs * blocks + inputs // each
        # Stable: within a cell the order of the mask, which goes along rows of the image.
        order = np.argsort(cells, kind="stable")
        return cls(
            offsets[order].astype(np.int32),
            origins[order].astype(np.int32),
            np.searchsorted(cells[order], np.arange(n[0] * blocks + 1)),
            blocks,
        )


class Convolution:
    """One convolution of a network: its parameters in a row, and where each kept weight reads.

    Attributes:
        name: Name of the weight.
        bias: Name of the bias; None where there is none.
        mask: (filters, channels of a group, rows, columns).
        dense: Whether all weights are held, the pruned ones as zeros.
        theta: Kept weights in mask order, or all, then biases.
        masks: 1 for kept weights, where all are held and not all are kept; uint8.
    """

    # As of a layer that has none of its own in ``Kept``.
    rows = np.zeros(0, np.int64)
    cols = np.zeros(0, np.int32)

    def __init__(
        self, name: str, bias: str | None, tensor: Array, mask: Array, biases: Array, layout: Layout
    ) -> None:
        self.name, self.bias, self.mask, self._layout = name, bias, mask, layout
        kept = np.count_nonzero(mask)
        # The channels of a group read others than those of the next one.
        self.dense = bool(kept >= WHOLE_FROM * mask.size) and layout.groups == 1
        partly = self.dense and kept < mask.size
        self.masks = mask.reshape(-1).astype(np.uint8) if partly else np.zeros(0, np.uint8)
        flat = np.arange(mask.size) if self.dense else np.flatnonzero(mask)
        # Exactly 0 from the start, also where W0 holds NaN: 0 times NaN would not be 0.
        self.theta = np.concatenate([np.where(mask, tensor, 0).reshape(-1)[flat], biases])
        filters, own, rows, columns = np.unravel_index(flat, mask.shape)
        # Of the channels of all groups.
        channels = own + filters // (mask.shape[0] // layout.groups) * mask.shape[1]
        self._parts = filters, channels, rows, columns

    def forward(self) -> _Order:
        """Return the order in which the convolution takes its weights."""
        filters, channels, rows, columns = self._parts
        x, taps = self._layout.x, self._layout.taps
        # Counted from the first margin, where the first tap of the first position reads.
        places = x.place(
            taps.dilation[0] * rows - x.before[0], taps.dilation[1] * columns - x.before[1]
        )
        offsets = channels * x.channel + places
        origins = np.arange(len(filters))
        n = len(self.mask), x.channels
        return _Order.of(filters, channels, offsets, origins, n, self._layout, self.dense)

    def backward(self) -> list[_Order]:
        """Return the orders for the gradient of its inputs, for each phase of its strides."""
        filters, channels, rows, columns = self._parts
        z, taps, found = self._layout.z, self._layout.taps, []
        for phase in self._layout.phases:
            down, across = taps.turned(0, phase[0])[rows], taps.turned(1, phase[1])[columns]
            own = np.flatnonzero((down != UNREACHED) & (across != UNREACHED))
            offsets = filters * z.channel + down * z.row + across * z.pitch
            n = self._layout.x.channels, z.channels
            parts = channels[own], filters[own], offsets[own], own
            found.append(_Order.of(*parts, n, self._layout, self.dense))
        return found

    def read(self, theta: Array) -> tuple[Array, Array]:
        """Return the kept weights in mask order and the biases."""
        end = len(theta) - len(self.mask)
        weights = theta[:end]
        return weights[self.mask.reshape(-1)] if self.dense else weights, theta[end:]


def convolutions_of(geometry: Geometry, networks: Sequence[Sequence[Convolution]]) -> Convolutions:
    """Return what the loops need of the convolutions of a group's networks."""
    forward = [[convolution.forward() for convolution in own] for own in networks]
    backward = [
        # The gradient of a network's own inputs is not needed.
        [order for convolution in own[1:] for order in convolution.backward()]
        for own in networks
    ]
    dtype = networks[0][0].theta.dtype
    offsets, starts, rows, row_starts, blocks = _lists(forward)
    turned, turned_starts, turned_rows, turned_row_starts, turned_blocks = _lists(backward)
    origins = [order.origins for own in backward for order in own]
    lists = Lists(
        offsets, starts, rows, row_starts, blocks, turned,
        np.concatenate([np.zeros(0, np.int32), *origins]),
        turned_starts, turned_rows, turned_row_starts, turned_blocks,
    )  # fmt: skip
    maps, slopes, codes = geometry.sizes
    cells = [
        n
        for own in networks
        for convolution in own
        for n in (len(convolution.mask), convolution._layout.x.channels)
    ]
    longest = int((turned_starts[:, -1] - turned_starts[:, 0]).max())
    sums = max(cells) * SEGMENTS * COLUMNS[0] * geometry.lanes
    return Convolutions(
        geometry.lanes,
        geometry.places,
        geometry.stages,
        geometry.uses,
        lists,
        Maps(
            aligned_zeros(maps, dtype),
            aligned_zeros(slopes, dtype),
            aligned_zeros(codes, np.int8),
            aligned_zeros(sums, dtype),
            aligned_zeros(longest, dtype),
        ),
    )


def _lists(networks: list[list[_Order]]) -> tuple[Any, ...]:
    """Return offsets, their starts, rows, their starts, and blocks of the networks' orders."""
    orders = [order for own in networks for order in own]
    n = len(networks[0])
    return (
        np.concatenate([np.zeros(0, np.int32), *(order.offsets for order in orders)]),
        _starts([len(order.offsets) for order in orders], len(networks), n),
        np.concatenate([np.zeros(0, np.int64), *(order.rows for order in orders)]),
        _starts([len(order.rows) for order in orders], len(networks), n),
        np.array([order.blocks for order in orders], np.int64).reshape(len(networks), n),
    )


def _starts(lengths: list[int], networks: int, n: int) -> NDArray[np.int64]:
    """Return where n pieces of each network start, a row a network, and the end of the last."""
    ends = np.concatenate([[0], np.cumsum(np.array(lengths, np.int64))])
    return np.stack([ends[i * n : (i + 1) * n + 1] for i in range(networks)])

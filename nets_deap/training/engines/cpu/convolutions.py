"""``Convolution``: one masked convolution as the compiled kernels take it; lists of a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap.models.stages import INPUTS, Stage
from nets_deap.training.engines.cpu.arguments import (
    NO_NORM,
    Array,
    Convolutions,
    Lists,
    Maps,
    Norms,
)
from nets_deap.training.engines.cpu.blocks import LANES, aligned_zeros
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


@dataclass(frozen=True)
class Norm:
    """How the sums of a stage are normalised; see ``arguments.Norms``."""

    kind: int = NO_NORM
    eps: float = 0.0
    momentum: float = 0.0
    trains: tuple[bool, bool] = (False, False)


class Convolution:
    """One convolution of a network: its parameters in a row, and where each kept weight reads.

    Attributes:
        name: Name of the weight.
        bias: Name of the bias; None where there is none.
        shape: (filters, channels of a group, rows, columns).
        dense: Whether all weights are held, the pruned ones as zeros.
        norm: Name of what normalises its sums; empty for nothing.
        theta: Kept weights in mask order, or all, then biases; then the factors and the terms of
            the normalisation.
        masks: 1 for kept weights, where all are held and not all are kept; uint8.
    """

    # As of a layer that has none of its own in ``Kept``.
    rows = np.zeros(0, np.int64)
    cols = np.zeros(0, np.int32)

    def __init__(
        self, stage: Stage, tensor: Array, mask: Array, biases: Array, layout: Layout,
        norm: Mapping[str, Array],
    ) -> None:  # fmt: skip
        """Hold a convolution; ``norm`` has the tensors of its normalisation by their own names."""
        self.name, self.bias, self.shape, self.layout = stage.weight, stage.bias, mask.shape, layout
        self.norm, self._norm = stage.norm_name, norm
        kept = np.count_nonzero(mask)
        # The channels of a group read others than those of the next one.
        self.dense = bool(kept >= WHOLE_FROM * mask.size) and layout.groups == 1
        partly = self.dense and kept < mask.size
        self.masks: Array = mask.reshape(-1).astype(np.uint8) if partly else np.zeros(0, np.uint8)
        flat = np.arange(mask.size) if self.dense else np.flatnonzero(mask)
        # Exactly 0 from the start, also where W0 holds NaN: 0 times NaN would not be 0.
        kept_ = np.where(mask, tensor, 0).reshape(-1)[flat]
        self._n = len(kept_)
        scales: list[Array] = []
        if stage.norm is not None:
            scales = [norm.get("weight", np.ones_like(biases)), norm.get("bias", 0 * biases)]
        self.theta = np.concatenate([kept_, biases, *scales])
        # Running statistics, which training changes; of no use without normalisation.
        self.mean = norm.get("running_mean", 0 * biases).copy()
        self.variance = norm.get("running_var", np.ones_like(biases)).copy()
        self.batches = int(norm.get("num_batches_tracked", np.zeros(1)).item())
        self._flat: Array = flat

    def let_go(self) -> None:
        """Forget what the group's arrays have by now."""
        self.theta = self.masks = self._flat = np.zeros(0)

    def _parts(self) -> tuple[Array, ...]:
        """Return filter, channel (of all groups), row and column of each weight held."""
        filters, own, rows, columns = np.unravel_index(self._flat, self.shape)
        channels = own + filters // (self.shape[0] // self.layout.groups) * self.shape[1]
        return filters, channels, rows, columns

    def forward(self) -> _Order:
        """Return the order in which the convolution takes its weights."""
        filters, channels, rows, columns = self._parts()
        x, taps = self.layout.x, self.layout.taps
        # Counted from the first margin, where the first tap of the first position reads.
        places = x.place(
            taps.dilation[0] * rows - taps.padding[0], taps.dilation[1] * columns - taps.padding[1]
        )
        offsets = channels * x.channel + places
        origins = np.arange(len(filters))
        n = self.shape[0], x.channels
        return _Order.of(filters, channels, offsets, origins, n, self.layout, self.dense)

    def backward(self) -> list[_Order]:
        """Return the orders for the gradient of its inputs, for each phase of its strides."""
        filters, channels, rows, columns = self._parts()
        z, taps, found = self.layout.z, self.layout.taps, []
        for phase in self.layout.phases:
            down, across = taps.turned(0, phase[0])[rows], taps.turned(1, phase[1])[columns]
            own = np.flatnonzero((down != UNREACHED) & (across != UNREACHED))
            offsets = filters * z.channel + down * z.row + across * z.pitch
            n = self.layout.x.channels, z.channels
            parts = channels[own], filters[own], offsets[own], own
            found.append(_Order.of(*parts, n, self.layout, self.dense))
        return found

    def read(self, theta: Array, mask: Array) -> tuple[Array, Array]:
        """Return the kept weights in mask order and the biases, given the layer's mask."""
        weights, biases = theta[: self._n], theta[self._n : self._n + self.shape[0]]
        return weights[mask.reshape(-1)] if self.dense else weights, biases

    def normalisation(self, theta: Array) -> dict[str, Array]:
        """Return the tensors of its normalisation by name; empty for none."""
        if not self.norm:
            return {}
        factors, terms = theta[self._n + self.shape[0] :].reshape(2, -1)
        named = {
            "weight": factors, "bias": terms, "running_mean": self.mean,
            "running_var": self.variance, "num_batches_tracked": np.array(self.batches),
        }  # fmt: skip
        return {f"{self.norm}.{name}": named[name] for name in self._norm}


def convolutions_of(geometry: Geometry, networks: Sequence[Sequence[Convolution]]) -> Convolutions:
    """Return what the loops need of the convolutions of a group's networks."""
    forward = [[convolution.forward() for convolution in own] for own in networks]
    backward = [
        # The gradient of a network's own inputs is not needed.
        [
            order
            for convolution in own
            if convolution.layout.source != INPUTS
            for order in convolution.backward()
        ]
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
        for n in (convolution.shape[0], convolution.layout.x.channels)
    ]
    last = geometry.layouts[-1].y.size // LANES
    features = -(-geometry.groups * geometry.lanes // LANES) * LANES * last
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
            aligned_zeros(features, dtype),
        ),
    )


def norms_of(
    geometry: Geometry, networks: Sequence[Sequence[Convolution]], rules: Sequence[Norm]
) -> Norms:
    """Return what the loops need of the normalisation of a group's networks."""
    filters = [convolution.shape[0] for convolution in networks[0]]
    n, dtype = sum(filters), networks[0][0].theta.dtype
    return Norms(
        kinds=np.array([rule.kind for rule in rules], np.int64),
        eps=np.array([rule.eps for rule in rules]),
        momentum=np.array([rule.momentum for rule in rules]),
        trains=np.array([rule.trains for rule in rules]),
        firsts=np.cumsum([0, *filters[:-1]]),
        means=np.stack([np.concatenate([c.mean for c in own]) for own in networks]),
        variances=np.stack([np.concatenate([c.variance for c in own]) for own in networks]),
        batches=np.array([[c.batches for c in own] for own in networks], np.int64),
        mean=np.zeros(n),
        spread=np.zeros(n),
        slopes=np.zeros((2, n)),
        lanes=np.zeros(2 * geometry.lanes, dtype),
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

"""``Geometry``: where the positions of a convolutional network's feature maps lie in memory.

All of it follows from the network's shape alone, so that the networks of a call share it; which
weights each one keeps, as offsets between these places, stands in ``convolutions``. One file: maps,
the passes over them and the table that these follow are one drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from nets_deap.models.stages import Stage
from nets_deap.training.engines.cpu.arguments import (
    AVERAGE,
    GATE_RELU,
    GATE_SIGMOID,
    GATE_TANH,
    LINEAR,
    MAXIMUM,
    NO_POOL,
    PLAIN,
    POOLED,
    RECTIFIED,
    RELU,
    SIGMOID,
    TANH,
    Stages,
    Uses,
)
from nets_deap.training.engines.cpu.blocks import LANES

# Segments of a tile; a multiple of 2, for pairs of rows to pool.
SEGMENTS = 6
# Positions of a segment; the narrower ones are for what is left of a row.
COLUMNS = (4, 2, 1)
# What the table of segments says of each: where it reads, where it writes, where the activation or
# the code beside that lies, and where the gradient by its sums.
TABLE = 4
SOURCE, TARGET, GATE, SLOPE = range(TABLE)
# Bytes of a block of lanes, one register of AVX-512.
REGISTER = 64

ACTIVATIONS: dict[type[nn.Module], int] = {nn.ReLU: RELU, nn.Tanh: TANH, nn.Sigmoid: SIGMOID}
_GATES = {LINEAR: PLAIN, RELU: GATE_RELU, TANH: GATE_TANH, SIGMOID: GATE_SIGMOID}

Pair = tuple[int, int]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Map:
    """A feature map: (channels, rows, columns, lanes) with margins of zeros.

    Attributes:
        channels: How many.
        height: Rows without margins.
        width: Columns without margins.
        pitch: Elements from one position to the next.
        before: Margins above and to the left.
        after: Margins below and to the right.
        halves: Whether even columns come first, then odd ones.
        tail: Positions of zeros after the last one of each channel.
    """

    channels: int
    height: int
    width: int
    pitch: int
    before: Pair = (0, 0)
    after: Pair = (0, 0)
    halves: bool = False
    tail: int = 0

    @property
    def _columns(self) -> int:
        """Columns with margins; an even number where they come in halves."""
        columns = self.before[1] + self.width + self.after[1]
        return columns + columns % 2 if self.halves else columns

    @property
    def row(self) -> int:
        """Elements from one row to the next."""
        return self._columns * self.pitch

    @property
    def end(self) -> int:
        """Where the tail of a channel is."""
        return (self.before[0] + self.height + self.after[0]) * self.row

    @property
    def channel(self) -> int:
        """Elements from one channel to the next."""
        return self.end + self.tail * self.pitch

    @property
    def size(self) -> int:
        """Elements."""
        return self.channels * self.channel

    def place(self, rows: Any, columns: Any) -> Any:
        """Return where positions lie; numbers or arrays of them."""
        across = columns + self.before[1]
        if self.halves:
            across = across % 2 * (self._columns // 2) + across // 2
        return (rows + self.before[0]) * self.row + across * self.pitch

    @property
    def origin(self) -> int:
        """Where the first position lies."""
        return int(self.place(0, 0))


@dataclass(frozen=True)
class Taps:
    """A convolution's own numbers along rows and columns."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    @classmethod
    def of(cls, convolution: nn.Conv2d) -> Taps:
        """Return those of a convolution, whose padding is numbers."""
        padding = convolution.padding
        if isinstance(padding, str):
            sizes = zip(convolution.dilation, convolution.kernel_size, strict=True)
            padding = tuple(d * (k - 1) // 2 if padding == "same" else 0 for d, k in sizes)
        return cls(
            _pair(convolution.kernel_size), _pair(convolution.stride), _pair(padding),
            _pair(convolution.dilation),
        )  # fmt: skip

    def reach(self, axis: int) -> int:
        """Return the distance from the first to the last tap."""
        return self.dilation[axis] * (self.kernel[axis] - 1)

    def outputs(self, axis: int, n: int) -> int:
        """Return how many positions a convolution over n positions has."""
        left = n + 2 * self.padding[axis] - self.reach(axis) - 1
        return left // self.stride[axis] + 1 if left >= 0 else 0

    def turned(self, axis: int, phase: int) -> NDArray[np.int64]:
        """Return from which output, counted from a, input stride a + phase is reached by each tap.

        Those of no tap are far below all others.
        """
        tap = phase + self.padding[axis] - self.dilation[axis] * np.arange(self.kernel[axis])
        return np.where(tap % self.stride[axis] == 0, tap // self.stride[axis], UNREACHED)

    def margins(self, axis: int, n: int) -> Pair:
        """Return how far the outputs that n inputs go to reach before the first and the last."""
        low, high = 0, 0
        for phase in range(self.stride[axis]):
            count = -(-(n - phase) // self.stride[axis])
            reached = self.turned(axis, phase)
            reached = reached[reached != UNREACHED]
            if count > 0 and len(reached):
                low = max(low, -int(reached.min()))
                high = max(high, int(reached.max()) + count - self.outputs(axis, n))
        return low, high


UNREACHED = -(2**40)


@dataclass(frozen=True)
class Layout:
    """The maps of one stage, see ``arguments.Stages``, and its convolution's numbers.

    Attributes:
        taps: The convolution's numbers.
        groups: Its groups.
        x: What it reads.
        f: What its convolution gives, where that is kept.
        y: What comes out of it.
        z: The gradient by the convolution's sums.
        activation: ``RELU``, ``TANH``, ``SIGMOID`` or ``LINEAR``.
        pooling: ``NO_POOL``, ``MAXIMUM`` or ``AVERAGE``.
        pool: Rows and columns that are pooled to one.
        pools_first: Whether the activation comes after.
    """

    taps: Taps
    groups: int
    x: Map
    f: Map
    y: Map
    z: Map
    activation: int
    pooling: int
    pool: int
    pools_first: bool

    @property
    def fused(self) -> bool:
        """Whether a tile's sums are rectified and pooled before they are written."""
        return self.pooling == MAXIMUM and self.pool == 2 and self.activation == RELU

    @property
    def phases(self) -> list[Pair]:
        """The places of inputs within a stride."""
        rows, columns = self.taps.stride
        return [
            (r, c)
            for r in range(min(rows, self.x.height))
            for c in range(min(columns, self.x.width))
        ]


def takes(stages: Sequence[Stage], image: Sequence[int], features: int) -> bool:
    """Return whether stages of these kinds can be laid out, from an image (C, H, W) to features."""
    if len(image) != 3:
        return False
    channels, height, width = image
    for stage in stages:
        convolution, pool = stage.convolution, stage.pool
        activation = stage.activation
        if activation is not None and type(activation) not in ACTIVATIONS:
            return False
        if convolution.padding_mode != "zeros" or convolution.in_channels != channels:
            return False
        taps = Taps.of(convolution)
        same = convolution.padding == "same" and any(taps.reach(axis) % 2 for axis in (0, 1))
        if same or max(taps.stride) > 2:
            return False
        height, width = taps.outputs(0, height), taps.outputs(1, width)
        channels = convolution.out_channels
        if pool is not None:
            size = _pool_size(pool)
            if size is None:
                return False
            height, width = height // size, width // size
        if min(height, width) < 1:
            return False
    return channels * height * width == features


def _pool_size(pool: nn.MaxPool2d | nn.AvgPool2d) -> int | None:
    """Return the size of plain pooling: squares side by side, what is left over at the edge out."""
    kernel, stride = _pair(pool.kernel_size), _pair(pool.stride)
    plain = kernel == stride and kernel[0] == kernel[1] and kernel[0] >= 2
    plain = plain and _pair(pool.padding) == (0, 0) and not pool.ceil_mode
    if isinstance(pool, nn.MaxPool2d):
        plain = plain and _pair(pool.dilation) == (1, 1) and not pool.return_indices
    else:
        plain = plain and pool.divisor_override is None
    # Which input of a pooled unit won is a byte.
    return kernel[0] if plain and kernel[0] ** 2 < 128 else None


@dataclass(frozen=True)
class Geometry:
    """Where everything lies, for networks of some stages and one dtype.

    Attributes:
        lanes: Examples in a block of lanes.
        layouts: The maps of each stage.
        stages: The stages as the loops take them.
        uses: The passes over maps as the loops take them.
        sizes: Elements of ``Maps.maps``, ``slopes`` and ``codes``.
    """

    lanes: int
    layouts: tuple[Layout, ...]
    stages: Stages
    uses: Uses
    sizes: tuple[int, int, int]

    @classmethod
    def of(cls, stages: Sequence[Stage], image: Sequence[int], dtype: Any) -> Geometry:
        """Lay out the maps of stages that ``takes`` takes, for images (C, H, W)."""
        lanes = REGISTER // np.dtype(dtype).itemsize
        layouts = _layouts(stages, image, lanes)
        return _Drawing(lanes, layouts).geometry()

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds that one example takes forward, with all weights."""
        return sum(
            layout.z.channels * layout.z.height * layout.z.width
            * (layout.x.channels // layout.groups) * layout.taps.kernel[0] * layout.taps.kernel[1]
            for layout in self.layouts
        )  # fmt: skip

    @property
    def places(self) -> Places:
        """Places of an example's inputs in the first map, shape (inputs,)."""
        x = self.layouts[0].x
        rows = x.place(np.arange(x.height)[:, None], np.arange(x.width))
        places: Places = x.channel * np.arange(x.channels)[:, None, None] + rows
        return places.reshape(-1)


def _layouts(stages: Sequence[Stage], image: Sequence[int], lanes: int) -> tuple[Layout, ...]:
    """Lay out the maps of all stages."""
    made: list[Layout] = []
    channels, rows, columns = image
    x = _read(stages[0], channels, rows, columns, lanes)
    for i, stage in enumerate(stages):
        taps, filters = Taps.of(stage.convolution), stage.convolution.out_channels
        rows, columns = taps.outputs(0, x.height), taps.outputs(1, x.width)
        margins = [taps.margins(axis, n) for axis, n in enumerate((x.height, x.width))]
        low, high = zip(*margins, strict=True)
        # The tail is what the places beyond the last segment of a tile take for their gradient.
        z = Map(filters, rows, columns, lanes, low, high, tail=max(COLUMNS))
        f = Map(filters, rows, columns, lanes)
        pool = 1 if stage.pool is None else _pool_size(stage.pool)
        assert pool is not None
        rows, columns = rows // pool, columns // pool
        if i + 1 < len(stages):
            y = _read(stages[i + 1], filters, rows, columns, lanes)
        else:  # the head's inputs, (features, LANES)
            y = Map(filters, rows, columns, LANES)
        kind = LINEAR if stage.activation is None else ACTIVATIONS[type(stage.activation)]
        pooling = NO_POOL
        if stage.pool is not None:
            pooling = MAXIMUM if isinstance(stage.pool, nn.MaxPool2d) else AVERAGE
        made.append(
            Layout(
                taps, stage.convolution.groups, x, f, y, z, kind, pooling, pool, stage.pools_first
            )
        )
        x = y
    return tuple(made)


def _read(stage: Stage, channels: int, height: int, width: int, lanes: int) -> Map:
    """Return the map that a stage reads."""
    taps = Taps.of(stage.convolution)
    return Map(
        channels, height, width, lanes, taps.padding, taps.padding, halves=taps.stride[1] == 2
    )


@dataclass
class _Drawing:
    """Collects what ``Geometry`` holds, stage by stage."""

    lanes: int
    layouts: tuple[Layout, ...]
    stages: list[dict[str, int]] = field(default_factory=list)
    uses: list[dict[str, int]] = field(default_factory=list)
    first: list[list[int]] = field(default_factory=list)
    table: list[Places] = field(default_factory=list)
    places: list[Places] = field(default_factory=list)
    n_segments: int = 0

    def geometry(self) -> Geometry:
        """Return the whole."""
        blocks = LANES // self.lanes
        maps = slopes = codes = n_places = 0
        for i, layout in enumerate(self.layouts):
            x, f, y, z = layout.x, layout.f, layout.y, layout.z
            keeps = layout.pooling != NO_POOL and not layout.fused
            pooled = y.channels * y.height * y.width * self.lanes
            own = {
                "filters": z.channels, "height": y.height, "width": y.width,
                "activation": layout.activation, "pooling": layout.pooling, "pool": layout.pool,
                "pools_first": int(layout.pools_first), "fused": int(layout.fused),
                "x_start": maps if i else 0, "x_size": x.size, "y_channel": y.channel,
                "f_size": f.size if keeps else 0, "f_channel": f.channel, "f_row": f.row,
                "z_start": slopes, "z_origin": z.origin, "z_channel": z.channel, "z_row": z.row,
                "code_start": codes, "code_size": pooled if layout.pooling == MAXIMUM else 0,
                "positions": n_places,
            }  # fmt: skip
            maps += blocks * x.size if i else 0
            own["f_start"] = maps
            maps += blocks * own["f_size"]
            slopes += z.size
            own["p_start"] = slopes
            slopes += pooled if layout.pooling != NO_POOL else 0
            codes += blocks * own["code_size"]
            self.stages.append(own)
            rows, columns = np.arange(y.height)[:, None], np.arange(y.width)
            self.places.append(y.place(rows, columns).reshape(-1))
            n_places += y.height * y.width
        for layout in self.layouts:
            self._forward(layout)
        for below, layout, own in zip(
            (None, *self.layouts), self.layouts, self.stages, strict=False
        ):
            own["turns"] = len(self.uses)
            if below is not None:
                for phase in layout.phases:
                    self._backward(below, layout, phase)
            own["n_turns"] = len(self.uses) - own["turns"]
        return Geometry(
            self.lanes,
            self.layouts,
            Stages(
                **{name: _column(self.stages, name) for name in Stages._fields if name != "places"},
                places=np.concatenate(self.places),
            ),
            Uses(
                **{n: _column(self.uses, n) for n in Uses._fields if n not in ("first", "table")},
                first=np.array(self.first),
                table=np.concatenate(self.table).reshape(-1),
            ),
            (maps, slopes, codes),
        )

    def _forward(self, layout: Layout) -> None:
        """Note the pass that a stage's convolution takes."""
        x, z, pool = layout.x, layout.z, layout.pool
        keeps = layout.pooling != NO_POOL and not layout.fused
        out = layout.f if keeps else layout.y
        codes = Map(z.channels, layout.y.height, layout.y.width, self.lanes)
        two = 2 if layout.fused else 1
        mode = RECTIFIED if layout.activation == RELU and not layout.pools_first else PLAIN
        use = {
            "filters": z.channels, "mode": POOLED if layout.fused else mode,
            **_steps("y", out, 0, 1), **_steps("g", codes, 0, 1),
        }  # fmt: skip
        stride = layout.taps.stride[0]

        def entries(rows: Places, columns: Places) -> list[Places]:
            # ``place`` counts from the first position, the taps from the first margin.
            source = stride * rows * x.row + columns * x.pitch
            at = rows // two, columns // two
            return [source, out.place(*at), codes.place(*at), z.place(rows, columns)]

        self._add(use, (pool * layout.y.height, pool * layout.y.width), entries, z.end)

    def _backward(self, below: Layout, layout: Layout, phase: Pair) -> None:
        """Note the pass for the gradient of a stage's inputs in one place within a stride."""
        x, z = layout.x, layout.z
        down, across = layout.taps.stride
        out, mode = below.z, _GATES[below.activation]
        if below.pooling != NO_POOL:
            out, mode = Map(x.channels, x.height, x.width, self.lanes), PLAIN
        use = {
            "filters": x.channels, "mode": mode,
            **_steps("y", out, phase[1], across), **_steps("g", x, phase[1], across),
        }  # fmt: skip

        def entries(rows: Places, columns: Places) -> list[Places]:
            at = down * rows + phase[0], across * columns + phase[1]
            return [z.place(rows, columns), out.place(*at), x.place(*at), 0 * rows]

        sizes = -(-(x.height - phase[0]) // down), -(-(x.width - phase[1]) // across)
        self._add(use, sizes, entries, 0)

    def _add(self, use: dict[str, int], sizes: Pair, entries: Any, nowhere: int) -> None:
        """Add a pass over positions (rows, columns), cut into segments."""
        height, width = sizes
        first, column = [], 0
        for n in COLUMNS:
            first.append(self.n_segments)
            groups = (width - column) // n
            # Rows below each other first: a tile is as near to a square as it can be, and what its
            # positions read overlaps.
            columns = np.repeat(column + n * np.arange(groups), height)
            rows = np.tile(np.arange(height), groups)
            column += n * groups
            count = len(rows)
            # A tile is whole: its last places do some segments once more, whose gradient is zero.
            filled = np.arange(-(-count // SEGMENTS) * SEGMENTS) % max(count, 1)
            found = np.stack(entries(rows[filled], columns[filled]), axis=1).astype(np.int64)
            found[count:, SLOPE] = nowhere
            self.table.append(found)
            self.n_segments += len(filled)
        self.uses.append(use)
        self.first.append([*first, self.n_segments])


def _steps(name: str, out: Map, column: int, across: int) -> dict[str, int]:
    """Return the steps between positions of a segment that begins at an even one."""
    here, odd, pair = (int(out.place(0, column + i * across)) for i in range(3))
    return {f"{name}_channel": out.channel, f"{name}_odd": odd - here, f"{name}_pair": pair - here}


def _column(rows: list[dict[str, int]], name: str) -> NDArray[np.int64]:
    """Return one number of all rows."""
    return np.array([row[name] for row in rows], dtype=np.int64)


def _pair(numbers: Any) -> Pair:
    """Return two numbers, given as one or two."""
    first, second = numbers if isinstance(numbers, tuple | list) else (numbers, numbers)
    return int(first), int(second)

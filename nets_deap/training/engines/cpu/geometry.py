"""``Geometry``: where the positions of a convolutional network's feature maps lie in memory.

All of it follows from the network's shape alone, so that the networks of a call share it; which
weights each one keeps, as offsets between these places, stands in ``convolutions``. One file: maps,
the passes over them and the table that these follow are one drawing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from nets_deap.models.stages import INPUTS, Shortcut, Stage
from nets_deap.training.engines.cpu.arguments import (
    ADDED,
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
        source: The stage that it reads; ``INPUTS`` for none.
        shortcut: What is added to its sums; None for nothing.
        together: Whether all of a minibatch goes through it before any goes on.
        x: What it reads.
        f: What its convolution gives, where that is kept.
        y: What comes out of it.
        z: The gradient by the convolution's sums.
        d: That by what comes out of it, where all of a minibatch goes through.
        activation: ``RELU``, ``TANH``, ``SIGMOID`` or ``LINEAR``.
        pooling: ``NO_POOL``, ``MAXIMUM`` or ``AVERAGE``.
        pool: Rows and columns that are pooled to one.
        pools_first: Whether the activation comes after.
    """

    taps: Taps
    groups: int
    source: int
    shortcut: Shortcut | None
    together: bool
    x: Map
    f: Map
    y: Map
    z: Map
    d: Map
    activation: int
    pooling: int
    pool: Pair
    pools_first: bool

    @property
    def fused(self) -> bool:
        """Whether a tile's sums are rectified and pooled before they are written."""
        plain = self.pooling == MAXIMUM and self.pool == (2, 2) and self.activation == RELU
        return plain and not self.together

    @property
    def keeps(self) -> bool:
        """Whether its sums are kept."""
        return self.together or (self.pooling != NO_POOL and not self.fused)

    @property
    def phases(self) -> list[Pair]:
        """The places of inputs within a stride."""
        rows, columns = self.taps.stride
        return [
            (r, c)
            for r in range(min(rows, self.x.height))
            for c in range(min(columns, self.x.width))
        ]


def refusal(stages: Sequence[Stage], image: Sequence[int]) -> str:
    """Return in words which of some stages cannot be laid out, and why; empty if all can."""
    if len(image) != 3:
        return "inputs are not images (channels, rows, columns)"
    for stage, (_, height, width) in zip(stages, _shapes(stages, image), strict=True):
        convolution, taps = stage.convolution, Taps.of(stage.convolution)
        activation, own = stage.activation, f"{stage.name!r} (Conv2d)"
        if convolution.padding_mode != "zeros":
            return f"{own} has padding_mode={convolution.padding_mode!r}, not 'zeros'"
        if convolution.padding == "same" and any(taps.reach(axis) % 2 for axis in (0, 1)):
            return f"{own} has padding 'same' that is uneven"
        if max(taps.stride) > 2:
            return f"{own} has a stride above 2"
        if activation is not None and type(activation) not in ACTIVATIONS:
            return f"{type(activation).__name__} after {own} is not ReLU, Tanh or Sigmoid"
        if stage.pool is not None and _pool_size(stage.pool, (height, width)) is None:
            return f"{stage.pool} after {own} is not of rectangles side by side"
        others = (o for o in stages if o.source == stage.source)
        if len({Taps.of(other.convolution).stride[1] for other in others}) > 1:
            return f"{own} reads with another stride than others what these read, too"
    return ""


def _shapes(stages: Sequence[Stage], image: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield channels, rows and columns of what the convolution of each stage gives.

    One by one: of what comes after a stage that cannot be laid out they would be wrong.
    """
    given: list[tuple[int, int, int]] = []
    for stage in stages:
        taps, channels = Taps.of(stage.convolution), stage.convolution.out_channels
        _, height, width = image if stage.source == INPUTS else given[stage.source]
        height, width = taps.outputs(0, height), taps.outputs(1, width)
        yield channels, height, width
        pool = (1, 1) if stage.pool is None else _pool_size(stage.pool, (height, width))
        rows, columns = pool or (1, 1)
        given.append((channels, height // rows, width // columns))


def _pool_size(pool: nn.Module, size: Pair) -> Pair | None:
    """Return rows and columns that are pooled to one, of a map of some size, where that is plain.

    Rectangles side by side, what is left over at the edge out.
    """
    if isinstance(pool, nn.AdaptiveAvgPool2d):
        one = pool.output_size in (1, (1, 1), [1, 1])
        return size if one else None
    assert isinstance(pool, nn.MaxPool2d | nn.AvgPool2d)
    kernel, stride = _pair(pool.kernel_size), _pair(pool.stride)
    plain = kernel == stride and _pair(pool.padding) == (0, 0) and not pool.ceil_mode
    if isinstance(pool, nn.MaxPool2d):
        plain = plain and _pair(pool.dilation) == (1, 1) and not pool.return_indices
        plain = plain and kernel[0] * kernel[1] < 128  # which one won is a byte
    else:
        plain = plain and pool.divisor_override is None
    return kernel if plain else None


@dataclass(frozen=True)
class Geometry:
    """Where everything lies, for networks of some stages and one dtype.

    Attributes:
        lanes: Examples in a block of lanes.
        layouts: The maps of each stage.
        stages: The stages as the loops take them.
        uses: The passes over maps as the loops take them.
        sizes: Elements of ``Maps.maps``, ``slopes`` and ``codes``.
        groups: Blocks of lanes that there is memory for.
    """

    lanes: int
    layouts: tuple[Layout, ...]
    stages: Stages
    uses: Uses
    sizes: tuple[int, int, int]
    groups: int

    @classmethod
    def of(
        cls, stages: Sequence[Stage], image: Sequence[int], dtype: Any, together: int = 0
    ) -> Geometry:
        """Lay out the maps of stages that nothing refuses, for images (C, H, W).

        Args:
            stages: The stages.
            image: Shape of an example.
            dtype: Of the networks.
            together: Examples that go through each stage before any goes on; 0 for stages in a row,
                through which they can go in blocks.
        """
        lanes = REGISTER // np.dtype(dtype).itemsize
        layouts = _layouts(stages, image, lanes, together > 0)
        return _Drawing(lanes, -(-(together or LANES) // lanes), layouts).geometry()

    @property
    def together(self) -> bool:
        """Whether all of a minibatch goes through each stage before any goes on."""
        return self.layouts[0].together

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


def _layouts(
    stages: Sequence[Stage], image: Sequence[int], lanes: int, together: bool
) -> tuple[Layout, ...]:
    """Lay out the maps of all stages."""
    made: list[Layout] = []
    inputs = _read(stages, INPUTS, (image[0], image[1], image[2]), lanes)
    for i, stage in enumerate(stages):
        taps, filters = Taps.of(stage.convolution), stage.convolution.out_channels
        x = inputs if stage.source == INPUTS else made[stage.source].y
        rows, columns = taps.outputs(0, x.height), taps.outputs(1, x.width)
        margins = [taps.margins(axis, n) for axis, n in enumerate((x.height, x.width))]
        low, high = zip(*margins, strict=True)
        # The tail is what the places beyond the last segment of a tile take for their gradient.
        z = Map(filters, rows, columns, lanes, low, high, tail=max(COLUMNS))
        f = Map(filters, rows, columns, lanes)
        pool = (1, 1) if stage.pool is None else _pool_size(stage.pool, (rows, columns))
        assert pool is not None
        rows, columns = rows // pool[0], columns // pool[1]
        if i + 1 < len(stages):
            y = _read(stages, i, (filters, rows, columns), lanes)
        else:  # the head's inputs, (features, LANES)
            y = Map(filters, rows, columns, LANES)
        # Its tail takes what places beyond the last segment would add once more, at a stride of 2.
        d = Map(filters, rows, columns, lanes, tail=2 * max(COLUMNS))
        kind = LINEAR if stage.activation is None else ACTIVATIONS[type(stage.activation)]
        pooling = NO_POOL
        if stage.pool is not None:
            pooling = MAXIMUM if isinstance(stage.pool, nn.MaxPool2d) else AVERAGE
        layout = Layout(
            taps, stage.convolution.groups, stage.source, stage.shortcut, together, x, f, y, z, d,
            kind, pooling, pool, stage.pools_first,
        )  # fmt: skip
        made.append(layout)
    return tuple(made)


def _read(stages: Sequence[Stage], source: int, size: tuple[int, int, int], lanes: int) -> Map:
    """Return the map of what some stages read, with margins for all of them."""
    readers = [Taps.of(stage.convolution) for stage in stages if stage.source == source]
    margins = [max([0, *(taps.padding[axis] for taps in readers)]) for axis in (0, 1)]
    before = margins[0], margins[1]
    halves = any(taps.stride[1] == 2 for taps in readers)
    return Map(*size, lanes, before, before, halves=halves)


@dataclass
class _Drawing:
    """Collects what ``Geometry`` holds, stage by stage, for so many blocks of lanes."""

    lanes: int
    groups: int
    layouts: tuple[Layout, ...]
    stages: list[dict[str, int]] = field(default_factory=list)
    uses: list[dict[str, int]] = field(default_factory=list)
    first: list[list[int]] = field(default_factory=list)
    table: list[Places] = field(default_factory=list)
    places: list[Places] = field(default_factory=list)
    n_segments: int = 0
    n_places: int = 0

    def geometry(self) -> Geometry:
        """Return the whole."""
        # First the places of positions one after the other, of any map.
        longest = max(layout.z.height * layout.z.width for layout in self.layouts)
        self._note(self.lanes * np.arange(longest))
        sizes = self._lay_out()
        for layout in self.layouts:
            self._forward(layout)
        # Which stage's gradient has got a first part, in the order in which they come.
        begun: set[int] = set()
        modes: list[int] = []
        for layout, own in zip(reversed(self.layouts), reversed(self.stages), strict=True):
            own["sets"] = 0
            if layout.shortcut is not None:
                own["sets"] = int(layout.shortcut.source not in begun)
                begun.add(layout.shortcut.source)
            mode = ADDED if layout.source in begun else PLAIN
            begun.add(layout.source)
            modes.append(mode)
        for layout, own, mode in zip(self.layouts, self.stages, reversed(modes), strict=True):
            own["turns"] = len(self.uses)
            if layout.source != INPUTS:
                for phase in layout.phases:
                    self._backward(self.layouts[layout.source], layout, phase, mode)
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
            sizes,
            self.groups,
        )

    def _note(self, places: Places) -> int:
        """Add places, and return where they start."""
        start = self.n_places
        self.places.append(places.reshape(-1))
        self.n_places += places.size
        return start

    def _lay_out(self) -> tuple[int, int, int]:
        """Note where the maps of each stage lie; return how long the buffers must be."""
        maps = slopes = codes = 0
        for i, layout in enumerate(self.layouts):
            x, f, y, z, d = layout.x, layout.f, layout.y, layout.z, layout.d
            pooled = y.channels * y.height * y.width * self.lanes
            inside = layout.together and layout.pooling != NO_POOL
            own = {
                "filters": z.channels, "height": y.height, "width": y.width,
                "activation": layout.activation, "pooling": layout.pooling,
                "pool_height": layout.pool[0], "pool_width": layout.pool[1],
                "pools_first": int(layout.pools_first), "fused": int(layout.fused),
                "source": layout.source, "x_size": x.size,
                "x_start": 0 if layout.source == INPUTS else self.stages[layout.source]["y_start"],
                "y_size": y.size, "y_channel": y.channel,
                "f_size": f.size if layout.keeps else 0, "f_channel": f.channel, "f_row": f.row,
                "z_start": slopes, "z_origin": z.origin, "z_channel": z.channel, "z_row": z.row,
                "z_height": z.height, "z_width": z.width,
                "d_size": d.size if layout.together else 0, "d_channel": d.channel,
                "code_start": codes, "code_size": pooled if layout.pooling == MAXIMUM else 0,
            }  # fmt: skip
            for name, size in (
                ("y", y.size if i + 1 < len(self.layouts) else 0),
                ("f", own["f_size"]),
                ("u", f.size if inside else 0),
                ("e", f.size if inside else 0),
            ):
                own[f"{name}_start"] = maps
                maps += self.groups * size
            slopes += z.size
            own["p_start"] = slopes
            slopes += pooled if layout.pooling != NO_POOL and not layout.together else 0
            codes += self.groups * own["code_size"]
            self.stages.append(own)
            rows, columns = np.arange(y.height)[:, None], np.arange(y.width)
            own["positions"] = self._note(y.place(rows, columns))
            own["adds"], own["added_channel"], own["added"], own["added_slopes"] = INPUTS, 0, 0, 0
            if layout.shortcut is not None:
                shortcut, source = layout.shortcut, self.layouts[layout.shortcut.source]
                rows = shortcut.step[0] * np.arange(f.height)[:, None]
                columns = shortcut.step[1] * np.arange(f.width)
                own["adds"], own["added_channel"] = shortcut.source, shortcut.before
                own["added"] = self._note(source.y.place(rows, columns))
                own["added_slopes"] = self._note(source.d.place(rows, columns))
        return self._lay_out_slopes(maps), slopes, codes

    def _lay_out_slopes(self, maps: int) -> int:
        """Note where the gradients by what comes out of stages lie; return where they end.

        In reverse, as they come: one that is through makes room for others of its size. A few maps
        stay in the cache, one for each stage would not. The stage before begins to write while
        later blocks of lanes of this one are still to be read, each block in its own place.
        """
        free: dict[int, list[int]] = {}
        for i in reversed(range(len(self.layouts))):
            layout, shortcut = self.layouts[i], self.layouts[i].shortcut
            reads = {layout.source, *([] if shortcut is None else [shortcut.source])} - {INPUTS}
            for own in (self.stages[j] for j in (i, *sorted(reads))):
                size = self.groups * own["d_size"]
                if "d_start" not in own and free.get(size):
                    own["d_start"] = free[size].pop()
                elif "d_start" not in own:
                    own["d_start"] = maps
                    maps += size
            own = self.stages[i]
            free.setdefault(self.groups * own["d_size"], []).append(own["d_start"])
        return maps

    def _forward(self, layout: Layout) -> None:
        """Note the pass that a stage's convolution takes."""
        x, z, pool = layout.x, layout.z, layout.pool
        out = layout.f if layout.keeps else layout.y
        codes = Map(z.channels, layout.y.height, layout.y.width, self.lanes)
        two = 2 if layout.fused else 1
        rectifies = layout.activation == RELU and not layout.pools_first and not layout.together
        mode = RECTIFIED if rectifies else PLAIN
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

        sizes = pool[0] * layout.y.height, pool[1] * layout.y.width
        if layout.together:  # what pooling leaves out counts in the statistics
            sizes = z.height, z.width
        self._add(use, sizes, entries, z.end)

    def _backward(self, below: Layout, layout: Layout, phase: Pair, plain: int) -> None:
        """Note the pass for the gradient of a stage's inputs in one place within a stride.

        ``plain`` is the mode of sums that do not go through an activation's derivative.
        """
        x, z = layout.x, layout.z
        down, across = layout.taps.stride
        out, mode = below.z, _GATES[below.activation]
        if below.together:
            out, mode = below.d, plain
        elif below.pooling != NO_POOL:
            out, mode = Map(x.channels, x.height, x.width, self.lanes), PLAIN
        use = {
            "filters": x.channels, "mode": mode,
            **_steps("y", out, phase[1], across), **_steps("g", x, phase[1], across),
        }  # fmt: skip

        def entries(rows: Places, columns: Places) -> list[Places]:
            at = down * rows + phase[0], across * columns + phase[1]
            return [z.place(rows, columns), out.place(*at), x.place(*at), 0 * rows]

        sizes = -(-(x.height - phase[0]) // down), -(-(x.width - phase[1]) // across)
        # Places that come a second time add beyond the last position.
        again = below.d.end if below.together else None
        self._add(use, sizes, entries, 0, again)

    def _add(
        self, use: dict[str, int], sizes: Pair, entries: Any, nowhere: int, again: int | None = None
    ) -> None:
        """Add a pass over positions (rows, columns), cut into segments.

        What fills up the last tile writes what it did before, or where ``again`` says.
        """
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
            if again is not None:
                found[count:, TARGET] = again
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

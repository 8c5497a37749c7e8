"""Vector instructions for convolutions, written as LLVM code inside numba functions.

As in ``_vectors``, whose page on what such functions emit holds here too, the minibatch is the
vector; but of as many examples as one register of 64 bytes holds: ``lanes`` of them, 16 in float32
and 8 in float64. A feature map is (channels, rows, columns, lanes), flat. Only ``_conv_layers``
calls these. One file: the page below belongs to all of them.
"""

# Why a tile of positions, and how it knows where they are.
#
# A kept weight of a convolution is its value and an offset: where the input that it reads lies,
# from the place of the output. It is applied at every position, so a tile of positions takes it in
# turn: load the weight into all lanes, then one multiply-add for each position, whose input comes
# straight from memory. The running sums of a tile stay in registers for all weights of an output
# channel. Reading an input costs a load for each multiply-add, which the caches give: what a tile
# reads of all input channels is read again for each output channel, and stays near.
#
# Positions come in segments of neighbours in a row, and a tile is any SEGMENTS of them: rows below
# each other, or the end of one row of tiles and the start of the next. Where each segment reads
# and writes stands in a table that is made once for a network's shape, so that strides, padding and
# the width of an image are numbers there, and no case here. Within a segment neighbours read
# neighbours: a map that is read at every second column has its even ones first, then its odd ones.
#
# Where channels keep all their weights they read the same inputs, and three of them share a load of
# two segments: such a tile is bound by multiply-adds, no longer by loads.
#
# SEGMENTS of 4 positions are 24 of the 32 registers of AVX-512; the weight takes one, and the
# gradient of four weights at a time another four. With AVX2 a position takes two registers, of 16,
# and some sums live on the stack: right, and slower.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import types

from nets_deap.training.engines.cpu._vectors import Writer, int_, intrinsic, number, variable
from nets_deap.training.engines.cpu.arguments import (
    FROM_SUMS,
    GATE_RELU,
    GATE_TANH,
    LINEAR,
    POOLED,
    RECTIFIED,
    RELU,
    TANH,
    TO_SUMS,
)
from nets_deap.training.engines.cpu.geometry import (
    COLUMNS,
    GATE,
    SEGMENTS,
    SLOPE,
    SOURCE,
    TABLE,
    TARGET,
)

_BYTE = ir.IntType(8)
# What a pooled unit notes where none of its four inputs passes a gradient.
NOTHING = -1


class _Tile(Writer):
    """Writes the code of one tile."""

    def __init__(self, context: Any, builder: Any, signature: Any) -> None:
        super().__init__(context, builder, signature)
        self.lanes = 64 // self.align

    def entry(self, table: Any, segment: Any, column: int) -> Any:
        """Load one place of a segment from the table."""
        row = self.builder.mul(segment, number(TABLE))
        return self.item(table, self.builder.add(row, number(column)))

    def moved(self, pointer: Any, *steps: Any) -> Any:
        """Return a pointer moved by some numbers of elements."""
        for step in steps:
            pointer = self.builder.gep(pointer, [step])
        return pointer

    def get(self, pointer: Any, position: int = 0) -> Any:
        """Load the lanes of a neighbour."""
        return self.load(pointer, number(position * self.lanes), self.lanes)

    def where(self, condition: Any, one: Any, other: Any) -> Any:
        """Choose lane by lane."""
        return self.builder.select(condition, one, other)

    def exceeds(self, value: Any, top: Any) -> Any:
        """Return where a value takes the place of the greatest one so far."""
        # The first of equal ones wins, and NaN over all numbers, as in torch.
        nan = self.builder.fcmp_unordered("uno", value, value)
        return self.builder.or_(self.builder.fcmp_ordered("<", top, value), nan)

    def gated(self, slope: Any, act: Any, relu: Any, tanh: Any) -> Any:
        """Return a gradient times the derivative of ReLU, tanh or the logistic function."""
        builder, one = self.builder, self.splat(ir.Constant(self.element, 1.0), self.lanes)
        # The derivative of ReLU at 0 is 0, as in torch; NaN lets its gradient through.
        off = builder.fcmp_ordered("<=", act, self.zeros(self.lanes))
        open_ = self.where(off, self.zeros(self.lanes), slope)
        curved = builder.select(
            tanh,
            builder.fsub(one, builder.fmul(act, act)),
            builder.fmul(act, builder.fsub(one, act)),
        )
        return builder.select(relu, open_, builder.fmul(slope, curved))

    def step(self, odd: Any, pair: Any, position: int) -> Any:
        """Return how far the output of a position is from that of its segment's first."""
        two = self.builder.mul(pair, number(position // 2))
        return self.builder.add(two, odd) if position % 2 else two

    def codes(self, code: int) -> Any:
        """Return a vector of one code."""
        return ir.Constant(ir.VectorType(_BYTE, self.lanes), [code] * self.lanes)

    def code_place(self, pointer: Any, index: Any) -> Any:
        """Return a pointer to a vector of codes."""
        kind = ir.VectorType(_BYTE, self.lanes).as_pointer()
        return self.builder.bitcast(self.moved(pointer, index), kind)


def _sums(columns: int) -> Any:
    """Return the function of one tile with segments of so many positions."""

    @intrinsic
    def tile(  # type: ignore
        tc, weights, offsets, start, stop, x, x0, table, segment, bias, y, y0, y_odd, y_pair,
        gates, codes, g0, g_odd, g_pair, mode, sums, at, part,
    ):  # fmt: skip
        """Set y at a tile's positions to ``mode`` of bias + sum of weights[k] * x[. + offsets[k]].

        For the weights from start to stop. Bits of ``part`` say that ``sums``, from ``at``, hold
        what other weights gave, instead of the bias, and that more are to come.
        """
        signature = types.void(
            weights, offsets, int_, int_, x, int_, table, int_, weights.dtype, y, int_, int_, int_,
            gates, codes, int_, int_, int_, int_, sums, int_, int_,
        )  # fmt: skip

        def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            w = _Tile(context, builder, signature)
            values, places, inputs, table = (w.data(args, i) for i in (0, 1, 4, 6))
            segments = [builder.add(args[7], number(s)) for s in range(SEGMENTS)]
            bases = [w.moved(inputs, args[5], w.entry(table, s, SOURCE)) for s in segments]
            first = w.splat(args[8], w.lanes)
            totals = [variable(builder, first) for _ in range(SEGMENTS * columns)]
            kept = w.moved(w.data(args, 19), args[20])

            def asked(bit: int) -> Any:
                return builder.icmp_signed("!=", builder.and_(args[21], number(bit)), number(0))

            with builder.if_then(asked(FROM_SUMS)):
                for i, total in enumerate(totals):
                    builder.store(w.get(kept, i), total)
            with w.loop(args[2], args[3]) as (k, _):
                offset = builder.sext(w.item(places, k), number(0).type)
                value = w.splat(w.item(values, k), w.lanes)
                for s, base in enumerate(bases):
                    place = w.moved(base, offset)
                    for t in range(columns):
                        total = totals[s * columns + t]
                        builder.store(
                            w.multiply_add(value, w.get(place, t), builder.load(total)), total
                        )
            found = [builder.load(total) for total in totals]
            with builder.if_else(asked(TO_SUMS)) as (more, done):
                with more:
                    for i, vector in enumerate(found):
                        w.store(vector, kept, number(i * w.lanes))
                with done:
                    out = _Out(
                        *(w.data(args, i) for i in (6, 9, 13, 14)), *args[10:13], *args[15:19]
                    )
                    out.write(w, segments, found)
            return w.nothing()

        return signature, write

    return tile


@dataclass(frozen=True)
class _Out:
    """Where a tile's sums go: pointers, and what ``Uses`` says of one channel."""

    table: Any
    y: Any
    gates: Any
    codes: Any
    y0: Any
    y_odd: Any
    y_pair: Any
    g0: Any
    g_odd: Any
    g_pair: Any
    mode: Any

    def write(self, w: _Tile, segments: list[Any], found: list[Any]) -> None:
        """Write sums, position by position of the segments, as the mode wants them."""
        _finish(w, self, segments, found, len(found) // len(segments))


def _finish(w: _Tile, out: _Out, segments: list[Any], found: list[Any], columns: int) -> None:
    """Write a tile's sums where they belong; see ``_Out``."""
    builder, zero, n = w.builder, w.zeros(w.lanes), len(segments)
    targets = [builder.add(out.y0, w.entry(out.table, s, TARGET)) for s in segments]
    beside = [builder.add(out.g0, w.entry(out.table, s, GATE)) for s in segments]

    def is_mode(wanted: int) -> Any:
        return builder.icmp_signed("==", out.mode, number(wanted))

    def put(vector: Any, segment: int, position: int) -> None:
        place = builder.add(targets[segment], w.step(out.y_odd, out.y_pair, position))
        w.store(vector, out.y, place)

    def plain() -> None:
        rectified = is_mode(RECTIFIED)
        for s in range(n):
            for t in range(columns):
                vector = found[s * columns + t]
                # An ordered comparison is false for NaN, which thus stays and is seen.
                positive = w.where(builder.fcmp_ordered("<", vector, zero), zero, vector)
                put(builder.select(rectified, positive, vector), s, t)

    def gated() -> None:
        relu, tanh = is_mode(GATE_RELU), is_mode(GATE_TANH)
        for s in range(n):
            for t in range(columns):
                vector = found[s * columns + t]
                place = builder.add(beside[s], w.step(out.g_odd, out.g_pair, t))
                act = w.load(out.gates, place, w.lanes)
                put(w.gated(vector, act, relu, tanh), s, t)

    def pooled() -> None:
        for s in range(0, n, 2):
            for t in range(0, columns, 2):
                four = [found[(s + r) * columns + t + c] for r in (0, 1) for c in (0, 1)]
                top, code = four[0], w.codes(0)
                for i in (1, 2, 3):
                    more = w.exceeds(four[i], top)
                    top, code = w.where(more, four[i], top), w.where(more, w.codes(i), code)
                off = builder.fcmp_ordered("<=", top, zero)
                put(w.where(off, zero, top), s, t // 2)
                place = builder.add(beside[s], w.step(out.g_odd, out.g_pair, t // 2))
                builder.store(
                    w.where(off, w.codes(NOTHING), code), w.code_place(out.codes, place), align=1
                )

    with builder.if_else(builder.icmp_signed("<=", out.mode, number(RECTIFIED))) as (then, other):
        with then:
            plain()
        with other:
            if columns == 1:  # pooling leaves no single columns
                gated()
                return
            with builder.if_else(is_mode(POOLED)) as (pools, gates_):
                with pools:
                    pooled()
                with gates_:
                    gated()


@intrinsic
def sums_of_all(  # type: ignore
    tc, weights, offsets, k0, k1, k2, stop, x, x0, table, segment, b0, b1, b2, y, y0, y_odd, y_pair,
    gates, codes, g0, g_odd, g_pair, mode, y_channel, g_channel,
):  # fmt: skip
    """Do what the sums of one tile do, for three channels in a row, that read the same inputs.

    Their weights start at k0, k1 and k2, the first ones end at ``stop``; of two segments of 4.
    """
    signature = types.void(
        weights, offsets, int_, int_, int_, int_, x, int_, table, int_, *[weights.dtype] * 3,
        y, int_, int_, int_, gates, codes, int_, int_, int_, int_, int_, int_,
    )  # fmt: skip

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w = _Tile(context, builder, signature)
        values, places, inputs, table = (w.data(args, i) for i in (0, 1, 6, 8))
        segments = [args[9], builder.add(args[9], number(1))]
        bases = [w.moved(inputs, args[7], w.entry(table, s, SOURCE)) for s in segments]
        rows = [w.moved(values, start) for start in args[2:5]]
        places = w.moved(places, args[2])
        columns = range(COLUMNS[0])
        totals = [
            [variable(builder, w.splat(bias, w.lanes)) for _ in segments for _ in columns]
            for bias in args[10:13]
        ]
        with w.loop(number(0), builder.sub(args[5], args[2])) as (k, _):
            offset = builder.sext(w.item(places, k), number(0).type)
            own = [w.splat(w.item(row, k), w.lanes) for row in rows]
            for s, base in enumerate(bases):
                place = w.moved(base, offset)
                for t in columns:
                    # One load serves all channels, where a tile of one channel needs one for each.
                    value = w.get(place, t)
                    for channel, sums in zip(own, totals, strict=True):
                        total = sums[s * len(columns) + t]
                        builder.store(w.multiply_add(channel, value, builder.load(total)), total)
        pointers = [w.data(args, i) for i in (8, 13, 17, 18)]
        for c, sums in enumerate(totals):
            y0 = builder.add(args[14], builder.mul(args[23], number(c)))
            g0 = builder.add(args[19], builder.mul(args[24], number(c)))
            parts = [*pointers, y0, *args[15:17], g0, *args[20:23]]
            _Out(*parts).write(w, segments, [builder.load(total) for total in sums])
        return w.nothing()

    return signature, write


def _products(columns: int) -> Any:
    """Return the function of a tile's part of the weights' gradient."""

    @intrinsic
    def tile(tc, slopes, d0, offsets, start, stop, x, x0, table, segment, grad, bias):  # type: ignore
        """Add to grad[k] the sum of slopes times x[. + offsets[k]] over a tile's positions.

        And the sum of the slopes to grad[bias], unless that is negative.
        """
        signature = types.void(
            slopes, int_, offsets, int_, int_, x, int_, table, int_, grad, int_
        )  # fmt: skip

        def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            w = _Tile(context, builder, signature)
            places, inputs, table, gradient = (w.data(args, i) for i in (2, 5, 7, 9))
            segments = [builder.add(args[8], number(s)) for s in range(SEGMENTS)]
            # A tile's slopes stay in registers for all weights of an output channel.
            own = []
            for s in segments:
                place = w.moved(w.data(args, 0), args[1], w.entry(table, s, SLOPE))
                own += [w.get(place, t) for t in range(columns)]
            bases = [w.moved(inputs, args[6], w.entry(table, s, SOURCE)) for s in segments]

            def add(values: Any, index: Any, lanes: int) -> None:
                w.store(w.add(values, w.load(gradient, index, lanes)), gradient, index)

            def product(ks: list[Any], chains: int) -> list[Any]:
                """Return a vector for each weight, in so many sums at a time."""
                totals = [[w.zeros(w.lanes)] * chains for _ in ks]
                where = [builder.sext(w.item(places, k), number(0).type) for k in ks]
                for i, slope in enumerate(own):
                    s, t = divmod(i, columns)
                    for total, offset in zip(totals, where, strict=True):
                        value = w.get(w.moved(bases[s], offset), t)
                        total[i % chains] = w.multiply_add(slope, value, total[i % chains])
                for total in totals:
                    while len(total) > 1:
                        total[0] = w.add(total[0], total.pop())
                return [total[0] for total in totals]

            with builder.if_then(builder.icmp_signed(">=", args[10], number(0))):
                total = own[0]
                for slope in own[1:]:
                    total = w.add(total, slope)
                add(w.fold(total, 1), args[10], 1)
            # Four weights at once share the additions across lanes, and hide each other's latency;
            # the last one to three go one by one, in four sums each.
            count = builder.sub(args[4], args[3])
            middle = builder.sub(args[4], builder.srem(count, number(4)))
            with w.loop(args[3], middle, 4) as (k, _):
                add(w.four_sums(product([builder.add(k, number(i)) for i in range(4)], 1)), k, 4)
            with w.loop(middle, args[4]) as (k, _):
                add(w.fold(product([k], 4)[0], 1), k, 1)
            return w.nothing()

        return signature, write

    return tile


# By name, so that numba finds compiled code on disk: functions of closures have no names there.
sums_of_four, sums_of_two, sums_of_one = _sums(4), _sums(2), _sums(1)
products_of_four, products_of_two, products_of_one = _products(4), _products(2), _products(1)


@intrinsic
def pool_one(tc, f, corner, row, pool, maximum, y, at, codes, c0):  # type: ignore
    """Set y[at] to the maximum, or the mean, of ``pool`` x ``pool`` positions from a corner on.

    And codes[c0] to the one that was the maximum.
    """
    signature = types.void(f, int_, int_, int_, types.boolean, y, int_, codes, int_)

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w = _Tile(context, builder, signature)
        inputs, pool = w.data(args, 0), args[3]
        best = variable(builder, w.load(inputs, args[1], w.lanes))
        total, code = variable(builder, w.zeros(w.lanes)), variable(builder, w.codes(0))
        with w.loop(number(0), pool) as (r, _), w.loop(number(0), pool) as (c, _):
            place = builder.add(args[1], builder.mul(r, args[2]))
            place = builder.add(place, builder.mul(c, number(w.lanes)))
            value, top = w.load(inputs, place, w.lanes), builder.load(best)
            more = w.exceeds(value, top)
            own = builder.trunc(builder.add(builder.mul(r, pool), c), _BYTE)
            builder.store(w.where(more, value, top), best)
            builder.store(w.where(more, w.splat(own, w.lanes), builder.load(code)), code)
            builder.store(w.add(builder.load(total), value), total)
        # In the networks' own type: how many positions, as a divisor.
        count = builder.sitofp(builder.mul(pool, pool), w.element)
        mean = builder.fdiv(builder.load(total), w.splat(count, w.lanes))
        w.store(builder.select(args[4], builder.load(best), mean), w.data(args, 5), args[6])
        with builder.if_then(args[4]):
            builder.store(builder.load(code), w.code_place(w.data(args, 7), args[8]), align=1)
        return w.nothing()

    return signature, write


@intrinsic
def spread_one(tc, d, at, codes, c0, slopes, corner, row, pool, maximum):  # type: ignore
    """Give the gradient of a pooled unit to the one of its inputs that won, 0 to others.

    Or an equal share to each, where it is not the maximum.
    """
    signature = types.void(d, int_, codes, int_, slopes, int_, int_, int_, types.boolean)

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w = _Tile(context, builder, signature)
        slope, pool, out = w.load(w.data(args, 0), args[1], w.lanes), args[7], w.data(args, 4)
        count = builder.sitofp(builder.mul(pool, pool), w.element)
        share = builder.fdiv(slope, w.splat(count, w.lanes))
        won = variable(builder, w.codes(0))
        with builder.if_then(args[8]):
            builder.store(builder.load(w.code_place(w.data(args, 2), args[3]), align=1), won)
        code = builder.load(won)
        with w.loop(number(0), pool) as (r, _), w.loop(number(0), pool) as (c, _):
            place = builder.add(args[5], builder.mul(r, args[6]))
            place = builder.add(place, builder.mul(c, number(w.lanes)))
            own = builder.trunc(builder.add(builder.mul(r, pool), c), _BYTE)
            mine = builder.icmp_signed("==", code, w.splat(own, w.lanes))
            one = w.where(mine, slope, w.zeros(w.lanes))
            w.store(builder.select(args[8], one, share), out, place)
        return w.nothing()

    return signature, write


@intrinsic
def gate_one(tc, acts, at, act, slopes, place):  # type: ignore
    """Multiply the gradient of one position by an activation's derivative, from its value."""
    signature = types.void(acts, int_, int_, slopes, int_)

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w = _Tile(context, builder, signature)
        value = w.load(w.data(args, 0), args[1], w.lanes)
        slope = w.load(w.data(args, 3), args[4], w.lanes)
        kinds = [builder.icmp_signed("==", args[2], number(act)) for act in (RELU, TANH, LINEAR)]
        gated = builder.select(kinds[2], slope, w.gated(slope, value, *kinds[:2]))
        w.store(gated, w.data(args, 3), args[4])
        return w.nothing()

    return signature, write

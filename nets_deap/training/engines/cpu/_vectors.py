"""Vector instructions for the compiled engine, written as LLVM code inside numba functions.

The minibatch is the vector: a unit's activations are ``LANES`` consecutive numbers. All arrays are
flat and C-contiguous; nothing is checked here, so only ``_layers`` calls these. One file: the page
below, on what the functions emit, belongs to all of them.
"""

# What the functions emit, and why.
#
# A weight that is kept costs: load its column (movslq), spread it over a register (vbroadcastss),
# and multiply-add the LANES activations of one unit to LANES running sums (vfmadd231ps with a
# memory operand). The column is looked up once for all 64 examples, so that an irregular mask costs
# no gathers: whatever unit a weight reads, its activations lie in one piece. That is why the
# minibatch is the vector, and the reason for the layout (units, LANES) throughout.
#
# @intrinsic lets a numba function insert LLVM code of our own at its call. The types here, such as
# <64 x float>, are wider than any register; LLVM splits them into what the processor has when it
# chooses instructions, and numba asks it for the processor that it runs on:
#
#   AVX-512   4 registers of 16 float32 (8 of 8 float64): 4 multiply-adds a weight in sparse_dot
#   AVX2      8 registers of 8 float32, of the 16 there are: 8 multiply-adds a weight
#   SSE2      16 registers of 4 float32, all there are, hence some sums live on the stack; without
#             FMA, each multiply-add is mulps and addps. Right, and about 3 times as slow
#
# So there is no test of the processor here and no second version: older ones run the same code in
# smaller pieces. Fused or not, a multiply-add rounds differently: results are the same for the same
# kind of processor, and agree to rounding between kinds. Code on disk is kept by processor.
#
# numba alone does not get there, as its assembly shows. Measured with float32 on AVX-512 (Zen 4),
# a layer of 300 inputs and 100 units that keeps 0.3 of its weights, in units of sparse_dot's time:
#
#   25+  sums of theta[k] * x[cols[k] * 64 + b]. An index may be negative and then counts from the
#        end, which LLVM cannot rule out for each b, so that it emits gathers
#    3-4 the same over slices x[c : c + 64], whose indices start at 0. Now the loop over b is
#        vectors, but its sums are an array: LLVM loads and stores all of them for each weight,
#        since it cannot prove that the slices do not overlap sums or weights
#    1   sums in registers, which only a value of a vector type is sure to be
#
# Over such loops without negative indices, sparse_gradient gains 1.3 to 2.6 and the dense tile 4 to
# 5: for the same reason, and as four weights share the sums across lanes.
#
# A running sum is written as a variable on the stack (alloca) that each turn loads and stores;
# LLVM's mem2reg makes it a register. Loops that carry values need no phi nodes here that way.

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import extending
from numba.core import cgutils, types

from nets_deap.training.engines.cpu._compile import FAST
from nets_deap.training.engines.cpu.blocks import LANES, TILE

# Rows of a tile of the dense product. Each loaded vector of b serves this many rows, and the sums,
# TILE_ROWS x TILE, stay in registers: 4 of the 32 of AVX-512, 8 of the 16 of AVX2 (float32), with
# room for the vector and the spread scalar. Four sums in flight also hide an addition's latency.
# float64 with AVX2 has no room: all 16 are sums, LLVM spills, and a plain loop is as fast.
TILE_ROWS = 4

_INT, _SHORT = ir.IntType(64), ir.IntType(32)
# Neither library has types.
intrinsic: Any = extending.intrinsic
variable: Any = cgutils.alloca_once_value
int_ = types.int64


class Writer:
    """Writes the vector code of one function: loads, stores and sums over one element type."""

    def __init__(self, context: Any, builder: Any, signature: Any) -> None:
        self.context, self.builder, self.kinds = context, builder, signature.args
        self.element = context.get_value_type(signature.args[0].dtype)
        self.align = signature.args[0].dtype.bitwidth // 8

    def data(self, args: Any, i: int) -> Any:
        """Return the pointer to an array argument's elements."""
        return self.context.make_array(self.kinds[i])(self.context, self.builder, args[i]).data

    def at(self, unit: Any) -> Any:
        """Return where a unit's lanes start."""
        return self.builder.mul(unit, number(LANES))

    def item(self, pointer: Any, index: Any) -> Any:
        """Load one element."""
        return self.builder.load(self.builder.gep(pointer, [index]))

    def column(self, pointer: Any, index: Any, first: Any) -> Any:
        """Load one column index (int32) and return where the lanes of its unit start."""
        wide = self.builder.sext(self.item(pointer, index), _INT)
        return self.at(self.builder.add(wide, first))

    def load(self, pointer: Any, index: Any, lanes: int = LANES) -> Any:
        """Load consecutive elements as a vector."""
        kind = ir.VectorType(self.element, lanes).as_pointer()
        place = self.builder.bitcast(self.builder.gep(pointer, [index]), kind)
        # The alignment of an element: unless told, LLVM takes that of the whole vector for granted,
        # 256 bytes, and may choose instructions that fault elsewhere. Unaligned ones cost nothing
        # extra where the data is aligned.
        return self.builder.load(place, align=self.align)

    def store(self, vector: Any, pointer: Any, index: Any) -> None:
        """Store a vector to consecutive elements."""
        place = self.builder.bitcast(self.builder.gep(pointer, [index]), vector.type.as_pointer())
        self.builder.store(vector, place, align=self.align)

    def zeros(self, lanes: int = LANES) -> Any:
        """Return a vector of zeros."""
        return ir.Constant(ir.VectorType(self.element, lanes), [0.0] * lanes)

    def splat(self, scalar: Any, lanes: int = LANES) -> Any:
        """Return a vector that holds one number in all lanes."""
        nothing = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
        one = self.builder.insert_element(nothing, scalar, ir.Constant(_SHORT, 0))
        return self.shuffle(one, one, [0] * lanes)

    def shuffle(self, one: Any, other: Any, lanes: list[int]) -> Any:
        """Return chosen lanes of two vectors."""
        chosen = ir.Constant(ir.VectorType(_SHORT, len(lanes)), lanes)
        return self.builder.shuffle_vector(one, other, chosen)

    def add(self, one: Any, other: Any) -> Any:
        """Return the sum of two vectors."""
        return self.builder.fadd(one, other, flags=FAST)

    def multiply_add(self, one: Any, other: Any, total: Any) -> Any:
        """Return one * other + total."""
        return self.add(self.builder.fmul(one, other, flags=FAST), total)

    def fold(self, vector: Any, lanes: int) -> Any:
        """Add the upper half of a vector to the lower one until ``lanes`` are left."""
        # Halves are whole registers down to one register, so that only the last few additions
        # move lanes about.
        while vector.type.count > lanes:
            half = vector.type.count // 2
            lower = self.shuffle(vector, vector, list(range(half)))
            vector = self.add(lower, self.shuffle(vector, vector, list(range(half, 2 * half))))
        return vector

    def four_sums(self, vectors: list[Any]) -> Any:
        """Return the sums over four vectors of 16 lanes, or of 8, as one vector of 4."""

        # Two vectors of 16 are added in pairs of neighbours to one of 16, which holds 8 sums of
        # each, 2 and 2 by turns; twice that gives one of 16 whose groups of 4 lanes hold one part
        # of each of the four sums, and folding it to 4 lanes adds the groups up. 3 + 2 additions
        # in place of the 16 that four separate sums over 16 lanes take.
        def pairs(one: Any, other: Any) -> Any:
            # By groups of 4 lanes, within which AVX2 adds neighbours in one instruction: LLVM makes
            # vhaddps of this there, and two vpermt2ps and an addition with AVX-512.
            lanes = one.type.count
            even = [i for n in range(0, lanes, 4) for i in (n, n + 2, lanes + n, lanes + n + 2)]
            odd = [i + 1 for i in even]
            return self.add(self.shuffle(one, other, even), self.shuffle(one, other, odd))

        return self.fold(pairs(pairs(*vectors[:2]), pairs(*vectors[2:])), 4)

    def loop(self, start: Any, stop: Any, step: int = 1) -> Any:
        """Write a loop; a context manager that gives (index, count)."""
        return cgutils.for_range_slice(self.builder, start, stop, number(step), intp=_INT)

    def nothing(self) -> Any:
        """Return what a function without a result returns."""
        return self.context.get_dummy_value()


def number(n: int) -> Any:
    """Return an integer constant."""
    return ir.Constant(_INT, n)


@intrinsic
def sparse_dot(tc, theta, cols, start, stop, x, before, bias, y, unit, rectify):  # type: ignore
    """Set y[unit] = bias + sum of theta[k] * x[before + cols[k]]; rectified if asked for."""
    signature = types.void(
        theta, cols, int_, int_, x, int_, theta.dtype, y, int_, types.boolean
    )  # fmt: skip

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w = Writer(context, builder, signature)
        weights, columns, inputs = w.data(args, 0), w.data(args, 1), w.data(args, 4)
        # The sum starts as the bias, which saves a pass over the unit.
        total = variable(builder, w.splat(args[6]))
        with w.loop(args[2], args[3]) as (k, _):
            unit = w.load(inputs, w.column(columns, k, args[5]))
            builder.store(
                w.multiply_add(w.splat(w.item(weights, k)), unit, builder.load(total)), total
            )
        linear = builder.load(total)
        # An ordered comparison is false for NaN, which thus stays and is seen. No branch on
        # rectify: both results are there, and one is chosen.
        negative = builder.fcmp_ordered("<", linear, w.zeros())
        rectified = builder.select(negative, w.zeros(), linear)
        w.store(builder.select(args[9], rectified, linear), w.data(args, 7), w.at(args[8]))
        return w.nothing()

    return signature, write


@intrinsic
def sparse_gradient(tc, d, unit, x, before, cols, start, stop, grad):  # type: ignore
    """Set grad[k] = d[unit] . x[before + cols[k]] for the weights from start to stop."""
    signature = types.void(d, int_, x, int_, cols, int_, int_, grad)

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w = Writer(context, builder, signature)
        inputs, columns, gradient = w.data(args, 2), w.data(args, 4), w.data(args, 7)
        # Of 64 products the sum is wanted. Parts of 16 are added up first, lane by lane, in one
        # running sum, so that what must be added across lanes is 16 wide, not 64. The unit's own
        # deltas stay in registers for all of its weights.
        parts = [number(16 * q) for q in range(LANES // 16)]
        first = w.at(args[1])
        delta = [w.load(w.data(args, 0), builder.add(first, part), 16) for part in parts]

        def product(k: Any) -> Any:
            place = w.column(columns, k, args[3])
            total = w.zeros(16)
            for own, part in zip(delta, parts, strict=True):
                total = w.multiply_add(own, w.load(inputs, builder.add(place, part), 16), total)
            return total

        # Four weights at once share the additions across lanes.
        count = builder.sub(args[6], args[5])
        middle = builder.sub(args[6], builder.srem(count, number(4)))
        with w.loop(args[5], middle, 4) as (k, _):
            four = [product(builder.add(k, number(i))) for i in range(4)]
            w.store(w.four_sums(four), gradient, k)
        with builder.if_then(builder.icmp_signed("<", middle, args[6])):
            # The last one to three go the same way: the last weight fills the places that are
            # left, and is written more than once. Reading on beyond it would take other units'
            # weights or leave the array.
            last = builder.sub(args[6], number(1))
            places = []
            for i in range(4):
                k = builder.add(middle, number(i))
                places.append(builder.select(builder.icmp_signed("<", k, last), k, last))
            sums = w.four_sums([product(k) for k in places])
            for i, k in enumerate(places):
                one = builder.extract_element(sums, ir.Constant(_SHORT, i))
                builder.store(one, builder.gep(gradient, [k]))
        return w.nothing()

    return signature, write


@intrinsic
def sparse_back(tc, theta, cols, start, stop, d, unit, back, before):  # type: ignore
    """Add theta[k] * d[unit] to back[before + cols[k]] for the weights from start to stop."""
    signature = types.void(theta, cols, int_, int_, d, int_, back, int_)

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w = Writer(context, builder, signature)
        weights, columns, out = w.data(args, 0), w.data(args, 1), w.data(args, 6)
        # d and back are the same array in practice, but of different layers, so that the unit's
        # own deltas may stay in registers while those before change. No two weights of a row read
        # the same unit, but those of other rows do, hence the sums are in memory here.
        delta = w.load(w.data(args, 4), w.at(args[5]))
        with w.loop(args[2], args[3]) as (k, _):
            place = w.column(columns, k, args[7])
            w.store(
                w.multiply_add(w.splat(w.item(weights, k)), delta, w.load(out, place)), out, place
            )
        return w.nothing()

    return signature, write


@intrinsic
def rectified_sum(tc, d, acts, unit, rectify):  # type: ignore
    """If asked to, set d[unit] to 0 where acts[unit] <= 0; return the sum of d[unit]."""
    signature = d.dtype(d, acts, int_, types.boolean)

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w = Writer(context, builder, signature)
        place = w.at(args[2])
        delta, act = w.load(w.data(args, 0), place), w.load(w.data(args, 1), place)
        # The derivative at 0 is 0, as in torch; a NaN activation lets its delta through.
        off = builder.fcmp_ordered("<=", act, w.zeros())
        delta = builder.select(args[3], builder.select(off, w.zeros(), delta), delta)
        w.store(delta, w.data(args, 0), place)
        return builder.extract_element(w.fold(delta, 1), ir.Constant(_SHORT, 0))

    return signature, write


def _tile(rows: int) -> Any:
    """Return the function of one tile with so many rows."""

    @intrinsic
    def tile(tc, a, a0, a_row, a_step, steps, b, b0, b_step, c, c0, c_row):  # type: ignore
        """Set c[c0 + r c_row + lane] = sum of a[a0 + r a_row + k a_step] b[b0 + k b_step + lane].

        For ``rows`` rows r and TILE lanes, summed over k < steps.
        """
        signature = types.void(a, int_, int_, int_, int_, b, int_, int_, c, int_, int_)

        def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            w = Writer(context, builder, signature)
            left, right, out = w.data(args, 0), w.data(args, 5), w.data(args, 8)
            sums = [variable(builder, w.zeros(TILE)) for _ in range(rows)]
            starts = [
                builder.gep(left, [builder.add(args[1], builder.mul(args[2], number(r)))])
                for r in range(rows)
            ]
            # An outer product each turn: one vector of b against ``rows`` scalars of a. The sums
            # are written once, at the end.
            with w.loop(number(0), args[4]) as (k, _):
                vector = w.load(right, builder.add(args[6], builder.mul(k, args[7])), TILE)
                step = builder.mul(k, args[3])
                for start, total in zip(starts, sums, strict=True):
                    scalar = w.splat(w.item(start, step), TILE)
                    builder.store(w.multiply_add(scalar, vector, builder.load(total)), total)
            for r, total in enumerate(sums):
                place = builder.add(args[9], builder.mul(args[10], number(r)))
                w.store(builder.load(total), out, place)
            return w.nothing()

        return signature, write

    return tile


tile_of_rows = _tile(TILE_ROWS)
tile_of_one = _tile(1)

"""Vector instructions for batch normalisation and sums of maps, as in ``_conv_vectors``.

Each works on one channel of one block of lanes, position by position. A map with margins is read
and written where a table of places says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import types

from nets_deap.training.engines.cpu._conv_vectors import Tile
from nets_deap.training.engines.cpu._vectors import int_, intrinsic, number, variable
from nets_deap.training.engines.cpu.arguments import LINEAR, RELU, TANH

# Sums that run side by side, so that none waits for the addition before.
CHAINS = 4


def _positions(w: Tile, count: Any, body: Callable[[Any, int], None]) -> None:
    """Write a loop over positions; ``body`` gets each one, and which of the chains it is in."""
    whole = w.builder.sub(count, w.builder.srem(count, number(CHAINS)))
    with w.loop(number(0), whole, CHAINS) as (q, _):
        for chain in range(CHAINS):
            body(w.builder.add(q, number(chain)), chain)
    with w.loop(whole, count) as (q, _):
        body(q, 0)


def _chains(w: Tile) -> list[Any]:
    return [variable(w.builder, w.zeros(w.lanes)) for _ in range(CHAINS)]


def _total(w: Tile, chains: list[Any]) -> Any:
    """Return the sum of chains, lane by lane."""
    total = w.builder.load(chains[0])
    for chain in chains[1:]:
        total = w.add(total, w.builder.load(chain))
    return total


@intrinsic
def lane_sums(tc, f, f0, count, sums):  # type: ignore
    """Set the first ``lanes`` of ``sums`` to the sums of f over ``count`` positions in a row."""
    signature = types.void(f, int_, int_, sums)

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w = Tile(context, builder, signature)
        values, chains = w.moved(w.data(args, 0), args[1]), _chains(w)

        def add(q: Any, chain: int) -> None:
            own = chains[chain]
            builder.store(w.add(builder.load(own), w.at_position(values, q)), own)

        _positions(w, args[2], add)
        w.store(_total(w, chains), w.data(args, 3), number(0))
        return w.nothing()

    return signature, write


@intrinsic
def lane_squares(tc, f, f0, count, mean, sums):  # type: ignore
    """Set the first ``lanes`` of ``sums`` to those of the squares of f - mean."""
    signature = types.void(f, int_, int_, f.dtype, sums)

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w = Tile(context, builder, signature)
        values, chains = w.moved(w.data(args, 0), args[1]), _chains(w)
        mean = w.splat(args[3], w.lanes)

        def add(q: Any, chain: int) -> None:
            away, own = builder.fsub(w.at_position(values, q), mean), chains[chain]
            builder.store(w.multiply_add(away, away, builder.load(own)), own)

        _positions(w, args[2], add)
        w.store(_total(w, chains), w.data(args, 4), number(0))
        return w.nothing()

    return signature, write


@intrinsic
def normalise_channel(  # type: ignore
    tc, f, f0, count, mean, factor, term, adds, x, x0, table, added, y, y0, places, rectify,
):  # fmt: skip
    """Set y to (f - mean) * factor + term, and x added where ``adds``; rectified if asked for.

    The places of x and y stand in the table, from ``added`` and from ``places`` on.
    """
    number_ = f.dtype
    signature = types.void(
        f, int_, int_, number_, number_, number_, types.boolean, x, int_, table, int_, y, int_,
        int_, types.boolean,
    )  # fmt: skip

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w = Tile(context, builder, signature)
        values, zero = w.moved(w.data(args, 0), args[1]), w.zeros(w.lanes)
        mean, factor, term = (w.splat(args[i], w.lanes) for i in (3, 4, 5))
        x, y = w.moved(w.data(args, 7), args[8]), w.moved(w.data(args, 11), args[12])
        added, places = w.moved(w.data(args, 9), args[10]), w.moved(w.data(args, 9), args[13])

        def finish(q: Any, value: Any) -> None:
            positive = w.where(builder.fcmp_ordered("<", value, zero), zero, value)
            w.store(builder.select(args[14], positive, value), y, w.item(places, q))

        def normal(q: Any) -> Any:
            return w.multiply_add(builder.fsub(w.at_position(values, q), mean), factor, term)

        with builder.if_else(args[6]) as (then, other):
            with then:
                _positions(
                    w, args[2],
                    lambda q, _: finish(
                        q, w.add(normal(q), w.load(x, w.item(added, q), w.lanes))
                    ),
                )  # fmt: skip
            with other:
                _positions(w, args[2], lambda q, _: finish(q, normal(q)))
        return w.nothing()

    return signature, write


@intrinsic
def gate_channel(tc, d, d0, count, act, y, y0, table, places, f, f0, mean, sums):  # type: ignore
    """Multiply d by the derivative of the activation that gave y.

    And set ``sums`` (2, lanes) to those of d, and of d times f - mean.
    """
    signature = types.void(
        d, int_, int_, int_, y, int_, table, int_, f, int_, f.dtype, sums
    )  # fmt: skip

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w = Tile(context, builder, signature)
        slopes, values = w.moved(w.data(args, 0), args[1]), w.moved(w.data(args, 8), args[9])
        y, places = w.moved(w.data(args, 4), args[5]), w.moved(w.data(args, 6), args[7])
        mean, plain, products = w.splat(args[10], w.lanes), _chains(w), _chains(w)
        relu, tanh, linear = (
            builder.icmp_signed("==", args[3], number(act)) for act in (RELU, TANH, LINEAR)
        )

        def note(q: Any, slope: Any, chain: int) -> None:
            away = builder.fsub(w.at_position(values, q), mean)
            builder.store(w.add(builder.load(plain[chain]), slope), plain[chain])
            builder.store(
                w.multiply_add(slope, away, builder.load(products[chain])), products[chain]
            )

        def gate(q: Any, chain: int) -> None:
            slope, act = w.at_position(slopes, q), w.load(y, w.item(places, q), w.lanes)
            slope = w.gated(slope, act, relu, tanh)
            w.store(slope, slopes, builder.mul(q, number(w.lanes)))
            note(q, slope, chain)

        with builder.if_else(linear) as (then, other):
            with then:
                _positions(w, args[2], lambda q, c: note(q, w.at_position(slopes, q), c))
            with other:
                _positions(w, args[2], gate)
        w.store(_total(w, plain), w.data(args, 11), number(0))
        w.store(_total(w, products), w.data(args, 11), number(w.lanes))
        return w.nothing()

    return signature, write


@intrinsic
def descend_channel(  # type: ignore
    tc, d, d0, f, f0, mean, by_slope, by_value, term, filled, z, z0, z_row, height, width,
):  # fmt: skip
    """Set z to by_slope * d + by_value * (f - mean) + term; to 0 from lane ``filled`` on."""
    number_ = f.dtype
    signature = types.void(
        d, int_, f, int_, number_, number_, number_, number_, int_, z, int_, int_, int_, int_
    )

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w = Tile(context, builder, signature)
        slopes, values = w.moved(w.data(args, 0), args[1]), w.moved(w.data(args, 2), args[3])
        mean, by_slope, by_value, term = (w.splat(args[i], w.lanes) for i in range(4, 8))
        z, keep, width = w.moved(w.data(args, 9), args[10]), w.first_lanes(args[8]), args[13]
        with w.loop(number(0), args[12]) as (r, _), w.loop(number(0), width) as (c, _):
            q = builder.add(builder.mul(r, width), c)
            away = builder.fsub(w.at_position(values, q), mean)
            value = w.multiply_add(away, by_value, term)
            value = w.multiply_add(w.at_position(slopes, q), by_slope, value)
            place = builder.add(builder.mul(r, args[11]), builder.mul(c, number(w.lanes)))
            # Chosen, not multiplied: a lane without an example may hold anything.
            w.store(w.where(keep, value, w.zeros(w.lanes)), z, place)
        return w.nothing()

    return signature, write


@intrinsic
def pass_on(tc, d, d0, count, out, out0, table, places, sets):  # type: ignore
    """Add d to ``out`` at places of a table, or set it there."""
    signature = types.void(d, int_, int_, out, int_, table, int_, types.boolean)

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w = Tile(context, builder, signature)
        slopes, out = w.moved(w.data(args, 0), args[1]), w.moved(w.data(args, 3), args[4])
        places = w.moved(w.data(args, 5), args[6])

        def put(q: Any, _: int) -> None:
            place, own = w.item(places, q), w.at_position(slopes, q)
            w.store(w.add(own, w.load(out, place, w.lanes)), out, place)

        with builder.if_else(args[7]) as (then, other):
            with then:
                _positions(
                    w, args[2],
                    lambda q, _: w.store(w.at_position(slopes, q), out, w.item(places, q)),
                )  # fmt: skip
            with other:
                _positions(w, args[2], put)
        return w.nothing()

    return signature, write

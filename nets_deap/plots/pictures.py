"""Masks as pictures: kept weights of each input, a layer as a matrix, filters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.plots import source, style
from nets_deap.plots.kind import kind
from nets_deap.tickets.layout import Layer
from nets_deap.tickets.ticket import Ticket

# Rows and columns of a picture of a matrix; more are drawn as blocks.
FINEST = 256
# Points of a title at most.
TITLE = 12


@kind("inputs", "Kept weights of each input, at the knee.")
def kept_inputs(ticket: Any, ax: Any = None, *, image: Sequence[int] | None = None) -> Any:
    """Draw how many weights of the first layer are kept from each input, as a picture.

    Args:
        ticket: A ticket, its file, or a run, whose front's knee is drawn.
        ax: Where to draw; None for new axes.
        image: Height and width, or channels, height and width, of which channels are added up;
            None for a square of one channel, 28 x 28 for 784 inputs.

    Returns:
        The ``matplotlib.axes.Axes``.

    Raises:
        InvalidValueError: The first layer is not linear, or has other inputs than the image.
    """
    chosen = source.ticket_of(ticket)
    layer = _layer(chosen, None)
    if len(layer.shape) != 2:
        raise _checks.bad_value(
            "ticket",
            "have a linear first layer",
            "weights (out, in)",
            layer.shape,
            "Draw the filters of a convolutional layer.",
        )
    inputs, side = layer.shape[1], math.isqrt(layer.shape[1])
    shape = [side, side] if image is None else [_checks.whole("image", n) for n in image]
    if image is None and side**2 != inputs:
        raise _checks.bad_value(
            "ticket",
            "have inputs that make a square",
            "a square number of them",
            inputs,
            "Give their height and width in Python by kept_inputs(..., image=(height, width)).",
        )
    if len(shape) not in (2, 3) or math.prod(shape) != inputs:
        raise _checks.bad_value(
            "image", "hold the inputs", f"height x width with a product of {inputs}", shape
        )
    counts = _bits(chosen, layer).sum(axis=0).reshape(-1, *shape[-2:]).sum(axis=0)
    ax = style.axes_or_new(ax)
    style.picture(ax, counts, "kept weights of each input", vmin=0, whole=True)
    _title(ax, chosen, layer)
    return ax


@kind("mask", "The first layer's mask, at the knee.")
def mask_matrix(ticket: Any, ax: Any = None, *, layer: str | None = None) -> Any:
    """Draw a layer's mask as a matrix, a row for each neuron or filter.

    Layers of more than 256 rows or columns are drawn as blocks: the share that is kept of each.

    Args:
        ticket: A ticket, its file, or a run, whose front's knee is drawn.
        ax: Where to draw; None for new axes.
        layer: Parameter name; None for the first.

    Returns:
        The ``matplotlib.axes.Axes``.
    """
    chosen = source.ticket_of(ticket)
    place = _layer(chosen, layer)
    matrix = _bits(chosen, place).reshape(place.shape[0], -1).astype(float)
    rows, columns = matrix.shape
    tall, wide = (math.ceil(n / FINEST) for n in (rows, columns))
    ax = style.axes_or_new(ax)
    name = "" if tall * wide == 1 else f"share kept of {tall} x {wide} weights"
    shares = _blocks(matrix, tall, wide)
    style.picture(ax, shares, name, vmin=0, extent=(0, columns, rows, 0), aspect="auto")
    ax.set(xlabel=f"{columns:,} inputs", ylabel=f"{rows:,} outputs")
    _title(ax, chosen, place)
    return ax


@kind("filters", "Masks of the first filters, at the knee.")
def filters(ticket: Any, ax: Any = None, *, layer: str | None = None, most: int = 64) -> Any:
    """Draw the masks of filters side by side: at each place the share kept of its channels.

    Args:
        ticket: A ticket, its file, or a run, whose front's knee is drawn.
        ax: Where to draw; None for new axes.
        layer: Parameter name of a two-dimensional convolution; None for the first.
        most: How many filters, the first ones.

    Returns:
        The ``matplotlib.axes.Axes``.

    Raises:
        InvalidValueError: There is no such layer.
    """
    chosen = source.ticket_of(ticket)
    name = layer
    if name is None:
        layers = _layout(chosen).layers
        name = next((one.name for one in layers if len(one.shape) == 4), None)
    place = None if name is None else _layer(chosen, name)
    if place is None or len(place.shape) != 4:
        raise _checks.bad_value(
            "layer",
            "be convolutional",
            "weights (filters, channels, height, width)",
            "none" if place is None else place.shape,
            "Draw other layers with mask_matrix.",
        )
    count = min(_checks.whole("most", most), place.shape[0])
    shares = _bits(chosen, place)[:count].mean(axis=1)
    wide = math.ceil(math.sqrt(count))
    tall = math.ceil(count / wide)
    height, width = shares.shape[1:]
    sheet = np.full((tall * (height + 1) - 1, wide * (width + 1) - 1), np.nan)
    for i, share in enumerate(shares):
        y, x = (i // wide) * (height + 1), (i % wide) * (width + 1)
        sheet[y : y + height, x : x + width] = share
    ax = style.axes_or_new(ax)
    channels = place.shape[1]
    what = "" if channels == 1 else f"share kept of {channels} channels"
    style.picture(ax, sheet, what, vmin=0, vmax=1)
    ax.set_frame_on(False)
    more = "" if count == place.shape[0] else f", {count} of {place.shape[0]} filters"
    _title(ax, chosen, place, more)
    return ax


def _blocks(matrix: NDArray[Any], tall: int, wide: int) -> NDArray[Any]:
    """Return the means of blocks; those at the end may be smaller."""
    rows, columns = matrix.shape
    y, x = np.arange(0, rows, tall), np.arange(0, columns, wide)
    sums = np.add.reduceat(np.add.reduceat(matrix, y, axis=0), x, axis=1)
    sizes = np.outer(np.diff([*y, rows]), np.diff([*x, columns]))
    found: NDArray[Any] = sums / sizes
    return found


def _layout(ticket: Ticket) -> Any:
    """Return the layout of a ticket's weights."""
    return ticket.layout.weights


def _layer(ticket: Ticket, name: str | None) -> Layer:
    """Return a layer of a ticket, the first for no name."""
    layout = _layout(ticket)
    found: Layer = layout.layers[0] if name is None else layout.layer(name)
    return found


def _bits(ticket: Ticket, layer: Layer) -> NDArray[np.bool_]:
    """Return the mask of a layer in its shape."""
    return ticket.mask[layer.start : layer.stop].reshape(layer.shape)


def _title(ax: Any, ticket: Ticket, layer: Layer, more: str = "") -> None:
    """Set the title: which layer it is, and how dense."""
    share = 100 * _bits(ticket, layer).mean()
    rest = f", {share:.3g} % kept{more}"
    width = 0.85 - len(rest) * 0.6 * TITLE / (72 * ax.figure.get_figwidth())
    name = style.shortened(layer.name, ax.figure, width, "axes.titlesize")
    ax.set_title(f"{style.plain(name)}{rest}")

"""What all figures share: colours, axes, sizes, the density axis."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nets_deap import _checks, _optional
from nets_deap.plots.legend import legend

# Okabe and Ito's colours, which colour-blind readers tell apart.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#999999"
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#D55E00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# For what has an order; as light and dark it is told apart in print, too.
ORDERED = "cividis"

SIZES: dict[str, dict[str, Any]] = {
    "notebook": {
        "figure.figsize": (6.4, 4.2),
        "figure.dpi": 100,
        "font.size": 10,
        "legend.fontsize": 9,
    },
    "paper": {
        "figure.figsize": (3.4, 2.6),
        "figure.dpi": 300,
        "font.size": 7.5,
        "axes.titlesize": 7.5,
        "axes.linewidth": 0.6,
        "legend.fontsize": 6.5,
        "legend.handlelength": 2.0,
        "lines.linewidth": 1.0,
        "lines.markersize": 3.5,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
    },
}


@contextlib.contextmanager
@_checks.signed
def sized(size: str) -> Iterator[None]:
    """Draw what is drawn inside for a place: ``with nets.plots.sized("paper"): ...``.

    Args:
        size: ``"notebook"`` (6.4 x 4.2 inches) or ``"paper"`` (one column, 3.4 x 2.6 inches).

    Raises:
        InvalidValueError: The size is unknown.
        MissingExtraError: matplotlib is not installed.
    """
    settings = SIZES[_checks.choice("size", size, SIZES)]
    with _optional.require("matplotlib", "plots", "draw figures").rc_context(settings):
        yield


def axes_or_new(ax: Any) -> Any:
    """Return ``ax``, or new axes of pyplot, so that a notebook shows them."""
    if ax is not None:
        _make_room(ax.figure.canvas.figure)
        return ax
    pyplot = _optional.require("matplotlib.pyplot", "plots", "draw figures")
    return pyplot.subplots(layout="constrained")[1]


def _make_room(figure: Any) -> None:
    """Let a figure lay out its axes so that no label is cut off, unless somebody else does."""
    untouched = vars(type(figure.subplotpars)()) == vars(figure.subplotpars)
    if figure.get_layout_engine() is None and untouched:
        figure.set_layout_engine("constrained")


def marker(share: float = 1.0) -> float:
    """Return the size of markers, in points, as a share of the present style's."""
    pyplot = _optional.require("matplotlib.pyplot", "plots", "draw figures")
    return float(pyplot.rcParams["lines.markersize"]) * share


def plain(text: object) -> str:
    """Return text that stands in a figure as it is: a dollar begins no formula.

    What is not printable has no sign, and SVG must not hold it: a question mark stands for it.
    """
    shown = "".join(letter if letter.isprintable() else "?" for letter in str(text))
    return shown.replace("$", r"\$")


def shortened(text: str, figure: Any, share: float, size: str = "font.size") -> str:
    """Return text whose middle is left out where it takes more than a share of a figure's width.

    Args:
        text: A name, in a font of 0.6 times its size a letter.
        figure: Where it stands.
        share: Of the figure's width.
        size: The setting of matplotlib that holds the font's size in points.
    """
    pyplot = _optional.require("matplotlib.pyplot", "plots", "draw figures")
    fonts = _optional.require("matplotlib.font_manager", "plots", "draw figures")
    points = fonts.FontProperties(size=pyplot.rcParams[size]).get_size_in_points()
    most = max(8, int(share * figure.get_figwidth() * 72 / (0.6 * points)))
    if len(text) <= most:
        return text
    head = most // 2 - 1
    return f"{text[:head]}…{text[len(text) - (most - head - 1) :]}"


def label(name: str) -> str:
    """Return an axis label for an objective."""
    words = name.replace("multiply_adds", "multiply-adds").replace("val_", "validation ")
    return plain(words.replace("_", " "))


def density_axis(axis: Any) -> None:
    """Make an axis of densities logarithmic, with ticks in per cent."""
    ticker = _optional.require("matplotlib.ticker", "plots", "draw figures")
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = sorted(axis.get_view_interval())
    decades = np.log10(high / low) if low > 0 else 1.0
    subs = (1.0,) if decades > 3 else (1.0, 3.0) if decades > 2 else (1.0, 2.0, 5.0)
    axis.set_major_locator(ticker.LogLocator(subs=subs, numticks=12))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{100 * value:.4g}"))
    axis.set_minor_formatter(ticker.NullFormatter())
    if decades < 0.7:  # too short for three such ticks
        axis.set_major_locator(ticker.MaxNLocator(5))


def colours_of(count: int) -> list[Any]:
    """Return colours for things in order, light to dark, the lightest still seen on white."""
    matplotlib = _optional.require("matplotlib", "plots", "draw figures")
    return list(matplotlib.colormaps[ORDERED](np.linspace(0.0, 0.9, max(count, 1))))


def picture(ax: Any, values: Any, name: str, *, whole: bool = False, **options: Any) -> None:
    """Draw an array as a picture without ticks, with a scale beside it; no name for bits."""
    image = ax.imshow(values, **{"cmap": ORDERED, "interpolation": "nearest", **options})
    ax.set(xticks=[], yticks=[])
    scale = ax.figure.colorbar(image, cax=ax.inset_axes((1.04, 0, 0.05, 1)), label=name)
    if whole:
        whole_numbers(scale.ax.yaxis)
    if name == "":  # bits
        image.set_clim(0, 1)
        scale.set_ticks([0, 1], labels=["pruned", "kept"])


def dense_of(members: Sequence[Any]) -> Any:
    """Return a member that keeps every weight, the dense network; None where there is none."""
    return next((member for member in members if member.density == 1), None)


def dash(place: int) -> str:
    """Return a line style: solid for the first round of colours, dashed for the next."""
    return "-" if place < len(COLOURS) else "--"


def whole_numbers(axis: Any) -> None:
    """Put ticks at whole numbers only."""
    ticker = _optional.require("matplotlib.ticker", "plots", "draw figures")
    axis.set_major_locator(ticker.MaxNLocator(integer=True, nbins=8))


def large_numbers(axis: Any) -> None:
    """Write an axis of large numbers short, such as 200k, with room between its ticks."""
    ticker = _optional.require("matplotlib.ticker", "plots", "draw figures")
    axis.set_major_locator(ticker.MaxNLocator(6))
    axis.set_major_formatter(ticker.EngFormatter(sep=""))


def legend_columns(ax: Any) -> int:
    """Return how many short names fit beside each other in a legend as wide as the figure."""
    fonts = _optional.require("matplotlib.font_manager", "plots", "draw figures")
    pyplot = _optional.require("matplotlib.pyplot", "plots", "draw figures")
    size = fonts.FontProperties(size=pyplot.rcParams["legend.fontsize"]).get_size_in_points()
    # A line and a name such as "dense 96.99 %" take 1.5 inches at 10 points.
    return max(1, int(ax.figure.get_figwidth() / (0.15 * size)))


def legend_above(ax: Any) -> None:
    """Add a legend above the axes, in as many columns as the figure is wide enough for."""
    root = ax.figure.canvas.figure
    for columns in range(legend_columns(ax), 0, -1):
        place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
        made = ax.legend(frameon=False, ncols=columns, **place)
        root.draw_without_rendering()
        if made.get_window_extent().width <= ax.figure.bbox.width:
            return


def log_axis(axis: Any) -> None:
    """Make an axis of positive numbers logarithmic, with plain ticks."""
    ticker = _optional.require("matplotlib.ticker", "plots", "draw figures")
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:.4g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def spread_over(count: int, most: int) -> list[int]:
    """Return places among ``count``, evenly spread with both ends, at most ``most``."""
    chosen = np.linspace(0, count - 1, min(count, most)).round().astype(int)
    return [int(place) for place in np.unique(chosen)]


def legend_of_layers(ax: Any, count: int) -> None:
    """Add a legend of layers, beside the axes where they are many."""
    if count > len(COLOURS):
        beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
        small = {"fontsize": "xx-small", "title_fontsize": "xx-small"}
        ax.legend(frameon=False, title="layer", **beside, **small)
    else:
        legend(ax, title="layer")

"""``legend``: a legend that lies on no line and no point."""

from __future__ import annotations

from typing import Any

import numpy as np

from nets_deap import _optional

# Where it may stand inside, the usual first; matplotlib's own "best" does not know of steps.
PLACES = ("upper right", "upper left", "lower left", "lower right", "center right", "center left")
MARGIN = 0.03  # of the axes' height


def legend(ax: Any, **options: Any) -> None:
    """Add a legend where nothing is drawn, or else above all that is, making room for it.

    Args:
        ax: Axes on which everything is drawn by now.
        options: Of ``Axes.legend``.
    """
    made = ax.legend(**{"frameon": False, "loc": PLACES[0], **options})
    root = ax.figure.canvas.figure
    root.draw_without_rendering()
    if not _covers(ax, made):
        return
    for place in PLACES[1:]:
        made.set_loc(place)
        if not _covers(ax, made):
            return
    made.remove()
    wide = ax.legend(**{"frameon": False, "loc": "upper center", "ncols": 2, **options})
    share = wide.get_window_extent().height / ax.get_window_extent().height + MARGIN
    if share < 0.5:
        _raise_top(ax, share)


def _raise_top(ax: Any, share: float) -> None:
    """Leave a share of the axes' height free above what is drawn."""
    scale, (low, high) = ax.yaxis.get_transform(), ax.get_ylim()
    ends = scale.transform(np.array([low, high]))
    top = ends[0] + (ends[1] - ends[0]) / (1 - share)
    ax.set_ylim(low, float(scale.inverted().transform(np.array([top]))[0]))


def _covers(ax: Any, made: Any) -> bool:
    """Return whether a legend lies on a line or a point of its axes."""
    transforms = _optional.require("matplotlib.transforms", "plots", "draw figures")
    box = made.get_window_extent()
    box = transforms.Bbox.from_extents(box.x0 - 2, box.y0 - 2, box.x1 + 2, box.y1 + 2)
    for line in ax.get_lines():
        points = line.get_transform().transform(_corners(line))
        points = points[np.isfinite(points).all(axis=1)]
        if len(points) and _path(points).intersects_bbox(box, filled=False):
            return True
    for collection in ax.collections:
        offsets = np.asarray(collection.get_offsets(), dtype=np.float64)
        points = collection.get_offset_transform().transform(offsets) if len(offsets) else offsets
        if box.count_contains(points):
            return True
    return False


def _corners(line: Any) -> Any:
    """Return the points of a line as it is drawn, those of steps among them."""
    cbook = _optional.require("matplotlib.cbook", "plots", "draw figures")
    x, y = (np.asarray(part, dtype=np.float64) for part in line.get_data(orig=False))
    style = line.get_drawstyle()
    if style == "default" or not len(x):
        return np.stack([x, y], 1)
    return np.stack(cbook.STEP_LOOKUP_MAP[style](x, y), 1)


def _path(points: Any) -> Any:
    """Return points as a path."""
    return _optional.require("matplotlib.path", "plots", "draw figures").Path(points)

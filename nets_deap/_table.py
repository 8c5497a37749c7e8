"""What is shown as text: tables with aligned columns, and big objects in a line."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

MOST_SHOWN, MOST_LETTERS = 6, 100  # of a collection, and of what it or anything else says
FIRST = (0,)
GAP = "  "
WIDE = 100  # letters, of a table that is not cut


def table(rows: Sequence[Sequence[str]], *, left: Collection[int] = FIRST) -> str:
    """Return rows of cells as lines, each column as wide as its widest cell.

    Args:
        rows: Cells as text, as many in each row; a head is a row like the others.
        left: Columns whose cells stand on the left; the others stand on the right, as numbers do.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(line(row, widths, left=left) for row in rows)


def narrow_tables(rows: Sequence[Sequence[str]], *, most: int = WIDE) -> list[str]:
    """Return rows as tables side by side in turn, each of at most so many letters if it can be.

    Each begins with the first column, and has as many of the others as fit, at least one.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    parts: list[list[int]] = []
    room = 0
    for i, width in enumerate(widths[1:], 1):
        if not parts or room < len(GAP) + width:
            parts.append([])
            room = most - widths[0]
        parts[-1].append(i)
        room -= len(GAP) + width
    return [table([[row[0], *(row[i] for i in part)] for row in rows]) for part in parts]


def folded(words: str, below: str = "") -> str:
    """Return a sentence in lines as long as tables may be, and what stands below it."""
    return "\n".join([textwrap.fill(words, WIDE), below] if below else [textwrap.fill(words, WIDE)])


def line(cells: Sequence[str], widths: Sequence[int], *, left: Collection[int] = FIRST) -> str:
    """Return one row as a line, for tables that are shown before all their rows are known.

    Args:
        cells: Of the row, as text.
        widths: Of the columns; a wider cell is shown whole.
        left: See ``table``.
    """
    aligned = [
        cell.ljust(width) if i in left else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return GAP.join(aligned).rstrip()


class Brief:
    """Base of dataclasses that hold much: their ``repr`` is a line whatever they hold.

    Arrays and tensors show as dtype and shape, collections by how many they hold, other things that
    take more than a line by their type. Such a dataclass is made with ``repr=False``.
    """

    def __repr__(self) -> str:
        shown = [f for f in fields(self) if f.repr]  # type: ignore[arg-type]
        inside = ", ".join(f"{f.name}={_brief(getattr(self, f.name))}" for f in shown)
        return f"{type(self).__name__}({inside})"


def _brief(value: Any) -> str:
    """Format a value in a few words."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, Mapping) and len(value) <= MOST_SHOWN:
        return f"{{{', '.join(f'{key!r}: {_brief(one)}' for key, one in value.items())}}}"
    if isinstance(value, (list, tuple, Mapping)) and not hasattr(value, "_fields"):
        text = repr(value)
        scalars = all(isinstance(one, (str, int, float, bool, type(None))) for one in value)
        if not value or (scalars and len(value) <= MOST_SHOWN and len(text) <= MOST_LETTERS):
            return text
        if len(value) <= 2 and not scalars:
            return f"({', '.join(map(_brief, value))})"
        kinds = {type(one).__name__ for one in value}
        return f"<{len(value)} {kinds.pop() if len(kinds) == 1 else 'objects'}>"
    text = repr(value)
    if len(text) <= MOST_LETTERS and "\n" not in text:
        return text
    return (
        text[: MOST_LETTERS - 3] + "..." if isinstance(value, str) else f"<{type(value).__name__}>"
    )

"""``table``: rows of text in columns, the one way in which anything here is shown aligned."""

from __future__ import annotations

from collections.abc import Collection, Sequence

FIRST = (0,)
GAP = "  "


def table(rows: Sequence[Sequence[str]], *, left: Collection[int] = FIRST) -> str:
    """Return rows of cells as lines, each column as wide as its widest cell.

    Args:
        rows: Cells as text, as many in each row; a head is a row like the others.
        left: Columns whose cells stand on the left; the others stand on the right, as numbers do.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(line(row, widths, left=left) for row in rows)


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

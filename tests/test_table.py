"""The one formatter of text tables."""

import pytest

from nets_deap._table import line, narrow_tables, table

ROWS = [["name", "kept", ""], ["a", "1,000", "x"], ["longer", "7", ""]]


@pytest.mark.parametrize(
    ("left", "lines"),
    [
        ((0,), ["name     kept", "a       1,000  x", "longer      7"]),
        ((), ["  name   kept", "     a  1,000  x", "longer      7"]),
        ((0, 1, 2), ["name    kept", "a       1,000  x", "longer  7"]),
    ],
)
def test_columns_are_as_wide_as_their_widest_cell(left, lines):
    assert table(ROWS, left=left).splitlines() == lines


def test_a_table_is_its_lines():
    widths = [6, 5, 1]
    assert table(ROWS).splitlines() == [line(row, widths) for row in ROWS]


def test_a_cell_that_is_wider_than_was_known_is_shown_whole():
    assert line(["a", "1,000,000", "b"], [3, 5, 3]) == "a    1,000,000    b"


def test_rows_of_unequal_length_are_a_mistake():
    with pytest.raises(ValueError, match="zip"):
        table([["a", "b"], ["c"]])


def test_a_wide_table_goes_on_below_with_its_first_column():
    rows = [["name", *"abcdef"], ["one", *("1" * 9 for _ in range(6))]]
    parts = narrow_tables(rows, most=26)
    assert [part.splitlines()[0].split() for part in parts] == [
        ["name", "a", "b"],
        ["name", "c", "d"],
        ["name", "e", "f"],
    ]
    assert all(len(text) <= 26 for part in parts for text in part.splitlines())
    assert narrow_tables(rows) == [table(rows)]
    assert len(narrow_tables(rows, most=1)) == 6  # at least one column each


def test_without_rows_there_is_no_text():
    assert table([]) == ""

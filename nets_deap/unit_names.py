"""``parse_unit``: what one bit of a ticket gates, by name; cheap to import."""

from __future__ import annotations

import re

from nets_deap import _checks

UNITS = ("weight", "neuron", "filter", "block(RxC)", "2:4")
WEIGHT, NEURON, BLOCK, TWO_OF_FOUR = "weight", "neuron", "block", "2:4"

_BLOCK = re.compile(r"block\(\s*([1-9]\d{0,5})\s*x\s*([1-9]\d{0,5})\s*\)")


def parse_unit(argument: str, unit: object) -> tuple[str, tuple[int, int]]:
    """Return a unit's canonical name and the rows and columns of one block, (1, 1) for no block.

    ``"filter"`` is another name of ``"neuron"``.

    Raises:
        InvalidValueError: No such unit.
    """
    found = _BLOCK.fullmatch(unit) if isinstance(unit, str) else None
    if found is not None:
        rows, columns = (int(number) for number in found.groups())
        return f"block({rows}x{columns})", (rows, columns)
    hint = "R and C are the rows and columns of a block, as in 'block(4x1)'."
    name = _checks.choice(argument, unit, UNITS, hint)
    if name == "block(RxC)":
        raise _checks.bad_value(argument, "say how large a block is", "numbers", name, hint)
    return (NEURON if name == "filter" else name), (1, 1)

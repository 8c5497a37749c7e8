"""``ticket_file``: the file of a ticket, also by the id that tables print."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from nets_deap import _checks

ID = re.compile(r"[0-9a-f]{4,64}")
LENGTH = 16  # of a digest, in names of files
# Of a run, and of a comparison, seed by seed; as seen from the folder that is named or the present
# one, where runs may lie under ``runs`` or at once.
WITHIN = ("{}*.safetensors", "tickets/{}*.safetensors", "tickets/seed*/*-{}*.safetensors")
ABOVE = ("", "*/", "runs/*/")


def ticket_file(argument: str, given: str) -> Path:
    """Return the file of a ticket.

    Args:
        argument: What it is called in messages.
        given: A file; or the start of an id, at least 4 digits, alone or after a folder:
            ``2f2120c5``, ``runs/quickstart-seed0/2f2120c5``.

    Raises:
        InvalidValueError: No ticket has this id, or several have.
    """
    path = _checks.path(argument, given)
    if path.exists() or ID.fullmatch(path.name) is None:
        return path
    here = path.parent
    above = ABOVE if str(here) == "." else ("",)
    patterns = [a + within.format(path.name[:LENGTH]) for a in above for within in WITHIN]
    found = [file for pattern in patterns for file in sorted(here.glob(pattern))]
    ids = {file.stem[-LENGTH:] for file in found}
    if len(ids) != 1:
        listed = ", ".join(map(str, found)) or f"none of that id in {here} or runs"
        expected = "a file, or the start of an id that tables print"
        raise _checks.bad_value(argument, "name one ticket", expected, f"{given} ({listed})")
    newest = max(found, key=lambda file: file.stat().st_mtime)
    if len(found) > 1:
        print(f"nets-deap: {given} is in {len(found)} folders: {newest}", file=sys.stderr)
    return newest

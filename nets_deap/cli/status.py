"""The command ``status``: how far a run is, and how it is."""

from __future__ import annotations

from argparse import Namespace
from typing import Any


def add(parsers: Any) -> None:
    """Add the command to the command line."""
    command = parsers.add_parser(
        "status", help="generation, time left, last checkpoint and health of a run"
    )
    command.add_argument("run", metavar="RUN", help="the run folder")
    command.set_defaults(command=status)


def status(options: Namespace) -> int:
    """Print how far a run is."""
    from nets_deap.runs.status import status as status_of

    print(status_of(options.run).text())
    return 0

"""The command ``status``: how far a run is, and how it is; or all runs of a folder."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from nets_deap import _checks


def add(parsers: Any) -> None:
    """Add the command to the command line."""
    command = parsers.add_parser(
        "status",
        help="how far a run is: generation, time left, last checkpoint, health; or a list of runs",
        description="Print generation, time left, last checkpoint and health of a run; or, of a "
        "folder of runs, a line for each.",
    )
    command.add_argument(
        "run",
        metavar="RUN",
        nargs="*",
        default=["runs"],
        help="a run folder, or a folder of runs; several are told one after the other",
    )
    command.set_defaults(command=status)


def status(options: Namespace) -> int:
    """Print how far a run is, or how far each run of a folder is."""
    from nets_deap.runs.status import status as status_of
    from nets_deap.runs.status import table_of_runs

    paths = [_checks.path("run", one) for one in options.run]
    for i, path in enumerate(paths):
        text = table_of_runs(path) or status_of(path).text()
        if i:
            print()
        if len(paths) > 1:
            print(path)
        print(text)
    return 0

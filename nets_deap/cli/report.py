"""The command ``report``: one HTML page about a run or a comparison."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from nets_deap import _checks


def add(parsers: Any) -> None:
    """Add the command to the command line."""
    command = parsers.add_parser(
        "report",
        help="one HTML page about a run: figures, table, settings, how to make it again",
        description="Write one page that needs no other file and no network.",
    )
    command.add_argument("run", metavar="RUN", help="folder of a run or a comparison")
    command.add_argument("--out", help="HTML file (default: RUN/report.html)")
    command.set_defaults(command=report)


def report(options: Namespace) -> int:
    """Write the page about a run."""
    from nets_deap.plots import source
    from nets_deap.plots.report import report as page_of
    from nets_deap.runs.storage.folder import RunFolder

    path = source.reader_of(options.run).path
    page = page_of(path)
    target = _checks.path("--out", options.out) if options.out else path / "report.html"
    RunFolder.beside(target).write_text(target.name, page)
    print(str(target))
    return 0

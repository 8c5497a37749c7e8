"""The commands ``plot`` and ``report``: what they take and do; lines are said through ``say``."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from nets_deap import _checks
from nets_deap.cli.commands import Say


def add(parsers: Any, say: Say) -> None:
    """Add both commands to the command line."""
    plot_parser = parsers.add_parser(
        "plot",
        help="figures of a run or a comparison, into files",
        description="Draw all kinds of figures that a folder holds enough for, or those given. "
        "Several runs are drawn together: hypervolume, and what shares of them attain.",
    )
    plot_parser.add_argument(
        "run",
        metavar="RUN",
        nargs="+",
        help="folders of runs, or of a comparison; or 'list' for the kinds",
    )
    plot_parser.add_argument(
        "--kind", action="append", default=[], help="which; may be repeated (default: all)"
    )
    plot_parser.add_argument(
        "--format", choices=["png", "svg", "pdf"], default="png", help="default: png"
    )
    plot_parser.add_argument(
        "--size",
        choices=["notebook", "paper"],
        default="notebook",
        help="6.4 x 4.2 inches, or a column of a paper (default: notebook)",
    )
    plot_parser.add_argument("--out", help="folder for the figures (default: RUN/plots)")
    plot_parser.set_defaults(command=lambda options: plot(options, say))
    report_parser = parsers.add_parser(
        "report",
        help="one HTML page about a run: figures, table, settings, how to make it again",
        description="Write one page that needs no other file and no network.",
    )
    report_parser.add_argument("run", metavar="RUN", help="folder of a run or a comparison")
    report_parser.add_argument("--out", help="HTML file (default: RUN/report.html)")
    report_parser.set_defaults(command=lambda options: report(options, say))


def plot(options: Namespace, say: Say) -> int:
    """Draw figures of runs into files."""
    from nets_deap.plots import kinds, source
    from nets_deap.runs.storage.folder import RunFolder

    if options.run == ["list"]:
        for kind in kinds.KINDS.values():
            say(f"{kind.name:<12}  {kind.about}")
        return 0
    wanted = [_checks.choice("--kind", name, kinds.KINDS) for name in options.kind]
    paths = [source.reader_of(run).path for run in options.run]
    if len(paths) > 1 and not options.out:
        raise _checks.bad_value("--out", "be given", "a folder for figures of several runs", "none")
    drawn, left = kinds.render_all(paths, wanted, form=options.format, size=options.size)
    if not drawn:
        reasons = "; ".join(f"{name}: {why}" for name, why in left.items())
        raise _checks.bad_value("RUN", "hold a run", "something to draw", f"{paths[0]} ({reasons})")
    out = Path(options.out) if options.out else paths[0] / "plots"
    for name, content in drawn.items():
        target = out / f"{name}.{options.format}"
        RunFolder.beside(target).write_bytes(target.name, content)
        say(str(target))
    if left and len(paths) == 1:
        say(f"not drawn, as RUN holds nothing for them: {', '.join(left)}")
    return 0


def report(options: Namespace, say: Say) -> int:
    """Write the page about a run."""
    from nets_deap.plots import source
    from nets_deap.plots.report import report as page_of
    from nets_deap.runs.storage.folder import RunFolder

    path = source.reader_of(options.run).path
    page = page_of(path)
    target = Path(options.out) if options.out else path / "report.html"
    RunFolder.beside(target).write_text(target.name, page)
    say(str(target))
    return 0

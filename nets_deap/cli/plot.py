"""The command ``plot``: figures of a run or a comparison, into files."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from nets_deap import _checks
from nets_deap._table import table


def add(parsers: Any) -> None:
    """Add the command to the command line."""
    command = parsers.add_parser(
        "plot",
        help="figures of a run or a comparison, into files",
        description="Draw all kinds of figures that a folder holds enough for, or those given. "
        "Several runs are drawn together: hypervolume, and what shares of them attain.",
    )
    command.add_argument(
        "run",
        metavar="RUN",
        nargs="+",
        help="folders of runs, or of a comparison; or 'list' for the kinds",
    )
    command.add_argument(
        "--kind", action="append", default=[], help="which; may be repeated (default: all)"
    )
    command.add_argument(
        "--format", choices=["png", "svg", "pdf"], default="png", help="default: png"
    )
    command.add_argument(
        "--size",
        choices=["notebook", "paper"],
        default="notebook",
        help="6.4 x 4.2 inches, or a column of a paper (default: notebook)",
    )
    command.add_argument("--out", help="folder for the figures (default: RUN/plots)")
    command.set_defaults(command=plot)


def plot(options: Namespace) -> int:
    """Draw figures of runs into files."""
    from nets_deap.plots import kinds, source
    from nets_deap.runs.storage.folder import RunFolder

    if options.run == ["list"]:
        print(table([(kind.name, kind.about) for kind in kinds.KINDS.values()], left=(0, 1)))
        return 0
    wanted = [_checks.choice("--kind", name, kinds.KINDS) for name in options.kind]
    paths = [source.reader_of(run).path for run in options.run]
    if len(paths) > 1 and not options.out:
        raise _checks.bad_value("--out", "be given", "a folder for figures of several runs", "none")
    drawn, left = kinds.render_all(paths, wanted, form=options.format, size=options.size)
    if not drawn:
        reasons = "; ".join(f"{name}: {why}" for name, why in left.items())
        raise _checks.bad_value("RUN", "hold a run", "something to draw", f"{paths[0]} ({reasons})")
    out = _checks.path("--out", options.out) if options.out else paths[0] / "plots"
    for name, content in drawn.items():
        target = out / f"{name}.{options.format}"
        RunFolder.beside(target).write_bytes(target.name, content)
        print(str(target))
    if left and len(paths) == 1:
        print(f"not drawn, as RUN holds nothing for them: {', '.join(left)}")
    return 0

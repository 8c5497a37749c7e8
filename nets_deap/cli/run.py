"""The command ``run``: an experiment from a preset to a table, a picture and a run folder."""

from __future__ import annotations

import contextlib
import functools
import itertools
import signal
import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nets_deap import _checks
from nets_deap._table import table
from nets_deap.cli import picture
from nets_deap.cli.options import PROGRESS, add_preset, add_where, configured, label_of, where
from nets_deap.errors import ExecutorLostError, FileAccessError
from nets_deap.experiments.config import Config
from nets_deap.experiments.presets import PRESETS
from nets_deap.names import NEURON
from nets_deap.runs.signals import listening
from nets_deap.runs.storage.paths import CONFIG, FIGURE


def add(parsers: Any) -> None:
    """Add the command to the command line."""
    presets = [(f"  {name}", config.about) for name, config in PRESETS.items()]
    command = parsers.add_parser(
        "run",
        help="evolve tickets for a preset and train the front from W0",
        description="Evolve tickets for a preset, train the front from W0 beside the dense "
        "baseline and random masks, print the table and leave a run folder.",
        epilog=f"presets:\n{table(presets, left=(0, 1))}\n\n"
        "Every field for --set: nets-deap presets NAME",
        formatter_class=RawDescriptionHelpFormatter,
    )
    add_preset(command)
    command.add_argument("--generations", type=int, help="generations after the first population")
    command.add_argument("--population", type=int, help="tickets in a generation")
    command.add_argument(
        "--out", help="run folder (default: runs/PRESET-seedN, with a number if that is there)"
    )
    command.add_argument(
        "--overwrite", action="store_true", help="replace the earlier run in the folder"
    )
    command.add_argument(
        "--progress",
        choices=PROGRESS,
        default="auto",
        help="default: a bar on a terminal, else lines",
    )
    add_where(command)
    command.set_defaults(command=run)


def run(options: Namespace) -> int:
    """Run an experiment and print its table."""
    with listening():
        config = configured(options)
        name = label_of(options)
        with _folder(options, f"{name}-seed{config.seed}") as path:
            return carry_out(options, path, lambda: (name, config), overwrite=options.overwrite)


@contextlib.contextmanager
def _folder(options: Namespace, name: str) -> Iterator[Path]:
    """Return the run folder: the one that is named, or a new one under ``runs``, with a number.

    A new one is made here, so that of two that start at once each has its own; it is gone again
    if nothing has been written into it.

    Raises:
        FileAccessError: It cannot be made.
    """
    base = _checks.path("--out", options.out) if options.out else Path("runs") / name
    if options.out or options.overwrite:
        yield base
        return
    there = base.parent.exists()
    path = base
    try:
        base.parent.mkdir(exist_ok=True)
        for number in itertools.count(2):
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                break
            path = base.with_name(f"{base.name}-{number}")
    except OSError as error:
        raise FileAccessError(
            f"runs must be a folder that can be written: cannot make {path} ({error.strerror}). "
            "Name another place: --out FOLDER."
        ) from error
    try:
        yield path
    finally:
        for folder in (path, *([] if there else [base.parent])):
            with contextlib.suppress(OSError):  # it holds something
                folder.rmdir()


def carry_out(
    options: Namespace, path: Path, begin: Callable[[], tuple[str, Config]], **how: Any
) -> int:
    """Run an experiment; draw and print what it found, or print how to go on.

    Args:
        options: How it shows its progress, and where it trains.
        path: The run folder.
        begin: Returns its preset and its configuration.
        **how: Further arguments of ``experiments.run.run``.

    Returns:
        The exit status: 0, 1 where all workers are lost, or 128 and the number of the signal that
        has ended it.
    """
    try:
        # At once, to who waits: what comes next takes seconds to import.
        if options.progress in ("auto", "bar") and sys.stderr.isatty():
            print(f"nets-deap: into {path}", file=sys.stderr, flush=True)
        from nets_deap.experiments.run import run
        from nets_deap.plots.pareto import run_figure
        from nets_deap.runs.networks import trained_of

        name, config = begin()
        if note := picture.missing(FIGURE):
            _print_error(note)
        report = run(config, path, preset=name, progress=options.progress, **where(options), **how)
        draw = functools.partial(run_figure, report.search, report.final)
        notes = [*report.notes, *picture.save(draw, report.path / FIGURE)]
    except KeyboardInterrupt as stop:
        number = signal.Signals(getattr(stop, "signal", signal.SIGINT))
        there = (path / CONFIG).exists()
        how_on = f"all that is done is saved; go on with: nets-deap resume {path}"
        _print_error(
            f"{number.name}: {how_on if there else 'nothing was written yet; start it again'}"
        )
        return 128 + number
    except ExecutorLostError as error:
        _print_error(f"{error} The run folder: {path}")
        return 1
    print(f"\n{name}: {report.title()}\n")
    print(report.table())
    for note in notes:
        print(f"\n{note}")
    print(f"\nrun folder: {report.path}")
    print(f"next: nets-deap report {report.path}")
    ticket = report.final.rows[-1].ticket
    print(f"      nets-deap ticket check {ticket.digest[:8]}")
    if ticket.unit == NEURON and trained_of(report.search.front):
        print(f"      nets-deap ship {report.path} --speedup 2")
    return 0


def _print_error(text: str) -> None:
    """Print a line to standard error."""
    print(f"nets-deap: {text}", file=sys.stderr, flush=True)

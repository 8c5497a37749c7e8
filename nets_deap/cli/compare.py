"""The command ``compare``: evolution and every baseline over several seeds, with statistics."""

from __future__ import annotations

import functools
import sys
from argparse import Namespace
from typing import Any

from nets_deap import _checks
from nets_deap.cli import picture
from nets_deap.cli.options import add_preset, budget_of, configured, label_of, numbers


def add(parsers: Any) -> None:
    """Add the command to the command line."""
    command = parsers.add_parser(
        "compare",
        help="evolution and every baseline over several seeds, with statistics",
        description="Run evolution and the baselines, paired by seed, train everything they find "
        "from W0, and leave a table, tests, a figure and the raw rows. What a folder holds already "
        "is not run again.",
    )
    add_preset(command, seed=False)
    command.add_argument("--seeds", type=int, default=10, help="how many (default: 10)")
    command.add_argument("--first-seed", type=int, default=0, help="the first (default: 0)")
    command.add_argument(
        "--budget",
        type=float,
        help="of evolution, in the preset's search.budget_unit (default: the preset's); IMP and "
        "evolution-adds get three times as many, which the table states",
    )
    command.add_argument(
        "--methods", help="names with commas between (default: all that take the tickets' units)"
    )
    command.add_argument(
        "--densities",
        help="levels with commas between (default: 0.107 to 0.0019, as far as the preset goes)",
    )
    command.add_argument("--out", help="folder (default: runs/compare-PRESET)")
    command.set_defaults(command=compare)


def compare(options: Namespace) -> int:
    """Compare methods; draw and print the summary."""
    config = configured(options)
    from nets_deap.experiments import compare as experiment
    from nets_deap.plots.comparison import comparison_figure

    if note := picture.missing("comparison.png"):
        print(f"nets-deap: {note}", file=sys.stderr, flush=True)
    path = _checks.path("--out", options.out or f"runs/compare-{label_of(options)}")
    summary = experiment.compare(
        config,
        path,
        seeds=range(options.first_seed, options.first_seed + options.seeds),
        budget=budget_of(options, config),
        methods=options.methods.split(",") if options.methods else None,
        densities=numbers("--densities", options.densities, float) or None,
        on_done=functools.partial(print, flush=True),
    )
    for note in picture.save(lambda: comparison_figure(summary), path / "comparison.png"):
        print(note)
    print(f"\n{summary.text()}\n\nfolder: {path}")
    return 0

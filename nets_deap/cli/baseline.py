"""The command ``baseline``: tickets found by one method other than evolution."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from nets_deap import _checks
from nets_deap._table import table
from nets_deap.cli.options import add_preset, budget_of, configured, numbers


def add(parsers: Any) -> None:
    """Add the command to the command line."""
    command = parsers.add_parser(
        "baseline",
        help="find tickets by one method other than evolution",
        description="Find tickets by one method at several densities and train them from W0.",
    )
    command.add_argument(
        "name", metavar="NAME", help="imp, finetune, snip, ...: the name, or 'list'"
    )
    add_preset(command, named=False)
    command.add_argument(
        "--budget",
        type=float,
        help="in the preset's search.budget_unit (default: as in 'compare' with the preset's)",
    )
    command.add_argument("--densities", help="levels with commas between (default: 0.107 to 0.007)")
    command.add_argument("--out", help="folder for the tickets (default: none is written)")
    command.set_defaults(command=baseline)


def baseline(options: Namespace) -> int:
    """Run one method and print a row for each of its tickets."""
    from nets_deap.experiments.methods import METHODS

    if options.name == "list":
        print(table([(one.name, one.about) for one in METHODS.values()], left=(0, 1)))
        return 0
    method = METHODS[_checks.choice("name", options.name, METHODS, "See: nets-deap baseline list")]
    method.require()
    config = configured(options)
    budget: float = 1 if options.budget is None else options.budget
    if method.budgets > 0 and options.budget is None:
        budget = budget_of(options, config) * method.budgets
    from nets_deap.experiments.compare import find, rows_of
    from nets_deap.experiments.compared import levels_of, usual_levels
    from nets_deap.experiments.run import build_task
    from nets_deap.runs.storage.folder import RunFolder, csv_text

    levels = levels_of(numbers("--densities", options.densities, float) or usual_levels(config))
    task = build_task(config)
    folder = None if options.out is None else RunFolder(options.out)
    found, seconds = find(task, config, method.name, budget, levels)
    rows = rows_of(task, config, method.name, found, seconds)
    if folder is not None:
        folder.write_text("rows.csv", csv_text(rows))
        for level in found.levels:
            level.ticket.save(folder.path / f"{level.ticket.digest[:16]}.safetensors", task=task)
    dense = f"{found.search_dense_steps:.0f} dense steps"
    cost = f"{found.search_steps} steps x networks, {dense}, {seconds:.1f} s"
    print(f"{method.name}: {method.about}; search of {cost}\n")
    cells = [
        (str(r["kept"]), f"{100 * r['density']:.2f} %", f"{100 * r['test_accuracy']:.2f} %")
        for r in rows
    ]
    print(table([("kept", "density", "test acc."), *cells]))
    return 0

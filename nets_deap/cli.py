"""The command line: the only place that parses arguments or prints."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import Any

import nets_deap
from nets_deap.errors import NetsError
from nets_deap.experiments.config import PRESETS, Config, preset

USAGE_ERROR = 2
EPILOG = """\
examples:
  nets-deap run quickstart                      embedded digits, no download, under 3 minutes
  nets-deap run xor-mlp10 --seed 3
  nets-deap run lenet-mnist --data-dir ~/data --generations 10
  nets-deap run quickstart --set recipe.lr=0.002 --set search.objectives=val_loss,density
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, or 2 for bad input."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.command(options)
    except NetsError as error:
        print(f"nets-deap: error: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("nets-deap: interrupted; the run folder holds what was done so far", file=sys.stderr)
        return 128 + signal.SIGINT
    return status


def _parser() -> argparse.ArgumentParser:
    """Return the parser; its help needs nothing beyond the standard library."""
    parser = argparse.ArgumentParser(
        prog="nets-deap",
        description="Find lottery tickets by evolution: sparse masks over a network's initial "
        "weights that train as well as the dense network.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=nets_deap.__version__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    listing = commands.add_parser("presets", help="list the presets of 'run'")
    listing.add_argument("name", nargs="?", help="show every field of this preset, for --set")
    listing.set_defaults(command=_presets)
    bench = commands.add_parser("bench", help="measure what things cost on this machine")
    bench.add_argument("what", choices=["evolution"], help="evolution: a generation less training")
    bench.add_argument("--population", type=int, default=100, help="tickets (default: 100)")
    bench.add_argument("--generations", type=int, default=30, help="how many (default: 30)")
    bench.set_defaults(command=_bench)
    return parser


def _add_run(commands: Any) -> None:
    """Add the command ``run``."""
    run = commands.add_parser(
        "run",
        help="evolve tickets for a preset and train the front from W0",
        description="Evolve tickets for a preset, train the front from W0 beside the dense "
        "baseline and random masks, print the table and leave a run folder.",
        epilog="presets:\n"
        + "\n".join(f"  {name:<12}  {config.about}" for name, config in PRESETS.items())
        + "\n\nEvery field for --set: nets-deap presets NAME",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("preset", metavar="PRESET", help="which experiment; see below")
    run.add_argument("--seed", type=int, help="seed of everything (default: 0)")
    run.add_argument("--generations", type=int, help="generations after the first population")
    run.add_argument("--population", type=int, help="tickets in a generation")
    run.add_argument("--device", help="auto (CUDA when there), cpu, cuda or cuda:N")
    run.add_argument("--data-dir", help="folder with MNIST/raw (default: $NETS_DEAP_DATA)")
    run.add_argument(
        "--out", help="run folder (default: runs/PRESET-seedN, with a number if that is there)"
    )
    run.add_argument(
        "--overwrite", action="store_true", help="replace the earlier run in the folder"
    )
    run.add_argument(
        "--progress",
        choices=["auto", "bar", "lines", "none"],
        default="auto",
        help="default: a bar on a terminal, else lines",
    )
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="set any field, such as recipe.lr=0.002; may be repeated",
    )
    run.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    """Run an experiment and print its table."""
    config = _configured(options)
    from nets_deap.experiments.run import default_path, run

    path = options.out or default_path(options.preset, config.seed, new=not options.overwrite)
    report = run(
        config,
        path,
        preset=options.preset,
        progress=options.progress,
        overwrite=options.overwrite,
    )
    print(f"\n{options.preset}: front after {report.final.steps} steps from W0, densest first\n")
    print(report.table())
    for note in report.notes:
        print(f"\n{note}")
    print(f"\nrun folder: {report.path}")
    return 0


def _configured(options: argparse.Namespace) -> Config:
    """Return the preset's configuration with what the command line sets."""
    config = preset(options.preset)
    settings: dict[str, Any] = {}
    for item in options.set:
        name, equals, value = item.partition("=")
        if not equals:
            raise _usage(f"--set must be FIELD=VALUE: expected an '=', got {item!r}.")
        settings[name.strip()] = value
    flags = {
        "seed": options.seed,
        "search.generations": options.generations,
        "search.population": options.population,
        "task.device": options.device,
        "task.data_dir": options.data_dir,
    }
    for name, value in flags.items():
        if value is not None and name in settings:
            raise _usage(f"{name} must be set once: expected its flag or --set, got both.")
        if value is not None:
            settings[name] = value
    return config.override(settings)


def _usage(text: str) -> NetsError:
    """Return an error about the command line itself."""
    from nets_deap.errors import InvalidValueError

    return InvalidValueError(text)


def _presets(options: argparse.Namespace) -> int:
    """List the presets, or every field of one."""
    if options.name is None:
        for name, config in PRESETS.items():
            print(f"{name:<12}  {config.about}")
        print("\nEvery field of one: nets-deap presets NAME")
        return 0
    for name, value in preset(options.name).settable().items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        print(f"{name}={text.lower() if value is None else text}")
    return 0


def _bench(options: argparse.Namespace) -> int:
    """Print what evolution costs."""
    from nets_deap.bench.evolution import measure

    for plain, operators in ((True, "cx_uniform and mut_flip"), (False, "the toolbox's operators")):
        cost = measure(population=options.population, generations=options.generations, plain=plain)
        print(
            f"evolution without training, {operators}, "
            f"{cost.size} bits, mu = lambda = {cost.population}: "
            f"median {1000 * cost.median:.1f} ms a generation "
            f"(min {1000 * min(cost.seconds):.1f}, max {1000 * max(cost.seconds):.1f}, "
            f"{len(cost.seconds)} generations)"
        )
    return 0

"""The command line: the only place that parses arguments or prints."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import nets_deap
from nets_deap.cli import commands, completion, plot, slurm_command, ticket
from nets_deap.cli import run as run_commands
from nets_deap.errors import NetsError
from nets_deap.experiments.presets import PRESETS, preset

USAGE_ERROR = 2
EPILOG = """\
examples:
  nets-deap run quickstart                      embedded digits, no download, about half a minute
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
    except BrokenPipeError:
        # Whoever read the output has gone; nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        hint = "the folder holds what was done so far; the same 'compare' goes on"
        print(f"nets-deap: interrupted; {hint}", file=sys.stderr)
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
    parsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(parsers)
    _add_resume(parsers)
    listing = parsers.add_parser("presets", help="list the presets of 'run'")
    listing.add_argument("name", nargs="?", help="show every field of this preset, for --set")
    listing.set_defaults(command=_presets)
    describe = parsers.add_parser(
        "describe",
        help="what a preset's task is made of: parameters, maskable or not and why",
        description="Print the parameters of a preset's network, which of them are maskable and "
        "why, and data, recipe and engine.",
    )
    _add_experiment(describe)
    describe.set_defaults(command=lambda options: commands.describe(options, _say))
    _add_compare(parsers)
    _add_baseline(parsers)
    ticket.add_ticket(parsers, _add_experiment, _say, _complain)
    slurm_command.add_slurm(parsers, _add_set, _say, argparse.RawDescriptionHelpFormatter)
    _add_bench(parsers)
    plot.add(parsers, _say)
    completion.add(parsers, _parser, _say)
    return parser


def _add_run(parsers: Any) -> None:
    """Add the command ``run``."""
    run = parsers.add_parser(
        "run",
        help="evolve tickets for a preset and train the front from W0",
        description="Evolve tickets for a preset, train the front from W0 beside the dense "
        "baseline and random masks, print the table and leave a run folder.",
        epilog="presets:\n"
        + "\n".join(f"  {name:<16}  {config.about}" for name, config in PRESETS.items())
        + "\n\nEvery field for --set: nets-deap presets NAME",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_experiment(run)
    run.add_argument("--generations", type=int, help="generations after the first population")
    run.add_argument("--population", type=int, help="tickets in a generation")
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
    _add_where(run)
    run.set_defaults(command=lambda options: run_commands.run(options, _say, _complain))


def _add_resume(parsers: Any) -> None:
    """Add the commands ``resume`` and ``status``."""
    resume = parsers.add_parser(
        "resume",
        help="go on with an interrupted run",
        description="Go on with a run from its newest checkpoint; it ends with the same front as "
        "if it had not been interrupted.",
    )
    resume.add_argument("run", metavar="RUN", help="the run folder")
    resume.add_argument(
        "--force",
        action="store_true",
        help="go on although the configuration has changed; the result is then no longer that of "
        "one run",
    )
    resume.add_argument(
        "--generations", type=int, help="make the run longer: generations in all (without a budget)"
    )
    resume.add_argument("--progress", choices=["auto", "bar", "lines", "none"], default="auto")
    _add_where(resume)
    resume.set_defaults(command=lambda options: run_commands.resume(options, _say, _complain))
    status = parsers.add_parser(
        "status", help="generation, time left, last checkpoint and health of a run"
    )
    status.add_argument("run", metavar="RUN", help="the run folder")
    status.set_defaults(command=lambda options: run_commands.status(options, _say))


def _add_experiment(
    command: argparse.ArgumentParser, *, seed: bool = True, named: bool = True
) -> None:
    """Add what every command on a preset takes; the preset is ``named`` or an option."""
    if named:
        command.add_argument("preset", metavar="PRESET", help="which experiment: nets-deap presets")
    else:
        command.add_argument(
            "--preset", help="which experiment (default: lenet-mnist, or that of the run folder)"
        )
    if seed:
        command.add_argument("--seed", type=int, help="seed of everything (default: 0)")
    command.add_argument("--device", help="auto (CUDA when there), cpu, cuda:N or cuda:all")
    command.add_argument(
        "--data-dir", help="folder of data sets, such as MNIST/raw (default: $NETS_DEAP_DATA)"
    )
    _add_set(command)


def _add_set(command: argparse.ArgumentParser) -> None:
    """Add what sets single fields of a preset."""
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="set any field, such as recipe.lr=0.002; may be repeated",
    )


def _add_where(command: argparse.ArgumentParser) -> None:
    """Add where everything is trained, which changes no result."""
    command.add_argument(
        "--map",
        choices=["local", "ray"],
        default="local",
        help="train in this process, or on workers of Ray, each with the engine that "
        "task.engine names (default: local)",
    )
    command.add_argument(
        "--workers", type=int, help="workers of Ray (default: as many as have room)"
    )
    command.add_argument(
        "--address",
        help="'local' starts Ray here (default); 'auto' or 'HOST:PORT' is a cluster that runs",
    )
    command.add_argument(
        "--gpus-per-worker",
        type=float,
        metavar="GPUS",
        help="of each worker, 0.25 for a quarter (default: 1 on CUDA, else 0)",
    )


def _add_bench(parsers: Any) -> None:
    """Add the command ``bench``."""
    bench = parsers.add_parser(
        "bench",
        help="measure what things cost on this machine",
        description="Measure how fast populations train, beside one network at a time and plain "
        "torch.func.vmap in the same run, and what evolution costs; print tables and write JSON.",
    )
    bench.add_argument(
        "what",
        choices=["training", "evolution", "scaling", "all"],
        help="training: network-steps a second; evolution: a generation less training; scaling: "
        "workers of Ray, by number; all: the first two",
    )
    training = bench.add_argument_group("training")
    training.add_argument("--nets", help="lenet,lenet5,conv2,resnet20 (default: the first two)")
    training.add_argument(
        "--populations", help="numbers of networks (default: 1,8,64; on CUDA also 256,1024)"
    )
    training.add_argument("--densities", help="of the masks (default: 1,0.2,0.05,0.01)")
    training.add_argument("--repeats", type=int, default=5, help="interleaved (default: 5)")
    training.add_argument(
        "--seconds", type=float, default=0.5, help="of each measurement (default: 0.5)"
    )
    training.add_argument(
        "--device", default="auto", help="auto (CUDA when there), cpu, cuda or cuda:N"
    )
    training.add_argument("--engine", default="auto", help="instead of the fastest one that can")
    evolution = bench.add_argument_group("evolution")
    evolution.add_argument("--population", type=int, default=100, help="tickets (default: 100)")
    evolution.add_argument("--generations", type=int, default=30, help="how many (default: 30)")
    scaling = bench.add_argument_group("scaling")
    scaling.add_argument("--workers", default="1,2", help="numbers of workers (default: 1,2)")
    bench.add_argument("--out", help="JSON file (default: runs/bench-WHAT.json)")
    bench.set_defaults(command=lambda options: commands.bench(options, _say))


def _add_compare(parsers: Any) -> None:
    """Add the command ``compare``."""
    compare = parsers.add_parser(
        "compare",
        help="evolution and every baseline over several seeds, with statistics",
        description="Run evolution and the baselines, paired by seed, train everything they find "
        "from W0, and leave a table, tests, a figure and the raw rows. What a folder holds already "
        "is not run again.",
    )
    _add_experiment(compare, seed=False)
    compare.add_argument("--seeds", type=int, default=10, help="how many (default: 10)")
    compare.add_argument("--first-seed", type=int, default=0, help="the first (default: 0)")
    compare.add_argument(
        "--budget",
        type=int,
        help="steps x networks of evolution (default: the preset's); IMP and evolution-adds get "
        "three times as many, which the table states",
    )
    compare.add_argument("--methods", help="names with commas between (default: all)")
    compare.add_argument("--densities", help="levels with commas between (default: 0.107 to 0.007)")
    compare.add_argument("--out", help="folder (default: runs/compare-PRESET)")
    compare.set_defaults(command=lambda options: commands.compare(options, _say))


def _add_baseline(parsers: Any) -> None:
    """Add the command ``baseline``."""
    baseline = parsers.add_parser(
        "baseline",
        help="find tickets by one method other than evolution",
        description="Find tickets by one method at several densities and train them from W0.",
    )
    baseline.add_argument(
        "name", metavar="NAME", help="imp, finetune, snip, ...: the name, or 'list'"
    )
    _add_experiment(baseline, named=False)
    baseline.add_argument(
        "--budget", type=int, help="steps x networks (default: as in 'compare' with the preset's)"
    )
    baseline.add_argument(
        "--densities", help="levels with commas between (default: 0.107 to 0.007)"
    )
    baseline.add_argument("--out", help="folder for the tickets (default: none is written)")
    baseline.set_defaults(command=lambda options: commands.baseline(options, _say))


def _say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def _complain(text: str) -> None:
    """Print a line to standard error."""
    print(f"nets-deap: {text}", file=sys.stderr, flush=True)


def _presets(options: argparse.Namespace) -> int:
    """List the presets, or every field of one."""
    if options.name is None:
        for name, config in PRESETS.items():
            print(f"{name:<16}  {config.about}")
        print("\nEvery field of one: nets-deap presets NAME")
        return 0
    for name, value in preset(options.name).settable().items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        print(f"{name}={text.lower() if value is None else text}")
    return 0

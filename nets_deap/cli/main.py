"""The command line: its commands, each in a file of its own, and how they end.

To add a command: a file here with ``add(parsers)``, which declares its arguments and sets the
function that does the work, prints, and returns the exit status; and its name in ``COMMANDS``. What
needs torch or NumPy is imported inside of that function, so that the help is there at once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

import nets_deap
from nets_deap.cli import (
    baseline,
    bench,
    compare,
    completion,
    describe,
    plot,
    presets,
    report,
    resume,
    run,
    ship,
    slurm,
    status,
    ticket,
)
from nets_deap.cli.options import limit_threads
from nets_deap.cli.parser import Parser
from nets_deap.errors import NetsError

# In the order of the help; each adds its own arguments, does its work and prints.
COMMANDS = (
    *(run, resume, status, presets, describe),
    *(compare, baseline, ticket, ship, slurm, bench, plot, report),
)
USAGE_ERROR = 2
EPILOG = """\
examples:
  nets-deap run quickstart                      embedded digits, no download, about half a minute
  nets-deap run xor-mlp10 --seed 3
  nets-deap run lenet-mnist --data-dir ~/data --generations 10
  nets-deap run quickstart --set recipe.lr=0.002 --set search.objectives=val_loss,density
  nets-deap run mytask.py:make_task             a function of yours: seed -> nets.Task
  nets-deap status runs                         every run in a folder
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, or 2 for bad input."""
    options = _parser().parse_args(arguments)
    try:
        limit_threads(options)
        code: int = options.command(options)
        sys.stdout.flush()  # here, where it is known what to do if nobody reads any more
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
    return code


def _parser() -> argparse.ArgumentParser:
    """Return the parser; its help needs nothing beyond the standard library."""
    parser = Parser(
        prog="nets-deap",
        description="Find lottery tickets by evolution: sparse masks over a network's initial "
        "weights that train as well as the dense network.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=nets_deap.__version__)
    parsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(parsers)
    completion.add(parsers, parser)
    return parser

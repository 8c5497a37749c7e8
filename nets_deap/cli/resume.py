"""The command ``resume``: go on with an interrupted run."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from nets_deap import _checks
from nets_deap.cli.options import PROGRESS, add_threads, add_where
from nets_deap.cli.run import carry_out
from nets_deap.experiments.config import Config
from nets_deap.runs.signals import listening


def add(parsers: Any) -> None:
    """Add the command to the command line."""
    command = parsers.add_parser(
        "resume",
        help="go on with an interrupted run",
        description="Go on with a run from its newest checkpoint; it ends with the same front as "
        "if it had not been interrupted.",
    )
    command.add_argument("run", metavar="RUN", help="the run folder")
    command.add_argument(
        "--force",
        action="store_true",
        help="go on although the configuration has changed; the result is then no longer that of "
        "one run",
    )
    command.add_argument(
        "--generations", type=int, help="make the run longer: generations in all (without a budget)"
    )
    command.add_argument("--progress", choices=PROGRESS, default="auto")
    add_threads(command)
    add_where(command)
    command.set_defaults(command=resume)


def resume(options: Namespace) -> int:
    """Go on with a run and print its table."""
    path = _checks.path("run", options.run)

    def begun() -> tuple[str, Config]:
        from nets_deap.experiments.resume import config_of
        from nets_deap.runs.storage.reader import RunReader

        facts = RunReader(path).config()
        config = config_of(facts, path)
        if options.generations is not None:
            config = config.override({"search.generations": options.generations})
        return str(facts.get("preset", "")), config

    with listening():
        return carry_out(options, path, begun, resume=True, force=options.force)

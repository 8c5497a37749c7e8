"""The command ``describe``: what a preset's task is made of."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from nets_deap.cli.options import add_preset, configured


def add(parsers: Any) -> None:
    """Add the command to the command line."""
    command = parsers.add_parser(
        "describe",
        help="what a preset's task is made of: parameters, maskable or not and why",
        description="Print the parameters of a preset's network, which of them are maskable and "
        "why, and data, recipe and engine.",
    )
    add_preset(command)
    command.set_defaults(command=describe)


def describe(options: Namespace) -> int:
    """Print what a preset's task is made of."""
    config = configured(options)
    from nets_deap.experiments.run import build_task
    from nets_deap.training.describe import describe as description_of

    print(description_of(build_task(config)))
    return 0

"""The command ``presets``: the presets of ``run``, or every field of one."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from nets_deap._table import table
from nets_deap.experiments.presets import PRESETS


def add(parsers: Any) -> None:
    """Add the command to the command line."""
    command = parsers.add_parser("presets", help="list the presets of 'run'")
    command.add_argument(
        "name", nargs="?", help="show every field of this preset, or of FILE.py:FUNCTION, for --set"
    )
    command.set_defaults(command=presets)


def presets(options: Namespace) -> int:
    """List the presets, or every field of one."""
    if options.name is None:
        print(table([(name, config.about) for name, config in PRESETS.items()], left=(0, 1)))
        print("\nEvery field of one: nets-deap presets NAME")
        return 0
    from nets_deap.experiments.own import configuration

    for name, value in configuration(options.name, {}).settable().items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        print(f"{name}={text.lower() if value is None else text}")
    return 0

"""The command ``completion``: a script by which bash, zsh or fish completes the command line."""

from __future__ import annotations

import functools
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from nets_deap import _optional
from nets_deap.experiments.presets import PRESETS

SHELLS = ("bash", "zsh", "fish")
# What an argument stands for, by its name in the parser.
FILES = {"run", "file", "other", "weights", "out", "json"}
FOLDERS = {"data_dir"}


def add(parsers: Any, parser: ArgumentParser) -> None:
    """Add the command to the command line, whose whole ``parser`` it completes."""
    command = parsers.add_parser(
        "completion",
        help="print a script that completes this command line in a shell",
        description="Print a script that completes commands, options, presets and files. Write it "
        "once to where the shell looks: for bash to "
        "~/.local/share/bash-completion/completions/nets-deap, for fish to "
        "~/.config/fish/completions/nets-deap.fish, for zsh to _nets-deap in a folder of $fpath.",
    )
    command.add_argument("shell", choices=SHELLS, help="which shell")
    command.set_defaults(command=functools.partial(complete, parser=parser))


def complete(options: Namespace, parser: ArgumentParser) -> int:
    """Print the script for a shell."""
    shtab = _optional.require("shtab", "completion", "Completion")
    names = _names()
    for command, action in _arguments(parser):
        known = names.get((command, action.dest)) or names.get(("", action.dest))
        if known:
            action.choices = known
        elif action.dest in FILES:
            action.complete = shtab.FILE
        elif action.dest in FOLDERS:
            action.complete = shtab.DIRECTORY
    print(shtab.complete(parser, shell=options.shell))
    return 0


def _names() -> dict[tuple[str, str], list[str]]:
    """Return what arguments can be that the parser leaves open, by command and name."""
    from nets_deap.baselines import BASELINES
    from nets_deap.experiments.methods import METHODS
    from nets_deap.plots.kinds import KINDS

    return {
        ("", "preset"): [*PRESETS],
        ("presets", "name"): [*PRESETS],
        ("baseline", "name"): ["list", *BASELINES],
        ("compare", "methods"): [*METHODS],
        ("plot", "kind"): [*KINDS],
    }


def _arguments(parser: ArgumentParser, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all arguments of a parser and of its commands, with the command's name."""
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for command, inner in action.choices.items():
                yield from _arguments(inner, command)
        else:
            yield name, action

"""``Parser``: argparse's, which guesses what an unknown command or option was meant to be."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from nets_deap import _checks


class Parser(argparse.ArgumentParser):
    """Parses a command line; the parsers of its commands are of the same class."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse; refuse what is unknown here, where the options that it may mean are known."""
        found, others = super().parse_known_args(args, namespace)
        if others:
            known = [name for action in self._actions for name in action.option_strings]
            long = (one.partition("=")[0] for one in others if one.startswith("--"))
            meant = " ".join(filter(None, (_meant_by(one, known) for one in long)))
            self.error(f"unrecognized arguments: {' '.join(others)}. {meant}".rstrip(". "))
        return found, others

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a value that is none of the choices, and guess which one was meant."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            meant = _checks.meant_by(str(value), map(str, action.choices or ()), {})
            raise argparse.ArgumentError(action, f"{error.message}. {meant}".rstrip(". ")) from None


def _meant_by(option: str, known: Sequence[str]) -> str:
    """Return a question for what an unknown option may mean: one that is, or a field for --set."""
    if "--set" in known:
        from nets_deap.experiments.config import Config

        name = option.strip("-").replace("-", "_")
        for field in Config(about="").settable():
            if field.rpartition(".")[2] == name:
                return f"Did you mean --set {field}=...?"
    return _checks.meant_by(option, known, {})

"""``SearchStopped``: how a recorder ends an algorithm before its last generation."""

from __future__ import annotations

from typing import Any

from deap import tools


class SearchStopped(Exception):
    """Raised by a recorder, at the end of a generation, to stop the algorithm early.

    Attributes:
        reason: Why.
        population: The population at that moment.
        logbook: The recorder's log so far.
    """

    def __init__(self, reason: str, population: list[Any], logbook: tools.Logbook) -> None:
        super().__init__(reason)
        self.reason, self.population, self.logbook = reason, population, logbook


def divergence(diverged: int, networks: int, lr: float) -> str:
    """Return the message that most of a generation diverged, with what to do."""
    return (
        f"{diverged} of the {networks} networks of this generation diverged; take a lower learning "
        f"rate than {lr:g} (recipe.lr), and look for values in the data that are not finite"
    )

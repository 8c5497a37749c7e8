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

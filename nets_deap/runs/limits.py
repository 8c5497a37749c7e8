"""``Limits``: what ends an algorithm before its last generation, and ``SearchStopped``, how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deap import tools

from nets_deap import _checks


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


class Limits:
    """What a run may spend, and how long it may go on without progress; None for no limit.

    Args:
        patience: Generations without a larger hypervolume.
        max_steps: Steps x networks.
        max_dense_steps: Multiply-adds, in training steps of the dense network.
        max_seconds: Seconds.

    Attributes:
        best: The generation of the largest hypervolume so far, and that hypervolume.
    """

    def __init__(
        self,
        patience: int | None,
        max_steps: int | None,
        max_seconds: float | None,
        max_dense_steps: float | None = None,
    ) -> None:
        self.patience = _checks.unless_none(_checks.whole, "patience", patience)
        self.max_steps = _checks.unless_none(_checks.whole, "max_steps", max_steps)
        self.max_seconds = _checks.unless_none(
            _checks.real, "max_seconds", max_seconds, low=0, open_low=True
        )
        self.max_dense_steps = _checks.unless_none(
            _checks.real, "max_dense_steps", max_dense_steps, low=0, open_low=True
        )
        self.best: tuple[int, float] = 0, -1.0

    def as_dict(self) -> dict[str, Any]:
        """Return the limits as plain data."""
        names = ("patience", "max_steps", "max_dense_steps", "max_seconds")
        return {name: getattr(self, name) for name in names}

    def reached(self, generation: int, row: Mapping[str, Any]) -> str | None:
        """Take note of a generation's row; return which limit it has reached, if any."""
        if row["hypervolume"] > self.best[1]:
            self.best = generation, row["hypervolume"]
        waited = generation - self.best[0]
        if self.patience is not None and waited >= self.patience:
            return f"no larger hypervolume for {waited} generations"
        if self.max_steps is not None and row["network_steps"] >= self.max_steps:
            return f"{row['network_steps']} of {self.max_steps} steps x networks are spent"
        most = self.max_dense_steps
        if most is not None and row["dense_steps"] >= most:
            return f"{row['dense_steps']:.0f} of {most:g} dense steps are spent"
        if self.max_seconds is not None and row["seconds"] >= self.max_seconds:
            return f"{row['seconds']:.0f} of {self.max_seconds:g} seconds are spent"
        return None


def divergence(diverged: int, networks: int, lr: float) -> str | None:
    """Return that most of a generation diverged, with what to do; None where it did not."""
    if 2 * diverged <= networks:
        return None
    return (
        f"{diverged} of the {networks} networks of this generation diverged; take a lower learning "
        f"rate than {lr:g} (recipe.lr), and look for values in the data that are not finite"
    )

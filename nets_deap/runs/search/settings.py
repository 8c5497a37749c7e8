"""What can be set of a search in a configuration or in Python.

Nothing here imports torch, so that the command line answers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from nets_deap import _checks
from nets_deap.evolution.budget import DENSE_STEPS, UNITS, Budget
from nets_deap.evolution.settings import (
    EvaluationSettings,
    OperatorSettings,
    Settings,
    above_0,
    from_0,
    one_of,
    setting,
    share,
)


def _budget(name: str, value: Any) -> Budget | float:
    """Return a budget, or a number of any unit."""
    if isinstance(value, Budget):
        return value
    found = _checks.real(name, value, low=0, open_low=True)
    return int(found) if found.is_integer() else found  # text such as 6600 is read as a float


@dataclass(frozen=True, kw_only=True)
class AlgorithmSettings(Settings):
    """How a population evolves; each island may have its own."""

    population: int = setting(
        40,
        "Tickets that survive each generation (mu), >= 1; >= 2 with crossover. On islands: of "
        "each, as are the next ones.",
    )
    offspring: int | None = setting(
        None,
        "Tickets made each generation (lambda); None for as many as ``population``, or twice as "
        'many with ``algorithm="comma"``, which selects among them alone.',
        _checks.whole,
    )
    cxpb: float = setting(0.25, "Probability that a child comes from crossover.", share)
    mutpb: float = setting(
        0.75, "Probability that it comes from mutation; the two add up to at most 1.", share
    )
    algorithm: str | None = setting(
        None,
        '``"plus"`` or ``"comma"``; None for comma where ``mut_shrink`` makes each child smaller '
        "than its parents, else plus, in which the selection of ``nets.make_toolbox`` lets the "
        "young of a niche replace their parents where weights are inherited.",
        one_of(("plus", "comma")),
    )

    def _rules(self) -> Iterable[Callable[[], object]]:
        return (*super()._rules(), self._check_population, self._check_probabilities)

    def _check_population(self) -> None:
        """Refuse a population too small, with crossover one without a pair."""
        low = 2 if type(self.cxpb) is float and self.cxpb else 1  # other types have been named
        found = _checks.whole(f"{self.prefix}population", self.population, low=low)
        object.__setattr__(self, "population", found)

    def _check_probabilities(self) -> None:
        """Refuse probabilities that add up to more than 1."""
        both = self.cxpb, self.mutpb
        if all(isinstance(p, float) for p in both):  # what is not a number has been named before
            name = f"{self.prefix}cxpb + {self.prefix}mutpb"
            _checks.real(name, sum(both), high=1 + 1e-9)


@dataclass(frozen=True, kw_only=True)
class LimitSettings(Settings):
    """How long a search goes on."""

    generations: int = setting(60, "After the first population, >= 0.", from_0)
    patience: int | None = setting(None, "See ``nets.Recorder``.", _checks.whole)
    max_steps: int | None = setting(None, "See ``nets.Recorder``.", _checks.whole)
    max_dense_steps: float | None = setting(None, "See ``nets.Recorder``.", above_0)
    max_seconds: float | None = setting(None, "See ``nets.Recorder``.", above_0)


@dataclass(frozen=True, kw_only=True)
class SearchSettings(OperatorSettings, EvaluationSettings, LimitSettings, AlgorithmSettings):
    """What is set of a search by numbers and names."""

    subject: ClassVar[str] = "search"

    budget: float | Budget | None = setting(
        None,
        "What the whole search may cost, kept exactly: a number of ``budget_unit``, or a "
        "``nets.Budget``; None trains the recipe's steps.",
        _budget,
    )
    budget_unit: str = setting(
        DENSE_STEPS,
        'Of a number as budget: ``"dense steps"`` (multiply-adds) or ``"steps"`` (steps x '
        "networks); see ``nets.Budget``.",
        one_of(UNITS),
    )
    growth: float = setting(
        1.0,
        "What the last generation may cost over what the first may; see ``nets.Budget``.",
        above_0,
    )

    def _rules(self) -> Iterable[Callable[[], object]]:
        return (*super()._rules(), self._check_budget)

    def _check_budget(self) -> None:
        """Refuse a ``nets.Budget`` that was planned for another search."""
        if not isinstance(self.budget, Budget):
            return
        name = f"{self.prefix}budget"
        self.budget.check_plan(self.generations, name)
        for field, default, own in (
            ("budget_unit", DENSE_STEPS, self.budget.unit),
            ("growth", 1.0, self.budget.growth),
        ):
            if getattr(self, field) not in (default, own):
                raise _checks.bad_value(
                    f"{self.prefix}{field}",
                    "stand in the budget, where that is a nets.Budget",
                    f"{own}",
                    getattr(self, field),
                    f"Give nets.Budget({self.budget.total:g}, ...) it, or a number as {name}.",
                )


@dataclass(frozen=True, kw_only=True)
class RunSettings(Settings):
    """Where a search is kept, and whether it is a new one."""

    path: str | Path | None = setting(None, "Run folder; None writes nothing.")
    seed: int | None = setting(None, "Seed of the evolution; None for the task's.", from_0)
    progress: str = setting("auto", "See ``nets.Recorder``.")
    overwrite: bool = setting(False, "Replace an earlier run in the folder.")
    resume: bool = setting(
        False,
        "Go on with the run in the folder; the result is that of an uninterrupted one. A run "
        "without a checkpoint begins again, and where there is none one begins, so that a job may "
        "call the same again and again. Without a budget more ``generations`` than before make it "
        "longer.",
    )
    force: bool = setting(False, "See ``nets.resume``.")

    def _rules(self) -> Iterable[Callable[[], object]]:
        return (*super()._rules(), self._check_resume)

    def _check_resume(self) -> None:
        """Refuse to go on without knowing with what."""
        if self.resume and self.path is None:
            raise _checks.bad_value("path", "be given to resume", "a run folder", self.path)

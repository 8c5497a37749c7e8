"""``Operator``: what is known of an operator, from which lists, tests and benchmarks follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nets_deap import _checks

#: A combination is an operator of operators; a repair decorates one.
KINDS = ("init", "crossover", "mutation", "combination", "selection", "repair")
#: Any ticket; whole neurons, so a feedforward layout; weights that evolve too, so a genome.
NEEDS = ("any", "neurons", "genome")

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Operator:
    """One operator, and the arguments that the tests of the operators' contract call it with.

    Attributes:
        function: The operator itself.
        kind: One of ``KINDS``.
        needs: One of ``NEEDS``.
        usual: Arguments of an ordinary call.
        harsh: Arguments that ask for as much change as can be.
        neutral: Arguments that ask for none, so that parents come back; None if none do.
        between: Whether these do so only for equal parents, as children lie between the two.
    """

    function: Callable[..., Any]
    kind: str
    needs: str = "any"
    usual: Arguments = field(default_factory=dict)
    harsh: Arguments = field(default_factory=dict)
    neutral: Arguments | None = None
    between: bool = False

    def __post_init__(self) -> None:
        _checks.choice("kind", self.kind, KINDS)
        _checks.choice("needs", self.needs, NEEDS)

    @property
    def name(self) -> str:
        """Its name."""
        return self.function.__name__

    @property
    def settings(self) -> tuple[Arguments, ...]:
        """Usual, harsh and neutral arguments; without the last where there are none."""
        return self.usual, self.harsh, *(() if self.neutral is None else (self.neutral,))

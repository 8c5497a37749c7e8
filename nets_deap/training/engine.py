"""``Engine``: one way to train the networks of some masks, and what must be known to choose it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from nets_deap.tickets import bits
from nets_deap.training.problem import OnPart, Outcome, Plan, Problem, Start


class Train(Protocol):
    """The one signature of all engines, which give the same results to float rounding."""

    def __call__(
        self,
        problem: Problem,
        masks: list[bits.Bytes],
        plan: Plan,
        *,
        starts: list[Start | None] | None = None,
        chunk: int | None = None,
        on_part: OnPart | None = None,
    ) -> Outcome:
        """Train one network for each mask, all on the same minibatches.

        Args:
            problem: Model, data and recipe.
            masks: P packed masks, not empty.
            plan: Steps, seed and what to measure.
            starts: Where each training starts; None for W0.
            chunk: Networks trained at once, at most; None lets the engine choose. It does not
                change the results beyond float rounding.
            on_part: Called with the places of networks among the masks and their outcome, as soon
                as they are trained and before the next ones are; what it raises ends the call.

        Returns:
            The outcome in the order of ``masks``.

        Raises:
            InvalidValueError: ``chunk`` is not a whole number >= 1, or the module cannot be trained
                this way.
        """


@dataclass(frozen=True)
class Engine:
    """One way to train; ``dispatch.ENGINES`` holds them all.

    Attributes:
        name: What ``Task(engine=)`` calls it.
        train: Trains networks.
        suits: Whether it can train a problem here.
        at_once: About how many networks it trains at once by itself.
        needs: What ``suits`` asks for, in words, for messages.
        extra: The package that it needs, and the extra of this package that installs it.
        takes_bf16: Whether its products follow ``precision="bf16"``.
    """

    name: str
    train: Train
    suits: Callable[[Problem], bool]
    at_once: Callable[[Problem], int]
    needs: str
    extra: tuple[str, str] | None = None
    takes_bf16: bool = False

"""``Call``: what one call of an executor is to train, and what has come in of it so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nets_deap.tickets import bits
from nets_deap.training.problem import OnPart, Outcome, Plan, Problem, Start
from nets_deap.training.workers.speed import Work


@dataclass
class Call:
    """The arguments of ``training.executor.Executor.train``, and the outcomes by place."""

    problem: Problem
    masks: list[bits.Bytes]
    plan: Plan
    engine: str
    starts: list[Start | None]
    chunk: int | None
    on_part: OnPart
    found: dict[int, Outcome] = field(default_factory=dict, init=False)

    @property
    def finished(self) -> bool:
        """Whether every network has an outcome."""
        return len(self.found) == len(self.masks)

    def keep(self, places: Sequence[int], outcome: Outcome) -> None:
        """Keep the outcome of some networks, and hand it on to who looks at each."""
        self.found.update(zip(places, outcome.split(), strict=True))
        self.on_part(places, outcome)

    def outcome(self) -> Outcome:
        """Return the outcomes of all networks as one, in the order of the masks."""
        return Outcome.concatenate([self.found[place] for place in range(len(self.masks))])


def works_of(problem: Problem, masks: list[bits.Bytes], plan: Plan) -> list[Work]:
    """Return the work of each network's training, known before it starts."""
    size, steps = problem.layout.size, plan.steps
    return [Work(1, steps, steps * bits.count(mask) / size) for mask in masks]

"""``Budget``: what a search may spend, shared out over its generations."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nets_deap import _checks
from nets_deap.errors import CallOrderError

DENSE_STEPS = "dense steps"
STEPS = "steps"
UNITS = (DENSE_STEPS, STEPS)

DEARER = 1.5  # times what a generation needs, the next one may need


def price(unit: str, steps: float, dense_steps: float) -> float:
    """Return what something costs in a unit, of what it costs in both."""
    return steps if unit == STEPS else dense_steps


@_checks.signed
class Budget:
    """What the networks of a search may cost in all, which is kept exactly and never exceeded.

    Generation 0 is the first population. Generation g of G gets a share that grows linearly from
    the first to the last. What a generation of few or no new tickets leaves, the later ones get;
    what was spent before the first one, they lack. What the generations so far have cost beside
    their training is kept back for those to come. Where a share is too small for each network of
    its generation, it takes from the last ones; a recorder stops the run once that is gone.

    Args:
        total: How much, > 0.
        unit: ``"dense steps"``: multiply-adds, counted in training steps of the dense network, as
            the field counts training FLOPs: a step of a network at density 0.01 is a hundredth. Or
            ``"steps"``: steps x networks, whatever they keep.
        generations: Generations after the first population, >= 0: the algorithm's ``ngen``. None
            plans nothing: each generation trains as without a budget while that lasts, the last
            one for what is left; then a recorder stops the run.
        growth: Share of the last generation over that of the first, > 0; 1 shares out evenly.

    Attributes:
        spent: How much has been spent.
        between: How much of it between the generations, as each to come will spend it again.
        needed: The least that the networks of the last generation could have cost.

    >>> budget = Budget(1000, unit="steps", generations=2, growth=3)
    >>> [budget.allocate([1, 1], generation) for generation in range(3)]
    [[84, 83], [167, 166], [250, 250]]
    >>> budget = Budget(100, generations=0)
    >>> budget.allocate([1.0, 0.5], 0, lengths=[1, 2]), budget.spent
    ([50, 100], 100.0)
    """

    def __init__(
        self,
        total: float,
        *,
        unit: str = DENSE_STEPS,
        generations: int | None = None,
        growth: float = 1.0,
    ) -> None:
        self.unit = _checks.choice("unit", unit, UNITS)
        self.total: float = (
            _checks.whole("total", total)
            if unit == STEPS
            else _checks.real("total", total, low=0, open_low=True)
        )
        self.generations = _checks.unless_none(_checks.whole, "generations", generations, low=0)
        self.growth = _checks.real("growth", growth, low=0, open_low=True)
        self.spent: float = 0
        self.between: float = 0
        self.needed: float = 0

    def __repr__(self) -> str:
        return f"Budget({self.spent:g} of {self.total:g} {self.unit})"

    @property
    def left(self) -> float:
        """How much is left."""
        return max(0, self.total - self.spent)

    @property
    def progress(self) -> float:
        """The share that has been spent, from 0 to 1."""
        return min(1.0, self.spent / self.total)

    def planned(self, generations: int) -> Budget:
        """Return the same budget, unspent, for so many generations."""
        return Budget(self.total, unit=self.unit, generations=generations, growth=self.growth)

    def check_plan(self, generations: int, name: str = "budget") -> None:
        """Refuse a plan for another number of generations: the run would end without a front.

        Raises:
            InvalidValueError: It has such a plan.
        """
        if self.generations not in (None, generations):
            raise _checks.bad_value(
                name,
                "be planned for the generations of the search",
                f"{generations} or None",
                self.generations,
                f"Give the search generations={self.generations}, or the budget none.",
            )

    def price(self, steps: float, dense_steps: float) -> float:
        """Return what something costs in the budget's unit, of what it costs in both."""
        return price(self.unit, steps, dense_steps)

    def begin(self, ahead: float = 0) -> None:
        """Begin a run, unspent but for what was spent ahead of it."""
        self.spent, self.between, self.needed = ahead, 0, 0

    def spend(self, amount: float) -> None:
        """Enter what was spent between two generations, as others will spend it again."""
        self.spent += amount
        self.between += amount

    def allocate(
        self,
        shares: Sequence[float],
        generation: int,
        *,
        lengths: Sequence[float] | None = None,
        usual: Sequence[int] | None = None,
        least: int = 1,
        beside: float = 0,
    ) -> list[int]:
        """Return the steps of each of the P networks of a generation, and count them as spent.

        Args:
            shares: Of the dense network's multiply-adds, of each network, in (0, 1].
            generation: Which generation it is, from 0.
            lengths: How long each trains, relative to the others; None for all alike.
            usual: The steps of each without a budget, where no generations are planned.
            least: Fewest steps that a network can do with.
            beside: What the generation costs beside these steps, in the budget's unit; paid first.

        Raises:
            CallOrderError: The generation was not planned for, or nothing is left.
            InvalidValueError: There is too little for so many networks.
        """
        if self.generations is not None and generation > self.generations:
            raise CallOrderError(
                f"The budget of {self.total:g} {self.unit} is spent: it was planned for "
                f"{self.generations} generations after the first population, and this is "
                f"generation {generation}. Plan it for as many as the algorithm's ngen."
            )
        costs = [self.price(1.0, float(share)) for share in shares]
        long = [1.0] * len(costs) if lengths is None else [float(one) for one in lengths]
        if self.generations is None:
            assert usual is not None
            long = [float(one) for one in usual]
            due = min(self.left - beside, _sum(long, costs))
        else:
            due = self._due(generation) - beside
        needed = least * sum(costs)
        self.needed = needed + beside
        if generation and due < needed:  # what the first one could do with, the later ones can
            due = max(due, min(needed, self._free(generation) - beside))
        if due < needed * (1 - 1e-9):
            if self.generations is None:
                raise CallOrderError(
                    f"The budget of {self.total:g} {self.unit} is spent. Give an algorithm a "
                    "nets.Recorder as stats, which stops it then, or a larger budget."
                )
            raise _checks.bad_value(
                "budget",
                "suffice for each network",
                f"at least {needed + beside:.6g} {self.unit} for P = {len(costs)} in "
                f"generation {generation}",
                f"{due + beside:.6g}",
                "Give a larger budget, fewer generations or fewer offspring.",
            )
        scale = due / _sum(long, costs)
        steps = [max(least, math.floor(scale * one + 1e-9)) for one in long]
        _spare(steps, costs, due, least)
        # Networks that are alike train as a batch only if they take as many steps: single ones that
        # would fit are left to the generations that come, but for the last one.
        if self.unit == STEPS or self.generations in (None, generation):
            _fill(steps, costs, due)
        spent = _sum(steps, costs) + beside
        self.spent += round(spent) if self.unit == STEPS else spent
        if self.generations is None and self.left < needed:
            self.spent = self.total  # what is left is too little for another generation like it
        return steps

    def ends_before(self, generation: int) -> bool:
        """Whether too little is left for a generation, if it is like the one before it."""
        if self.generations is None:
            return self.left <= 1e-9 * self.total
        # Not all generations are alike: one that turned out dearer would be refused.
        coming = self._usually_between(generation - 1) + DEARER * self.needed
        return generation <= self.generations and self._free(generation) < coming

    def _free(self, generation: int) -> float:
        """Return what a generation may take at most: not what is spent before the next one."""
        return max(0.0, self.left - self._usually_between(generation))

    def _usually_between(self, generations: int) -> float:
        """Return what was spent before a generation, on average over those after the first."""
        return self.between / max(1, generations)

    def _due(self, generation: int) -> float:
        """Return what a generation gets: of what is left, its share of the generations to come."""
        assert self.generations is not None
        if generation == self.generations:
            return self.left
        before = round(self.total * self._share_until(generation - 1))
        if self.unit == STEPS and self.spent <= before:  # rounded over the run, not each time
            return round(self.total * self._share_until(generation)) - self.spent
        slope = (self.growth - 1) / self.generations
        weights = [1 + slope * one for one in range(generation, self.generations + 1)]
        again = self.between / generation * (len(weights) - 1) if generation else 0.0
        due = max(0.0, self.left - again) * weights[0] / sum(weights)
        return round(due) if self.unit == STEPS else due

    def _share_until(self, generation: int) -> float:
        """Return the part of the total that is planned up to the end of a generation."""
        assert self.generations
        slope = (self.growth - 1) / self.generations
        whole = (self.generations + 1) * (1 + self.growth) / 2
        return (generation + 1) * (1 + slope * generation / 2) / whole


def _sum(steps: Sequence[float], costs: Sequence[float]) -> float:
    """Return what so many steps cost."""
    return sum(one * cost for one, cost in zip(steps, costs, strict=True))


def _spare(steps: list[int], costs: Sequence[float], due: float, least: int) -> None:
    """Take steps from those that cost most, where the least steps were more than others' part."""
    left = due - _sum(steps, costs)
    while left < -1e-9 * max(1.0, due):
        more = [at for at, own in enumerate(steps) if own > least]
        i = max(more, key=lambda at: steps[at] * costs[at])
        take = max(1, min(steps[i] - least, math.ceil(-left / costs[i] - 1e-9)))
        steps[i] -= take
        left += take * costs[i]


def _fill(steps: list[int], costs: Sequence[float], due: float) -> None:
    """Add single steps, to the first networks first, while they fit."""
    left = due - _sum(steps, costs)
    for i, cost in enumerate(costs):
        if 0 < cost <= left * (1 + 1e-9):
            steps[i] += 1
            left -= cost

"""Steps x networks: ``StepBudget`` shares them out; a task's ``Ledger`` adds them up."""

from __future__ import annotations

from nets_deap import _checks
from nets_deap.errors import CallOrderError


@_checks.signed
class StepBudget:
    """Shares a number of steps x networks out over the generations of a search, exactly.

    Generation 0 is the first population. Generation g of G gets a share that grows linearly from
    the first to the last; within a generation all networks get equally many steps, to one step.
    What a generation of few or no new tickets leaves, the later ones get; nothing follows the last,
    so the sum is kept exactly where that one has new tickets, and never exceeded.

    Args:
        total: Steps x networks in all, >= 1.
        generations: Generations after the first population, >= 0: the algorithm's ``ngen``.
        growth: Share of the last generation over that of the first, > 0; 1 shares out evenly.

    >>> budget = StepBudget(1000, generations=2, growth=3)
    >>> [budget.allocate(2, generation) for generation in range(3)]
    [[84, 83], [167, 166], [250, 250]]
    """

    def __init__(self, total: int, generations: int, *, growth: float = 1.0) -> None:
        self.total = _checks.whole("budget", total)
        self.generations = _checks.whole("generations", generations, low=0)
        self.growth = _checks.real("growth", growth, low=0, open_low=True)
        self.spent = 0

    def allocate(self, networks: int, generation: int, *, least: int = 1) -> list[int]:
        """Return the steps of each of the P networks of a generation, and count them as spent.

        Args:
            networks: P, how many train.
            generation: Which generation it is, from 0.
            least: Fewest steps that a network can do with.

        Raises:
            CallOrderError: The generation was not planned for.
            InvalidValueError: There are too few steps for so many networks.
        """
        if generation > self.generations:
            raise CallOrderError(
                f"The budget of {self.total} steps x networks is spent: it was planned for "
                f"{self.generations} generations after the first population, and this is "
                f"generation {generation}. Plan it for as many as the algorithm's ngen."
            )
        due = round(self.total * self._share_until(generation)) - self.spent
        if due < networks * least:
            raise _checks.bad_value(
                "budget",
                "suffice for each network",
                f"at least {networks * least} steps for P = {networks} in generation {generation}",
                due,
                "Give a larger budget, fewer generations or fewer offspring.",
            )
        self.spent += due
        each, more = divmod(due, networks)
        return [each + 1] * more + [each] * (networks - more)

    def _share_until(self, generation: int) -> float:
        """Return the part of the total that is to be spent after a generation."""
        if generation == self.generations:
            return 1.0
        slope = (self.growth - 1) / self.generations
        whole = (self.generations + 1) * (1 + self.growth) / 2
        part = (generation + 1) * (1 + slope * generation / 2)
        return part / whole

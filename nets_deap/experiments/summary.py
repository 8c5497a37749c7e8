"""``Summary``: what a comparison says: means, intervals, hypervolumes, tests."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap._table import Brief, folded, narrow_tables, table
from nets_deap.experiments.methods import EVOLUTION, EVOLUTION_ADDS, METHODS
from nets_deap.experiments.statistics import WilcoxonResult, bootstrap_interval

# Shares of the dense network's multiply-adds at which accuracy is read off.
SHARES = (0.225, 0.075)


@dataclass(frozen=True, eq=False, repr=False)
class MethodSummary(Brief):
    """One method over R seeds and K density levels.

    Attributes:
        name: The method.
        seeds: Its R seeds.
        accuracy: Test accuracy interpolated at the levels, shape (R, K); NaN where a front does
            not reach a level.
        hypervolume: Shape (R,): the area that the accuracies at the levels dominate in the plane
            of test error and log10 density, up to ``Summary.reference_error`` and density 1, in
            per cent x decades.
        adds_accuracy: Test accuracy interpolated at ``SHARES`` of the dense network's
            multiply-adds once compact, shape (R, 2); NaN where it does not reach them. Of
            the members that no smaller one matches or beats on the validation split.
        adds_hypervolume: Likewise over log10 of that share, at shares of 0.8^0 to 0.8^20 (R,).
        search_steps: Mean steps x networks of its search.
        search_dense_steps: Its mean multiply-adds, in training steps of the dense network; NaN
            where rows of before do not say.
        search_seconds: Mean seconds of its search.
        above: Places of the levels at which some seed has no ticket as dense, so that the accuracy
            is that of its densest one.
    """

    name: str
    seeds: tuple[int, ...]
    accuracy: NDArray[np.float64]
    hypervolume: NDArray[np.float64]
    adds_accuracy: NDArray[np.float64]
    adds_hypervolume: NDArray[np.float64]
    search_steps: float
    search_dense_steps: float
    search_seconds: float
    above: tuple[int, ...] = ()

    @property
    def reached(self) -> NDArray[np.bool_]:
        """Whether every seed's front reaches a level, shape (K,)."""
        found: NDArray[np.bool_] = np.asarray(np.isfinite(self.accuracy).all(axis=0))
        return found

    @property
    def overall(self) -> NDArray[np.float64]:
        """Mean accuracy over the levels of each seed, shape (R,); NaN where one is not reached."""
        means: NDArray[np.float64] = self.accuracy.mean(axis=1)
        return means


@dataclass(frozen=True, eq=False, repr=False)
class Test(Brief):
    """Evolution against one baseline, paired by seed, one-sided (evolution greater).

    On the levels that the fronts of both reach, of every seed.

    Attributes:
        baseline: Its name.
        accuracy: Of the mean accuracy over the levels.
        hypervolume: Of the hypervolumes.
        difference: Mean difference of the mean accuracy, evolution - baseline.
        low: Lower end of its 95 % bootstrap interval; NaN for one seed.
        high: Upper end.
        levels: How many levels both reach.
    """

    baseline: str
    accuracy: WilcoxonResult
    hypervolume: WilcoxonResult
    difference: float
    low: float
    high: float
    levels: int


@dataclass(frozen=True, eq=False, repr=False)
class Summary(Brief):
    """What a comparison says.

    Attributes:
        densities: The K levels, densest first.
        methods: One for each method, in the order of ``METHODS``.
        tests: Evolution against each baseline of as many seeds, where both reach some level.
        adds_tests: Of ``adds_hypervolume``, by method: the search for few multiply-adds against
            every other method.
        dense: Test accuracy of the dense network, one for each seed.
        final_steps: Steps of the final training.
        split: Where accuracies were measured: ``"test"``, or ``"validation"`` of a task without a
            test split.
        reference_error: Up to which error hypervolumes reach, in [0, 1].
    """

    densities: tuple[float, ...]
    methods: tuple[MethodSummary, ...]
    tests: tuple[Test, ...]
    adds_tests: dict[str, WilcoxonResult]
    dense: NDArray[np.float64]
    final_steps: int
    split: str = "test"
    reference_error: float = 0.2

    def __str__(self) -> str:
        return self.text()

    def text(self) -> str:
        """Return everything as aligned text."""
        n = len(self.dense)
        levels = [f"{100 * d:.2f} %" for d in self.densities]
        accuracies = [["method", *levels, "mean"]]
        costs = [["method", "hypervolume", "steps", "dense steps", "seconds"]]
        for one in self.methods:
            cells = [_mean_and_interval(column) for column in one.accuracy.T]
            accuracies.append([one.name, *cells, _mean_and_interval(one.overall)])
            dense = one.search_dense_steps
            in_dense = "-" if math.isnan(dense) else f"{dense:.0f}"
            cost = [f"{one.search_steps:.0f}", in_dense, f"{one.search_seconds:.1f}"]
            costs.append([one.name, f"{one.hypervolume.mean():.2f}", *cost])
        spread = f"mean and 95 % bootstrap interval over {n} seeds" if n > 1 else "one seed"
        parts = [
            folded(
                f"{self.split.capitalize()} accuracy in % after {self.final_steps:,} steps from "
                f"W0, {spread}; dense: {_mean_and_interval(self.dense)}"
            ),
            *narrow_tables(accuracies),
            folded(
                "Read off each front at these densities: between two members on the line through "
                "them, over log density; above its densest member, that one's. Costs are those of "
                "the search, without measuring its front from W0."
            ),
        ]
        sparser = [
            f"{one.name} at {', '.join(levels[i].split()[0] for i in one.above)} %"
            for one in self.methods
            if one.above
        ]
        if sparser:
            parts.append(
                folded(
                    "No ticket as dense as the level, in some seed at least, so that a sparser one "
                    f"stands for it: {'; '.join(sparser)}."
                )
            )
        short = {one.name: int((~one.reached).sum()) for one in self.methods}
        if any(short.values()):
            named = ", ".join(f"{name} {count}" for name, count in short.items() if count)
            parts.append(
                folded(
                    f"-: a level that a front does not reach, of some seed at least ({named} of "
                    f"{len(self.densities)}); such levels are left out of that method alone."
                )
            )
        parts.append(
            folded(
                "Hypervolume: in % error x decades of density, up to an error of "
                f"{100 * self.reference_error:.3g} %; what the search cost",
                table(costs),
            )
        )
        if self.tests:
            rows = [
                ["evolution -", "levels", "pp", "95 % interval", "wins", "p", "hv wins", "hv p"]
            ]
            for test in self.tests:
                interval = f"[{100 * test.low:+.3f}, {100 * test.high:+.3f}]"
                rows.append(
                    [
                        test.baseline,
                        str(test.levels),
                        f"{100 * test.difference:+.3f}",
                        "-" if math.isnan(test.low) else interval,
                        f"{test.accuracy.wins}/{test.accuracy.n}",
                        f"{test.accuracy.p_value:.4f}",
                        f"{test.hypervolume.wins}/{test.hypervolume.n}",
                        f"{test.hypervolume.p_value:.4f}",
                    ]
                )
            parts.append(
                folded(
                    "Mean accuracy over the levels that both reach, and hypervolume there, paired "
                    f"by seed; p: Wilcoxon signed-rank test, one-sided: with {n} "
                    f"seed{'s' * (n != 1)} it is {0.5**n:.2g} at the least; not corrected for the "
                    "number of tests",
                    table(rows),
                )
            )
        others = {one.name for one in self.methods} - {test.baseline for test in self.tests}
        left = sorted(others - {EVOLUTION}) if self.tests or EVOLUTION in others else []
        if left:
            parts.append(
                folded(
                    f"Not tested against {EVOLUTION}: {', '.join(left)} (no level that both reach, "
                    "or other seeds)."
                )
            )
        if not all(np.isnan(one.adds_hypervolume).any() for one in self.methods):
            parts.append(self._adds_text())
        return "\n\n".join(parts)

    def _adds_text(self) -> str:
        """Return the part about multiply-adds as aligned text."""
        tests = ["wins", "p"] if self.adds_tests else []
        rows = [["method", *(f"<= {100 * s:.1f} %" for s in SHARES), "hypervolume", *tests]]
        for one in self.methods:
            test = self.adds_tests.get(one.name)
            tested = [f"{test.wins}/{test.n}", f"{test.p_value:.4f}"] if test else [""] * len(tests)
            cells = [_mean_and_interval(column) for column in one.adds_accuracy.T]
            rows.append([one.name, *cells, f"{one.adds_hypervolume.mean():.2f}", *tested])
        return folded(
            f"{self.split.capitalize()} accuracy in % at shares of the dense network's "
            "multiply-adds, after dead inputs and neurons are gone"
            + (f"; wins and p: hypervolume of {EVOLUTION_ADDS} against it" if tests else ""),
            table(rows),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data for JSON; NaN becomes None."""
        return {
            "densities": list(self.densities),
            "final_steps": self.final_steps,
            "split": self.split,
            "reference_error": self.reference_error,
            "dense": self.dense.tolist(),
            "methods": {
                one.name: {
                    "about": METHODS[one.name].about,
                    "seeds": list(one.seeds),
                    "accuracy": [
                        [None if math.isnan(value) else value for value in row]
                        for row in one.accuracy.tolist()
                    ],
                    "hypervolume": one.hypervolume.tolist(),
                    "adds_accuracy": [
                        [None if math.isnan(value) else value for value in row]
                        for row in one.adds_accuracy.tolist()
                    ],
                    "adds_hypervolume": [
                        None if math.isnan(value) else value
                        for value in one.adds_hypervolume.tolist()
                    ],
                    "search_steps": one.search_steps,
                    "search_dense_steps": None
                    if math.isnan(one.search_dense_steps)
                    else one.search_dense_steps,
                    "search_seconds": one.search_seconds,
                }
                for one in self.methods
            },
            "tests": {
                test.baseline: {
                    "difference": test.difference,
                    "interval": None if math.isnan(test.low) else [test.low, test.high],
                    "levels": test.levels,
                    "accuracy": vars(test.accuracy),
                    "hypervolume": vars(test.hypervolume),
                }
                for test in self.tests
            },
            "adds_tests": {name: vars(test) for name, test in self.adds_tests.items()},
        }


def _mean_and_interval(shares: NDArray[np.float64]) -> str:
    """Return the mean of accuracies in per cent, with its interval where there are several."""
    if np.isnan(shares).any():
        return "-"
    mean = f"{100 * shares.mean():.2f}"
    if len(shares) < 2:
        return mean
    low, high = bootstrap_interval(shares)
    return f"{mean} [{100 * low:.2f}, {100 * high:.2f}]"

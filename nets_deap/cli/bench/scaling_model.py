"""``ScalingModel``: throughput for any number of workers and nodes, fitted to what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from nets_deap import _checks

MOST_CONTENTION = 1.0


@dataclass(frozen=True)
class ScalingModel:
    """Tickets a second = the least of what the workers, the driver and the network can do.

    The workers of one node contend for its memory and cores: w of them do rate w / (1 + contention
    (w - 1)), as Amdahl's law has it. Nodes contend for the driver alone, which spends
    ``driver_seconds`` on each ticket, and for its network.

    Attributes:
        rate: Tickets a second of one worker, alone.
        contention: Share of the work that the workers of a node cannot do at once, in [0, 1].
        driver_seconds: Of the driver for each ticket.
        ticket_bytes: That go out and come back for each ticket.
        error: Largest relative error of the fit where it was measured.
    """

    rate: float
    contention: float
    driver_seconds: float
    ticket_bytes: float
    error: float

    @classmethod
    def fit(
        cls, measured: Mapping[int, float], *, driver_seconds: float, ticket_bytes: float
    ) -> ScalingModel:
        """Fit rate and contention, by relative error.

        Args:
            measured: Tickets a second by number of workers on one node, two of them at least.
            driver_seconds: Of the driver for each ticket, > 0.
            ticket_bytes: Moved for each ticket.
        """
        if len(measured) < 2:
            raise _checks.bad_value(
                "measured", "show how throughput grows", "two numbers of workers", len(measured)
            )
        _checks.real("driver_seconds", driver_seconds, low=0, open_low=True)
        w = np.array(sorted(measured), dtype=float)
        rates = np.array([measured[int(n)] for n in w])

        def shape(contention: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
            found: np.ndarray[tuple[int], np.dtype[np.float64]] = w / (1 + contention * (w - 1))
            return found

        def best_rate(contention: float) -> float:
            ratio = shape(contention) / rates
            return float(ratio.sum() / (ratio**2).sum())

        def cost(contention: float) -> float:
            return float(((best_rate(contention) * shape(contention) / rates - 1) ** 2).sum())

        found = minimize_scalar(cost, bounds=(0.0, MOST_CONTENTION), method="bounded")
        contention = min((0.0, float(found.x), MOST_CONTENTION), key=cost)
        rate = best_rate(contention)
        error = float(np.abs(rate * shape(contention) / rates - 1).max())
        return cls(rate, contention, driver_seconds, ticket_bytes, error)

    def off(self, measured: Mapping[int, Sequence[float]]) -> float:
        """Return the largest relative error against single measurements.

        Args:
            measured: Tickets a second by number of workers, each measurement.
        """
        pairs = [(self.predict(w)[0], rate) for w, rates in measured.items() for rate in rates]
        return max(abs(predicted / rate - 1) for predicted, rate in pairs)

    def predict(
        self, workers: int, nodes: int = 1, *, bandwidth: float = 1.25e9, speed: float = 1.0
    ) -> tuple[float, str]:
        """Return tickets a second, and what limits them: "workers", "driver" or "network".

        Args:
            workers: Workers or GPUs of each node.
            nodes: How many.
            bandwidth: Bytes a second of the driver's network, 10 Gbit/s; one node does not use it.
            speed: Of a worker there over one here, such as that of a GPU.
        """
        w = _checks.whole("workers", workers)
        n = _checks.whole("nodes", nodes)
        limits = {
            "workers": n * speed * self.rate * w / (1 + self.contention * (w - 1)),
            "driver": 1 / self.driver_seconds,
        }
        if n > 1:
            limits["network"] = bandwidth / max(1.0, self.ticket_bytes)
        name = min(limits, key=lambda key: limits[key])
        return limits[name], name

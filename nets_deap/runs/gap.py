"""The gap between the loss that selected a front's tickets and that on the task's guard."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nets_deap.inputs.nested import length_of
from nets_deap.tickets.ticket import Ticket
from nets_deap.training.guard import guard_loss
from nets_deap.training.task import Task

logger = logging.getLogger("nets_deap")

MEMBERS = 8  # of the front that are measured, spread over density
ERRORS = 3.0  # standard errors beyond which a gap is told


class Gap:
    """Measures the gap of a front once a generation, and warns once where it is clear.

    Clear is a gap of the best by validation loss beyond 3 standard errors of the difference of
    two means: the deviation of its losses on the guard, times sqrt(1 / N_val + 1 / N_guard).

    Args:
        task: The task; without a guard nothing is measured.
    """

    def __init__(self, task: Task) -> None:
        self._task, self._warned = task, False

    def columns(self, front: Sequence[Any]) -> dict[str, float | None]:
        """Return what goes into a generation's row; nothing without a guard.

        Returns:
            ``guard_loss`` and ``selection_gap`` (that less the validation loss) of the measured
            member with the lowest validation loss, and ``selection_gap_mean`` over up to 8 members
            spread over density; each None where no member has been trained here.
        """
        problem = self._task.problem
        if problem.guard is None:
            return {}
        able = [one for one in front if _is_measured(one)]
        if not able:
            return dict.fromkeys(("guard_loss", "selection_gap", "selection_gap_mean"))
        best = min(able, key=lambda one: one.trained.metrics["val_loss"])
        spread = sorted(able, key=lambda one: (one.kept, one.digest))
        places = {round(x) for x in np.linspace(0, len(able) - 1, MEMBERS - 1)}
        chosen = {id(one): one for one in (best, *(spread[place] for place in sorted(places)))}
        found = [(one, guard_loss(problem, one.mask, one.trained)) for one in chosen.values()]
        gaps = [loss.loss - one.trained.metrics["val_loss"] for one, loss in found]
        own = found[0][1]
        counts = length_of(problem.val[0]), length_of(problem.guard[0])
        error = own.deviation * math.sqrt(sum(1 / count for count in counts))
        if not self._warned and gaps[0] > ERRORS * error:
            self._warned = True
            logger.warning(
                "Selection has learnt the validation part: the best of the front has a loss of %.4g"
                " on it, and of %.4g on the guard, %.1f standard errors more. Give a larger "
                "validation part, or where nothing is inherited holdout='folds'.",
                best.trained.metrics["val_loss"], own.loss, gaps[0] / error,
            )  # fmt: skip
        numbers = own.loss, gaps[0], float(np.mean(gaps))
        names = "guard_loss", "selection_gap", "selection_gap_mean"
        return {n: v if math.isfinite(v) else None for n, v in zip(names, numbers, strict=True)}


def _is_measured(one: Any) -> bool:
    """Return whether a member of a front has weights and a validation loss."""
    trained = one.trained if isinstance(one, Ticket) and one.has_layout else None
    return trained is not None and math.isfinite(trained.metrics.get("val_loss", math.nan))

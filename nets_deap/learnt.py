"""``Learnt``: what the last training of a mask learnt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Learnt:
    """What a ticket's last training learnt, tied to the mask that was trained.

    Attributes:
        digest: Digest of that mask.
        steps: Optimiser steps taken from W0.
        values: Trained values of the kept weights in mask order, shape (kept,); read-only.
        metrics: Measured numbers by name, such as ``val_loss`` and ``val_accuracy``.
    """

    digest: str
    steps: int
    values: NDArray[Any]
    metrics: dict[str, float] = field(default_factory=dict)

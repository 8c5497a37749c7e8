"""XOR: the four points to train on, noisy corners to validate on."""

from __future__ import annotations

import numpy as np

from nets_deap import _checks
from nets_deap.data.splits import DataSplits


@_checks.signed
def load_xor(*, noise: float = 0.1, per_corner: int = 50, seed: int = 0) -> DataSplits:
    """Return XOR with 0/1 inputs and float targets (N, 1).

    Train and test are the four points; validation is ``per_corner`` points around each of them
    with Gaussian noise.

    Args:
        noise: Standard deviation of the validation points, >= 0.
        per_corner: Validation points around each of the four, >= 1.
        seed: Seed of the noise.
    """
    _checks.real("noise", noise, low=0)
    _checks.whole("per_corner", per_corner)
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
    labels = np.array([[0], [1], [1], [0]], dtype=np.float32)
    rng = np.random.default_rng(_checks.whole("seed", seed, low=0))
    around = np.repeat(corners, per_corner, axis=0)
    around = around + rng.normal(0, noise, around.shape).astype(np.float32)
    val = (around, np.repeat(labels, per_corner, axis=0))
    return DataSplits("xor", (corners, labels), val, (corners, labels))

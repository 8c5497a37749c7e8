"""``relative``: saliency that compares weights of different layers, by what each one costs too."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from nets_deap.tickets.choice import Scores


def spans_by(counts: Iterable[int]) -> list[slice]:
    """Return where the weights of each layer stand among all, of how many each has."""
    ends = itertools.accumulate(counts, initial=0)
    return [slice(first, last) for first, last in itertools.pairwise(ends)]


def dearness(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what the energy of weights counts over, given their multiply-adds, shape (L,).

    A weight is paid for twice: once as a parameter, and once for each of its multiply-adds. This is
    the geometric mean of the two. By multiply-adds alone convolutions lose what the network cannot
    do without: Conv-2 at 4.9 % density is then three points worse on MNIST, as it is by neither.
    """
    return np.sqrt(costs)


def relative(
    sizes: Scores, spans: Sequence[slice], costs: NDArray[np.float64] | None = None
) -> Scores:
    """Return what weights hold of the energy that is left of their layers, as a square root.

    A weight of size s holds s^2 of the energy of all weights of its layer that are at least as
    large: that is the part of it that is lost with the weight, once the smaller ones are gone. The
    score does not depend on a layer's scale, and of a layer of few weights none seems small. With
    costs the energy counts over their ``dearness``. Within a layer the order stays that of the
    sizes.

    Args:
        sizes: |w| of the kept weights, layer by layer, >= 0, shape (kept,).
        spans: Where those of each layer stand.
        costs: Multiply-adds of a weight of each layer, > 0, shape (L,); None for equal ones.

    Returns:
        Scores in [0, 1], less where weights cost more; shape (kept,).

    Cost: sorts each layer.

    Reference:
        Lee et al. 2021, Layer-adaptive sparsity for the magnitude-based pruning,
        https://arxiv.org/abs/2010.07611.
    """
    found = np.zeros(len(sizes))
    dear = np.ones(len(spans)) if costs is None else dearness(costs)
    for i, span in enumerate(spans):
        own = sizes[span].astype(np.float64)
        order = np.argsort(own, kind="stable")
        energy = own[order] ** 2
        left = np.cumsum(energy[::-1])[::-1]
        part = np.zeros(len(own))
        np.divide(energy, left, out=part, where=left > 0)
        found[span][order] = np.sqrt(part / dear[i])
    return found

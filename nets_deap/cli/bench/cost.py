"""What one training step of one network must compute and move: the floor that speed is held to.

Every term reads each input once and writes each output once, as kernels do that share nothing with
each other. No implementation with these steps runs faster than its operations over the rate of the
units that do them, or its bytes over the bandwidth of memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from nets_deap import _checks

STATES = ("dense", "kept")
SECTOR_BYTES = 32  # the least that a GPU's memory moves
INDEX_BYTES = 4
_ADAM_FLOPS = 14
_SGD_FLOPS = 4


@dataclass(frozen=True)
class Term:
    """Floating-point operations and bytes of one part of a step."""

    flops: float
    bytes: float


@dataclass(frozen=True)
class Cost:
    """The cost of one network-step, term by term."""

    terms: dict[str, Term]

    @property
    def flops(self) -> float:
        """Floating-point operations of all terms."""
        return sum(term.flops for term in self.terms.values())

    @property
    def bytes(self) -> float:
        """Bytes of all terms."""
        return sum(term.bytes for term in self.terms.values())

    def seconds(self, flops_per_second: float, bytes_per_second: float) -> float:
        """Return the least time of one network-step: the greater of its two floors."""
        return max(self.flops / flops_per_second, self.bytes / bytes_per_second)


def step_cost(
    sizes: Sequence[int],
    batch: int,
    density: float = 1.0,
    *,
    state: str = "dense",
    itemsize: int = 4,
    moments: int = 2,
    networks: int = 1,
) -> Cost:
    """Count one training step of one fully connected network, as the layered engine takes it.

    Matrix products are dense whatever the density, and so is the optimiser with dense state. With
    state for kept weights alone it moves the memory sectors that hold one, counted for masks drawn
    at random.

    Args:
        sizes: Units of each layer, inputs first.
        batch: Examples in a minibatch, B.
        density: Kept share of the weights, in (0, 1]; biases are never masked here.
        state: ``"dense"`` moments for all weights beside packed mask bits, or ``"kept"``: for kept
            weights alone, beside a list of their places.
        itemsize: Bytes of a number.
        moments: Numbers of optimiser state for each weight: 2 for adam and adamw, 1 for sgd with
            momentum, 0 for sgd.
        networks: P networks that share one read of the minibatch's inputs.

    Returns:
        The terms ``forward``, ``loss``, ``input_gradient``, ``weight_gradient``, ``optimiser`` and
        ``mask``.
    """
    _checks.choice("state", state, STATES)
    _checks.density("density", density)
    layers = list(itertools.pairwise(sizes))
    weights = sum(n_in * n_out for n_in, n_out in layers)
    inner = sum(n_in * n_out for n_in, n_out in layers[1:])  # weights that pass gradients on
    biases = sum(n_out for _, n_out in layers)
    hidden = sum(sizes[1:-1])
    inputs = sizes[0] / networks
    product = 2 * batch
    read = itemsize * batch * (inputs + hidden)  # what the layers are given
    deltas = itemsize * batch * biases
    parameters = itemsize * (weights + biases)
    each = _ADAM_FLOPS if moments == 2 else _SGD_FLOPS
    return Cost(
        {
            "forward": Term(product * weights + batch * biases, parameters + read + deltas),
            "loss": Term(5 * batch * sizes[-1], 2 * itemsize * batch * sizes[-1]),
            # Reads deltas of all but the first layer; reads activations for, and writes, those
            # of all but the last.
            "input_gradient": Term(
                product * inner,
                itemsize * (inner + batch * (biases - sizes[1] + 2 * hidden)),
            ),
            "weight_gradient": Term(product * weights + batch * biases, parameters + read + deltas),
            "optimiser": Term(
                each * (density * weights + biases),
                weights * _optimiser_bytes(density, state, itemsize, moments)
                + biases * itemsize * (3 + 2 * moments),
            ),
            "mask": Term(0, weights * (1 / 8 if state == "dense" else INDEX_BYTES * density)),
        }
    )


def kept_cost(
    sizes: Sequence[int],
    batch: int,
    density: float = 1.0,
    *,
    itemsize: int = 4,
    moments: int = 2,
    networks: int = 1,
) -> Cost:
    """Count one training step of a network whose every part falls with density.

    So the compiled engine takes it: products, gradients and optimiser see the kept weights alone,
    which lie in a row beside the index of the unit that each one reads. Density is taken as the
    same in all layers.

    Args:
        sizes: Units of each layer, inputs first.
        batch: Examples in a minibatch, B.
        density: Kept share of the weights, in (0, 1]; at 1 no index is read.
        itemsize: Bytes of a number.
        moments: As for ``step_cost``.
        networks: P networks that share one read of the minibatch's inputs.
    """
    whole = step_cost(sizes, batch, itemsize=itemsize, moments=moments, networks=networks)
    layers = list(itertools.pairwise(sizes))
    kept = density * sum(n_in * n_out for n_in, n_out in layers)
    inner = density * sum(n_in * n_out for n_in, n_out in layers[1:])
    gone = (1 - density) / density
    index = INDEX_BYTES if density < 1 else 0
    fewer = {
        "forward": Term(2 * batch * kept * gone, kept * (itemsize * gone - index)),
        "input_gradient": Term(2 * batch * inner * gone, inner * (itemsize * gone - index)),
        "weight_gradient": Term(2 * batch * kept * gone, kept * (itemsize * gone - index)),
        "optimiser": Term(
            (_ADAM_FLOPS if moments == 2 else _SGD_FLOPS) * kept * gone,
            kept * gone * itemsize * (3 + 2 * moments),
        ),
    }
    return Cost(
        {
            name: Term(term.flops - fewer[name].flops, term.bytes - fewer[name].bytes)
            if name in fewer
            else term
            for name, term in whole.terms.items()
            if name != "mask"
        }
    )


def kept_below(itemsize: int = 4, moments: int = 2) -> float:
    """Return the density below which state for kept weights alone moves fewer bytes.

    For each weight, with t(d) the share of sectors that hold a kept one: dense state moves
    (3 + 2 moments) itemsize + 1/8 bytes (weight and moments in and out, gradient in, mask bit),
    kept state 3 itemsize t(d) + d (2 moments itemsize + 4). For float32 and Adam that is 28 1/8
    against 12 t(d) + 20 d: equal at d = 0.81.
    """
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        kept = _optimiser_bytes(middle, "kept", itemsize, moments) + INDEX_BYTES * middle
        dense = _optimiser_bytes(middle, "dense", itemsize, moments) + 1 / 8
        low, high = (middle, high) if kept < dense else (low, middle)
    return low


def _optimiser_bytes(density: float, state: str, itemsize: int, moments: int) -> float:
    """Return the bytes that the optimiser moves for each weight, its mask apart."""
    if state == "dense":
        return itemsize * (3.0 + 2 * moments)
    touched = 1.0 - float((1.0 - density) ** (SECTOR_BYTES / itemsize))
    return 3 * itemsize * touched + 2 * moments * itemsize * density

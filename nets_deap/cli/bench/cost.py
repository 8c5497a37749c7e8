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
from nets_deap.training.engines.cuda.traffic import INDEX_BYTES, optimiser_bytes

STATES = ("dense", "kept")
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
    """Count one training step of one fully connected network, as the batched engine takes it.

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
                weights * optimiser_bytes(density, state, itemsize, moments)
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

"""Live units: inputs and neurons of a fully connected network on a path from input to output.

A compact network, without its dead parts, needs only ordinary dense kernels, on smaller matrices.
``models.compact`` finds the same units of networks with other layers too, with torch; these here
are quick enough for every child of a generation.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.tickets import bits
from nets_deap.tickets.layout import MaskLayout

UnitMasks = tuple[bits.Mask, ...]
Vector = NDArray[np.float64]


def live_units(layout: MaskLayout, mask: bits.Mask) -> UnitMasks:
    """Return which inputs and neurons are alive: those on a path from an input to an output.

    A neuron without a path to an output is dead and can be left out. One with such a path that no
    live input reaches is constant and can be folded into the biases of the next layer. Outputs are
    what the network returns and always count as alive.

    Args:
        layout: L fully connected layers in sequence.
        mask: Kept weights, bool (D,).

    Returns:
        L + 1 bool vectors: the inputs (n_in,), then the neurons (n_out,) of each layer; the last
        one is all True.

    Raises:
        InvalidValueError: The layout is not feedforward, or the mask is of another length.
    """
    return live_of(gates_of(layout, mask))


def multiply_adds(layout: MaskLayout, mask: bits.Mask) -> int:
    """Count multiply-adds for one example of the compact network: the sum of live in x live out.

    Pruned weights between live units count too, as dense kernels multiply by their zeros. At most
    the number of maskable weights (266,200 for LeNet-300-100); 0 where nothing connects inputs to
    outputs; never more for a subset of a mask.

    Args:
        layout: Fully connected layers in sequence.
        mask: Kept weights, bool (D,).

    Raises:
        InvalidValueError: The layout is not feedforward, or the mask is of another length.
    """
    sizes = [int(units.sum()) for units in live_units(layout, mask)]
    return sum(n_in * n_out for n_in, n_out in itertools.pairwise(sizes))


def sparse_multiply_adds(layout: MaskLayout, mask: bits.Mask) -> int:
    """Count the kept weights between live units: what sparse kernels do for one example.

    Arguments and errors as for ``multiply_adds``, which is never less.
    """
    gates = gates_of(layout, mask)
    pairs = zip(gates, itertools.pairwise(live_of(gates)), strict=True)
    return sum(int(gate[outputs][:, inputs].sum()) for gate, (inputs, outputs) in pairs)


def live_inputs(layout: MaskLayout, mask: bits.Mask) -> int:
    """Count the inputs that reach an output; arguments and errors as for ``live_units``."""
    return int(live_units(layout, mask)[0].sum())


def is_connected(layout: MaskLayout, mask: bits.Mask) -> bool:
    """Return whether any input reaches an output; arguments and errors as for ``live_units``."""
    return bool(reached_of(gates_of(layout, mask))[-1].any())


def neuron_saliency(layout: MaskLayout, values: NDArray[np.floating], a: float, b: float) -> Vector:
    """Return |w| times powers of the norms of the two units that each weight joins.

    A network input's norm, that of its column, counts to the power ``a``; a hidden neuron's norm,
    its incoming times its outgoing one, to the power ``b``; outputs do not count.

    Args:
        layout: Fully connected layers in sequence.
        values: Weights in mask order, pruned ones zero, shape (D,).
        a: Power for inputs, >= 0.
        b: Power for hidden neurons, >= 0.

    Returns:
        Scores, shape (D,), zero at pruned weights; the smallest are to be pruned first.

    Raises:
        InvalidValueError: The layout is not feedforward, or ``values`` of another shape.
    """
    check_feedforward(layout)
    norms = unit_norms(layout, values)
    powered = [norm ** (b if level else a) for level, norm in enumerate(norms)]
    powered.append(np.ones(layout.layers[-1].shape[0]))
    scores: Vector = np.empty(layout.size)
    weights = layout.split(np.abs(values)).values()
    for i, (part, sizes) in enumerate(zip(layout.split(scores).values(), weights, strict=True)):
        np.multiply(sizes, powered[i], out=part)
        part *= powered[i + 1][:, None]
    return scores


def unit_norms(layout: MaskLayout, values: NDArray[np.floating]) -> list[Vector]:
    """Return the norms of inputs (n_in,), and incoming x outgoing of each hidden layer's neurons.

    Args:
        layout: L fully connected layers in sequence.
        values: Weights in mask order, pruned ones zero, shape (D,).
    """
    parts = list(layout.split(values).values())
    outgoing = [_root(np.einsum("oi,oi->i", part, part)) for part in parts]
    incoming = [_root(np.einsum("oi,oi->o", part, part)) for part in parts]
    return [outgoing[0], *(i * o for i, o in zip(incoming[:-1], outgoing[1:], strict=True))]


def check_feedforward(layout: MaskLayout) -> None:
    """Raise unless each layer is fully connected and takes what the one before it gives."""
    rule = "be feedforward: fully connected layers in sequence"
    hint = "Live units are defined where all weights of a fully connected network are maskable."
    if layout.unit != "weight":
        more = "Operators on masks, such as mut_prune, take whole units of a structured ticket."
        raise _checks.bad_value("layout", rule, "a bit for each weight", layout.unit, more)
    for layer in layout.layers:
        leaf = layer.name.rpartition(".")[2]
        if leaf.startswith(("weight_ih", "weight_hh")):  # shapes may fit, as those of a plain RNN
            raise _checks.bad_value("layout", rule, "no recurrent layers", repr(layer.name), hint)
        if len(layer.shape) != 2:
            got = f"{layer.name!r} of shape {layer.shape}"
            raise _checks.bad_value("layout", rule, "every shape (out, in)", got, hint)
    for before, layer in itertools.pairwise(layout.layers):
        if layer.shape[1] != before.shape[0]:
            got = f"{layer.name!r} of shape {layer.shape} after {before.name!r} of {before.shape}"
            expected = "each layer's in = the out of the layer before"
            raise _checks.bad_value("layout", rule, expected, got, hint)


def gates_of(layout: MaskLayout, mask: bits.Mask) -> list[bits.Mask]:
    """Return the mask of each layer of a feedforward layout, shape (out, in), as views."""
    check_feedforward(layout)
    mask = bits.as_mask(mask)
    layout.check_bits(mask.size)
    return list(layout.split(mask).values())


def reached_of(gates: Sequence[bits.Mask]) -> UnitMasks:
    """Return which units some input reaches, for inputs and each layer; all inputs are."""
    reached: list[bits.Mask] = [np.ones(gates[0].shape[1], dtype=np.bool_)]
    for i, gate in enumerate(gates):
        reached.append(np.logical_or.reduce(gate & reached[-1] if i else gate, axis=1))
    return tuple(reached)


def live_of(gates: Sequence[bits.Mask]) -> UnitMasks:
    """Return which units are alive, from the masks of consecutive layers, each (out, in)."""
    reached = reached_of(gates)
    useful: bits.Mask = np.ones(len(gates[-1]), dtype=np.bool_)
    live = [useful]
    for gate, known in zip(reversed(gates), reversed(reached[:-1]), strict=True):
        useful = np.logical_or.reduce(gate & useful[:, None], axis=0)
        live.append(useful & known)
    return tuple(reversed(live))


def _root(squares: NDArray[np.floating]) -> Vector:
    """Return square roots, in double precision: norms are taken to high powers."""
    roots: Vector = np.sqrt(squares, dtype=np.float64)
    return roots

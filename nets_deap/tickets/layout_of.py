"""``layout_of``: the layout of a model's tickets for one kind of unit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from nets_deap import _checks
from nets_deap.models.maskable import Selector
from nets_deap.models.wrappers import named_parameters
from nets_deap.names import NEURON, TWO_OF_FOUR, WEIGHT, parse_unit
from nets_deap.tickets.layout import Layer, MaskLayout
from nets_deap.tickets.units import Tile, UnitLayout

if TYPE_CHECKING:
    from torch import nn


def layout_of(
    model: nn.Module,
    maskable: Selector = None,
    unit: str = WEIGHT,
    *,
    outputs: Collection[str] | None = None,
    vectors: Mapping[str, str] | None = None,
    floor: float = 0.0,
) -> MaskLayout:
    """Lay out the maskable weights of ``model`` for tickets of one kind of unit.

    Args:
        model: Any module; its present weights are W0.
        maskable: See ``MaskLayout.of``.
        unit: What one bit gates: ``"weight"``: one weight; ``"neuron"`` or ``"filter"``, two names
            of the same: all weights into a neuron or filter, of every maskable linear and
            convolutional layer except those whose neurons are the network's outputs: their
            weights are always kept; ``"block(RxC)"``: R rows by C columns of the weights as
            a matrix, the first axis by all others; ``"2:4"``: one weight, but of each 4 consecutive
            inputs of a neuron (of a filter: input channels at one place of its kernel) at most 2
            are kept.
        outputs: Names of the weights of the layers whose neurons are the network's outputs; None
            for the layer that was registered last.
        vectors: Of vectors with an entry for each neuron or filter of a layer, biases and the like,
            the name of that layer's weights: with ``"neuron"`` they follow its units. None for the
            layers' own biases.
        floor: Share of its neurons or filters that a layer keeps at least; see ``UnitLayout``.

    Raises:
        InvalidValueError: No such unit, nothing to gate, or weights that have no such units.
    """
    name, block = parse_unit("unit", unit)
    weights = MaskLayout.of(model, maskable, unit=name)
    if name == NEURON:
        return _of_neurons(model, weights, outputs, vectors, floor)
    if name == WEIGHT:
        return weights
    if name.startswith("block"):
        return UnitLayout(weights, name, [block] * len(weights.layers))
    owners = _owners(model)
    for layer in weights.layers:
        _check(layer, owners.get(layer.name), name)
    return UnitLayout(weights, name, [(1, 1)] * len(weights.layers))


def _of_neurons(
    model: nn.Module,
    weights: MaskLayout,
    outputs: Collection[str] | None,
    vectors: Mapping[str, str] | None,
    floor: float,
) -> UnitLayout:
    """Lay out neurons and filters, and what follows them."""
    owners = _owners(model)
    known = _biases(model, owners) if vectors is None else vectors
    for layer in weights.layers:
        if layer.name not in known:
            _check(layer, owners.get(layer.name), NEURON)
    last = [list(owners)[-1]] if outputs is None else outputs
    masked = [la.name for la in weights.layers if la.name in owners and la.name not in last]
    parameters = dict(named_parameters(model))
    follows = {
        name: owner
        for name, owner in known.items()
        if owner in masked and parameters[name].requires_grad
    }
    if follows:  # in the model's order, vectors among the weights
        chosen = {*weights.names, *follows}
        weights = MaskLayout.of(model, [name for name in parameters if name in chosen])
    tiles = [_filter(la, owners[la.name]) if la.name in masked else None for la in weights.layers]
    return UnitLayout(weights, NEURON, tiles, follows, floor)


def _biases(model: nn.Module, owners: Mapping[str, Any]) -> dict[str, str]:
    """Return the weights that each bias of a linear or convolutional layer stands beside."""
    named = {id(p): name for name, p in named_parameters(model)}
    return {
        named[id(owner.bias)]: name
        for name, owner in owners.items()
        if owner.bias is not None and id(owner.bias) in named
    }


def _owners(model: nn.Module) -> dict[str, Any]:
    """Return the linear and convolutional layers by their weights' names, in the model's order."""
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    named = {id(p): name for name, p in named_parameters(model)}
    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, _ConvNd))]
    return {named[id(m.weight)]: m for m in layers if id(m.weight) in named}


def _check(layer: Layer, owner: Any, unit: str) -> None:
    """Raise unless a tensor is the weight of a layer that has such units."""
    allowed = "weights of linear and convolutional layers"
    got = f"{layer.name!r} of shape {layer.shape}"
    if owner is None:
        hint = "Leave it out with maskable=..., or use unit='block(RxC)'."
        raise _checks.bad_value("maskable", f"have units {unit!r}", allowed, got, hint)
    if unit == TWO_OF_FOUR and _transposed(owner):
        hint = "Leave it out with maskable=..., or use another unit."
        expected = f"{allowed} that are not transposed"
        raise _checks.bad_value("maskable", f"have units {unit!r}", expected, got, hint)


def _transposed(owner: Any) -> bool:
    """Return whether a layer is a transposed convolution, whose first axis counts its inputs."""
    return bool(getattr(owner, "transposed", False))


def _filter(layer: Layer, owner: Any) -> Tile:
    """Return rows and columns of one neuron's or filter's weights."""
    if not _transposed(owner):
        return 1, layer.row
    # Of a transposed convolution a filter is one column of its group's inputs.
    return layer.shape[0] // owner.groups, layer.row // layer.shape[1]

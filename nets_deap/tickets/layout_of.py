"""``layout_of``: the layout of a model's tickets for one kind of unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nets_deap import _checks
from nets_deap.models.maskable import Selector
from nets_deap.models.wrappers import named_parameters
from nets_deap.names import HEAD, NEURON, OUTPUTS, TWO_OF_FOUR, WEIGHT, parse_unit
from nets_deap.tickets.layout import Layer, MaskLayout
from nets_deap.tickets.units import Tile, UnitLayout, nothing_to_gate

if TYPE_CHECKING:
    from torch import nn


def layout_of(
    model: nn.Module,
    maskable: Selector = None,
    unit: str = WEIGHT,
    *,
    example: Any = None,
    floor: float = 0.0,
) -> MaskLayout:
    """Lay out the maskable weights of ``model`` for tickets of one kind of unit.

    Args:
        model: Any module; its present weights are W0.
        maskable: See ``MaskLayout.of``.
        unit: What one bit gates: ``"weight"``: one weight; ``"neuron"`` or ``"filter"``, two names
            of the same: all weights into a neuron or filter, of linear and convolutional layers;
            neurons that are added, normalised or gated by each other, as on a residual path, are
            one. Their biases and what normalises them go with them. What cannot be cut out of the
            network, its outputs among it, is always kept: see ``models.compact.units.units_of``.
            ``"head"``: all weights into a head of attention, and their biases;
            ``"block(RxC)"``: R rows by C columns of the weights as a matrix, the first axis by all
            others; ``"2:4"``: one weight, but of each 4 consecutive inputs of a neuron (of a
            filter: input channels at one place of its kernel) at most 2 are kept.
        example: For neurons, filters and heads an input (1, ...), or several, that the model takes;
            None to guess one by its first layer.
        floor: Share of its neurons, filters or heads that a layer keeps at least; see
            ``UnitLayout``.

    Raises:
        InvalidValueError: No such unit, nothing to gate, weights that have no such units, or a
            model that cannot be followed.
    """
    name, block = parse_unit("unit", unit)
    weights = MaskLayout.of(model, maskable, unit=name)
    if name == WEIGHT:
        return weights
    if name.startswith("block"):
        return UnitLayout(weights, name, [block] * len(weights.layers))
    owners = _owners(model)
    if name in (NEURON, HEAD):
        return _coupled(weights, name, owners, model, example, floor)
    for layer in weights.layers:
        _check(layer, owners.get(layer.name), name)
    return UnitLayout(weights, name, [(1, 1)] * len(weights.layers))


def _coupled(
    weights: MaskLayout,
    unit: str,
    owners: dict[str, Any],
    model: nn.Module,
    example: Any,
    floor: float,
) -> UnitLayout:
    """Return the layout of neurons or heads that can be cut out of a network."""
    from nets_deap.models.compact.units import units_of

    found = units_of(model, example)
    for layer in weights.layers:
        if layer.name not in found.vectors:
            _check(layer, owners.get(layer.name), unit)
    numbers: dict[int, int] = {}
    bits: dict[str, list[int]] = {}
    for name in weights.names:
        units = found.rows[name].tolist() if name in found.rows else []
        if unit == HEAD:
            units = [one if one in found.heads else -1 for one in units]
        bits[name] = [-1 if one < 0 else numbers.setdefault(one, len(numbers)) for one in units]
    # A unit that layers which are not masked send something is not dead when its bit is 0.
    for name, row in found.rows.items():
        for one in () if name in bits else row.tolist():
            numbers.pop(one, None)
    parameters = dict(named_parameters(model))
    for name, row in found.vectors.items():
        if name in parameters and parameters[name].requires_grad:
            bits[name] = [numbers.get(one, -1) for one in row.tolist()]
    bits = {name: tie for name, tie in bits.items() if any(bit >= 0 for bit in tie)}
    if any(name in found.vectors for name in bits):  # in the model's order, among the weights
        chosen = {*weights.names, *bits}
        weights = MaskLayout.of(model, [name for name in parameters if name in chosen])
    tiles = [_filter(la, owners.get(la.name)) if la.name in bits else None for la in weights.layers]
    ties = [bits.get(name) for name in weights.names]
    if not any(
        tile is not None and la.name not in found.vectors
        for la, tile in zip(weights.layers, tiles, strict=True)
    ):
        whys = {found.whole[name] for name in weights.names if name in found.whole} - {OUTPUTS}
        hint = f"What reads the others keeps them whole: {'; '.join(sorted(whys))}." if whys else ""
        raise nothing_to_gate(unit, weights.names, hint)
    plain = [bit for tie in ties if tie is not None for bit in tie]
    own = plain == list(range(len(plain)))  # each tile has one
    layout = UnitLayout(weights, unit, tiles, None if own else ties, floor)
    layout.whole = {
        name: found.whole.get(name, "it is no layer that is followed")
        for name in weights.names
        if name not in found.vectors and (name not in found.rows or name in found.whole)
    }
    return layout


def whole_note(layout: MaskLayout) -> str:
    """Return what to tell of layers of which no unit can be cut out; empty where all can."""
    if not isinstance(layout, UnitLayout):
        return ""
    whole = {name: why for name, why in layout.whole.items() if why != OUTPUTS}
    if not whole:
        return ""
    n = len(layout.weights.names) - len(layout.follows)
    listed = [f"{name!r} ({why})" for name, why in list(whole.items())[:3]]
    return (
        f"{len(whole)} of {n} maskable layers keep all their outputs, as "
        f"what reads these cannot do with fewer: {', '.join(listed)}. nets.describe(task) has all."
    )


def _owners(model: nn.Module) -> dict[str, Any]:
    """Return the layers that have units, by their weights' names, in the model's order."""
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    named = {id(p): name for name, p in named_parameters(model)}
    found = {}
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, nn.MultiheadAttention):
            weight = module.in_proj_weight
        elif not isinstance(module, (nn.Linear, _ConvNd)):
            continue
        if id(weight) in named:
            found[named[id(weight)]] = module
    return found


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
    """Return rows and columns of what one neuron or filter has of a layer, or of a vector."""
    if not _transposed(owner):
        return 1, layer.row
    # Of a transposed convolution a filter is one column of its group's inputs.
    return layer.shape[0] // owner.groups, layer.row // layer.shape[1]

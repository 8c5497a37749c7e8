"""``layout_of``: the layout of a model's tickets for one kind of unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nets_deap import _checks
from nets_deap.models.maskable import Selector
from nets_deap.models.wrappers import named_parameters
from nets_deap.names import HEAD, OUTPUTS, TWO_OF_FOUR, WEIGHT, parse_unit
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
) -> MaskLayout:
    """Lay out the maskable weights of ``model`` for tickets of one kind of unit.

    Args:
        model: Any module; its present weights are W0.
        maskable: See ``MaskLayout.of``.
        unit: What one bit gates: ``"weight"``: one weight; ``"neuron"`` or ``"filter"``, two names
            of the same: all weights into a neuron or filter, of linear and convolutional layers;
            neurons that are added, normalised or gated by each other, as on a residual path, are
            one. What cannot be cut out of the network, its outputs among it, is always kept: see
            ``models.compact.units.units_of``. ``"head"``: all weights into a head of attention;
            ``"block(RxC)"``: R rows by C columns of the weights as a matrix, the first axis by all
            others; ``"2:4"``: one weight, but of each 4 consecutive inputs of a neuron (of a
            filter: input channels at one place of its kernel) at most 2 are kept.
        example: For neurons, filters and heads an input (1, ...), or several, that the model takes;
            None to guess one by its first layer.

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
    for layer in weights.layers:
        _check(layer, owners.get(layer.name), name)
    if name == TWO_OF_FOUR:
        return UnitLayout(weights, name, [(1, 1)] * len(weights.layers))
    return _coupled(weights, name, owners, model, example)


def _coupled(
    weights: MaskLayout, unit: str, owners: dict[str, Any], model: nn.Module, example: Any
) -> UnitLayout:
    """Return the layout of neurons or heads that can be cut out of a network."""
    from nets_deap.models.compact.units import units_of

    found = units_of(model, example)
    numbers: dict[int, int] = {}
    tiles: list[Tile | None] = []
    ties: list[list[int] | None] = []
    for layer in weights.layers:
        rows = found.rows.get(layer.name)
        units = [] if rows is None else rows.tolist()
        if unit == HEAD:
            units = [one if one in found.heads else -1 for one in units]
        gated = any(one >= 0 for one in units)
        tiles.append(_filter(layer, owners[layer.name]) if gated else None)
        ties.append(
            [-1 if one < 0 else numbers.setdefault(one, len(numbers)) for one in units]
            if gated
            else None
        )
    if not any(tiles):
        whys = {found.whole[name] for name in weights.names if name in found.whole} - {OUTPUTS}
        hint = f"What reads the others keeps them whole: {'; '.join(sorted(whys))}." if whys else ""
        raise nothing_to_gate(unit, weights.names, hint)
    plain = [bit for tie in ties if tie is not None for bit in tie]
    layout = UnitLayout(weights, unit, tiles, None if plain == list(range(len(plain))) else ties)
    layout.whole = {
        name: found.whole.get(name, "it is no layer that is followed")
        for name in weights.names
        if name not in found.rows or name in found.whole
    }
    return layout


def whole_note(layout: MaskLayout) -> str:
    """Return what to tell of layers of which no unit can be cut out; empty where all can."""
    whole = {
        name: why
        for name, why in (layout.whole if isinstance(layout, UnitLayout) else {}).items()
        if why != OUTPUTS
    }
    if not whole:
        return ""
    listed = [f"{name!r} ({why})" for name, why in list(whole.items())[:3]]
    return (
        f"{len(whole)} of {len(layout.weights.names)} maskable layers keep all their outputs, as "
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
    """Return rows and columns of one neuron's or filter's weights."""
    if not _transposed(owner):
        return 1, layer.row
    # Of a transposed convolution a filter is one column of its group's inputs.
    return layer.shape[0] // owner.groups, layer.row // layer.shape[1]

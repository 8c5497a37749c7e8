"""``units_of``: which outputs of which layers go together, and which stay, of any network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from nets_deap.models.compact.compact import compact
from nets_deap.models.compact.following import followed
from nets_deap.models.compact.labels import Atoms
from nets_deap.models.private import copied
from nets_deap.models.wrappers import unwrap


@dataclass(frozen=True, eq=False)
class Units:
    """What can be cut out of a network.

    Attributes:
        rows: The unit of each output of each layer, by the name of its weights; -1 for what stays.
            Units are counted through the whole network: outputs of several layers that are added,
            normalised or gated by each other are one unit.
        vectors: Likewise of each entry of biases, and of what normalisation multiplies by and adds.
        heads: Those units that are heads of attention.
        whole: Why all outputs of a layer stay, by the name of its weights.
    """

    rows: dict[str, Atoms]
    vectors: dict[str, Atoms]
    heads: frozenset[int]
    whole: dict[str, str]


def units_of(model: nn.Module, example: Any = None) -> Units:
    """Return what can be cut out of a network; it is tried once that this can be done.

    Args:
        model: Any module; it stays untouched.
        example: One input (1, ...), or several; None to guess one by the first layer.

    Raises:
        InvalidValueError: The model cannot be followed; see ``models.compact.compact.compact``.
    """
    network = unwrap(copied(model)).eval()
    found = followed(network, example)
    graph, staying = found.graph, found.graph.staying()
    own = {inner: name for name, inner in found.names.items()}
    rows: dict[str, Atoms] = {}
    whole: dict[str, str] = {}
    for layer in graph.layers:
        name = own[layer.weight]
        if name in rows:
            continue
        several = [one.dst for one in graph.layers if one.weight == layer.weight]
        dst = layer.dst if layer.rows == slice(None) else np.concatenate(several)
        groups = graph.group[dst]
        stays = np.isin(groups, list(staying))
        rows[name] = np.where(stays, -1, groups)
        if stays.all():
            whole[name] = staying[int(groups[0])]
    heads = {int(graph.group[atom]) for atoms in graph.heads for atom in atoms.reshape(-1)}
    vectors = {own[name]: units for name, units in graph.vectors().items() if name in own}
    units = Units(rows, vectors, frozenset(heads - set(staying)), whole)
    if found.chain is None:
        _try(network, units, example)
    return units


def _try(network: nn.Module, units: Units, example: Any) -> None:
    """Raise unless a network can be cut: half of its units are."""
    rng = np.random.default_rng(0)
    known = sorted({int(unit) for row in units.rows.values() for unit in row if unit >= 0})
    gone = rng.choice(known, len(known) // 2, replace=False) if known else np.zeros(0, np.int64)
    with torch.no_grad():
        for name, row in units.rows.items():
            weight = network.get_parameter(name)
            places = torch.from_numpy(np.flatnonzero(np.isin(row, gone)))
            axis = 0 if weight.shape[0] == len(row) else 1
            if weight.shape[axis] == len(row):
                weight.index_fill_(axis, places.to(weight.device), 0.0)
    compact(network, None, example)

"""``Chain``: a network of layers of torch in a row, of which inputs may be left out as well."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from nets_deap.models.feedforward import is_plain
from nets_deap.models.mlp import MLP


@dataclass(frozen=True, eq=False)
class Chain:
    """Layers in a row.

    Attributes:
        layers: All of them, the model's own, without ``Flatten`` in front where ``selects``.
        selects: Whether the first reads features of the input, so that some can be left out.
        flattens: Whether these are flattened first.
    """

    layers: nn.Sequential
    selects: bool
    flattens: bool


def chain_of(model: nn.Module) -> Chain | None:
    """Return the layers of an MLP or of nested Sequentials; None for another network."""
    if type(model) not in (nn.Sequential, MLP) or not all(map(is_plain, model.modules())):
        return None
    layers = list(_leaves(model))
    if not layers:
        return None
    first = layers[0]
    flattens = isinstance(first, nn.Flatten) and (first.start_dim, first.end_dim) == (1, -1)
    rest = layers[flattens:]
    selects = bool(rest) and type(rest[0]) is nn.Linear
    kept = rest if selects else layers
    return Chain(nn.Sequential(*kept).train(model.training), selects, selects and flattens)


def _leaves(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers of nested Sequentials in the order that they work."""
    if type(module) is nn.Sequential:
        for part in module._modules.values():  # named_children leaves repeated modules out
            assert part is not None
            yield from _leaves(part)
    elif type(module) is MLP:  # its ``forward`` in steps
        yield nn.Flatten()
        yield from [*itertools.chain(*((one, module.activation) for one in module.layers))][:-1]
    else:
        yield module

"""``computed_in``: what a module has computed and keeps, for copies that torch would refuse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


def computed_in(model: nn.Module) -> dict[int, Any]:
    """Return copies without a graph of the tensors that a module keeps and that have one.

    A pruned weight, say, or the last activations. ``copy.deepcopy`` refuses these unless it is
    given what stands in for them, by ``id``: this is its ``memo``.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for tensor in _tensors_in([*vars(module).values(), module._buffers]):
            if not tensor.is_leaf:
                memo[id(tensor)] = tensor.detach().clone()
    return memo


def _tensors_in(thing: Any) -> Iterator[Tensor]:
    """Yield the tensors in lists, tuples and dictionaries."""
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, (list, tuple, dict)):
        for part in thing.values() if isinstance(thing, dict) else thing:
            yield from _tensors_in(part)

"""``staged_of``: a model as stages of convolution, activation and pooling before linear layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from nets_deap.models.feedforward import ELEMENTWISE, Feedforward, is_plain

POOLS = (nn.MaxPool2d, nn.AvgPool2d)


@dataclass(frozen=True)
class Stage:
    """A convolution, and what follows it before the next one.

    Attributes:
        name: The convolution's, in the model.
        convolution: The convolution.
        activation: What its outputs go through; None for nothing.
        pool: What pools them; None for nothing.
        pools_first: Whether they are pooled before the activation.
    """

    name: str
    convolution: nn.Conv2d
    activation: nn.Module | None = None
    pool: nn.MaxPool2d | nn.AvgPool2d | None = None
    pools_first: bool = False

    @property
    def weight(self) -> str:
        """Name of the weight."""
        return f"{self.name}.weight"

    @property
    def bias(self) -> str | None:
        """Name of the bias; None where there is none."""
        return f"{self.name}.bias" if self.convolution.bias is not None else None


@dataclass(frozen=True)
class Staged:
    """The parts of a model: its stages, then ``Flatten``, then fully connected layers."""

    stages: tuple[Stage, ...]
    head: Feedforward


def staged_of(model: nn.Module) -> Staged | None:
    """Return the stages of a convolutional model; None for any other.

    Such a model is an ``nn.Sequential``, of others or not: convolutions of their own parameters,
    each followed by one activation of ``ELEMENTWISE``, one pooling layer, both or neither; then
    ``Flatten``, and ``Linear`` layers with one activation between.
    """
    if type(model) is not nn.Sequential or not all(is_plain(part) for part in model.modules()):
        return None
    leaves = list(_leaves("", model))
    owned = [id(p) for _, part in leaves for p in part.parameters()]
    kinds = [type(part) for _, part in leaves]
    if len(set(owned)) < len(owned) or kinds.count(nn.Flatten) != 1:
        return None
    cut = kinds.index(nn.Flatten)
    flatten, stages, head = leaves[cut][1], _stages(leaves[:cut]), _head(leaves[cut + 1 :])
    assert isinstance(flatten, nn.Flatten)
    if not stages or head is None or (flatten.start_dim, flatten.end_dim) != (1, -1):
        return None
    return Staged(stages, head)


def _leaves(path: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Give the layers of nested sequences in the order of their calls, with their names."""
    if type(module) is not nn.Sequential:
        yield path, module
        return
    for name, part in module._modules.items():  # named_children leaves repeated modules out
        assert part is not None
        yield from _leaves(f"{path}.{name}" if path else name, part)


def _stages(leaves: list[tuple[str, nn.Module]]) -> tuple[Stage, ...]:
    """Return the stages of layers in a row; none where they are not stages."""
    groups: list[list[tuple[str, nn.Module]]] = []
    for name, part in leaves:
        if isinstance(part, nn.Conv2d):
            groups.append([])
        elif not groups:
            return ()
        groups[-1].append((name, part))
    stages = []
    for (name, convolution), *rest in groups:
        parts = [part for _, part in rest]
        activations = [part for part in parts if type(part) in ELEMENTWISE]
        pools = [part for part in parts if type(part) in POOLS]
        known = len(activations) + len(pools) == len(parts)
        if type(convolution) is not nn.Conv2d or not known:
            return ()
        if max(len(activations), len(pools)) > 1:
            return ()
        assert isinstance(convolution, nn.Conv2d)
        pool = pools[0] if pools else None
        assert pool is None or isinstance(pool, POOLS)
        first = len(parts) == 2 and parts[0] is pool
        activation = activations[0] if activations else None
        stages.append(Stage(name, convolution, activation, pool, first))
    return tuple(stages)


def _head(leaves: list[tuple[str, nn.Module]]) -> Feedforward | None:
    """Return linear layers in a row with one activation between; None for anything else."""
    names, parts = [name for name, _ in leaves], [part for _, part in leaves]
    linears = [part for part in parts[::2] if type(part) is nn.Linear]
    activations = parts[1::2]
    if len(linears) != len(activations) + 1 or len(parts) != 2 * len(linears) - 1:
        return None
    if any(type(activation) not in ELEMENTWISE for activation in activations):
        return None
    return Feedforward(tuple(names[::2]), tuple(linears), tuple(activations), True)

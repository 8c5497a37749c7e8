"""Residual blocks: the layers inside of one, which nothing else in the network sees."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from nets_deap.models.compact.layers import step_of
from nets_deap.models.compact.step import Step
from nets_deap.models.feedforward import is_plain

_BASIC = ("conv1", "bn1", "", "conv2")  # an empty name is ReLU

# What a block does before its input is added, less the last normalisation, by the block's class.
BLOCKS = {
    ("nets_deap.models.resnet", "BasicBlock"): _BASIC,
    ("torchvision.models.resnet", "BasicBlock"): _BASIC,
    ("torchvision.models.resnet", "Bottleneck"): (
        *("conv1", "bn1", "", "conv2", "bn2"),
        *("", "conv3"),
    ),
}


def blocks_of(module: nn.Module) -> Iterator[tuple[Step, ...]]:
    """Yield the steps inside of each residual block of a network, by their names in it.

    The channels between these steps can go without a trace; inputs and outputs of the block are
    those of the residual path and stay.

    Raises:
        InvalidValueError: A block has grouped convolutions, or is in training mode.
    """
    for name, block in module.named_modules():
        parts = BLOCKS.get((type(block).__module__, type(block).__qualname__))
        if parts is None or not all(is_plain(part) for part in block.modules()):
            continue
        steps = tuple(
            step_of(f"{name}.{part}" if name else part, getattr(block, part))
            if part
            else step_of("", nn.ReLU())
            for part in parts
        )
        for step in steps:
            step.check(flat=False)
        yield steps

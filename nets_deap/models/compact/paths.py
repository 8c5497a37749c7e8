"""``paths_of``: the rows of layers of a network that compacting takes channels from.

The one place that tells what ``compact`` can follow; ``CompactCost`` counts on the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from nets_deap.models.compact.inputs import Inputs
from nets_deap.models.compact.layers import Flatten, Linear
from nets_deap.models.compact.residual import blocks_of
from nets_deap.models.compact.sequential import analyse, sequential_of
from nets_deap.models.compact.step import Step, weighing_of
from nets_deap.models.tensors import Mask


@dataclass(frozen=True, eq=False)
class Path:
    """Layers in a row.

    Attributes:
        steps: The layers.
        is_block: Whether they stand inside of a residual block; else they are the whole network.
    """

    steps: tuple[Step, ...]
    is_block: bool = False

    @property
    def flattens(self) -> bool:
        """Whether the first of them flattens."""
        return isinstance(self.steps[0], Flatten)

    @property
    def selects(self) -> bool:
        """Whether inputs can be left out.

        Channels of images cannot: nobody else could leave them out. Of flat inputs the live ones
        can be selected.
        """
        return not self.is_block and isinstance(self.steps[self.flattens], Linear)

    def analyse(self, gates: Mapping[str, Mask], *, constants: bool = True) -> dict[str, Inputs]:
        """Return the inputs of each layer with weights, by the step's name; see ``analyse``."""
        found = analyse(self.steps, gates, constants=constants)
        if not self.selects:
            first = found[weighing_of(self.steps)[0].name]
            first.live = np.ones_like(first.live)
        return found


def paths_of(module: nn.Module) -> list[Path]:
    """Return the only path of a network of layers in a row, or those inside of residual blocks.

    Raises:
        InvalidValueError: The network is neither, or in training mode where that matters.
    """
    blocks = [Path(steps, is_block=True) for steps in blocks_of(module)]
    return blocks or [Path(sequential_of(module))]

"""``compact``: a masked network as a smaller dense one with the same function."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from nets_deap.models.compact.residual import blocks_of
from nets_deap.models.compact.sequential import (
    analyse,
    compact_sequential,
    compact_steps,
    sequential_of,
    weighing_of,
)
from nets_deap.models.compact.step import Step
from nets_deap.models.masking import check_masked
from nets_deap.models.modes import neutral
from nets_deap.models.tensors import Mask, values_of


@neutral()
def compact(module: nn.Module, masks: Mapping[str, Any] | None = None) -> nn.Module:
    """Return a smaller dense network that computes the same function as a masked one.

    Only what lies on a path from an input to an output is left: of fully connected networks live
    inputs and neurons (see ``tickets.live.live_units``), of sequential ones with convolutions live
    filters, with the input channels of the next layer, or its inputs across Flatten, that belong
    to them. Neurons and filters that no input reaches are constant: what they send is added to the
    biases of the next layer. Where zero padding surrounds constants other than 0, that would be
    wrong at the borders: of these filters one stays, and stands in for all of them. Outputs always
    stay. Of networks with residual blocks the filters inside of blocks go, not those on the
    residual path. The result agrees with ``module`` to float rounding; of a fully connected network
    its linear layers take ``tickets.live.multiply_adds`` multiply-adds for one example.

    Args:
        module: A trained, masked network, as from ``TrainResult.module()``; it stays untouched.
            A ``models.MLP``, or an ``nn.Sequential``, nested or not, of ``Linear`` layers and
            convolutions (groups=1) in a row, with batch normalisation, elementwise activations,
            pooling, dropout and ``Flatten`` between; or a network with residual blocks of
            ``models.ResNet`` or torchvision's. Weights at pruned positions are zero.
        masks: Arrays or tensors of zeros and ones by parameter name, 1 = kept. In layers without
            one, and everywhere where it is None, every weight that is zero counts as pruned.

    Returns:
        On the module's device, in its mode, with parameters of its own: an ``nn.Sequential``; of a
        network with residual blocks a copy with narrower ones.

    Raises:
        InvalidTypeError: ``masks`` is not a mapping.
        InvalidValueError: The module is not such a network, has other parameters than the masks,
            holds weights that they prune, or is in training mode with batch normalisation or
            dropout.
    """
    blocks = list(blocks_of(module))
    steps = [step for block in blocks for step in block] if blocks else sequential_of(module)
    gates = _gates(steps, check_masked(module, {} if masks is None else masks))
    if not blocks:
        return nn.Sequential(*compact_sequential(steps, gates)).train(module.training)
    small = copy.deepcopy(module)
    for block in blocks:
        parts = compact_steps(block, analyse(block, gates), all_inputs=True)  # the residual path
        for step, part in zip(block, parts, strict=True):
            if step.name:
                owner, _, name = step.name.rpartition(".")
                setattr(small.get_submodule(owner), name, part)
    return small.train(module.training)


def _gates(steps: Sequence[Step], masks: Mapping[str, Mask]) -> dict[str, Mask]:
    """Return the kept weights of each layer that has weights, by the step's name."""
    gates = {}
    for step in weighing_of(steps):
        mask = masks.get(step.weight_name)
        weights = step.module.weight
        gates[step.name] = values_of(step.weight_name, weights) != 0 if mask is None else mask
    return gates

"""``compact``: a masked network as a smaller dense one with the same function."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from nets_deap.models.compact.paths import Path, paths_of
from nets_deap.models.compact.select_inputs import SelectInputs
from nets_deap.models.compact.sequential import compact_steps
from nets_deap.models.compact.step import Step, places, weighing_of
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
    biases of the next layer. Where zero padding surrounds constants that a bias or a normalisation
    may make other than 0, that would be wrong at the borders: of these filters one stays, and
    stands in for all of them. Outputs always stay. Of networks with residual blocks the filters
    inside of blocks go, not those on the residual path.

    What is left follows from the masks and the kinds of layers alone, whatever numbers training
    gives: its multiply-adds are the objective ``"multiply_adds"``, by
    ``models.compact.footprint.CompactCost``. It agrees with ``module`` to float rounding.

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
    paths = paths_of(module)
    steps = [step for path in paths for step in path.steps]
    gates = _gates(steps, check_masked(module, {} if masks is None else masks))
    if not paths[0].is_block:
        return nn.Sequential(*_compact_all(paths[0], gates)).train(module.training)
    small = copy.deepcopy(module)
    for path in paths:
        parts = compact_steps(path.steps, path.analyse(gates))
        for step, part in zip(path.steps, parts, strict=True):
            if step.name:
                owner, _, name = step.name.rpartition(".")
                setattr(small.get_submodule(owner), name, part)
    return small.train(module.training)


def _compact_all(path: Path, gates: Mapping[str, Mask]) -> list[nn.Module]:
    """Return the modules of a whole network without what is not live."""
    found = path.analyse(gates)
    first = weighing_of(path.steps)[0]
    live = found[first.name].live
    if live.all():
        return compact_steps(path.steps, found)
    index = places(live, first.module.weight)
    select = SelectInputs(index, len(live), flatten=path.flattens)
    return [select, *compact_steps(path.steps[path.flattens :], found)]


def _gates(steps: Sequence[Step], masks: Mapping[str, Mask]) -> dict[str, Mask]:
    """Return the kept weights of each layer that has weights, by the step's name."""
    gates = {}
    for step in weighing_of(steps):
        mask = masks.get(step.weight_name)
        weights = step.module.weight
        gates[step.name] = values_of(step.weight_name, weights) != 0 if mask is None else mask
    return gates

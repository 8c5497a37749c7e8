"""``compact``: a masked network as a smaller dense one with the same function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from nets_deap.inputs.call import arguments, call
from nets_deap.inputs.parts import tensors_of
from nets_deap.models.compact.cut import Cut
from nets_deap.models.compact.example import guesses
from nets_deap.models.compact.following import Followed, followed, program_of, refused
from nets_deap.models.compact.select_inputs import SelectInputs
from nets_deap.models.compact.tracing import Unfollowed
from nets_deap.models.masking import check_masked
from nets_deap.models.modes import neutral
from nets_deap.models.private import copied

TOLERANCE = 1e-5  # of outputs, relative to the largest, where the network computes in less


@neutral()
def compact(
    module: nn.Module, masks: Mapping[str, Any] | None = None, example: Any = None
) -> nn.Module:
    """Return a smaller dense network that computes the same function as a masked one.

    Only what lies on a path from an input to an output is left. Any network is taken whose forward
    can be run: it is run once, and what each function of torch does to channels is followed, see
    ``models.compact.graph``. Channels that are added, normalised or gated by each other go
    together or not at all. Those that no input reaches are constant: what they send is added to the
    biases of the next layer. Where zero padding surrounds constants that a bias or a normalisation
    may make other than 0, that would be wrong at the borders: of these channels one stays, and
    stands in for all of them; of biases, factors and terms that the masks prune it is known that
    they are 0. Outputs always stay, and so does what cannot be cut through: what
    layer normalisation or a recurrent layer counts, say. Heads of attention go whole.

    What is left follows from the masks and the kinds of layers alone, whatever numbers training
    gives: its multiply-adds are the objective ``"multiply_adds"``, by
    ``models.compact.footprint.CompactCost``. It agrees with ``module`` to float rounding, which is
    checked.

    Args:
        module: A trained, masked network, as from ``TrainResult.module()``, in evaluation mode; it
            stays untouched. Weights at pruned positions are zero.
        masks: Arrays or tensors of zeros and ones by parameter name, 1 = kept. In layers without
            one, and everywhere where it is None, every weight that is zero counts as pruned.
        example: An input (1, ...), or several, that the network takes; None to guess one by its
            first layer, which most networks of images take.

    Returns:
        On the module's device, in its mode, with parameters of its own: of a ``models.MLP`` or of
        nested ``nn.Sequential`` an ``nn.Sequential``; of any other a copy with narrower layers.

    Raises:
        InvalidTypeError: ``masks`` is not a mapping.
        InvalidValueError: The module has other parameters than the masks, holds weights that they
            prune, is in training mode with batch normalisation or dropout, does not run on the
            example, or what it does depends on numbers.
    """
    known = check_masked(module, {} if masks is None else masks)
    found = followed(module, example)
    cut = cut_of(found, known)
    if found.chain is not None:
        return _shorter(found, cut).train(module.training)
    own, checked = cut.put_into(module), cut.put_into(module, found.double).eval()
    if problem := _differs(found, checked):
        # Its forward may name sizes of its own, which narrower layers do not have.
        try:
            program = program_of(found)
            again = program.of(cut, checked, *_kind(checked))
            problem = _differs(found, again)
            if not problem and example is None:
                problem = _differs_elsewhere(found, again)
            own = program.of(cut, own, *_kind(module))
        except Unfollowed as why:
            problem = f"{problem}, and {why}"
    if problem:
        raise refused(f"{type(module).__name__}, of which what is left {problem}")
    return own.train(module.training)


def _kind(module: nn.Module) -> tuple[torch.dtype, torch.device]:
    """Return the dtype and device of a network."""
    real = [p for p in module.parameters() if p.is_floating_point()]
    return real[0].dtype, real[0].device


def cut_of(found: Followed, masks: Mapping[str, Any]) -> Cut:
    """Return what is left of a network under masks."""
    gates = found.gates(masks, zeros=True)
    tensors = {
        name: tensor.detach().cpu()
        for name, tensor in (*found.model.named_parameters(), *found.model.named_buffers())
    }
    return Cut(found.graph, found.graph.state(gates), found.tracing.numbers(), tensors)


def _shorter(found: Followed, cut: Cut) -> nn.Sequential:
    """Return layers in a row with what is left, behind what selects their inputs."""
    assert found.chain is not None
    chain = found.chain
    layers = cut.put_into(found.model)
    assert isinstance(layers, nn.Sequential)
    parts = list(layers)
    if chain.selects:
        first = found.graph.layers[0]
        live = cut.live[first.src]
        if live.all():
            parts = [nn.Flatten(), *parts] if chain.flattens else parts
        else:
            index = torch.from_numpy(np.flatnonzero(live))
            device = next(layers.parameters()).device
            select = SelectInputs(index.to(device), len(live), flatten=chain.flattens)
            parts = [select, *parts]
    return nn.Sequential(*parts)


def _differs(found: Followed, small: nn.Module) -> str:
    """Return in words how a network differs from the one that was followed; empty if it does not.

    Args:
        found: The one that was followed.
        small: In evaluation mode, in float64, on the CPU.
    """
    return _differs_on(found.inputs, found.output, small)


def _differs_elsewhere(found: Followed, small: nn.Module) -> str:
    """Return how it differs on inputs of another size, where the one that was followed was guessed.

    What a forward has read of its input's size stands in the program that was made of it.
    """
    model = copied(found.model).cpu().eval()
    model = model.double() if found.double else model
    (seen,) = {leaf.shape[1:] for leaf in tensors_of(found.inputs)}
    for inputs in guesses(model):
        given = inputs.to(tensors_of(found.inputs)[0].dtype)
        if given.shape[1:] == seen:
            continue
        try:
            with torch.no_grad():
                expected = call(model, given)
        except Exception:  # it does not take this size, and its own code may raise anything
            continue
        if problem := _differs_on(given, expected, small):
            sizes = f"{tuple(given.shape[1:])}, followed on {tuple(seen)}"
            return (
                f"{problem} on inputs {sizes}: pass example=, an input (1, ...) of the right size"
            )
        return ""
    return ""


def _differs_on(inputs: Any, expected: Any, small: nn.Module) -> str:
    """Return in words how what a network gives differs from what is expected."""
    with torch.no_grad():
        try:
            if isinstance(small, fx.GraphModule):  # which itself would print errors
                positional, keywords = arguments(small, inputs)
                output = small.forward(*positional, **keywords)
            else:
                output = call(small, inputs)
        except Exception as error:  # its own code may raise anything
            return f"does not run: {error}"
    for one, other in zip(tensors_of(expected), tensors_of(output), strict=True):
        if one.is_floating_point():
            bound = TOLERANCE * max(1e-30, float(one.abs().max()))
            if one.shape != other.shape or not torch.allclose(
                other.double(), one.double(), rtol=0, atol=bound, equal_nan=True
            ):
                return "gives something else"
    return ""

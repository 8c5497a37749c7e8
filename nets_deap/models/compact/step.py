"""``Step``: a layer of a sequential network as compacting sees it; ``Weighing``: with weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from nets_deap import _checks
from nets_deap.errors import NetsError
from nets_deap.models.compact.inputs import Inputs
from nets_deap.models.tensors import Mask

SUPPORTED = (
    "models.MLP, or nn.Sequential (nested or not) of Linear layers and convolutions (groups=1) in "
    "a row, BatchNorm, elementwise activations, pooling, Dropout and Flatten; or a network with "
    "residual blocks of models.ResNet or torchvision's"
)


@dataclass(frozen=True, eq=False)
class Step:
    """One layer of a sequential network that works on each channel alone.

    Attributes:
        name: Its name in the model.
        module: The layer.
        empty: Whether it is known to work with no channels at all.
    """

    name: str
    module: Any
    empty: ClassVar[bool] = False

    def check(self, flat: bool) -> None:
        """Raise unless the layer can stand where inputs are flat, or where they are not."""

    def pass_constants(self, inputs: Inputs) -> Inputs:
        """Return what leaves the layer, of what goes in; here constants pass as they are."""
        return inputs

    def compact(self, later: Inputs | None) -> Any:
        """Return the layer for the live channels; here it is the same for any.

        Args:
            later: What the next layer with weights takes; None where there is none: all stay.
        """
        return copy.deepcopy(self.module)

    def linear(self, gate: Mask | None) -> Any:
        """Return a linear layer whose outputs depend on the same inputs, none of them negatively.

        That is how ``models.compact.sequential.n_live_inputs`` sees it. Here each output depends
        on the input in its place.

        Args:
            gate: The kept weights, where there are weights.
        """
        return nn.Identity()

    def require(self, fits: bool, why: str = "") -> None:
        """Raise for a layer that cannot be compacted, unless it fits."""
        if not fits:
            raise refused(f"{self.name!r}, {self.module}{why}")

    def require_evaluation(self) -> None:
        """Raise for a layer in training mode."""
        if self.module.training:
            hint = "Call module.eval() first: in training it differs from one minibatch to another."
            got = f"{self.name!r}, {self.module}"
            raise _checks.bad_value("module", "be in evaluation mode", "module.eval()", got, hint)


class Weighing(Step):
    """A layer whose weights (out, in, ...) join channels."""

    sizes: ClassVar[tuple[str, str]]  # attributes that hold its numbers of outputs and inputs

    @property
    def weight_name(self) -> str:
        """The name of its weights in the model."""
        return f"{self.name}.weight" if self.name else "weight"

    def takes(self, inputs: Inputs) -> Inputs:
        """Return its inputs as it sees them."""
        return inputs

    def joined(self, gate: Mask, inputs: Inputs) -> Mask:
        """Return which inputs any kept weight joins to which outputs, shape (out, in).

        Args:
            gate: Its kept weights, in their shape.
            inputs: What it takes.
        """
        joined: Mask = np.logical_or.reduce(gate.reshape(*gate.shape[:2], -1), axis=2)
        if inputs.share is not None:  # the stand-in sends to all that those it stands for send to
            joined[:, inputs.stand_in] = joined[:, inputs.shifts].any(axis=1)
        return joined

    def send(self, gate: Mask, inputs: Inputs, sent: Tensor) -> Inputs:
        """Return what leaves the layer: outputs that no varying input reaches are constant.

        Args:
            gate: Its kept weights, in their shape.
            inputs: What it takes.
            sent: What those outputs are (out,), of the others anything.
        """
        joined = self.joined(gate, inputs)
        varies, shifts = (
            np.logical_or.reduce(joined & some, axis=1) for some in (inputs.varies, inputs.shifts)
        )
        if self.module.bias is not None:
            shifts[:] = True
        return Inputs.of(varies, sent, shifts)

    def linear(self, gate: Mask | None) -> Any:
        """Return the layer with one number > 0 at all kept weights, 0 elsewhere, no bias."""
        assert gate is not None
        layer = copy.deepcopy(self.module).cpu().double()
        mean = torch.from_numpy(gate / max(1, gate.sum()))  # small, so that many layers stay finite
        layer.weight, layer.bias = nn.Parameter(mean, requires_grad=False), None
        return layer

    def compacted(self, inputs: Inputs, later: Inputs | None) -> Any:
        """Return the layer with live inputs and outputs only.

        Args:
            inputs: What it takes.
            later: What the next one takes; None where this is the last: all outputs stay.
        """
        weight: Tensor = self.module.weight.detach()
        columns = places(inputs.live, weight)
        rows = places(
            np.ones(len(weight), np.bool_) if later is None else later.live_channels, weight
        )
        # Constants that are gone are in the bias; of those that live, none is.
        gone = inputs.constant.masked_fill(torch.from_numpy(inputs.live).to(weight.device), 0)
        bias = self.sent(gone)[rows].to(weight.dtype)
        if inputs.share is not None:  # W'[o, m], see ``Inputs.padded``
            whole = weight.double().clone()
            whole[:, inputs.stand_in] = torch.einsum("oi...,i->o...", whole, inputs.share)
            weight = whole.to(weight.dtype)
        small = copy.deepcopy(self.module)
        for name, here in zip(self.sizes, (rows, columns), strict=True):
            setattr(small, name, len(here))
        small.weight = nn.Parameter(weight[rows][:, columns])
        needs_bias = self.module.bias is not None or bool(bias.any())
        small.bias = nn.Parameter(bias) if needs_bias else None
        return small

    def sent(self, constant: Tensor) -> Tensor:
        """Return what constant inputs (n,) give everywhere, with the bias; float64, (out,).

        A kernel meets the same number at each of its places, so that it counts by its sum. In
        float64, so that folding adds no rounding of its own.
        """
        weight = self.module.weight.detach().double()
        sent: Tensor = (
            weight.flatten(2).sum(dim=2) @ constant if weight.ndim > 2 else weight @ constant
        )
        bias = self.module.bias
        return sent if bias is None else sent + bias.detach().double()


def weighing_of(steps: Sequence[Step]) -> list[Weighing]:
    """Return those of some steps that have weights, in order."""
    return [step for step in steps if isinstance(step, Weighing)]


def refused(got: str) -> NetsError:
    """Return the error for what is not a sequential network."""
    return _checks.bad_value("module", "be sequential", SUPPORTED, got)


def places(chosen: Mask, like: Tensor) -> Tensor:
    """Return the places of what is chosen, on a tensor's device."""
    return torch.from_numpy(np.flatnonzero(chosen)).to(like.device)

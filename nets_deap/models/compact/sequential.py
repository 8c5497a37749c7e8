"""``chain_of``: a network of layers in a row, and the channels of it that a mask needs."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nets_deap import _checks
from nets_deap.errors import NetsError
from nets_deap.models.feedforward import ELEMENTWISE, is_plain
from nets_deap.tickets import bits

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
POOLS = (
    *AVERAGES,
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)
SUPPORTED = (
    "models.MLP, or nn.Sequential (nested or not) of Linear layers and convolutions (groups=1) in "
    "a row, BatchNorm, elementwise activations, pooling, Dropout and Flatten; or a network with "
    "residual blocks of models.ResNet or torchvision's"
)


@dataclass(frozen=True, eq=False)
class Step:
    """One module of a chain, by its name in the model."""

    name: str
    module: Any

    @property
    def weighs(self) -> bool:
        """Whether it is a linear or convolutional layer."""
        return type(self.module) in (nn.Linear, *CONVOLUTIONS)


@dataclass(eq=False)
class Inputs:
    """What a layer takes: n inputs, which are channels, or features once these are flattened.

    Attributes:
        varies: Whether each depends on what the network is given, or on its place in an image.
        constant: The value of each where it does not vary, else 0; float64, shape (n,).
        channel: The channel that each is a part of.
        live: The inputs that must be there for the same function; of each channel all or none.
        share: Where zeros are put around the inputs, constants other than 0 as shares of the
            largest one, which stands in for them; else None.
        stand_in: Its place.
    """

    varies: bits.Mask
    constant: Tensor
    channel: NDArray[np.int64]
    live: bits.Mask = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    share: Tensor | None = None
    stand_in: int = 0

    @classmethod
    def of(cls, varies: bits.Mask, constant: Tensor) -> Inputs:
        """Return channels with these properties."""
        known = constant.masked_fill(torch.from_numpy(varies).to(constant.device), 0)
        return cls(varies, known, np.arange(len(varies)))

    @property
    def live_channels(self) -> bits.Mask:
        """Which channels are live."""
        found = np.zeros(int(self.channel[-1]) + 1, dtype=np.bool_)
        found[self.channel[self.live]] = True
        return found

    def mapped(self, constant: Tensor) -> Inputs:
        """Return the same inputs with other constants."""
        here = torch.from_numpy(self.varies).to(constant.device)
        return Inputs(self.varies, constant.masked_fill(here, 0), self.channel)

    def at_borders(self) -> Inputs:
        """Return what they are where zeros surround them: constants other than 0 vary."""
        return Inputs.of(self.varies | (self.constant != 0).cpu().numpy(), self.constant)

    def padded(self) -> Inputs:
        """Return what a layer takes that puts zeros around them.

        Beside that border no constant but 0 is the same as elsewhere, so that it cannot go into a
        bias. But all constants make the same picture in other sizes: the largest one stands in for
        all of them, and counts as varying.
        """
        if not bool((self.constant != 0).any()):
            return self
        largest = int(self.constant.abs().argmax())
        varies = self.varies.copy()
        varies[largest] = True
        share = self.constant / self.constant[largest]
        known = torch.zeros_like(share)
        return Inputs(varies, known, self.channel, share=share, stand_in=largest)

    def flattened(self, n: int) -> Inputs:
        """Return the n features of these channels."""
        each = n // len(self.varies)
        constant = self.constant.repeat_interleave(each)
        return Inputs(np.repeat(self.varies, each), constant, np.repeat(self.channel, each))


def chain_of(module: nn.Module) -> tuple[Step, ...]:
    """Return the steps of a chain, in order.

    Raises:
        InvalidValueError: The module is not a chain, or in training mode where that matters.
    """
    steps = tuple(_leaves("", module))
    owned = [id(p) for step in steps for p in step.module.parameters()]
    got = type(module).__name__
    if not any(step.weighs for step in steps) or len(set(owned)) < len(owned):
        raise _refused(got)
    if not all(is_plain(part) for part in module.modules()):
        raise _refused(f"{got} with hooks, or with a forward of its own")
    flat = not any(type(step.module) in (nn.Flatten, *CONVOLUTIONS) for step in steps)
    for step in steps:
        check_step(step, flat)
        flat = flat or type(step.module) is nn.Flatten
    return steps


def analyse(
    steps: tuple[Step, ...], gates: Mapping[str, bits.Mask], *, constants: bool = True
) -> dict[str, Inputs]:
    """Return the inputs of each linear and convolutional layer, by the step's name.

    A channel that does not vary need not be there: what it sends is added to the next layer's
    bias, or with zero padding to the weights of one that stands in for all of them.

    Args:
        steps: A chain.
        gates: Kept weights of each of these layers, by the step's name.
        constants: Whether constants are worked out; else they count as 0, which only the mask
            need be known for.
    """
    found: dict[str, Inputs] = {}
    weighing = [step for step in steps if step.weighs]
    first = weighing[0].module.weight
    now = Inputs.of(
        np.ones(first.shape[1], dtype=np.bool_), first.new_zeros(first.shape[1]).double()
    )
    for i, step in enumerate(steps):
        if step.weighs:
            now = now.padded() if _pads(step.module) else now
            found[step.name] = now
            joined = _joined(gates[step.name], now)
            varies = np.logical_or.reduce(joined & now.varies, axis=1)
            sent = _sent(step.module, now.constant)
            now = Inputs.of(varies, sent if constants else torch.zeros_like(sent))
        elif found and (constants or isinstance(step.module, nn.Flatten)):
            now = _passed(step.module, now, [s for s in steps[i:] if s.weighs])
    useful = np.ones(weighing[-1].module.weight.shape[0], dtype=np.bool_)
    for step in reversed(weighing):
        inputs = found[step.name]
        needed = _joined(gates[step.name], inputs)[useful].any(axis=0) & inputs.varies
        channels = np.bincount(inputs.channel, weights=needed) > 0
        if not channels.any():
            channels[0] = True  # torch has no convolution of no channels
        inputs.live = channels[inputs.channel]
        useful = channels
    return found


def folded(step: Step, inputs: Inputs) -> Tensor:
    """Return a layer's biases with what dead inputs send it, float64, shape (out,)."""
    live = torch.from_numpy(inputs.live).to(inputs.constant.device)
    return _sent(step.module, inputs.constant.masked_fill(live, 0))


def merged(step: Step, inputs: Inputs) -> Tensor:
    """Return a layer's weights, where one constant stands in for others with theirs too."""
    weight: Tensor = step.module.weight.detach()
    if inputs.share is None:
        return weight
    whole = weight.double().clone()
    whole[:, inputs.stand_in] = torch.einsum("oi...,i->o...", whole, inputs.share)
    return whole.to(weight.dtype)


def _sent(module: Any, constant: Tensor) -> Tensor:
    """Return what constant inputs everywhere give, with the bias; float64, shape (out,)."""
    weight = module.weight.detach().double()
    total = weight.flatten(2).sum(dim=2) if weight.ndim > 2 else weight
    sent: Tensor = total @ constant
    return sent if module.bias is None else sent + module.bias.detach().double()


def _passed(module: Any, now: Inputs, later: list[Step]) -> Inputs:
    """Return what leaves a module that works on each channel alone."""
    if isinstance(module, nn.Flatten):
        return now.flattened(later[0].module.weight.shape[1]) if later else now
    if isinstance(module, NORMS):
        assert module.running_mean is not None
        assert module.running_var is not None
        scale = (module.running_var.double() + module.eps).rsqrt()
        shift = -module.running_mean.double() * scale
        if module.affine:
            weight = module.weight.detach().double()
            scale, shift = scale * weight, shift * weight + module.bias.detach().double()
        return now.mapped(now.constant * scale + shift)
    if isinstance(module, AVERAGES):
        counts_zeros = _any(module.padding) and module.count_include_pad
        if counts_zeros or getattr(module, "divisor_override", None) is not None:
            return now.at_borders()
    if isinstance(module, ELEMENTWISE):
        return now.mapped(copy.deepcopy(module)(now.constant.clone()))
    return now


def _pads(module: Any) -> bool:
    """Return whether a layer adds zeros around its inputs."""
    if isinstance(module, nn.Linear) or module.padding_mode != "zeros":
        return False
    if module.padding == "same":
        return any(size > 1 for size in module.kernel_size)
    return module.padding != "valid" and _any(module.padding)


def _any(numbers: int | tuple[int, ...]) -> bool:
    """Return whether one of some numbers is not 0."""
    return any(numbers) if isinstance(numbers, tuple) else bool(numbers)


def _joined(gate: bits.Mask, inputs: Inputs) -> bits.Mask:
    """Return which inputs and outputs of a layer any kept weight joins, shape (out, in)."""
    joined: bits.Mask = np.logical_or.reduce(gate.reshape(*gate.shape[:2], -1), axis=2)
    if inputs.share is not None:
        alike = (inputs.share != 0).cpu().numpy()
        joined[:, inputs.stand_in] = joined[:, alike].any(axis=1)
    return joined


def _leaves(name: str, module: nn.Module) -> Iterator[Step]:
    """Yield the modules of nested Sequentials, in the order that they work."""
    if type(module) is not nn.Sequential:
        yield Step(name, module)
        return
    for key, part in module._modules.items():  # named_children leaves repeated modules out
        assert part is not None
        yield from _leaves(f"{name}.{key}" if name else key, part)


def check_step(step: Step, flat: bool) -> None:
    """Raise unless a chain can have this step, after Flatten or before."""
    part, got = step.module, f"{step.name!r}, {step.module}"
    kind = type(part)
    known = (nn.Linear, nn.Flatten, *CONVOLUTIONS, *NORMS, *DROPOUTS, *POOLS, *ELEMENTWISE)
    fits = {
        nn.Linear: flat,
        nn.Flatten: (getattr(part, "start_dim", 1), getattr(part, "end_dim", -1)) == (1, -1),
        **dict.fromkeys(CONVOLUTIONS, not flat and getattr(part, "groups", 1) == 1),
        **dict.fromkeys(POOLS, not flat and not getattr(part, "return_indices", False)),
    }
    if kind not in known or not fits.get(kind, True):
        raise _refused(got)
    if isinstance(part, NORMS) and part.running_mean is None:
        raise _refused(f"{got}, which keeps no statistics")
    if isinstance(part, (*NORMS, *DROPOUTS)) and part.training:
        hint = "Call module.eval() first: in training it differs from one minibatch to the next."
        raise _checks.bad_value("module", "be in evaluation mode", "module.eval()", got, hint)


def _refused(got: str) -> NetsError:
    """Return the error for what is not a chain."""
    return _checks.bad_value("module", "be a chain of layers", SUPPORTED, got)

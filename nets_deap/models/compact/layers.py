"""What compacting knows of each type of layer: a class each, by the types in ``LAYERS``.

Another type of layer is a class here, or in a file of its own, and a line of ``LAYERS``. It says
where it may stand (``check``), what it makes of inputs that are constant (``pass_constants``), and
what is left of it where channels go (``compact``). One that works on each channel alone is a
``Step``; one whose weights join channels is a ``Weighing``.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from nets_deap.models.compact.inputs import Inputs
from nets_deap.models.compact.step import Step, Weighing, places, refused
from nets_deap.models.feedforward import ELEMENTWISE
from nets_deap.models.tensors import Mask


class Linear(Weighing):
    """A fully connected layer."""

    empty = True
    sizes = ("out_features", "in_features")

    def check(self, flat: bool) -> None:
        """Raise unless inputs are flat."""
        self.require(flat)

    def takes(self, inputs: Inputs) -> Inputs:
        """Return features: behind Flatten, several of each channel."""
        return inputs.as_features(self.module.weight.shape[1])


class Convolution(Weighing):
    """A convolution of all channels together; torch has none of no channels."""

    sizes = ("out_channels", "in_channels")

    def check(self, flat: bool) -> None:
        """Raise unless it joins all channels of images."""
        self.require(not flat and self.module.groups == 1)

    def takes(self, inputs: Inputs) -> Inputs:
        """Return the inputs; with zeros around them no constant is left."""
        return inputs.padded() if self._pads else inputs

    @property
    def _pads(self) -> bool:
        """Whether it puts zeros around its inputs."""
        module = self.module
        if module.padding_mode != "zeros":  # the others put values of the image there
            return False
        if module.padding == "same":
            return any(size > 1 for size in module.kernel_size)
        return module.padding != "valid" and any(module.padding)


class Norm(Step):
    """Batch normalisation in evaluation mode: each channel times a scale, plus a shift."""

    def check(self, flat: bool) -> None:
        """Raise unless it always does the same."""
        self.require(self.module.running_mean is not None, ", which keeps no statistics")
        self.require_evaluation()

    def pass_constants(self, inputs: Inputs) -> Inputs:
        """Return constants times the scale, plus the shift."""
        norm = self.module
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        shift = -norm.running_mean.double() * scale
        if norm.affine:
            weight = norm.weight.detach().double()
            scale, shift = scale * weight, shift * weight + norm.bias.detach().double()
        inputs = inputs.as_features(norm.num_features)
        return inputs.mapped(inputs.constant * scale + shift, shifts=True)

    def compact(self, later: Inputs | None) -> Any:
        """Return scales, shifts and statistics of the live channels or features only."""
        norm = copy.deepcopy(self.module)
        # Where all stay it may also be of images that only then are flattened.
        if later is None or later.live.all():
            return norm
        # It may stand before Flatten, where channels are counted, or behind it, where features are.
        features = norm.num_features == len(later.live)
        here = places(later.live if features else later.live_channels, norm.running_mean)
        norm.num_features = len(here)
        for name, tensor in (*self.module.named_parameters(), *self.module.named_buffers()):
            if tensor.ndim:  # all but the count of minibatches
                part = tensor.detach()[here]
                setattr(norm, name, nn.Parameter(part) if name in norm._parameters else part)
        return norm


class Elementwise(Step):
    """An activation."""

    empty = True

    def pass_constants(self, inputs: Inputs) -> Inputs:
        """Return constants as the activation maps them, which most do with 0 to 0."""
        module = copy.deepcopy(self.module)
        shifts = bool(module(inputs.constant.new_zeros(1)) != 0)
        constant = module(inputs.constant.clone())  # may be in place
        return inputs.mapped(constant, shifts=shifts)


class Pool(Step):
    """Pooling: a constant image stays constant, also at its borders."""

    def check(self, flat: bool) -> None:
        """Raise unless it gives images of images."""
        self.require(not flat and not getattr(self.module, "return_indices", False))

    def linear(self, gate: Mask | None) -> Any:
        """Return an average over the same windows, which all that is in them counts for."""
        module, kinds = self.module, AVERAGES[type(self.module)]
        if hasattr(module, "output_size"):
            return kinds(module.output_size)
        self.require(getattr(module, "dilation", 1) == 1, ", which is dilated")
        return kinds(module.kernel_size, module.stride, module.padding, module.ceil_mode)


class AveragePool(Pool):
    """The average over windows; with zeros around the image that count, borders differ."""

    def pass_constants(self, inputs: Inputs) -> Inputs:
        """Return constants as they are; those that differ at borders as varying."""
        padding = self.module.padding
        pads = any(padding) if isinstance(padding, tuple) else bool(padding)
        divisor = getattr(self.module, "divisor_override", None)  # in one dimension there is none
        differs = (pads and self.module.count_include_pad) or divisor is not None
        return inputs.at_borders() if differs else inputs


class Dropout(Step):
    """Dropout in evaluation mode: nothing."""

    def check(self, flat: bool) -> None:
        """Raise unless in evaluation mode."""
        self.require_evaluation()


class Flatten(Step):
    """Channels become features; what reads these counts them, see ``Inputs.as_features``."""

    empty = True

    def check(self, flat: bool) -> None:
        """Raise unless examples stay apart, and all else becomes one axis."""
        self.require((self.module.start_dim, self.module.end_dim) == (1, -1))

    def linear(self, gate: Mask | None) -> Any:
        """Return the same layer."""
        return nn.Flatten()


AVERAGES: dict[type[nn.Module], Any] = {
    **dict.fromkeys((nn.MaxPool1d, nn.AvgPool1d), nn.AvgPool1d),
    **dict.fromkeys((nn.MaxPool2d, nn.AvgPool2d), nn.AvgPool2d),
    **dict.fromkeys((nn.MaxPool3d, nn.AvgPool3d), nn.AvgPool3d),
    **dict.fromkeys((nn.AdaptiveMaxPool1d, nn.AdaptiveAvgPool1d), nn.AdaptiveAvgPool1d),
    **dict.fromkeys((nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d), nn.AdaptiveAvgPool2d),
    **dict.fromkeys((nn.AdaptiveMaxPool3d, nn.AdaptiveAvgPool3d), nn.AdaptiveAvgPool3d),
}

LAYERS: dict[type[nn.Module], type[Step]] = {
    nn.Linear: Linear,
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), Convolution),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), Norm),
    **dict.fromkeys(ELEMENTWISE, Elementwise),
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), Pool),
    **dict.fromkeys((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), AveragePool),
    **dict.fromkeys((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d), Pool),
    **dict.fromkeys((nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d), Pool),
    **dict.fromkeys((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d), Dropout),
    nn.Flatten: Flatten,
}


def step_of(name: str, module: nn.Module) -> Step:
    """Return what compacting knows of a layer.

    Raises:
        InvalidValueError: Its type, exactly, is not in ``LAYERS``.
    """
    kind = LAYERS.get(type(module))
    if kind is None:
        raise refused(f"{name!r}, {module}")
    return kind(name, module)

"""Models of the experiments: plain modules, seeded without touching the global random state."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nets_deap import _checks

# Where they live: imported when first used, so that what only needs a neighbour of theirs, such as
# a ticket the names of maskable parameters, does not cost the import of torch. No file here may
# have the name of one of them: its import would hide the function behind the module.
_HOMES = {
    "MLP": "mlp",
    "ResNet": "resnet",
    "conv": "convolutional",
    "lenet5": "convolutional",
    "lenet_300_100": "mlp",
    "resnet20": "resnet",
    "torchvision_model": "torchvision",
    "xor_mlp": "mlp",
}

__all__ = [
    "MLP",
    "ResNet",
    "conv",
    "lenet5",
    "lenet_300_100",
    "resnet20",
    "torchvision_model",
    "xor_mlp",
]

if TYPE_CHECKING:
    from nets_deap.models.convolutional import conv, lenet5
    from nets_deap.models.mlp import MLP, lenet_300_100, xor_mlp
    from nets_deap.models.resnet import ResNet, resnet20
    from nets_deap.models.torchvision import torchvision_model


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise _checks.absent("nets_deap.models", name, __all__)
    value = getattr(importlib.import_module(f"nets_deap.models.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

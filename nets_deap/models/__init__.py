"""Models of the experiments: plain modules, seeded without touching the global random state."""

from nets_deap.models.conv import conv, lenet5
from nets_deap.models.mlp import MLP, lenet_300_100, xor_mlp
from nets_deap.models.resnet import ResNet, resnet20
from nets_deap.models.torchvision import torchvision_model

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

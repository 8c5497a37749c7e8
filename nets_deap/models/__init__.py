"""Models of the experiments: plain modules, seeded without touching the global random state."""

from nets_deap.models.conv import lenet5
from nets_deap.models.mlp import MLP, lenet_300_100, xor_mlp

__all__ = ["MLP", "lenet5", "lenet_300_100", "xor_mlp"]

"""Data sets in memory: XOR, the embedded subset of MNIST, and images through torchvision."""

from typing import TYPE_CHECKING

from nets_deap import _checks
from nets_deap.data.load import is_at_hand, load, load_torchvision
from nets_deap.data.mnist import load_mnist
from nets_deap.data.mnist5k import load_mnist5k
from nets_deap.data.splits import DataSplits
from nets_deap.data.xor import load_xor

__all__ = [
    "DataSplits",
    "is_at_hand",
    "load",
    "load_mnist",
    "load_mnist5k",
    "load_torchvision",
    "load_xor",
]

if not TYPE_CHECKING:  # to type checkers it would stand for any name
    __getattr__ = _checks.absent_from(globals())

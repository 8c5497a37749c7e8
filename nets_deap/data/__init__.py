"""Data sets in memory: XOR, the embedded subset of MNIST, and MNIST through torchvision."""

from nets_deap.data.mnist import load_mnist, load_mnist5k
from nets_deap.data.splits import DataSplits
from nets_deap.data.xor import load_xor

__all__ = ["DataSplits", "load_mnist", "load_mnist5k", "load_xor"]

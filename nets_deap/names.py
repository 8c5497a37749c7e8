"""What can be named: data sets and networks, and which go together; engines, precisions, units.

Nothing here imports torch or NumPy, so that the command line answers at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nets_deap import _checks


@dataclass(frozen=True)
class KnownData:
    """A data set of images.

    Attributes:
        image: The shape of one: channels, height, width.
        classes: How many there are.
        module: The file of ``nets_deap.data`` whose ``load(name, data_dir, download=)`` reads it.
        torchvision: Its class in ``torchvision.datasets``; empty where that has none.
    """

    image: tuple[int, int, int]
    classes: int
    module: str
    torchvision: str = ""


@dataclass(frozen=True)
class KnownNetwork:
    """A network, and the images it takes: of this shape, or of so many channels; None for any."""

    image: tuple[int, int, int] | None = None
    channels: int | None = None

    def takes(self, data: KnownData) -> bool:
        """Return whether the network can be trained on these images."""
        return self.image in (None, data.image) and self.channels in (None, data.image[0])


_DIGITS, _COLOURS = (1, 28, 28), (3, 32, 32)

DATASETS: dict[str, KnownData] = {
    "mnist": KnownData(_DIGITS, 10, "mnist", "MNIST"),
    "mnist5k": KnownData(_DIGITS, 10, "mnist5k"),
    "fashion-mnist": KnownData(_DIGITS, 10, "mnist", "FashionMNIST"),
    "kmnist": KnownData(_DIGITS, 10, "mnist", "KMNIST"),
    "cifar10": KnownData(_COLOURS, 10, "cifar", "CIFAR10"),
    "cifar100": KnownData(_COLOURS, 100, "cifar", "CIFAR100"),
}
NETWORKS: dict[str, KnownNetwork] = {
    "lenet": KnownNetwork(image=_DIGITS),
    "lenet5": KnownNetwork(image=_DIGITS),
    "conv2": KnownNetwork(),
    "conv4": KnownNetwork(),
    "conv6": KnownNetwork(),
    "resnet20": KnownNetwork(),
    "torchvision": KnownNetwork(channels=3),
}
# How random masks spread over layers; see ``evolution.operators.layer_counts``.
DISTRIBUTIONS = ("uniform", "er", "erk")


def check_pair(argument: str, network: str, dataset: str) -> KnownData:
    """Return what is known of a data set; raise where it is unknown or no match for the network.

    Args:
        argument: What the data set is called in messages.
        network: One of ``NETWORKS``.
        dataset: One of ``DATASETS``.

    Raises:
        InvalidValueError: The name is unknown, or the network takes other images.
    """
    data = DATASETS[_checks.choice(argument, dataset, DATASETS)]
    if not NETWORKS[network].takes(data):
        fitting = [name for name, other in DATASETS.items() if NETWORKS[network].takes(other)]
        shape = "x".join(map(str, data.image))
        raise _checks.bad_value(
            argument,
            f"suit the network {network}",
            f"one of {', '.join(map(repr, fitting))}",
            f"{dataset!r} ({shape})",
        )
    return data


#: The file of ``training.engines`` that holds each engine, as its ``ENGINE``.
ENGINE_FILES = {
    "compiled": "cpu.engine",
    "batched": "batched",
    "vmap": "vmap",
    "loop": "loop",
}
ENGINES = ("auto", *ENGINE_FILES)
# What they have been called, or may be looked for as.
ENGINE_WORDS = {
    "stacked": "vmap",
    "functorch": "vmap",
    "one_by_one": "loop",
    "one-by-one": "loop",
    "threaded": "loop",
    "layered": "batched",
    "bmm": "batched",
    "numba": "compiled",
}
PRECISIONS = ("float32", "tf32", "bf16")
# What weights are pruned by that go by their size alone; see ``tickets.relative``.
BY_SIZE = ("magnitude", "lamp", "cost")
UNITS = ("weight", "neuron", "filter", "head", "block(RxC)", "2:4")
WEIGHT, NEURON, HEAD, BLOCK, TWO_OF_FOUR = "weight", "neuron", "head", "block", "2:4"

# Why a layer keeps all its neurons where these are what the network gives.
OUTPUTS = "they are the network's outputs"

_BLOCK = re.compile(r"block\(\s*([1-9]\d{0,5})\s*x\s*([1-9]\d{0,5})\s*\)")


def parse_unit(argument: str, unit: object) -> tuple[str, tuple[int, int]]:
    """Return a unit's canonical name and the rows and columns of one block, (1, 1) for no block.

    ``"filter"`` is another name of ``"neuron"``.

    Raises:
        InvalidValueError: No such unit.
    """
    found = _BLOCK.fullmatch(unit) if isinstance(unit, str) else None
    if found is not None:
        rows, columns = (int(number) for number in found.groups())
        return f"block({rows}x{columns})", (rows, columns)
    hint = "R and C are the rows and columns of a block, as in 'block(4x1)'."
    name = _checks.choice(argument, unit, UNITS, hint)
    if name == "block(RxC)":
        raise _checks.bad_value(argument, "say how large a block is", "numbers", name, hint)
    return (NEURON if name == "filter" else name), (1, 1)

"""The presets: ready configurations of the experiments, by name.

Nothing here imports torch, so that the command line answers at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nets_deap import _checks
from nets_deap.evolution.budget import STEPS
from nets_deap.experiments.config import Config, FinalConfig, SearchConfig, TaskConfig
from nets_deap.training.recipe import CONV_RECIPES, LENET_RECIPE, RESNET_RECIPE, XOR_RECIPE, Recipe

# Small networks cost nearly the same in any number, so the population is large.
XOR_SEARCH: dict[str, Any] = {
    "population": 250,
    "first_density": (0.2, 1.0),
    "prune": (0.05, 0.5),
    "cxpb": 0.2,
    "mutpb": 0.8,
    "inherit": "none",
}

# Two parents for each of the niches that a population finds on MNIST; a generation costs some forty
# steps of the dense network.
LINEAGES: dict[str, Any] = {"population": 24, "offspring": 24, "generations": 200}

# A sparse convolution costs more than its share of the weights, so that lineages train for fewer
# steps: begun from W0 again, they would not get as far as the descent had.
CONVOLVED: dict[str, Any] = {"population": 24, "offspring": 24, "rewinds": 0}

# A descent alone, from dense to sparse, without generations after it, where those would take hours.
DESCENT: dict[str, Any] = {"population": 40, "generations": 0, "budget_unit": "steps"}


def _cifar10(network: str, title: str, recipe: Recipe, steps: int, hours: float) -> Config:
    """Return a network of the papers on CIFAR-10: to 1.2 % density, 900 steps a generation.

    Run on made-up images only: nobody has measured yet what it finds. The ``hours`` on two cores
    are those of its steps at a few densities (AVX-512), most of them the final trainings.
    """
    return Config(
        about=f"{title} on CIFAR-10, some {hours:g} hours on two cores; results not measured",
        task=TaskConfig(kind=network, dataset="cifar10"),
        recipe=recipe,
        search=SearchConfig(
            budget=18_900,
            density=(0.0116, 1.0),
            # As of ``conv2-mnist5k``; not tried with residual networks.
            by=None if network == "resnet20" else "cost",
            **DESCENT,
        ),
        final=FinalConfig(steps=steps, members=8),
    )


PRESETS: dict[str, Config] = {
    "quickstart": Config(
        about="LeNet-300-100 on 5,000 MNIST digits, embedded: no download, about half a minute",
        task=TaskConfig(dataset="mnist5k"),
        recipe=replace(LENET_RECIPE, steps=150),
        search=SearchConfig(
            population=24, offspring=24, generations=40, budget=1500, density=(0.003, 1.0)
        ),
        final=FinalConfig(steps=1000, members=8, chain=True),
    ),
    "xor-mlp10": Config(
        about="XOR with a 2-10-1 network (30 weights), a few seconds",
        task=TaskConfig(kind="xor", hidden=10),
        recipe=XOR_RECIPE,
        search=SearchConfig(generations=22, density=(0.1, 1.0), **XOR_SEARCH),
        final=FinalConfig(steps=200, members=30),
    ),
    "xor-mlp100": Config(
        about="XOR with a 2-100-1 network (300 weights), a few seconds",
        task=TaskConfig(kind="xor", hidden=100),
        recipe=XOR_RECIPE,
        search=SearchConfig(generations=12, density=(0.01, 1.0), **XOR_SEARCH),
        final=FinalConfig(steps=200, members=30),
    ),
    "nets2023": Config(
        about="the ancestor's experiment: 5 genomes with weights of their own, 15 generations",
        task=TaskConfig(dataset="mnist"),
        recipe=replace(LENET_RECIPE, steps=None, epochs=1.0),
        search=SearchConfig(
            population=5,
            offspring=5,
            generations=15,
            cxpb=0.3,
            mutpb=0.7,
            objectives=("penalised:0.2",),
            genome="weights",
            first_density=(0.5, 0.5),
            prune=(0.1, 0.4),
        ),
        final=FinalConfig(steps=4600, members=1),
    ),
    "lenet-mnist": Config(
        about="LeNet-300-100 on full MNIST, weights inherited, under 3 minutes on two cores",
        task=TaskConfig(dataset="mnist"),
        recipe=LENET_RECIPE,
        search=SearchConfig(budget=10_000, density=(0.0015, 1.0), **LINEAGES),
        final=FinalConfig(steps=4600, members=12, chain=True),
    ),
    "lenet-extreme": Config(
        about="LeNet-300-100 on full MNIST down to 266 weights, where only evolution still works",
        task=TaskConfig(dataset="mnist"),
        recipe=LENET_RECIPE,
        search=SearchConfig(
            budget=10_000, density=(0.001, 1.0), population=28, offspring=28, generations=190
        ),
        final=FinalConfig(steps=4600, members=16, chain=True),
    ),
    "lenet-adds": Config(
        about="LeNet-300-100 on full MNIST, objectives: validation loss and multiply-adds",
        task=TaskConfig(dataset="mnist"),
        recipe=LENET_RECIPE,
        # Hardly a population: every child is smaller than its parents, so that each lineage pays
        # for the dense generations again.
        search=SearchConfig(
            population=2,
            offspring=3,
            generations=16,
            cxpb=0.5,
            mutpb=0.5,
            objectives=("val_loss", "multiply_adds"),
            inherit="weights",
            budget=20_000,
            budget_unit=STEPS,
            density=(0.005, 1.0),
            sigma=0.2,
        ),
        final=FinalConfig(steps=4600, members=12),
    ),
    "lenet5-mnist": Config(
        about="LeNet-5 on full MNIST, weights inherited, about 3 minutes on two cores",
        task=TaskConfig(kind="lenet5", dataset="mnist"),
        recipe=LENET_RECIPE,
        search=SearchConfig(budget=15_000, generations=100, density=(0.005, 1.0), **CONVOLVED),
        final=FinalConfig(steps=4600, members=12, chain=True),
    ),
    "conv2-mnist5k": Config(
        about="Conv-2 on 5,000 MNIST digits, embedded: no download, under 2 minutes on two cores",
        task=TaskConfig(kind="conv2", dataset="mnist5k"),
        # The paper takes 20,000 steps at 2e-4; so few want a larger learning rate.
        recipe=replace(CONV_RECIPES[2], lr=1e-3),
        # By LAMP the convolutions stay dense for longer, and nothing else costs much.
        search=SearchConfig(
            budget=504, density=(0.005, 1.0), prune=(0.24, 0.24), by="cost", **DESCENT
        ),
        final=FinalConfig(steps=120, members=6),
    ),
    "resnet20-mnist5k": Config(
        about="ResNet-20 on 5,000 MNIST digits, embedded: no download, about 3 minutes",
        task=TaskConfig(kind="resnet20", dataset="mnist5k"),
        recipe=replace(RESNET_RECIPE, batch_size=64, steps=40),
        search=SearchConfig(budget=480, density=(0.1, 1.0), **DESCENT),
        final=FinalConfig(steps=200, members=3),
    ),
    # The final trainings are the papers': 20,000, 25,000 and 30,000 steps, and 64,000.
    "conv2-cifar10": _cifar10("conv2", "Conv-2", CONV_RECIPES[2], 20_000, 5),
    "conv4-cifar10": _cifar10("conv4", "Conv-4", CONV_RECIPES[4], 25_000, 9),
    "conv6-cifar10": _cifar10("conv6", "Conv-6", CONV_RECIPES[6], 30_000, 13),
    "resnet20-cifar10": _cifar10("resnet20", "ResNet-20", RESNET_RECIPE, 64_000, 27),
}


def preset(name: str) -> Config:
    """Return a preset by name."""
    hint = "See: nets-deap presets. A task of your own is FILE.py:FUNCTION."
    return PRESETS[_checks.choice("preset", name, PRESETS, hint)]

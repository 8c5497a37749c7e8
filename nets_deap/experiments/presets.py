"""The presets: ready configurations of the experiments, by name.

Nothing here imports torch, so that the command line answers at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nets_deap import _checks
from nets_deap.experiments.config import Config, FinalConfig, SearchConfig, TaskConfig
from nets_deap.training.recipe import LENET_RECIPE, XOR_RECIPE

# Small networks cost nearly the same in any number, so the population is large.
XOR_SEARCH: dict[str, Any] = {
    "population": 250,
    "first_density": (0.2, 1.0),
    "prune": (0.05, 0.5),
    "cxpb": 0.2,
    "mutpb": 0.8,
}

PRESETS: dict[str, Config] = {
    "quickstart": Config(
        about="LeNet-300-100 on 5,000 MNIST digits, embedded: no download, about a minute",
        task=TaskConfig(dataset="mnist5k"),
        recipe=replace(LENET_RECIPE, steps=150),
        search=SearchConfig(
            population=2,
            generations=20,
            cxpb=0.5,
            mutpb=0.5,
            inherit="weights",
            budget=12_000,
            density=(0.005, 1.0),
            noise=0.1,
            sigma=0.1,
        ),
        final=FinalConfig(steps=1000, members=8),
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
        search=SearchConfig(
            population=1,
            offspring=1,
            generations=22,
            cxpb=0.0,
            mutpb=1.0,
            inherit="weights",
            budget=6600,
            density=(0.005, 1.0),
            noise=0.0,
            sigma=0.0,
        ),
        final=FinalConfig(steps=4600, members=12),
    ),
    "lenet-adds": Config(
        about="LeNet-300-100 on full MNIST, objectives: validation loss and multiply-adds",
        task=TaskConfig(dataset="mnist"),
        recipe=LENET_RECIPE,
        search=SearchConfig(
            population=2,
            offspring=3,
            generations=16,
            cxpb=0.5,
            mutpb=0.5,
            objectives=("val_loss", "multiply_adds"),
            inherit="weights",
            budget=20_000,
            density=(0.005, 1.0),
            sigma=0.2,
        ),
        final=FinalConfig(steps=4600, members=12),
    ),
}


def preset(name: str) -> Config:
    """Return a preset by name."""
    return PRESETS[_checks.choice("preset", name, PRESETS, "See: nets-deap presets")]

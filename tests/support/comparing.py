"""A search that is small enough for the tests of comparisons, on the smallest of tasks."""

from nets_deap.experiments.config import Config, FinalConfig, SearchConfig, TaskConfig
from nets_deap.training.recipe import XOR_RECIPE

TINY = Config(
    about="tiny",
    task=TaskConfig(kind="xor", hidden=60, device="cpu"),
    recipe=XOR_RECIPE,
    search=SearchConfig(
        population=4,
        generations=4,
        cxpb=0.5,
        mutpb=0.5,
        density=(0.05, 1.0),
        budget_unit="steps",
    ),
    final=FinalConfig(steps=3),
)

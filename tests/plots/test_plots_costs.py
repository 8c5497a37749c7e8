"""Fronts over what networks cost: convolutional and residual ones, over either axis."""

import numpy as np
import pytest
import torch
from torch import nn

import nets_deap as nets
from nets_deap import plots

OBJECTIVES = ("val_loss", "density", "multiply_adds", "sparse_multiply_adds")


def convolutional():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


@pytest.mark.parametrize(
    "make", [convolutional, lambda: nets.models.ResNet(1, channels=1, classes=2)]
)
def test_a_front_is_drawn_over_whatever_it_costs(make):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    x, y = torch.randn(30, 1, 8, 8), torch.arange(30) % 2
    recipe = nets.Recipe(steps=2, batch_size=10)
    task = nets.Task(make(), train=(x, y), val=(x, y), recipe=recipe, device="cpu")
    front = nets.search(
        task, objectives=OBJECTIVES, inherit="none", population=6, generations=1,
        density=(0.05, 1.0), progress="none",
    ).front  # fmt: skip
    for i, name in enumerate(OBJECTIVES[1:], 1):
        figure, ax = pyplot.subplots()
        plots.pareto_front(front, ax, objectives=(i, 0))
        assert ax.get_xlabel().startswith(name.split("_")[0])
        drawn = np.concatenate([line.get_xdata() for line in ax.get_lines()])
        assert {one.fitness.values[i] for one in front} <= {*drawn.tolist()}
        figure.canvas.draw()
        pyplot.close(figure)

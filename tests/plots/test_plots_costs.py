"""Fronts over what networks cost: convolutional and residual ones, over either axis."""

import numpy as np
import pytest
import torch
from torch import nn

import nets_deap as nets
from nets_deap import plots
from nets_deap.experiments.final import train_front
from nets_deap.plots.pareto import run_figure

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


def test_a_search_for_few_multiply_adds_has_its_accuracies_over_them():
    figures = pytest.importorskip("matplotlib.figure")
    x = torch.randn(60, 8)
    model = nets.models.MLP((8, 12, 3))
    recipe = nets.Recipe(steps=5, batch_size=10)
    task = nets.Task(model, train=(x, x[:, :3].argmax(1)), val=0.3, test=(x, x[:, :3].argmax(1)),
                     recipe=recipe, device="cpu")  # fmt: skip
    found = nets.search(
        task, objectives=("val_loss", "multiply_adds"), inherit="none", population=8,
        generations=2, density=(0.05, 1.0), progress="none",
    )  # fmt: skip
    final = train_front(task, list(found.front), steps=5, members=4, chain=50)
    ax = figures.Figure().subplots()
    plots.final_accuracy_adds(final, ax)
    assert ax.get_xlabel() == "multiply-adds without dead units in % of dense"
    shares = [row.ticket.fitness.values[1] / (8 * 12 + 12 * 3) for row in final.rows]
    lines = {line.get_label(): line.get_xdata() for line in ax.get_lines()}
    np.testing.assert_allclose(lines["tickets"], shares)
    random = [row.random_compact for row in final.rows]
    np.testing.assert_allclose(lines["random, same layer densities"], random)
    _, right = run_figure(found, final).axes
    assert right.get_xlabel() == ax.get_xlabel()

import matplotlib as mpl
import pytest

mpl.use("Agg")

from matplotlib import pyplot as plt

import nets_deap as nets
from nets_deap.errors import InvalidValueError, MissingExtraError


@pytest.fixture
def result(xor_task):
    return nets.search(xor_task, population=8, generations=1, progress="none", inherit="none")


def test_the_front_is_drawn_over_log_density(result):
    ax = nets.plots.pareto_front(result.front, population=result.population)
    x, y = ax.lines[0].get_data()
    assert sorted(zip(x, y, strict=True)) == sorted(
        (t.fitness.values[1], t.fitness.values[0]) for t in result.front
    )
    assert ax.get_xscale() == "log"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("density in %", "validation loss")
    plt.close("all")


def test_given_axes_are_used_and_returned(result):
    figure, ax = plt.subplots()
    assert nets.plots.pareto_front(result.front, ax, objectives=(0, 1)) is ax
    assert ax.get_xlabel() == "validation loss"
    plt.close(figure)


def test_one_objective_is_drawn_over_density(xor_task):
    objective = nets.penalised(0.5)
    found = nets.search(
        xor_task, objectives=objective, population=6, generations=0, progress="none", inherit="none"
    )
    ax = nets.plots.pareto_front(found.front)
    assert ax.get_xlabel() == "density in %"
    plt.close("all")


def test_an_empty_front_or_a_missing_objective_is_refused(result):
    with pytest.raises(InvalidValueError, match="front must have members"):
        nets.plots.pareto_front([])
    with pytest.raises(InvalidValueError, match="objectives must be in range"):
        nets.plots.pareto_front(result.front, objectives=(2, 0))
    plt.close("all")


def test_without_matplotlib_the_error_names_the_extra(result, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingExtraError, match=r'pip install -e "\.\[plots\]"'):
        nets.plots.pareto_front(result.front)


def test_all_that_is_exported_is_there():
    assert {"pareto_front", "wiring", "sized"} <= set(nets.plots.__all__)
    assert all(hasattr(nets.plots, name) for name in nets.plots.__all__)

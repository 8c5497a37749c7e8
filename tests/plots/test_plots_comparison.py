import math
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

from matplotlib import pyplot as plt
from torch import nn

import nets_deap as nets
from nets_deap.errors import MissingExtraError, NetsError
from nets_deap.experiments.methods import METHODS
from nets_deap.experiments.summarise import summarise
from nets_deap.plots import style
from nets_deap.plots.comparison import accuracy_over_density, comparison_figure
from nets_deap.training.result import TrainResult

LEVELS = (0.3, 0.1, 0.03)


def summary(names, *, seeds=3, levels=LEVELS, reach=LEVELS[-1]):
    """Accuracies that fall with method, level and seed; erk ends at ``reach``."""
    shared = {"multiply_adds": None, "search_steps": 1, "search_seconds": 0.1, "final_steps": 3}
    rows = [
        {
            "seed": seed,
            "method": name,
            "density": level,
            "test_accuracy": 0.95 - 0.01 * i - 0.02 * j - 0.001 * seed**2,
            "val_accuracy": 0.95,
            **shared,
        }
        for i, name in enumerate(("dense", *names))
        for j, level in enumerate((1.0,) if name == "dense" else levels)
        for seed in range(seeds)
        if name != "erk" or level >= reach
    ]
    return summarise(rows, levels)


@pytest.fixture
def axes():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_a_line_for_each_method_and_the_dense_network_over_log_density(axes):
    given = summary(["evolution", "imp", "erk"])
    assert accuracy_over_density(given, axes) is axes
    assert axes.get_xscale() == "log"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("density in %", "test accuracy in %")
    *lines, dense = axes.lines
    assert [line.get_label() for line in lines] == [one.name for one in given.methods]
    for line, one in zip(lines, given.methods, strict=True):
        assert line.get_xdata() == pytest.approx([30, 10, 3])
        assert line.get_ydata() == pytest.approx(100 * one.accuracy.mean(axis=0))
    assert dense.get_label() == "dense 94.83 %"
    assert dense.get_ydata() == pytest.approx([100 * given.dense.mean()] * 2)
    shown = [text.get_text() for text in axes.get_legend().get_texts()]
    assert shown == [line.get_label() for line in axes.lines]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["30", "10", "3"]


@pytest.mark.parametrize("size", ["notebook", "paper"])
def test_the_legend_leaves_the_lines_the_width_of_the_figure(size):
    names = [name for name in METHODS if name != "evolution-adds"]
    with style.sized(size):
        figure, ax = plt.subplots(layout="constrained")
        accuracy_over_density(summary(names), ax)
        figure.canvas.draw()
        legend = ax.get_legend().get_window_extent()
        assert figure.bbox.x0 <= legend.x0
        assert legend.x1 <= figure.bbox.x1
        assert ax.get_window_extent().width > 0.7 * figure.bbox.width
    plt.close(figure)


def test_methods_that_leave_the_figure_leave_no_gap_above_the_best(axes):
    given = summary(["evolution", *list(METHODS)[2:]])
    accuracy_over_density(given, axes, below=2.0)
    dense = 94.83
    bands = [band.get_paths()[0].vertices[:, 1].max() for band in axes.collections]
    low, high = axes.get_ylim()
    assert low <= dense - 2
    assert max(dense, *bands) < high <= max(dense, *bands) + 0.05 * (high - low)
    lines = [line for line in axes.lines if line.get_marker() == "o"]
    assert all(np.nanmax(line.get_ydata()) > low for line in lines), "each has a point that is seen"
    lowest = min(np.nanmin(line.get_ydata()) for line in lines)
    assert low > lowest, "else the best would lie on each other"


def test_where_all_are_far_below_dense_they_stay_in_the_figure(axes):
    given = summary(["evolution", *list(METHODS)[2:]])
    worse = [replace(one, accuracy=one.accuracy - 0.5) for one in given.methods]
    accuracy_over_density(replace(given, methods=worse), axes)
    best = 100 * max(np.nanmax(one.accuracy.mean(axis=0)) for one in worse)
    assert axes.get_ylim()[0] < best


def test_bands_hold_the_means_and_need_more_than_one_seed(axes):
    given = summary(["evolution", "imp"])
    accuracy_over_density(given, axes)
    assert len(axes.collections) == 2
    for band, one in zip(axes.collections, given.methods, strict=True):
        edge = band.get_paths()[0].vertices
        at = edge[np.isclose(edge[:, 0], 10), 1]
        column = 100 * one.accuracy[:, 1]
        assert column.min() <= at.min() < column.mean() < at.max() <= column.max()
    figure, other = plt.subplots()
    accuracy_over_density(summary(["evolution", "imp"], seeds=1), other)
    assert (len(other.lines), len(other.collections)) == (3, 0)
    plt.close(figure)


def test_a_method_that_does_not_reach_a_level_has_a_shorter_line_and_band(axes):
    accuracy_over_density(summary(["evolution", "erk"], reach=0.1), axes)
    assert np.isnan(axes.lines[1].get_ydata()).tolist() == [False, False, True]
    ends = [band.get_paths()[0].get_extents().xmin for band in axes.collections]
    assert ends == pytest.approx([axes.lines[0].get_xdata()[2], axes.lines[1].get_xdata()[1]])


def test_all_methods_can_be_told_apart(axes):
    accuracy_over_density(summary(list(METHODS)), axes)
    styles = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
    assert len(styles) == len(METHODS) + 1
    widths = [line.get_linewidth() for line in axes.lines]
    assert widths[0] > max(widths[1:])


def test_new_axes_are_made_where_none_are_given():
    ax = accuracy_over_density(summary(["evolution"]))
    assert len(ax.lines) == 2
    plt.close(ax.figure)


@pytest.mark.parametrize("levels", [LEVELS, (0.1,)])
def test_the_figure_can_be_saved_and_opens_no_window(tmp_path, levels):
    open_before = plt.get_fignums()
    figure = comparison_figure(summary(["evolution", "imp"], levels=levels))
    figure.savefig(tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert plt.get_fignums() == open_before


@pytest.mark.parametrize("missing", ["pyplot", "figure"])
def test_without_matplotlib_the_error_names_the_extra(monkeypatch, missing):
    monkeypatch.setitem(__import__("sys").modules, f"matplotlib.{missing}", None)
    with pytest.raises(MissingExtraError, match=r'pip install -e "\.\[plots\]"'):
        comparison_figure(summary(["evolution"]))


def test_without_matplotlib_no_axes_are_made(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingExtraError, match="matplotlib"):
        accuracy_over_density(summary(["evolution"]))


def results(*points, test=True):
    """Results of these densities and accuracies in %."""
    loose = {"steps": 1, "train_loss": 0.1, "val_loss": 0.1, "test_loss": 0.1}
    return [
        TrainResult(
            density=density,
            val_accuracy=height / 100,
            test_accuracy=height / 100 if test else math.nan,
            _model=nn.Identity(),
            _state={},
            **loose,
        )
        for density, height in points
    ]


def test_results_of_seeds_have_error_bars_and_those_of_one_have_none(axes):
    imp = [results((0.5, 90 + seed), (0.1, 80 + 2 * seed)) for seed in range(3)]
    evolved = results((0.3, 95), (0.1004, 91), (0.01, 80))
    given = {"evolution": evolved, "imp": imp, "dense": results((1, 97), (1, 99))}
    assert accuracy_over_density(given, axes) is axes
    ours, theirs, dense = axes.lines[0], axes.lines[1], axes.lines[-1]
    assert ours.get_xdata() == pytest.approx([30, 10.04, 1])
    assert theirs.get_ydata() == pytest.approx([91, 82])
    assert (dense.get_label(), dense.get_ydata()[0]) == ("dense 98.00 %", 98)
    (bars,) = axes.collections
    at = [segment[:, 1] for segment in bars.get_segments()]
    for (low, high), mean, column in zip(at, (91, 82), ([90, 91, 92], [80, 82, 84]), strict=True):
        assert min(column) <= low < mean < high <= max(column)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        *("evolution", "imp", "dense 98.00 %")
    ]


def test_seeds_are_read_off_at_the_densities_of_the_first(axes):
    two = [results((0.4, 90), (0.1, 80)), results((0.2, 70), (0.05, 60))]
    accuracy_over_density({"imp": two}, axes)
    # The second front ends denser, and between 0.2 and 0.05 half way in the logarithm.
    assert axes.lines[0].get_ydata() == pytest.approx([80, 72.5])
    axes.clear()
    accuracy_over_density({"imp": [results((0.4, 90), (0.1, 80)), results((0.2, 70))]}, axes)
    assert np.isnan(axes.lines[0].get_ydata()).tolist() == [False, True]


def test_without_test_data_validation_is_drawn(axes):
    accuracy_over_density({"imp": results((0.4, 90), test=False)}, axes)
    assert axes.get_ylabel() == "validation accuracy in %"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "summary must hold accuracies"),
        ({"imp": []}, "imp must be what a method gave"),
        ({"imp": [3]}, "imp must be what a method gave"),
        ({"imp": [*results((0.1, 90)), results((0.1, 90))]}, "imp must be what a method gave"),
        ({"rnd": nets.baselines.random_erk(nets.tasks.xor(seed=0), 0.5)}, r"baseline.train\(task"),
    ],
)
def test_what_has_no_results_is_told(given, text, axes):
    with pytest.raises(NetsError, match=text):
        accuracy_over_density(given, axes)

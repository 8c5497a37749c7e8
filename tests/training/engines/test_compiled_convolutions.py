"""The compiled engine's convolutions: the same numbers as the slow reference, in any shape."""

import numpy as np
import pytest
import torch
from support import convolutions as support
from support.convolutions import (
    assert_auto_is_compiled,
    assert_divergence_disturbs_no_other,
    assert_near,
    chain,
    distance,
    masks_of,
)
from support.networks import RECIPES, assert_same, reference, trained_by_three_threads
from torch import nn
from torch.nn import functional as F

from nets_deap import Recipe, models
from nets_deap.tickets import bits
from nets_deap.training.engines.cpu import convolutions
from nets_deap.training.engines.cpu.engine import suits, train_compiled
from nets_deap.training.engines.dispatch import pick_engine
from nets_deap.training.problem import Plan

PLAN = Plan(steps=6, seed=3, curve_points=2, test=True, keep_states=True)


def small():
    first, second = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 4, 3)
    return chain(first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), 4 * 3 * 4)


def headed():
    """Odd pooling, 7 to 3, and two fully connected layers."""
    first, second = nn.Conv2d(2, 5, 5, padding=2), nn.Conv2d(5, 7, 3, padding=1)
    convolutions = [first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), nn.MaxPool2d(2)]
    linears = [nn.Linear(63, 12), nn.ReLU(), nn.Linear(12, 3)]
    return nn.Sequential(nn.Sequential(*convolutions), nn.Flatten(), *linears)


def strided():
    """Also from maps that are odd, and into one of a single row."""
    convolutions = (nn.Conv2d(2, 6, 3, stride=2, padding=1), nn.Conv2d(6, 4, 3, stride=(2, 1)))
    return chain(convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU(), nn.MaxPool2d(2), 4)


def after_pooling():
    first, second = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 4, 5, stride=2, padding=2)
    return chain(first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), 4 * 4 * 5)


def dilated():
    first = nn.Conv2d(2, 6, 3, padding=2, dilation=2)
    second = nn.Conv2d(6, 4, (3, 2), dilation=(1, 3), padding=(0, 2))
    return chain(first, nn.ReLU(), second, nn.ReLU(), nn.MaxPool2d(2), 4 * 4 * 5)


def grouped():
    first, depthwise = nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(8, 8, 3, padding=1, groups=8)
    last = nn.Conv2d(8, 6, 1, groups=2, bias=False)
    return chain(first, nn.ReLU(), depthwise, nn.ReLU(), last, nn.ReLU(), nn.MaxPool2d(2), 54)


def curved():
    first, second, last = (nn.Conv2d(n, 6, 3, padding=1) for n in (2, 6, 6))
    linears = [nn.Linear(6 * 6 * 6, 9), nn.Tanh(), nn.Linear(9, 3)]
    return nn.Sequential(first, nn.Tanh(), second, nn.Sigmoid(), last, nn.Flatten(), *linears)


def pooled(first, second):
    """Two stages with what follows their convolutions, on images of 10x13."""
    parts = nn.Conv2d(2, 6, 3, padding=1), *first, nn.Conv2d(6, 4, 3, padding=1), *second
    return chain(*parts, 4 * 2 * 3)


def padded():
    """Padding beyond what the kernel reaches."""
    first, second = nn.Conv2d(2, 6, 1, padding=1), nn.Conv2d(6, 4, 1, padding=2, stride=2)
    return chain(first, nn.ReLU(), second, nn.ReLU(), 4 * 5 * 6)


class Functions(nn.Module):
    """A forward of functions and methods; the mean over all positions at its end."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 6, 3), nn.Conv2d(6, 5, 3, padding=1)
        self.hidden, self.last = nn.Linear(5, 7), nn.Linear(7, 3)

    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.first(x)), (2, 3))
        x = torch.tanh(self.second(x)).mean((2, 3))
        return self.last(F.relu(self.hidden(x)))


RELU, TANH, SIGMOID = nn.ReLU(), nn.Tanh(), nn.Sigmoid()
TOP, MEAN = nn.MaxPool2d(2), nn.AvgPool2d(2)
# Each with the shape of an image.
NETWORKS = {
    "strides": (strided, (2, 13, 7)),
    "a stride after pooling": (after_pooling, (2, 15, 19)),
    "dilation": (dilated, (2, 11, 9)),
    "groups": (grouped, (4, 9, 9)),
    "much padding": (padded, (2, 4, 6)),
    "tanh, sigmoid and none": (curved, (2, 6, 6)),
    "means": (lambda: pooled((TANH, MEAN), (RELU, MEAN)), (2, 10, 13)),
    "means first": (lambda: pooled((MEAN, SIGMOID), (MEAN, RELU)), (2, 10, 13)),
    "pooling first": (lambda: pooled((TOP, RELU), (TOP, SIGMOID)), (2, 10, 13)),
    "threes": (
        lambda: chain(
            *(nn.Conv2d(2, 6, 3, padding=1), RELU, nn.MaxPool2d(3)),
            *(nn.Conv2d(6, 4, 3, padding=1), TANH, nn.MaxPool2d(3), 4 * 1 * 1),
        ),
        (2, 10, 13),
    ),
    "pool": (small, (2, 10, 12)),
    "7 to 3": (headed, (2, 14, 14)),
    "5x5, not square": (lambda: chain(nn.Conv2d(2, 3, 5), nn.ReLU(), 3 * 4 * 9), (2, 8, 13)),
    "1x1, and no bias": (
        lambda: chain(nn.Conv2d(2, 5, 1, bias=False), nn.ReLU(), nn.MaxPool2d(2), 5 * 2 * 3),
        (2, 5, 7),
    ),
    "no activation": (
        lambda: chain(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 4, 2), nn.MaxPool2d(2), 4 * 2 * 2),
        (2, 7, 8),
    ),
    "functions": (Functions, (2, 10, 13)),
    "rectangles": (
        lambda: chain(
            *(nn.Conv2d(2, 6, 3, padding=1), TANH, nn.AvgPool2d((1, 3))),
            *(nn.Conv2d(6, 4, 3, padding=1), RELU, nn.MaxPool2d((3, 1)), 4 * 3 * 4),
        ),
        (2, 10, 13),
    ),
    "one column": (lambda: chain(nn.Conv2d(2, 3, (3, 5)), nn.ReLU(), 3 * 5), (2, 7, 5)),
}


def make(name, *args, **more):
    """Return a task of one of these networks, or of another."""
    return support.make(NETWORKS[name] if isinstance(name, str) else name, *args, **more)


@pytest.mark.parametrize("name", NETWORKS)
def test_convolutions_equal_the_reference(name):
    task = make(name, Recipe(lr=3e-3, batch_size=17))
    assert suits(task.problem)
    masks = masks_of(task)
    assert_near(
        train_compiled(task.problem, masks, PLAN), reference(task.problem, masks, PLAN), 1e-9
    )


@pytest.mark.parametrize("batch_size", [1, 8, 9, 60, 64, 65])
def test_any_minibatch_equals_the_reference(batch_size):
    task = make("pool", Recipe(lr=3e-3, batch_size=batch_size))
    masks = masks_of(task)
    assert_near(
        train_compiled(task.problem, masks, PLAN), reference(task.problem, masks, PLAN), 1e-9
    )


@pytest.mark.parametrize("optimizer", RECIPES)
def test_any_optimizer_equals_the_reference_and_pruned_weights_stay_zero(optimizer):
    task = make("pool", RECIPES[optimizer])
    masks = masks_of(task)
    outcome = train_compiled(task.problem, masks, PLAN)
    assert_near(outcome, reference(task.problem, masks, PLAN), 1e-9)
    for packed, state, end in zip(masks, outcome.states, outcome.trained, strict=True):
        mask = bits.unpack(packed, task.layout.size)
        flat = np.concatenate([state[name].reshape(-1) for name in task.layout.names])
        assert not flat[~mask].any()
        np.testing.assert_array_equal(flat[mask], end.values)


@pytest.mark.parametrize("loss", ["mse", "binary_cross_entropy"])
def test_any_loss_equals_the_reference(loss):
    task = make("pool", Recipe(loss=loss, batch_size=17), target=lambda y: np.eye(3)[y])
    masks = masks_of(task)
    assert_near(
        train_compiled(task.problem, masks, PLAN), reference(task.problem, masks, PLAN), 1e-9
    )


@pytest.mark.parametrize("name", ["pool", "7 to 3"])
def test_float32_is_as_near_to_float64_as_that_of_torch(name):
    recipe = Recipe(optimizer="sgd", lr=1e-2, batch_size=60)
    exact, task = make(name, recipe), make(name, recipe, torch.float32)
    masks = masks_of(task)
    expected = reference(exact.problem, masks, PLAN)
    ours, theirs = (f(task.problem, masks, PLAN) for f in (train_compiled, reference))
    for one, other, right in zip(ours.states, theirs.states, expected.states, strict=True):
        for parameter, tensor in one.items():
            allowed = 4 * distance(other[parameter], right[parameter]) + 1e-6
            assert distance(tensor, right[parameter]) <= allowed, parameter


@pytest.mark.parametrize("whole_from", [0.0, 2.0])
@pytest.mark.parametrize("name", ["pool", "7 to 3", "no activation"])
def test_how_a_convolution_is_held_changes_only_rounding(name, whole_from, monkeypatch):
    monkeypatch.setattr(convolutions, "WHOLE_FROM", whole_from)
    task = make(name, Recipe(lr=3e-3, batch_size=17))
    masks = masks_of(task)
    outcome = train_compiled(task.problem, masks, PLAN)
    assert_near(outcome, reference(task.problem, masks, PLAN), 1e-9)
    for packed, state in zip(masks, outcome.states, strict=True):
        mask = bits.unpack(packed, task.layout.size)
        assert not np.concatenate([state[n].reshape(-1) for n in task.layout.names])[~mask].any()


@pytest.mark.parametrize("worth", [0, 10**9])
def test_blocks_of_channels_change_only_rounding(worth, monkeypatch):
    """Maps too large for the cache: sums wait for those of other channels."""
    monkeypatch.setattr(convolutions, "WORTH_BLOCKS", worth)
    monkeypatch.setattr(convolutions, "TILE_BYTES", 2**13)
    wide = nn.Conv2d(20, 30, 3, padding=1), nn.Conv2d(30, 8, 3, padding=1)
    task = make(
        (lambda: chain(wide[0], nn.ReLU(), wide[1], nn.ReLU(), nn.MaxPool2d(2), 72), (20, 7, 7)),
        Recipe(batch_size=17),
    )
    masks = masks_of(task)
    assert_near(
        train_compiled(task.problem, masks, PLAN), reference(task.problem, masks, PLAN), 1e-9
    )


def test_one_company_or_another_chunks_and_threads_change_nothing():
    task = make("7 to 3", RECIPES["adam"], torch.float32)
    masks = masks_of(task, (0.9, 0.5, 0.2, 0.05))
    whole, shared = trained_by_three_threads(train_compiled, task, masks, PLAN)
    assert_same(shared, whole, rtol=0)
    assert_same(train_compiled(task.problem, masks, PLAN, chunk=1), whole, rtol=0)


def test_auto_leaves_minibatches_that_fill_few_lanes_to_the_others():
    """Lanes are computed whether an example is there or not: 16 of them in float32."""
    for batch_size, engine in ((60, "compiled"), (32, "compiled"), (24, "compiled"), (20, "vmap")):
        problem = make("pool", Recipe(batch_size=batch_size), torch.float32).problem
        assert suits(problem)
        assert pick_engine("auto", problem) == engine


def test_auto_takes_the_compiled_engine_whatever_the_masks():
    task = make("pool", RECIPES["adam"])
    assert_auto_is_compiled(task, PLAN)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_diverged_network_shows_in_its_numbers_and_disturbs_no_other(bad):
    task = make("7 to 3", Recipe(batch_size=17), torch.float32)
    assert_divergence_disturbs_no_other(task, bad, PLAN)


def test_a_start_elsewhere_than_at_w0_equals_the_reference():
    task = make("pool", Recipe(lr=3e-3, batch_size=17))
    masks = masks_of(task)
    starts = list(train_compiled(task.problem, masks, PLAN).trained)
    starts[1] = None
    ours, theirs = (
        f(task.problem, masks, PLAN, starts=starts) for f in (train_compiled, reference)
    )
    assert_near(ours, theirs, 1e-9)


def test_layers_that_are_not_maskable_keep_all_their_weights():
    task = make("pool", Recipe(lr=3e-3, batch_size=17), maskable="3.weight")
    masks = masks_of(task)
    assert_near(
        train_compiled(task.problem, masks, PLAN), reference(task.problem, masks, PLAN), 1e-9
    )


@pytest.mark.parametrize(
    ("parts", "features"),
    [
        ((nn.Conv2d(2, 3, 3), nn.GELU()), 3 * 8 * 10),
        ((nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), nn.ReLU()), 3 * 10 * 12),
        ((nn.Conv2d(2, 3, 3, stride=3), nn.ReLU()), 3 * 3 * 4),
        ((nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(3, stride=2)), 3 * 3 * 4),
        ((nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2, padding=1)), 3 * 5 * 6),
        ((nn.Conv2d(2, 3, 3), nn.Dropout(0.5), nn.ReLU()), 3 * 8 * 10),
        ((nn.Conv2d(2, 3, 3), nn.GroupNorm(1, 3), nn.ReLU()), 3 * 8 * 10),
    ],
)
def test_what_the_engine_cannot_train_goes_elsewhere(parts, features):
    task = make((lambda: chain(*parts, features), (2, 10, 12)), RECIPES["adam"])
    assert not suits(task.problem)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "image"), [(models.lenet5, (1, 28, 28)), (lambda: models.conv(2), (3, 32, 32))]
)
def test_networks_of_the_registry_equal_the_reference(build, image):
    task = make(
        (lambda: build(classes=3) if build is models.lenet5 else models.conv(2, classes=3), image),
        Recipe(lr=1e-3, batch_size=60),
    )
    masks = masks_of(task)
    plan = Plan(2, 3, test=True, keep_states=True)
    assert suits(task.problem)
    assert_near(
        train_compiled(task.problem, masks, plan), reference(task.problem, masks, plan), 1e-9
    )

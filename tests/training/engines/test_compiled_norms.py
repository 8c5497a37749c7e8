"""The compiled engine's batch normalisation and residual blocks: the numbers of the reference."""

import numpy as np
import pytest
import torch
from support.convolutions import (
    assert_auto_is_compiled,
    assert_divergence_disturbs_no_other,
    assert_near,
    chain,
    distance,
    make,
    masks_of,
)
from support.networks import RECIPES, assert_same, reference, trained_by_three_threads
from torch import nn
from torch.nn import functional as F

from nets_deap import Recipe, models
from nets_deap.tickets import bits
from nets_deap.training import batches
from nets_deap.training.engines.cpu import convolutions, engine
from nets_deap.training.engines.cpu.engine import obstacle, suits, train_compiled
from nets_deap.training.problem import Plan

PLAN = Plan(steps=6, seed=3, curve_points=2, test=True, keep_states=True)
RECIPE = Recipe(lr=3e-3, batch_size=17)
RELU, TANH = nn.ReLU(), nn.Tanh()


# Convolutions have no biases here: before a normalisation their gradient is pure rounding, which
# Adam blows up.
def conv(n_in, n_out, *more, **options):
    return nn.Conv2d(n_in, n_out, *more, bias=False, **options)


def two(*more, first=None, second=None, features=4 * 8 * 10):
    """Two normalised stages of images of 2x10x12, with something after the first activation."""
    first = nn.BatchNorm2d(6) if first is None else first
    second = nn.BatchNorm2d(4) if second is None else second
    start = conv(2, 6, 3, padding=1), first, RELU
    return chain(*start, *more, conv(6, 4, 3), second, RELU, features)


def mixed():
    """Some stages are normalised, with biases where not; groups, strides and dilation."""
    parts = [nn.Conv2d(2, 6, 3, stride=2, padding=1), TANH, conv(6, 6, 3, padding=1, groups=3)]
    parts += [nn.BatchNorm2d(6), conv(6, 4, 3, padding=2, dilation=2), nn.BatchNorm2d(4)]
    return chain(*parts, nn.Sigmoid(), nn.MaxPool2d(2), 4 * 2 * 3)


class Block(nn.Module):
    """Two convolutions, and the input added, projected where it is of another shape."""

    def __init__(self, n_in, n_out, stride=1, *, activation=F.relu, late=False):
        super().__init__()
        self.first, self.second = conv(n_in, n_out, 3, stride, 1), conv(n_out, n_out, 3, 1, 1)
        self.norm1, self.norm2 = nn.BatchNorm2d(n_out), nn.BatchNorm2d(n_out)
        self.activation, self.late, self.shortcut = activation, late, nn.Identity()
        if stride > 1 or n_in != n_out:
            projected = conv(n_in, n_out, 1, stride), nn.BatchNorm2d(n_out)
            self.shortcut = nn.Sequential(*projected)

    def forward(self, x):
        shortcut = None if self.late else self.shortcut(x)
        y = self.norm2(self.second(F.relu(self.norm1(self.first(x)), inplace=True)))
        if self.late:
            return self.activation(self.shortcut(x) + y)
        y += shortcut
        return self.activation(y)


class Residual(nn.Module):
    """Blocks after a stem that is pooled, then the mean over all positions."""

    def __init__(self, *blocks, width):
        super().__init__()
        self.stem, self.norm = conv(2, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Linear(width, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.stem(x))), 2)
        return self.last(torch.flatten(F.adaptive_avg_pool2d(self.blocks(x), 1), 1))


class Sums(nn.Module):
    """Sums without normalisation: a map read and added by one stage, the inputs read by two."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 5, 3, padding=1), nn.Conv2d(5, 5, 3, padding=1)
        self.c, self.last = nn.Conv2d(2, 5, 1), nn.Linear(5 * 4 * 3, 3)

    def forward(self, x):
        y = torch.tanh(self.a(x))
        y = F.avg_pool2d(self.c(x) + torch.relu(self.b(y) + y), 3)
        return self.last(torch.sigmoid(y).flatten(1))


IMAGE = (2, 10, 12)
NETWORKS = {
    "two stages": (two, IMAGE),
    "maximum": (lambda: two(nn.MaxPool2d(2), features=4 * 3 * 4), (2, 11, 13)),
    "mean": (lambda: two(nn.AvgPool2d((2, 3)), features=4 * 3 * 2), (2, 11, 13)),
    "no factors": (lambda: two(first=nn.BatchNorm2d(6, affine=False)), IMAGE),
    "other numbers": (lambda: two(first=nn.BatchNorm2d(6, eps=0.1, momentum=0.4)), IMAGE),
    "mean over all": (lambda: two(first=nn.BatchNorm2d(6, momentum=None)), IMAGE),
    "no statistics kept": (
        lambda: two(first=nn.BatchNorm2d(6, track_running_stats=False)), IMAGE,
    ),
    "mixed": (mixed, (2, 9, 11)),
    "projected": (
        lambda: Residual(Block(6, 8), Block(8, 10, 2), Block(10, 10), width=10), (2, 14, 11),
    ),
    "projected late": (
        lambda: Residual(
            Block(6, 6, 2, late=True), Block(6, 6, late=True, activation=torch.tanh), width=6
        ),
        (2, 14, 11),
    ),
    "sums": (Sums, (2, 13, 11)),
    "resnet": (lambda: models.ResNet(1, channels=2, classes=3), (2, 11, 9)),
}  # fmt: skip


def agree(task, masks, plan=PLAN, rtol=1e-9, **options):
    """Compare with the reference; return what the compiled engine gave."""
    assert not obstacle(task.problem)
    outcome = train_compiled(task.problem, masks, plan, **options)
    assert_near(outcome, reference(task.problem, masks, plan, **options), rtol)
    return outcome


@pytest.mark.parametrize("name", NETWORKS)
def test_normalised_and_residual_networks_equal_the_reference(name):
    task = make(NETWORKS[name], RECIPE)
    agree(task, masks_of(task))


@pytest.mark.parametrize("batch_size", [1, 8, 9, 60, 64, 65, 90])
def test_any_minibatch_equals_the_reference(batch_size):
    """Below a block of lanes, one that is not full, and more than the layers after take at once."""
    task = make(NETWORKS["maximum"], Recipe(lr=3e-3, batch_size=batch_size))
    agree(task, masks_of(task))


def test_one_number_of_each_channel_has_no_statistics():
    """As torch has it, which refuses such a minibatch: so do the other engines."""
    model = chain(conv(2, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), 4)
    problem = make((lambda: model, (2, 3, 3)), Recipe(batch_size=2)).problem
    assert suits(problem)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        make((lambda: model, (2, 3, 3)), Recipe(batch_size=1), engine="auto")
    with pytest.raises(ValueError, match="engine must suit"):
        make((lambda: model, (2, 3, 3)), Recipe(batch_size=1), engine="compiled")


def test_measured_together_are_those_that_the_reference_measures_together(monkeypatch):
    """Without running statistics numbers depend on the other examples: pieces of a split."""
    for module in (batches, engine):
        monkeypatch.setattr(module, "EVAL_ROWS", 30)
    monkeypatch.setattr(batches.eval_batches, "__defaults__", (30,))
    task = make(NETWORKS["no statistics kept"], RECIPE)
    assert len(task.problem.val[0]) == 70
    agree(task, masks_of(task))


@pytest.mark.parametrize("optimizer", RECIPES)
def test_any_optimizer_equals_the_reference_and_pruned_weights_stay_zero(optimizer):
    task = make(NETWORKS["no factors"], RECIPES[optimizer])
    masks = masks_of(task)
    outcome = agree(task, masks)
    for packed, state, end in zip(masks, outcome.states, outcome.trained, strict=True):
        mask = bits.unpack(packed, task.layout.size)
        flat = np.concatenate([state[name].reshape(-1) for name in task.layout.names])
        assert not flat[~mask].any()
        np.testing.assert_array_equal(flat[mask], end.values)


@pytest.mark.slow  # compiled a second time
@pytest.mark.parametrize("name", ["two stages", "projected"])
def test_float32_is_as_near_to_float64_as_that_of_torch(name):
    recipe = Recipe(optimizer="sgd", lr=1e-2, batch_size=60)
    exact, task = make(NETWORKS[name], recipe), make(NETWORKS[name], recipe, torch.float32)
    masks = masks_of(task)
    expected = reference(exact.problem, masks, PLAN)
    ours, theirs = (f(task.problem, masks, PLAN) for f in (train_compiled, reference))
    for one, other, right in zip(ours.states, theirs.states, expected.states, strict=True):
        for parameter, tensor in one.items():
            allowed = 4 * distance(other[parameter], right[parameter]) + 1e-6
            assert distance(tensor, right[parameter]) <= allowed, parameter


def test_a_mean_far_from_zero_costs_no_digits():
    """Sums of squares would lose nearly all: squared means are 1e14 times the variances."""
    task = make(NETWORKS["two stages"], Recipe(lr=1e-12, batch_size=60))
    for part in (task.problem.train, task.problem.val):
        part[0].add_(1e7)
    masks = masks_of(task, (1.0,))
    for one, other in zip(
        train_compiled(task.problem, masks, PLAN).states,
        reference(task.problem, masks, PLAN).states,
        strict=True,
    ):
        assert distance(one["1.running_var"], other["1.running_var"]) < 1e-6


@pytest.mark.parametrize("whole_from", [0.0, 2.0])
def test_how_a_convolution_is_held_changes_only_rounding(whole_from, monkeypatch):
    monkeypatch.setattr(convolutions, "WHOLE_FROM", whole_from)
    for name in ("projected", "resnet"):
        task = make(NETWORKS[name], RECIPE)
        agree(task, masks_of(task))


def test_channels_without_weights_are_constant_and_learn_their_terms():
    task = make(NETWORKS["resnet"], RECIPE)
    mask = np.random.default_rng(0).random(task.layout.size) < 0.3
    gone = task.layout.split(mask)
    for kept in gone.values():
        if kept.ndim == 4:
            kept[::3] = False
    flat = np.concatenate([gone[name].reshape(-1) for name in task.layout.names])
    agree(task, [task.ticket(flat).packed])


@pytest.mark.parametrize("frozen", ["rests", "factors", "all that it has"])
def test_a_frozen_normalisation_is_as_in_the_reference(frozen):
    def build():
        model = two(nn.MaxPool2d(2), features=4 * 3 * 4)
        norm = model[1]
        with torch.no_grad():
            norm.weight.uniform_(0.5, 2)
            norm.bias.uniform_(-1, 1)
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
        norm.weight.requires_grad_(frozen == "rests")
        norm.bias.requires_grad_(frozen != "all that it has")
        norm.train(frozen == "factors")
        return model

    task = make((build, (2, 11, 13)), Recipe(lr=3e-3, batch_size=17, weight_decay=0.1))
    outcome = agree(task, masks_of(task))
    own = outcome.trained[0].unmasked
    assert ("1.weight" in own, "1.bias" in own) == (frozen == "rests", frozen != "all that it has")
    same = np.array_equal(own["1.running_mean"], task.problem.buffers["1.running_mean"])
    assert same == (frozen != "factors")
    # A layer that is no normalisation trains elsewhere, if frozen.
    model = build()
    model[0].weight.requires_grad_(False)
    assert "'0.weight' is frozen" in obstacle(make((lambda: model, (2, 11, 13)), RECIPE).problem)


def test_a_start_elsewhere_goes_on_from_its_statistics():
    task = make(NETWORKS["mean over all"], RECIPE)
    masks = masks_of(task)
    first = train_compiled(task.problem, masks, PLAN)
    assert {"1.running_mean", "1.num_batches_tracked", "4.running_var"} <= set(
        first.trained[0].unmasked
    )
    outcome = agree(task, masks, starts=[first.trained[0], None, first.trained[2]])
    counts = [int(state["1.num_batches_tracked"]) for state in outcome.states]
    assert counts == [2 * PLAN.steps, PLAN.steps, 2 * PLAN.steps]


def test_one_company_or_another_chunks_and_threads_change_nothing():
    task = make(NETWORKS["projected"], RECIPES["adam"])
    masks = masks_of(task, (0.9, 0.5, 0.2, 0.05))
    whole, shared = trained_by_three_threads(train_compiled, task, masks, PLAN)
    assert_same(shared, whole, rtol=0)
    assert_same(train_compiled(task.problem, masks, PLAN, chunk=1), whole, rtol=0)


def test_auto_takes_the_compiled_engine_whatever_the_masks():
    task = make(NETWORKS["resnet"], Recipe(batch_size=64))
    assert_auto_is_compiled(task, PLAN)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_a_diverged_network_shows_in_its_numbers_and_disturbs_no_other(bad):
    task = make(NETWORKS["projected"], RECIPE)
    assert_divergence_disturbs_no_other(task, bad, PLAN)


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda: two(first=nn.GroupNorm(2, 6)), "GroupNorm"),
        (lambda: two(first=nn.InstanceNorm2d(6)), "InstanceNorm2d"),
        (lambda: chain(conv(2, 4, 3), RELU, nn.BatchNorm2d(4), 4 * 8 * 10), "'2' stands where"),
    ],
)
def test_what_the_engine_cannot_train_is_named(build, why):
    assert why in obstacle(make((build, IMAGE), RECIPE).problem)


@pytest.mark.slow
def test_resnet20_equals_the_reference():
    task = make((lambda: models.resnet20(classes=3), (3, 32, 32)), Recipe(lr=1e-3, batch_size=64))
    agree(task, masks_of(task), Plan(2, 3, test=True, keep_states=True))

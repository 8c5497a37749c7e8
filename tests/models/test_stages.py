"""``staged_of``: which models are stages of convolutions before linear layers."""

import random

import numpy as np
import pytest
import torch
from support.networks import Custom
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from nets_deap import models
from nets_deap.models.stages import INPUTS, Shortcut, staged_of


def test_lenet5_is_two_stages_and_three_layers():
    staged = staged_of(models.lenet5(), (1, 28, 28))
    assert staged.in_a_row
    assert [stage.weight for stage in staged.stages] == ["0.weight", "3.weight"]
    assert [stage.bias for stage in staged.stages] == ["0.bias", "3.bias"]
    assert all(isinstance(stage.activation, nn.ReLU) for stage in staged.stages)
    assert all(stage.pool.kernel_size == 2 and not stage.pools_first for stage in staged.stages)
    assert staged.head.names == ("7", "9", "11")


@pytest.mark.parametrize("depth", [2, 4, 6])
def test_every_second_convolution_of_conv_networks_is_pooled(depth):
    stages = staged_of(models.conv(depth), (3, 32, 32)).stages
    assert [stage.pool is not None for stage in stages] == [False, True] * (depth // 2)


def test_sequences_of_sequences_keep_their_names():
    block = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Tanh())
    staged = staged_of(
        nn.Sequential(block, nn.Sequential(nn.Flatten(), nn.Linear(8, 3))), (1, 6, 6)
    )
    (stage,) = staged.stages
    assert (stage.name, stage.pools_first, staged.head.names) == ("0.0", True, ("1.1",))


def test_fully_connected_layers_are_no_stages_and_a_head():
    for model, shape in (
        (models.lenet_300_100(), (1, 28, 28)),
        (nn.Sequential(nn.Linear(6, 3)), (6,)),
    ):
        staged = staged_of(model, shape)
        assert (staged.stages, staged.in_a_row) == ((), True)
        assert len(staged.head.linears) == len(staged.head.activations) + 1


def test_resnet20_reads_and_adds_what_its_blocks_say():
    staged = staged_of(models.resnet20(), (3, 32, 32))
    assert not staged.in_a_row
    assert [stage.source for stage in staged.stages] == list(range(-1, 18))
    assert all(stage.norm is not None for stage in staged.stages)
    assert [s.norm_name for s in staged.stages[:3]] == ["bn", "blocks.0.bn1", "blocks.0.bn2"]
    expected = [None, None, *([Shortcut(0), None, Shortcut(2), None, Shortcut(4), None])]
    expected += [Shortcut(6, (2, 2), 8), None, Shortcut(8), None, Shortcut(10), None]
    expected += [Shortcut(12, (2, 2), 16), None, Shortcut(14), None, Shortcut(16)]
    assert [stage.shortcut for stage in staged.stages] == expected
    assert isinstance(staged.stages[-1].pool, nn.AdaptiveAvgPool2d)
    assert staged.head.names == ("linear",)


def own(function, **more):
    """A model of a function; its layers are on images of 1x6x6."""
    layers = {"conv": nn.Conv2d(1, 2, 3), "linear": nn.Linear(8, 3)}
    return Custom(function, **layers, **more)


FORWARDS = {
    "functions": lambda m, x: m.linear(torch.flatten(F.max_pool2d(F.relu(m.conv(x)), 2), 1)),
    "methods": lambda m, x: m.linear(F.max_pool2d(m.conv(x).relu(), (2, 2)).view(x.size(0), -1)),
    "in place": lambda m, x: m.linear(
        F.max_pool2d(F.relu(m.conv(x), inplace=True), kernel_size=2, stride=2).flatten(1)
    ),
    "sizes": lambda m, x: m.linear(F.max_pool2d(torch.relu(m.conv(x)), 2).reshape(-1, 8)),
    "in place by name": lambda m, x: m.linear(
        F.max_pool2d(m.conv(x).relu_(), 2).reshape(len(x), 8)
    ),
}


@pytest.mark.parametrize("name", FORWARDS)
def test_a_forward_of_its_own_is_what_it_computes(name):
    model = own(FORWARDS[name])
    staged = staged_of(model, (1, 6, 6))
    (stage,) = staged.stages
    assert stage.convolution is model.conv, "the module's own layer, not that of a copy"
    assert isinstance(stage.activation, nn.ReLU)
    assert (stage.pool.kernel_size, stage.pools_first) in (((2, 2), False), (2, False))
    assert (staged.head.names, stage.source) == (("linear",), INPUTS)
    assert "forward" not in vars(model.conv), "the model is left as it was"


@pytest.mark.parametrize(
    "pooled",
    [
        lambda m, x: x.mean((2, 3)),
        lambda m, x: torch.mean(x, dim=[-1, -2]),
        lambda m, x: x.mean((2, 3), keepdim=True).flatten(1),
        lambda m, x: F.adaptive_avg_pool2d(x, 1).flatten(1),
        lambda m, x: F.avg_pool2d(x, x.size(3)).view(x.size(0), -1),
        lambda m, x: F.avg_pool2d(x, x.shape[-1]).flatten(1),
    ],
)
def test_the_mean_over_all_positions_is_pooling(pooled):
    model = own(lambda m, x: m.head(pooled(m, torch.tanh(m.conv(x)))), head=nn.Linear(2, 3))
    del model.linear
    (stage,) = staged_of(model, (1, 6, 6)).stages
    assert isinstance(stage.activation, nn.Tanh)
    assert stage.pool is not None


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("late", [False, True])
def test_a_projected_shortcut_is_a_stage_whose_result_is_added(swap, late):
    def block(m, x):
        x = F.relu(m.norm0(m.stem(x)))
        shortcut = None if late else m.norm2(m.project(x))
        y = m.norm1(m.conv(x))
        shortcut = m.norm2(m.project(x)) if late else shortcut
        y = shortcut + y if swap else y + shortcut
        return m.linear(F.relu(y).mean((2, 3)))

    layers = {"stem": nn.Conv2d(1, 2, 3), "conv": nn.Conv2d(2, 4, 3, 2)}
    layers |= {"project": nn.Conv2d(2, 4, 3, 2), "linear": nn.Linear(4, 3)}
    layers |= {"norm0": nn.BatchNorm2d(2), "norm1": nn.BatchNorm2d(4), "norm2": nn.BatchNorm2d(4)}
    staged = staged_of(Custom(block, **layers), (1, 9, 9))
    second, third = ("conv", "project") if late else ("project", "conv")
    assert [stage.name for stage in staged.stages] == ["stem", second, third]
    assert [stage.source for stage in staged.stages] == [INPUTS, 0, 0]
    assert staged.stages[1].is_unfinished
    assert staged.stages[2].shortcut == Shortcut(1)


CONV, LINEAR = nn.Conv2d(1, 2, 3), nn.Linear(32, 3)


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ((CONV, nn.Flatten()), "does not end with linear layers"),
        ((CONV, LINEAR), "does not run on shapes"),
        ((CONV, nn.Flatten(2), nn.Linear(16, 3)), "'1' gives another shape"),
        ((nn.ReLU(), CONV, nn.Flatten(), LINEAR), "'0' stands where"),
        ((CONV, nn.ReLU(), nn.ReLU(), nn.Flatten(), LINEAR), "'2' stands where"),
        (
            (CONV, nn.MaxPool2d(2), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 3)),
            "'2' pools twice",
        ),
        ((CONV, nn.ReLU(), nn.BatchNorm2d(2), nn.Flatten(), LINEAR), "'2' stands where"),
        ((CONV, nn.Flatten(), LINEAR, nn.Linear(3, 3)), "'3' stands where"),
        ((nn.Conv1d(1, 2, 3), nn.Flatten(), LINEAR), "conv1d"),
        ((CONV, nn.Dropout(0.5), nn.Flatten(), LINEAR), r"'1' \(Dropout\) calls dropout"),
        (
            (CONV, *[shared := nn.Conv2d(2, 2, 1)] * 2, nn.Flatten(), LINEAR),
            "are one tensor|more than once",
        ),
    ],
)
def test_other_sequences_say_why(parts, why):
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(staged_of(nn.Sequential(*parts), (1, 6, 6)))


def plain(m, x):
    return m.linear(F.max_pool2d(F.relu(m.conv(x)), 2).flatten(1))


def counting(m, x):
    m.calls = getattr(m, "calls", 0) + 1
    return plain(m, x)


def without_gradient(m, x):
    with torch.no_grad():
        x = m.conv(x)
    return m.linear(F.max_pool2d(F.relu(x), 2).flatten(1))


def under_autocast(m, x):
    with torch.autocast("cpu", torch.bfloat16):
        return plain(m, x)


class Through(torch.autograd.Function):
    """The identity, whose gradient is not."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, slope):
        return -slope


def used_before_it_changed(m, x):
    flat = m.conv(x).flatten(1)
    return m.linear(F.relu_(flat))


ODD = {
    "data": (lambda m, x: plain(m, x) if x.sum() > 0 else plain(m, -x), "shapes alone|sum"),
    "values": (lambda m, x: plain(m, x) if x.tolist() else x, "tolist|shapes alone"),
    "training": (
        lambda m, x: plain(m, x if m.training else F.relu(x)),
        "another in training|not known",
    ),
    "training, plainly": (
        lambda m, x: m.linear(
            (F.max_pool2d if m.training else F.avg_pool2d)(m.conv(x), 2).flatten(1)
        ),
        "another in training",
    ),
    "dropout": (lambda m, x: plain(m, F.dropout(x, training=m.training)), "dropout"),
    "random": (lambda m, x: plain(m, x) if random.random() < 2 else x, "random"),
    "numpy's random": (
        lambda m, x: plain(m, x) if np.random.rand() < 2 else x,  # noqa: NPY002
        "random",
    ),
    "torch's random": (lambda m, x: plain(m, x) if torch.rand(()) < 2 else x, "rand"),
    "memory": (counting, "remembers"),
    "its own product": (
        lambda m, x: m.linear(F.max_pool2d(F.conv2d(x, m.conv.weight), 2).flatten(1)),
        "conv2d",
    ),
    "a weight twice": (
        lambda m, x: m.linear(m.linear(F.max_pool2d(m.conv(x), 2).flatten(1)) @ x),
        "'|matmul",
    ),
    "a layer twice": (
        lambda m, x: m.last(m.again(m.again(m.conv(x))).flatten(1)),
        "more than once",
    ),
    "a layer not used": (lambda m, x: m.linear(x.flatten(1)[:, :8]), "getitem"),
    "detached": (lambda m, x: m.linear(F.max_pool2d(m.conv(x).detach(), 2).flatten(1)), "detach"),
    "no gradient": (without_gradient, "_set_grad_enabled"),
    "autocast": (under_autocast, "autocast"),
    "its own gradient": (lambda m, x: plain(m, Through.apply(x)), "view_as|earlier results"),
    "scaled": (lambda m, x: 2 * plain(m, x), "mul"),
    "added a number": (lambda m, x: plain(m, x) + 1, "add"),
    "other examples": (lambda m, x: plain(m, x[:3]), "__getitem__"),
    "so many examples": (lambda m, x: plain(m, x.view(3, 1, 6, 6)), "shapes alone"),
    "views that change": (used_before_it_changed, "changes what it is given"),
    "two outputs": (lambda m, x: (plain(m, x), x), "output"),
    "not all used": (lambda m, x: (F.relu(m.conv(x)), m.linear(x.flatten(1)))[1], "'|shapes"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_may_compute_something_else_says_why(name):
    function, why = ODD[name]
    layers = (
        {"again": nn.Conv2d(2, 2, 1), "last": nn.Linear(32, 3)} if "layer twice" in name else {}
    )
    model = own(function, **layers)
    if layers:
        del model.linear
    found = staged_of(model, (1, 6, 6))
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(found)


def test_hooks_shared_and_computed_weights_and_further_tensors_say_why():
    def found(change):
        model = own(plain)
        change(model)
        return staged_of(model, (1, 6, 6))

    def share(model):
        model.second = nn.Linear(8, 3)
        model.second.weight = model.linear.weight

    assert "has hooks" in found(lambda m: m.conv.register_forward_hook(lambda *_: None))
    assert "has hooks" in found(lambda m: m.register_full_backward_hook(lambda *_: None))
    assert "(_Orthogonal) calls" in found(lambda m: parametrizations.orthogonal(m.conv))
    assert "are one tensor" in found(share)
    assert "'scale' is used" in found(
        lambda m: m.register_parameter("scale", nn.Parameter(torch.ones(1)))
    )
    assert "'mean' is used" in found(lambda m: m.register_buffer("mean", torch.ones(1)))
    odd = type("Odd", (nn.Conv2d,), {"forward": lambda self, x: 2 * nn.Conv2d.forward(self, x)})
    assert "'conv' (Odd) calls" in found(lambda m: setattr(m, "conv", odd(1, 2, 3)))
    assert isinstance(found(lambda m: None).head.names, tuple)

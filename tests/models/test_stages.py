"""``staged_of``: which models are stages of convolutions before linear layers."""

import pytest
from torch import nn

from nets_deap import models
from nets_deap.models.stages import staged_of


def test_lenet5_is_two_stages_and_three_layers():
    staged = staged_of(models.lenet5())
    assert [stage.weight for stage in staged.stages] == ["0.weight", "3.weight"]
    assert [stage.bias for stage in staged.stages] == ["0.bias", "3.bias"]
    assert all(isinstance(stage.activation, nn.ReLU) for stage in staged.stages)
    assert all(stage.pool.kernel_size == 2 and not stage.pools_first for stage in staged.stages)
    assert staged.head.names == ("7", "9", "11")


@pytest.mark.parametrize("depth", [2, 4, 6])
def test_every_second_convolution_of_conv_networks_is_pooled(depth):
    stages = staged_of(models.conv(depth)).stages
    assert [stage.pool is not None for stage in stages] == [False, True] * (depth // 2)


def test_sequences_of_sequences_keep_their_names():
    block = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Tanh())
    staged = staged_of(nn.Sequential(block, nn.Sequential(nn.Flatten(), nn.Linear(8, 3))))
    (stage,) = staged.stages
    assert (stage.name, stage.pools_first, staged.head.names) == ("0.0", True, ("1.1",))


CONV, LINEAR = nn.Conv2d(1, 2, 3), nn.Linear(8, 3)


@pytest.mark.parametrize(
    "parts",
    [
        (nn.Flatten(), LINEAR),
        (CONV, nn.Flatten()),
        (CONV, LINEAR),
        (CONV, nn.Flatten(2), LINEAR),
        (nn.ReLU(), CONV, nn.Flatten(), LINEAR),
        (CONV, nn.ReLU(), nn.ReLU(), nn.Flatten(), LINEAR),
        (CONV, nn.MaxPool2d(2), nn.MaxPool2d(2), nn.Flatten(), LINEAR),
        (CONV, nn.BatchNorm2d(2), nn.Flatten(), LINEAR),
        (CONV, nn.Flatten(), LINEAR, LINEAR),
        (nn.Conv1d(1, 2, 3), nn.Flatten(), LINEAR),
        (nn.Conv2d(2, 2, 3), *[shared := nn.Conv2d(2, 2, 3)] * 2, nn.Flatten(), LINEAR),
    ],
)
def test_other_sequences_are_none(parts):
    assert staged_of(nn.Sequential(*parts)) is None


def test_other_modules_and_hooks_are_none():
    assert staged_of(models.lenet_300_100()) is None
    assert staged_of(models.resnet20()) is None
    model = models.lenet5()
    model[0].register_forward_hook(lambda *_: None)
    assert staged_of(model) is None

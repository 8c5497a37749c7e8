"""Counting what networks cost; latency itself is tested with ``measure_latency``."""

import pytest
import torch
from torch import nn

from nets_deap.models import conv, lenet5, lenet_300_100, resnet20
from nets_deap.models.compact.footprint import (
    Footprint,
    count_multiply_adds,
    measure_footprints,
    table,
)


@pytest.mark.parametrize(
    ("model", "shape", "expected"),
    [
        (lenet_300_100(), (1, 28, 28), 266_200),
        # 28x28 places of 150 weights, 10x10 of 2,400, then fully connected layers.
        (lenet5(), (1, 28, 28), 784 * 150 + 100 * 2400 + 48_000 + 10_080 + 840),
        (nn.Conv1d(4, 6, 3, groups=2, stride=2), (4, 9), 4 * 6 * 2 * 3),
        (nn.ConvTranspose1d(4, 6, 3, groups=2), (4, 9), 9 * 4 * 3 * 3),
        (nn.Linear(3, 2), (5, 3), 5 * 3 * 2),  # at each of five places
        (nn.ReLU(), (3,), 0),
    ],
)
def test_multiply_adds_of_one_example(model, shape, expected):
    model.train()
    assert count_multiply_adds(model, torch.zeros(1, *shape)) == expected
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_resnet20_has_the_multiply_adds_of_its_paper():
    assert count_multiply_adds(resnet20(), torch.zeros(1, 3, 32, 32)) == pytest.approx(
        41e6, rel=0.02
    )


def test_several_examples_are_refused():
    with pytest.raises(
        ValueError, match="example must have the right length: expected examples = 1"
    ):
        count_multiply_adds(nn.Linear(2, 2), torch.zeros(2, 2))


def test_footprints_count_buffers_too():
    modules = {"norm": nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), "bare": nn.Linear(3, 4)}
    found = measure_footprints(modules, torch.zeros(5, 3), batch_sizes=(2,), repeats=1)
    assert [found[name].parameters for name in modules] == [16 + 8, 16]
    assert [found[name].bytes for name in modules] == [4 * (16 + 8 + 8) + 8, 64]
    assert list(found["bare"].latency) == [2]


def test_the_table_sets_each_beside_the_first():
    text = table(
        {
            "dense": Footprint(4000, 16_000, 8000, {1: 4e-3}),
            "compact": Footprint(1000, 4000, 0, {1: 1e-3}),
        }
    )
    assert [line.split() for line in text.splitlines()] == [
        ["parameters", "bytes", "multiply-adds", "latency", "at", "B", "=", "1"],
        ["dense", "4,000", "16,000", "8,000", "4.000", "ms"],
        ["compact", "1,000", "(4.0x)", "4,000", "(4.0x)", "0", "1.000", "ms", "(4.0x)"],
    ]


def test_conv_loses_multiply_adds_with_its_filters():
    whole = count_multiply_adds(conv(2, image=(1, 12, 12)), torch.zeros(1, 1, 12, 12))
    assert whole == 144 * 9 * 64 * 65 + 64 * 36 * 256 + 256 * 256 + 2560

"""Losses, counts of correct outputs, the loss of knowing nothing, and checks of targets."""

import math

import pytest
import torch
from torch import tensor
from torch.nn import functional as F

from nets_deap.training.losses import chance_loss, loss_of, n_correct, prepare_target

LOGITS = tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]])


def test_losses_are_means_over_the_minibatch():
    by_hand = -F.log_softmax(LOGITS, 1)[[0, 1], [0, 2]].mean()
    assert loss_of("cross_entropy", LOGITS, tensor([0, 2])) == pytest.approx(float(by_hand))
    output, target = tensor([[0.0], [2.0]]), tensor([1.0, 0.0])
    binary = (math.log(2) + math.log1p(math.exp(2))) / 2
    assert float(loss_of("binary_cross_entropy", output, target)) == pytest.approx(binary)
    assert float(loss_of("mse", output, target)) == pytest.approx((1 + 4) / 2)


def test_correct_outputs():
    assert n_correct("cross_entropy", LOGITS, tensor([0, 2])) == 1
    assert n_correct("binary_cross_entropy", tensor([[0.1], [-3.0]]), torch.ones(2)) == 1
    assert math.isnan(n_correct("mse", torch.zeros(2, 1), torch.zeros(2)))
    # Several targets for each example count by their share.
    assert n_correct("binary_cross_entropy", tensor([[1.0, -1], [1, 1]]), torch.eye(2)) == 1.5
    output, target = torch.zeros(2, 3, 4, 4), torch.ones(2, 4, 4, dtype=torch.long)
    output[:, 1], target[0, 0] = 1.0, 2
    assert n_correct("cross_entropy", output, target) == 1.75


@pytest.mark.parametrize(
    ("name", "target", "constant"),
    [
        ("cross_entropy", tensor([0, 0, 0, 1, 1, 4]), tensor([3, 2, 1e-9, 1e-9, 1]).log()),
        ("binary_cross_entropy", tensor([[1.0], [0], [0], [0]]), tensor([-math.log(3)])),
        ("mse", tensor([[1.0, 5.0], [2.0, 5.0], [6.0, 8.0]]), tensor([3.0, 6.0])),
    ],
)
def test_no_constant_output_beats_the_chance_loss(name, target, constant):
    def loss(output):
        return float(loss_of(name, output.expand(len(target), -1), target))

    chance = chance_loss(name, target)
    assert loss(constant) == pytest.approx(chance, abs=1e-6)
    rng = torch.Generator().manual_seed(0)
    others = [constant + torch.randn(constant.shape, generator=rng) for _ in range(50)]
    assert min(map(loss, others)) > chance
    same = target[:1].expand(3, *target.shape[1:])
    assert 0 < chance_loss(name, same) < 1e-4, "a reference must not be zero"


def test_targets_are_converted_to_what_the_loss_takes():
    labels = prepare_target("cross_entropy", "val", tensor([0, 2], dtype=torch.uint8), LOGITS)
    assert labels.dtype == torch.int64
    output = torch.zeros(1, 1, dtype=torch.float64)
    for name in ("mse", "binary_cross_entropy"):
        assert prepare_target(name, "val", tensor([0, 1]), output).dtype == torch.float64


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("cross_entropy", tensor([0.0]), r"be class indices: .*float32"),
        ("cross_entropy", tensor([True]), r"be class indices: .*bool"),
        ("cross_entropy", tensor([0, 3]), r"be in range: expected \[0, C = 3\), got .*\[0, 3\]"),
        ("cross_entropy", tensor([-1, 2]), r"be in range: .*got labels in \[-1, 2\]\. The model"),
        ("cross_entropy", tensor([[1]]), r"have the right shape: .*got \(1,\)"),
        ("mse", torch.zeros(2, 4), r"match the output: expected \(3,\), got \(4,\)"),
        (
            "binary_cross_entropy",
            torch.full((2, 3), 0.5),
            r"be binary: .* got val.*BCEWithLogitsLoss",
        ),
    ],
)
def test_bad_targets_are_refused(name, target, message):
    with pytest.raises(ValueError, match=f"^val targets must {message}"):
        prepare_target(name, "val", target, LOGITS[:1])

"""Costs in multiply-adds: numbers worked out by hand."""

import numpy as np
import pytest
import torch
from torch import nn

import nets_deap as nets
from nets_deap.baselines import finetune, imp, one_shot, random_uniform, rigl, snip, synflow
from nets_deap.models.compact.footprint import count_multiply_adds
from nets_deap.tickets import bits
from nets_deap.training.cost import dense_share, uses
from nets_deap.training.task import Ledger


def images(model, size=6):
    x = torch.randn(40, 1, size, size, generator=torch.Generator().manual_seed(0))
    data = x, torch.arange(40) % 2
    recipe = nets.Recipe(steps=5, batch_size=10)
    return nets.Task(model, train=data, val=data, recipe=recipe, device="cpu")


def some(task, n):
    return random_uniform(task, np.linspace(0.9, 0.3, n)).tickets


def share(task, **kept):
    mask = np.zeros(task.layout.size, dtype=bool)
    for layer in task.layout.layers:
        mask[layer.start : layer.start + kept.get(layer.name.replace(".", "_"), 0)] = True
    return dense_share(task.problem, bits.pack(mask))


def test_of_a_fully_connected_network_it_is_the_density(xor_task):
    tickets = [xor_task.dense_ticket(), *some(xor_task, 5)]
    for ticket in tickets:
        found = dense_share(xor_task.problem, ticket.packed_mask)
        assert found == pytest.approx(ticket.density)


def test_weights_of_a_convolution_count_once_for_each_position():
    # 2 filters of 3 x 3 at 4 x 4 positions, then 32 inputs to 2 outputs.
    task = images(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(32, 2)))
    dense = 18 * 16 + 64
    assert share(task, **{"0_weight": 18, "2_weight": 64}) == 1
    assert share(task, **{"0_weight": 5}) == pytest.approx(5 * 16 / dense)
    assert share(task, **{"0_weight": 5, "2_weight": 7}) == pytest.approx((5 * 16 + 7) / dense)


def test_weights_of_a_transposed_convolution_count_once_for_each_position_of_its_input():
    up = nn.ConvTranspose2d(1, 3, 2, stride=2)  # each of 36 pixels makes a 2 x 2 patch
    task = images(nn.Sequential(up, nn.Flatten(), nn.Linear(3 * 144, 2)))
    dense = 12 * 36 + 864
    assert share(task, **{"0_weight": 1}) == pytest.approx(36 / dense)


def test_a_layer_that_is_used_twice_counts_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(36, 36), nn.Linear(36, 2)

        def forward(self, x):
            return self.b(self.a(self.a(x.flatten(1))))

    task = images(Twice())
    assert share(task, a_weight=1) == pytest.approx(2 / (2 * 36 * 36 + 72))


def test_a_weight_of_two_layers_counts_in_both():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(36, 36), nn.Linear(36, 36), nn.Linear(36, 2)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.c(self.b(self.a(x.flatten(1))))

    task = images(Tied())
    assert dict(zip(task.layout.names, uses(task.problem), strict=True)) == {
        "a.weight": 2,
        "c.weight": 1,
    }


def test_a_weight_that_is_computed_counts_as_its_layer_does():
    convolution = nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 2, 3))
    task = images(nn.Sequential(convolution, nn.Flatten(), nn.Linear(32, 2)))
    assert "0.parametrizations.weight.original1" in task.layout.names
    assert uses(task.problem).tolist() == [16, 1]


def test_of_a_residual_network_each_layer_counts_at_its_own_resolution():
    task = images(nets.models.ResNet(1, channels=1, classes=2), size=8)
    by_layer = dict(zip(task.layout.names, uses(task.problem).tolist(), strict=True))
    stages = {f"blocks.{i}.conv{j}.weight": (64, 16, 4)[i] for i in range(3) for j in (1, 2)}
    assert by_layer == {"conv.weight": 64, **stages, "linear.weight": 1}
    dense = sum(by_layer[layer.name] * layer.size for layer in task.layout.layers)
    assert dense == count_multiply_adds(task.problem.model, torch.zeros(1, 1, 8, 8))
    half = share(task, **{"blocks.0.conv1.weight".replace(".", "_"): 1000})
    assert half == pytest.approx(1000 * 64 / dense)


def test_the_ledger_enters_what_the_masks_keep(xor_task):
    before = xor_task.ledger.totals()
    tickets = some(xor_task, 4)
    xor_task.train_all(tickets, steps=7)
    networks, steps, diverged, dense = xor_task.ledger.since(before)
    assert (networks, steps, diverged) == (4, 28, 0)
    assert dense == pytest.approx(7 * sum(ticket.density for ticket in tickets))


def test_a_ledger_of_before_has_no_dense_steps():
    assert Ledger(3, 40, 1).totals() == (3, 40, 1, 0.0)


@pytest.mark.parametrize(
    "find",
    [
        lambda task: finetune(task, rounds=3, steps=10),
        lambda task: imp(task, rounds=3, steps=10),
        lambda task: imp(task, rounds=2, steps=10, rewind_to=4),
        lambda task: one_shot(task, [0.5, 0.25], steps=10),
        lambda task: snip(task, [0.5, 0.25]),
        lambda task: synflow(task, [0.5, 0.25], rounds=4),
        lambda task: rigl(task, [0.5, 0.25], steps=30, delta=10),
    ],
    ids=["finetune", "imp", "rewound", "one-shot", "snip", "synflow", "rigl"],
)
def test_baselines_state_what_they_entered_in_both_costs(find, xor_task):
    before = xor_task.ledger.totals()
    found = find(xor_task)
    _, steps, _, dense = xor_task.ledger.since(before)
    assert found.search_steps == steps
    assert found.search_dense_steps == pytest.approx(dense)
    costs = [level.search_dense_steps for level in found.levels]
    assert costs == sorted(costs)
    assert f"{dense:.0f} dense steps" in repr(found)


def test_rounds_of_pruning_cost_less_and_less(xor_task):
    found = finetune(xor_task, rounds=3, steps=10)
    size = xor_task.layout.size
    kept = [size, *(round(size * 0.8**n) for n in (1, 2))]
    expected = np.cumsum([10 * k / size for k in kept])
    np.testing.assert_allclose([lv.search_dense_steps for lv in found.levels], expected)

"""Baselines of structured tickets: whole neurons and filters by size, and by Torch-Pruning."""

import numpy as np
import pytest
import torch
from torch import nn

import nets_deap as nets
from nets_deap import baselines
from nets_deap.baselines.magnitude import plan_of
from nets_deap.errors import NetsError
from nets_deap.experiments import sanity


class Residual(nn.Module):
    """What comes in two layers from a convolution is added to what it gives."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.three, self.norm = nn.Conv2d(6, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        x = self.one(x)
        x = self.norm(x + self.three(torch.relu(self.two(x))))
        return self.out(x.mean((2, 3)))


def task_of(unit="filter", model=None, **options):
    torch.manual_seed(0)
    model = model or nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(48, 20), nn.ReLU(), nn.Linear(20, 3)),
    )
    rng = np.random.default_rng(0)
    split = rng.normal(size=(64, 1, 8, 8)).astype(np.float32), rng.integers(0, 3, 64)
    recipe = nets.Recipe(optimizer="adam", lr=1e-2, batch_size=16, steps=6)
    return nets.Task(
        model, train=split, val=split, test=split, recipe=recipe, unit=unit, device="cpu",
        engine="loop", **options,
    )  # fmt: skip


METHODS = {
    "one-shot": lambda task, **more: baselines.one_shot(task, [0.6, 0.3], steps=4, **more),
    "imp": lambda task, **more: baselines.imp(task, rounds=4, steps=4, fraction=0.3, **more),
    "finetune": lambda task, **more: baselines.finetune(
        task, rounds=4, steps=4, fraction=0.3, **more
    ),
}


@pytest.mark.parametrize("by", ["magnitude", "lamp", "cost"])
@pytest.mark.parametrize("method", METHODS)
def test_whole_units_go_nested_and_no_layer_collapses(method, by):
    task = task_of(floor=0.25)
    found = METHODS[method](task, by=by)
    goals = [0.6, 0.3] if method == "one-shot" else [0.7**n for n in range(1, 5)]
    largest = task.layout.unit_sizes.max() / task.layout.weights.size
    before = np.ones(task.layout.size, dtype=bool)
    for ticket, goal in zip(found.tickets, goals, strict=True):
        assert ticket.unit == "neuron"
        assert not (ticket.gates & ~before).any()
        kept = [int(part.sum()) for part in task.layout.split(ticket.gates).values()]
        assert (np.array(kept) >= [2, 3, 5]).all()
        at_floor = kept == [2, 3, 5]
        assert abs(ticket.density - goal) <= largest or at_floor or ticket.density > goal
        before = ticket.gates
    assert before.sum() < task.layout.size


def test_the_largest_units_stay():
    task = task_of(floor=0.0)
    [ticket] = baselines.one_shot(task, [0.5], steps=4, scope="layerwise").tickets
    [state] = task.run([task.dense_ticket()], plan_of(task, 0, 1, 4)).trained
    worth = task.layout.split(task.layout.root_mean_square(np.abs(state.values)))
    for name, gates in task.layout.split(ticket.gates).items():
        assert 0 < gates.sum() < len(gates)
        assert worth[name][gates].min() > worth[name][~gates].max()


def test_structured_tickets_are_trained_and_checked():
    task = task_of()
    found = baselines.imp(task, rounds=2, steps=4, fraction=0.3)
    [first, _] = found.train(task, steps=3)
    assert np.isfinite(first.val_loss)
    report = sanity.check(found.tickets[1], task, steps=3, seeds=2)
    assert report.variants["shuffled"].density == pytest.approx(found.tickets[1].density)


@pytest.mark.extra
def test_torch_pruning_ranks_coupled_weights():
    pytest.importorskip("torch_pruning")
    task = task_of(floor=0.25)
    found = baselines.torch_pruning(task, [0.6, 0.3], steps=4)
    assert found.search_steps == 4
    one, other = found.tickets
    assert not (other.gates & ~one.gates).any()
    largest = task.layout.unit_sizes.max() / task.layout.weights.size
    assert abs(one.density - 0.6) <= largest
    with pytest.raises(NetsError, match="task must gate neurons or filters"):
        baselines.torch_pruning(task_of("weight"), [0.5], steps=4)


@pytest.mark.extra
def test_torch_pruning_ranks_filters_that_are_added_as_one():
    pytest.importorskip("torch_pruning")
    task = task_of(model=Residual(), floor=0.5)
    assert task.layout.names == ("one.weight", "two.weight")
    [ticket] = baselines.torch_pruning(task, [0.5], steps=4).tickets
    assert [int(part.sum()) for part in task.layout.split(ticket.gates).values()] == [2, 3]


def test_a_missing_torch_pruning_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch_pruning", None)
    with pytest.raises(NetsError, match=r'pip install -e "\.\[torch-pruning\]"'):
        baselines.torch_pruning(task_of(), [0.5], steps=4)

"""The compiled trainer and the start of training: the same numbers as the slow reference."""

import sys

import numpy as np
import pytest
import torch
from test_training import RECIPES, assert_same, make_task, masks_of
from torch import nn

from nets_deap import Recipe, Task, models
from nets_deap.errors import MissingExtraError
from nets_deap.training import dispatch
from nets_deap.training.one_by_one import train_one_by_one
from nets_deap.training.problem import Plan, Start
from nets_deap.training.compiled import suits, train_compiled
from nets_deap.training.stacked import train_stacked

PLAN = Plan(steps=300, seed=3, curve_points=3, test=True, keep_states=True)
each_trainer = pytest.mark.parametrize("trainer", [train_stacked, train_compiled, train_one_by_one])


def deep(*, bias=True, flatten=False):
    layers = [nn.Linear(6, 9, bias=bias), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 3)]
    return nn.Sequential(*([nn.Flatten()] if flatten else []), *layers)


BUILDERS = {
    "mlp": lambda: models.MLP((6, 9, 3)),
    "deep": deep,
    "no_bias": lambda: deep(bias=False),
    "flatten": lambda: deep(flatten=True),
    "one_layer": lambda: nn.Sequential(nn.Linear(6, 3)),
}


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("model", BUILDERS)
def test_the_compiled_trainer_equals_the_reference(model, optimizer):
    task = make_task("mlp", RECIPES[optimizer], model=BUILDERS[model]())
    masks = masks_of(task, (1.0, 0.5, 0.2))
    assert suits(task.problem)
    sparse = train_compiled(task.problem, masks, PLAN)
    assert_same(sparse, train_one_by_one(task.problem, masks, PLAN), rtol=1e-8)


def test_a_partly_maskable_network_keeps_its_other_weights():
    task = make_task("mlp", RECIPES["adam"], model=deep(), maskable="2.weight")
    masks = masks_of(task, (0.3,))
    sparse = train_compiled(task.problem, masks, PLAN)
    assert set(sparse.others[0]) == {"0.weight", "0.bias", "2.bias", "4.weight", "4.bias"}
    assert_same(sparse, train_one_by_one(task.problem, masks, PLAN), rtol=1e-8)


def test_one_company_or_another_and_threads_change_nothing():
    task = make_task("mlp", RECIPES["adam"], torch.float32, model=deep())
    masks = masks_of(task, (0.9, 0.5, 0.2, 0.6))
    whole, done = train_compiled(task.problem, masks, PLAN), []
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        shared = train_compiled(task.problem, masks, PLAN, on_chunk=done.append)
    finally:
        torch.set_num_threads(before)
    assert sorted(done) == [1, 1, 2]
    for i, mask in enumerate(masks):
        alone = train_compiled(task.problem, [mask], PLAN)
        np.testing.assert_array_equal(alone.values[0], whole.values[i])
        np.testing.assert_array_equal(alone.values[0], shared.values[i])


def test_what_the_compiled_trainer_cannot_train_goes_elsewhere():
    relu, tanh = deep(), nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    assert not suits(make_task("mlp", RECIPES["adam"], model=tanh).problem)
    assert not suits(make_task("mlp", RECIPES["sgd"], model=relu).problem)
    assert not suits(make_task("conv2d", RECIPES["adam"]).problem)
    assert not suits(make_task("frozen", RECIPES["adam"]).problem)
    shared = deep()
    shared[4] = nn.Linear(7, 3)
    shared[4].bias = nn.Parameter(shared[4].bias)
    shared[2].weight.requires_grad_(False)
    assert not suits(make_task("mlp", RECIPES["adam"], model=shared).problem)
    with pytest.raises(ValueError, match=r"trainer must suit the task: .* got sparse. Use trainer"):
        make_task("conv2d", RECIPES["adam"], trainer="sparse")


def test_without_numba_auto_is_stacked_and_sparse_says_what_to_install(monkeypatch):
    monkeypatch.setattr("nets_deap.training.compiled.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "numba", None)
    task = make_task("mlp", RECIPES["adam"], model=deep())
    masks = masks_of(task, (0.2,))
    assert_same(
        dispatch.train(task.problem, masks, PLAN), train_stacked(task.problem, masks, PLAN), 0
    )
    with pytest.raises(MissingExtraError, match=r'pip install "nets-deap\[fast\]"'):
        make_task("mlp", RECIPES["adam"], model=deep(), trainer="sparse")


def test_auto_puts_dense_and_sparse_masks_back_in_order():
    task = make_task("mlp", RECIPES["adam"], model=deep())
    masks = masks_of(task, (0.1, 1.0, 0.2, 0.8))
    done = []
    auto = dispatch.train(task.problem, masks, PLAN, on_chunk=done.append)
    assert sum(done) == 4
    assert_same(auto, train_one_by_one(task.problem, masks, PLAN), rtol=1e-8)


def test_a_diverged_network_shows_in_its_numbers():
    task = make_task("mlp", RECIPES["adam"], torch.float32, model=deep())
    (mask,) = masks_of(task, (0.5,))
    kept = int(np.unpackbits(mask).sum())
    bad = [Start(np.full(kept, np.nan, np.float32)), None]
    outcome = train_compiled(task.problem, [mask, mask], Plan(5, 1), starts=bad)
    assert np.isnan(outcome.metrics["val_loss"][0])
    assert np.isfinite(outcome.metrics["val_loss"][1])


# ---- starting elsewhere than at W0


@each_trainer
def test_training_in_two_halves_of_one_network_starts_where_the_first_ended(trainer):
    task = make_task("mlp", RECIPES["adam"], model=deep())
    masks = masks_of(task, (0.7, 0.4))
    first = trainer(task.problem, masks, Plan(20, 1, keep_states=True))
    starts = [Start(first.values[0], first.others[0]), None]
    nothing = trainer(task.problem, masks, Plan(1, 2, keep_states=True), starts=starts)
    moved = nothing.values[0] - first.values[0]
    # Adam's first step moves each weight by at most the learning rate.
    assert 0 < np.abs(moved).max() <= RECIPES["adam"].lr * (1 + 1e-6)
    bias = nothing.others[0]["4.bias"] - first.others[0]["4.bias"]
    assert 0 < np.abs(bias).max() <= RECIPES["adam"].lr * (1 + 1e-6)
    fresh = trainer(task.problem, masks[1:], Plan(1, 2, keep_states=True))
    np.testing.assert_allclose(nothing.values[1], fresh.values[0], rtol=1e-12)


@pytest.mark.parametrize("module", ["conv2d", "frozen", "tied", "buffers"])
def test_starts_agree_between_the_trainers_with_buffers_and_frozen_layers(module):
    task = make_task(module, RECIPES["adam"])
    masks = masks_of(task)
    first = train_stacked(task.problem, masks, PLAN)
    starts = [Start(v, o) for v, o in zip(first.values, first.others, strict=True)]
    starts[1] = None
    again = train_stacked(task.problem, masks, PLAN, starts=starts, chunk=2)
    assert_same(again, train_one_by_one(task.problem, masks, PLAN, starts=starts), rtol=1e-8)
    assert again.metrics["val_loss"][0] != first.metrics["val_loss"][0]
    assert again.metrics["val_loss"][1] == pytest.approx(first.metrics["val_loss"][1], rel=1e-9)


def test_a_certain_output_has_no_gradient_at_all():
    """Otherwise Adam would blow rounding up into steps of full size."""
    x = np.concatenate([np.full((30, 1), -1.0), np.ones((30, 1))]).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    model = nn.Sequential(nn.Linear(1, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[-500.0], [500.0]]))
    recipe = Recipe(lr=0.01, batch_size=60)
    task = Task(model, train=(x, y), val=(x, y), recipe=recipe, device="cpu")
    outcome = train_compiled(task.problem, [task.dense_ticket().packed], Plan(50, 1))
    assert outcome.values[0].tolist() == [-500.0, 500.0]


def test_masked_biases_are_left_to_the_trainers_that_mask_them():
    task = make_task("mlp", RECIPES["adam"], model=deep(), maskable="*")
    assert not suits(task.problem)

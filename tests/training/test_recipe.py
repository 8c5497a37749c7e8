"""The recipe: its checks, its length and its learning rates."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from nets_deap import Recipe
from nets_deap.training.recipe import SCHEDULES

TORCH_SCHEDULERS = {
    "constant": lambda o: lr_scheduler.LambdaLR(o, lambda _: 1.0),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=40),
    "linear": lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=40),
    "step": lambda o: lr_scheduler.MultiStepLR(o, [10, 32], gamma=0.3),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_learning_rates_are_those_of_torch(schedule):
    recipe = Recipe(schedule=schedule, lr=0.2, milestones=(0.25, 0.8), gamma=0.3)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    scheduler = TORCH_SCHEDULERS[schedule](optimizer)
    for step in range(40):
        expected = optimizer.param_groups[0]["lr"]
        assert recipe.lr_at(step, 40) == pytest.approx(expected, rel=1e-9, abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_warmup_rises_linearly_to_the_schedule():
    rates = [Recipe(lr=1.0, warmup_steps=4).lr_at(i, 9) for i in range(6)]
    np.testing.assert_allclose(rates, [0.2, 0.4, 0.6, 0.8, 1, 1])
    warm, cold = (Recipe(schedule="cosine", warmup_steps=w) for w in (4, 0))
    assert [warm.lr_at(i, 9) / cold.lr_at(i, 9) for i in (0, 7)] == pytest.approx([0.2, 1])


def test_length():
    lengths = ({}, {"steps": 7}, {"epochs": 2, "batch_size": 10}, {"epochs": 1.5, "batch_size": 7})
    assert [Recipe(**fields).total_steps(100) for fields in lengths] == [300, 7, 20, 22]
    assert Recipe(epochs=1e-6).total_steps(100) == 1
    for recipe in (Recipe(epochs=2.0, lr=0.5), Recipe(steps=3, lr=0.5)):
        assert recipe.with_steps(9) == Recipe(steps=9, lr=0.5)
    with pytest.raises(ValueError, match=r"steps must be in range: expected an int >= 1, got 0"):
        Recipe().with_steps(0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer": "adma"}, r"optimizer .* got 'adma'\. Did you mean 'adam'\?"),
        ({"schedule": "cosin"}, r"schedule .*Did you mean 'cosine'\?"),
        ({"loss": "crossentropy"}, r"loss .*Did you mean 'cross_entropy'\?"),
        ({"lr": 0}, r"lr must be in range: expected a finite float in \(0, inf\)"),
        ({"lr": float("nan")}, r"lr must be in range"),
        ({"lr": "1e-3"}, r"lr must be a number: .* got str"),
        ({"momentum": 1.0}, r"momentum must be in range: .*\[0, 1\), got 1\.0"),
        ({"nesterov": True}, r"nesterov must have momentum: .* optimizer 'adam'"),
        ({"optimizer": "sgd", "nesterov": True}, r"nesterov must have .* momentum 0\.0"),
        ({"nesterov": 1}, r"nesterov must be a switch: expected True or False, got int"),
        ({"betas": 0.9}, r"betas must be a pair: .* got float"),
        ({"betas": (0.9, 1.0)}, r"betas must be in range"),
        ({"weight_decay": -1e-4}, r"weight_decay must be in range"),
        ({"milestones": 0.5}, r"milestones must be a tuple: .* got float"),
        ({"milestones": (0.5, 2)}, r"milestones must be in range"),
        ({"gamma": 0}, r"gamma must be in range"),
        ({"warmup_steps": -1}, r"warmup_steps must be in range"),
        ({"batch_size": 60.0}, r"batch_size must be a whole number: .* got float"),
        ({"steps": 0}, r"steps must be in range: expected an int >= 1, got 0"),
        ({"epochs": 0}, r"epochs must be in range"),
        ({"steps": 1, "epochs": 1}, r"steps must stand alone: .* steps 1 and epochs 1"),
        ({"val_points": 0}, r"val_points must be in range"),
    ],
)
def test_a_bad_field_is_named(fields, message):
    with pytest.raises((ValueError, TypeError), match=rf"^recipe\.{message}"):
        Recipe(**fields)


def test_all_bad_fields_are_listed_together():
    with pytest.raises(ValueError, match=r"Recipe has 3 bad fields:\n  - recipe\.lr") as caught:
        Recipe(lr=-1, batch_size="60", loss="hinge")
    assert all(f"\n  - recipe.{name} must" in str(caught.value) for name in ("batch_size", "loss"))


def test_numpy_numbers_and_lists_become_plain():
    given = Recipe(lr=np.float32(0.5), steps=np.int64(7), betas=[np.float64(0.5), 0.75], gamma=1)
    plain = Recipe(lr=0.5, steps=7, betas=(0.5, 0.75), gamma=1.0)
    assert json.dumps(asdict(given)) == json.dumps(asdict(plain))
    assert hash(given) == hash(plain)

"""Optimisers of torch by name and by factory: alike in the engines that take them."""

import functools
import json
import logging

import numpy as np
import pytest
import torch
from support.networks import PLAN, assert_same, make_task, masks_of, reference
from torch import nn

from nets_deap import Recipe
from nets_deap.tickets import bits
from nets_deap.training.engines.batched import train_batched
from nets_deap.training.engines.dispatch import pick_engine
from nets_deap.training.engines.vmap import train_vmap
from nets_deap.training.optimizers import make_optimizer
from nets_deap.training.torch_optimizers import CLASSES, ELEMENTWISE

STACKED = sorted(name for name, kind in CLASSES.items() if kind in ELEMENTWISE)
OTHERS = sorted(set(STACKED) - {"adam", "adamw", "sgd"})


@pytest.mark.parametrize("name", OTHERS)
def test_networks_of_a_batch_share_an_optimiser_as_if_alone(name):
    task = make_task("mlp", Recipe(optimizer=name, lr=0.01, schedule="cosine"))
    masks = masks_of(task)
    expected = reference(task.problem, masks, PLAN)
    for train in (train_batched, train_vmap, train_vmap):  # again: state begins anew
        assert_same(train(task.problem, masks, PLAN), expected, rtol=1e-9)
    assert pick_engine("auto", task.problem) == "batched"
    for mask, trained in zip(masks, expected.states, strict=True):
        flat = torch.cat([trained[layer].reshape(-1) for layer in task.layout.names])
        assert (flat.numpy()[~bits.unpack(mask, task.layout.size)] == 0).all()
    with pytest.raises(ValueError, match=rf"engine must suit the task: .* no optimiser {name}"):
        pick_engine("compiled", task.problem)


def test_a_name_is_plain_torch():
    task = make_task("mlp", Recipe(optimizer="RMSprop", lr=0.01, weight_decay=0.1, momentum=0.5))
    ours = train_vmap(task.problem, masks_of(task, (1.0,)), PLAN).states[0]
    model = task.model
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01, weight_decay=0.1, momentum=0.5)
    for rows in PLAN.batches(task.problem.n_examples, 8):
        optimizer.zero_grad()
        x, y = (part[rows] for part in task.problem.train)
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    for name, tensor in model.state_dict().items():
        np.testing.assert_allclose(ours[name], tensor, rtol=1e-9, atol=1e-12)


def no_decay_of_biases(parameters, lr):
    """Two groups, told apart by their tensors' shapes, one at twice the learning rate."""
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.ndim == 1], "lr": 2 * lr},
    ]
    return torch.optim.Adam(groups, lr=lr, amsgrad=True)


def test_a_factory_makes_groups_of_a_networks_own_tensors():
    task = make_task("mlp", Recipe(optimizer=no_decay_of_biases, lr=0.01, warmup_steps=9))
    masks = masks_of(task)
    assert_same(train_vmap(task.problem, masks, PLAN), reference(task.problem, masks, PLAN), 1e-9)
    tensors = [torch.zeros(2, *t.shape) for t in task.problem.initial.values()]
    made = make_optimizer(
        task.recipe, tensors, fused=False, like=list(task.problem.initial.values())
    )
    assert [(g["weight_decay"], g["share"]) for g in made.param_groups] == [(0.1, 1), (0, 2)]


class SignDescent(torch.optim.Optimizer):
    """Steps by signs, of a size that goes by the tensor's norm, and moves what has no gradient."""

    def __init__(self, params, lr=0.01):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(group["lr"] * (p.grad.sign() + 0.1) * p.grad.norm())


@pytest.mark.parametrize("optimizer", [SignDescent, "adafactor"])
def test_what_goes_by_whole_tensors_trains_one_by_one(optimizer, caplog):
    task = make_task("mlp", Recipe(optimizer=optimizer, lr=0.01))
    with caplog.at_level(logging.WARNING, logger="nets_deap"):
        assert pick_engine("auto", task.problem) == "loop"
    assert "may step a weight by others than its own gradient" in caplog.text
    with pytest.raises(ValueError, match="an optimiser that steps each weight by itself"):
        pick_engine("vmap", task.problem)
    masks = masks_of(task, (0.5,))
    out = reference(task.problem, masks, PLAN)
    flat = torch.cat([out.states[0][layer].reshape(-1) for layer in task.layout.names])
    gone = ~bits.unpack(masks[0], task.layout.size)
    assert (flat.numpy()[gone] == 0).all()
    assert np.isfinite(out.metrics["val_loss"]).all()


def test_a_class_of_torch_is_its_name_and_a_partial_is_told_by_its_arguments():
    assert Recipe(optimizer=torch.optim.SGD) == Recipe(optimizer="SGD") == Recipe(optimizer="sgd")
    one, other = (
        Recipe(optimizer=functools.partial(torch.optim.RMSprop, alpha=alpha))
        for alpha in (0.5, 0.9)
    )
    assert one.as_dict()["optimizer"] != other.as_dict()["optimizer"]
    assert json.loads(json.dumps(one.as_dict()))["optimizer"].startswith("partial(torch.optim")


def test_recipes_without_the_options_are_known_as_before():
    """Run folders and fingerprints of earlier versions hold just these fields."""
    assert set(Recipe().as_dict()) == {
        "optimizer", "lr", "momentum", "nesterov", "betas", "weight_decay", "schedule",
        "milestones", "gamma", "warmup_steps", "batch_size", "steps", "epochs", "loss",
        "val_points",
    }  # fmt: skip
    assert Recipe(clip_norm=1).as_dict()["clip_norm"] == 1.0
    plain, clipped = (make_task("mlp", r) for r in (Recipe(), Recipe(clip_norm=1)))
    assert plain.fingerprint != clipped.fingerprint
    assert clipped.origin()["recipe"]["clip_norm"] == 1.0  # in ticket files
    assert clipped.as_dict()["recipe"] == clipped.recipe.as_dict()  # in run folders


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer": "rmspop"}, r"optimizer must be a known .*Did you mean 'rmsprop'\?"),
        ({"optimizer": 3}, r"optimizer must be an optimiser: expected a name or a function"),
        ({"optimizer": "lbfgs"}, r"optimizer must be a known name"),
        ({"optimizer": torch.optim.LBFGS}, r"optimizer must suit .* LBFGS, which needs a closure"),
        ({"optimizer": "nadam", "momentum": 0.9}, r"optimizer must take .* momentum, got nadam"),
        ({"optimizer": lambda params: None}, r"optimizer must take .* arguments lr"),
        (
            {"optimizer": functools.partial(torch.optim.RMSprop, lr=0.1)},
            r"optimizer must leave it to the recipe: .* Set recipe\.lr instead",
        ),
        ({"clip_norm": 0}, r"clip_norm must be in range"),
        ({"clip_value": "1"}, r"clip_value must be a number"),
        ({"clip_norm": 1, "clip_value": 1}, r"clip_norm must stand alone: expected one of the"),
    ],
)
def test_a_bad_optimiser_or_limit_is_named(fields, message):
    with pytest.raises((ValueError, TypeError), match=rf"^recipe\.{message}"):
        Recipe(**fields)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda parameters, lr: None, "must make an optimiser: expected a torch.optim.Optimizer"),
        ("muon", "must make an optimiser of the network's parameters: .* It said: Muon only"),
    ],
)
@pytest.mark.parametrize("engine", ["auto", "loop"])
def test_a_factory_that_makes_none_is_told_of_when_the_task_is_built(factory, message, engine):
    with pytest.raises((ValueError, TypeError), match=rf"^recipe\.optimizer {message}"):
        make_task("mlp", Recipe(optimizer=factory), engine=engine)

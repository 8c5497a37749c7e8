"""Gradients are clipped network by network, alike in every engine and as torch clips them."""

import numpy as np
import pytest
import torch
from support import convolutions
from support.networks import FULLY_CONNECTED, PLAN, assert_same, make_task, masks_of, reference
from torch import nn

from nets_deap import Recipe
from nets_deap.tickets import bits
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.engines.batched import train_batched
from nets_deap.training.engines.cpu.engine import train_compiled
from nets_deap.training.engines.vmap import train_vmap
from nets_deap.training.problem import Plan

SGD = {"optimizer": "sgd", "lr": 0.2, "momentum": 0.5, "warmup_steps": 5}
# Small enough to bind at most steps of all three networks, and not at all of them.
LIMITS = {"norm": {"clip_norm": 0.3}, "value": {"clip_value": 0.05}}
each_limit = pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
ENGINES = {"batched": train_batched, "compiled": train_compiled, "vmap": train_vmap}


@each_limit
@pytest.mark.parametrize("train", ENGINES.values(), ids=ENGINES)
@pytest.mark.parametrize("network", ["deep", "no_bias"])
def test_engines_clip_alike(network, train, limit):
    model = FULLY_CONNECTED[network]()
    task = make_task("mlp", Recipe(**SGD, **limit), model=model)
    masks = masks_of(task)
    expected = reference(task.problem, masks, PLAN)
    assert_same(train(task.problem, masks, PLAN), expected, rtol=1e-9)
    free = make_task("mlp", Recipe(**SGD), model=model)
    unlimited = reference(free.problem, masks, PLAN)
    assert (unlimited.metrics["val_loss"] != expected.metrics["val_loss"]).all()
    assert_same(train(free.problem, masks, PLAN), unlimited, rtol=1e-9)


def frozen_norm():
    """A stage whose normalisation keeps its factors and trains its terms, and one without any."""
    norm = nn.BatchNorm2d(4)
    norm.weight.requires_grad_(False)
    bare = nn.BatchNorm2d(3, affine=False)
    first, second = nn.Conv2d(1, 4, 3, bias=False), nn.Conv2d(4, 3, 3, bias=False)
    return convolutions.chain(first, norm, nn.ReLU(), second, bare, nn.ReLU(), 3 * 4 * 4)


def plain():
    first, second = nn.Conv2d(1, 4, 3, bias=False), nn.Conv2d(4, 3, 3)
    return convolutions.chain(first, nn.ReLU(), second, nn.ReLU(), 3 * 4 * 4)


@each_limit
@pytest.mark.parametrize("train", [train_compiled, train_vmap], ids=["compiled", "vmap"])
@pytest.mark.parametrize("build", [frozen_norm, plain])
def test_engines_clip_convolutions_alike(build, train, limit):
    plan = Plan(steps=6, seed=3, keep_states=True)
    task = convolutions.make((build, (1, 8, 8)), Recipe(batch_size=17, **SGD, **limit))
    masks = convolutions.masks_of(task)
    expected = reference(task.problem, masks, plan)
    convolutions.assert_near(train(task.problem, masks, plan), expected, rtol=1e-9)


@pytest.mark.parametrize("density", [1.0, 0.4])
def test_the_norm_is_of_what_is_kept_and_trained(density):
    """One step of plain descent moves a network by lr times the limit, whatever its mask."""
    recipe = Recipe(optimizer="sgd", lr=0.5, clip_norm=0.1, batch_size=8)
    task = make_task("mlp", recipe)
    (mask,) = masks_of(task, (density,))
    for train in (reference, *ENGINES.values()):
        out = train(task.problem, [mask], Plan(steps=1, seed=0, keep_states=True))
        kept = task.layout.split(bits.unpack(mask, task.layout.size))
        moved = [
            (after - before) * torch.as_tensor(kept.get(name, np.True_))
            for name, before in task.problem.initial.items()
            for after in [out.states[0][name]]
        ]
        norm = torch.cat([part.flatten() for part in moved]).norm()
        assert float(norm) == pytest.approx(0.05, rel=1e-4)  # torch adds 1e-6 to the norm


@each_limit
@pytest.mark.parametrize("train", ENGINES.values(), ids=ENGINES)
def test_a_network_that_diverges_clips_no_other(train, limit):
    task = make_task("mlp", Recipe(**SGD, **limit), model=FULLY_CONNECTED["deep"]())
    masks = masks_of(task)
    starts = [TrainedState(np.full(bits.count(masks[0]), np.inf), {}), None, None]
    out = train(task.problem, masks, PLAN, starts=starts)
    expected = train(task.problem, masks[1:], PLAN)
    assert np.isnan(out.metrics["val_loss"][0])
    np.testing.assert_allclose(
        out.metrics["val_loss"][1:], expected.metrics["val_loss"], rtol=1e-12
    )

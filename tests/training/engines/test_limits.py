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
from nets_deap.training.engines.cuda.limits import Limits
from nets_deap.training.engines.cuda.weights import Weights
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
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_each_network_of_a_batch_is_clipped_as_torch_clips_it_alone(dtype, limit):
    """NaN, infinities, one below its limit, one far beyond; what is pruned counts nothing."""
    model = FULLY_CONNECTED["deep"]()
    task = make_task("mlp", Recipe(**limit), dtype, model=model, maskable=["*.weight", "0.bias"])
    weights, masks = Weights(task.problem, 4), masks_of(task, (1.0, 0.6, 0.7, 0.5))
    weights.refill(np.stack(masks), [None] * 4)
    gone = [task.layout.split(~bits.unpack(mask, task.layout.size)) for mask in masks]
    limits = Limits(weights)
    limits.reset()
    size = torch.tensor([1.0, 1.0, 1e-4, 1e4], dtype=dtype)
    fine = {
        name: size.view(-1, *[1] * (tensor.ndim - 1)) * torch.randn_like(tensor)
        for name, tensor in weights.trained.items()
    }
    bad = {name: tensor.clone() for name, tensor in fine.items()}
    bad["2.weight"][0, 0, 0], bad["4.bias"][1, 0] = torch.nan, torch.inf
    bad["0.weight"][3][torch.from_numpy(gone[3]["0.weight"])] = torch.nan
    found, calm = limits.of(bad), limits.of(fine)
    for i in range(4):
        alone = {name: nn.Parameter(tensor[i].clone()) for name, tensor in weights.trained.items()}
        pruned = {name: torch.from_numpy(part) for name, part in gone[i].items()}
        for name, p in alone.items():
            p.grad = bad[name][i].masked_fill(pruned.get(name, torch.tensor(False)), 0)
        if "clip_norm" in limit:
            nn.utils.clip_grad_norm_(alone.values(), limit["clip_norm"])
        else:
            nn.utils.clip_grad_value_(alone.values(), limit["clip_value"])
        for name, p in alone.items():
            kept = ~pruned.get(name, torch.zeros_like(p, dtype=torch.bool))
            torch.testing.assert_close(found[name][i][kept], p.grad[kept], equal_nan=True)
            if i > 1:
                assert torch.equal(found[name][i][kept], calm[name][i][kept])
            if i == 2:
                assert torch.equal(found[name][i][kept], bad[name][i][kept])
            assert found[name].is_contiguous()


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

"""What modules may hold: odd parameters work as plain ones do, or are refused with a reason."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.networks import PLAN, RECIPES, Custom, assert_same, make_task, masks_of, reference
from torch import nn
from torch.nn.utils import prune

from nets_deap import Recipe, Task
from nets_deap.training.engines.loop import train_loop
from nets_deap.training.engines.vmap import train_vmap

SHORT = replace(PLAN, steps=10, curve_points=1)


def plain():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


def transposed(model):
    weight = model[3].weight.detach()
    model[3].weight = nn.Parameter(weight.t().contiguous().t())
    assert not model[3].weight.is_contiguous()


def channels_last(model):
    model.to(memory_format=torch.channels_last)


def sliced(model):
    wide = torch.zeros(3, 128, dtype=torch.float64)
    wide[:, ::2] = model[3].weight.detach()
    model[3].weight = nn.Parameter(wide[:, ::2])
    assert not model[3].weight.is_contiguous()


def shared(model):
    model.share_memory()


@pytest.mark.parametrize("change", [transposed, channels_last, sliced, shared])
@pytest.mark.parametrize("engine", [train_vmap, train_loop, reference])
def test_the_way_parameters_lie_in_memory_changes_nothing(change, engine):
    model = plain().double()
    task = make_task("conv2d", RECIPES["adam"], model=model)
    masks = masks_of(task)
    expected = reference(task.problem, masks, SHORT)
    change(model)
    before = model[3].weight.detach().clone()
    odd = make_task("conv2d", RECIPES["adam"], model=model)
    assert odd.layout.key == task.layout.key
    assert_same(engine(odd.problem, masks, SHORT), expected, rtol=1e-9)
    assert torch.equal(model[3].weight, before)
    ticket = odd.ticket(np.arange(odd.layout.size) % 2 == 0)
    ticket.apply(model)
    flat = torch.cat([model[0].weight.reshape(-1), model[3].weight.reshape(-1)])
    assert not flat[1::2].any()


def test_one_tensor_seen_several_times_trains_as_one():
    row = nn.Parameter(torch.randn(1, 6, dtype=torch.float64).expand(3, 6))
    model = nn.Sequential(nn.Linear(6, 3)).double()
    model[0].weight = row
    task = make_task("mlp", RECIPES["sgd"], model=model)
    copied = nn.Sequential(nn.Linear(6, 3)).double()
    with torch.no_grad():
        copied[0].weight.copy_(row)
        copied[0].bias.copy_(model[0].bias)
    same = make_task("mlp", RECIPES["sgd"], model=copied)
    masks = masks_of(task)
    for engine in (train_vmap, train_loop):
        expected = reference(same.problem, masks, SHORT)
        assert_same(engine(task.problem, masks, SHORT), expected, rtol=1e-9)


def test_a_tied_weight_has_one_mask_and_stays_tied():
    task = make_task("tied", RECIPES["adam"])
    assert task.layout.names == ("a.weight", "c.weight")
    assert task.layout.size == 36 + 18
    module = task.train(task.ticket(np.arange(54) % 3 > 0)).module()
    assert module.b.weight is module.a.weight
    flat = module.a.weight.detach().reshape(-1)
    assert not flat[::3].any()
    assert flat[1::3].all()


def pruned():
    model = nn.Sequential(nn.Linear(6, 3))
    prune.random_unstructured(model[0], "weight", 0.5)
    return model


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: nn.Sequential(nn.LazyLinear(3)),
            r"have initial weights: .*none in '0\.weight'\. C",
        ),
        (lambda: nn.Linear(6, 3, device="meta"), r"have initial weights: .*none in 'weight'"),
        (lambda: nn.Linear(6, 3).half(), r"have one dtype: expected float32 or float64 .*float16"),
        (lambda: nn.Linear(6, 3).bfloat16(), r"have one dtype: .*bfloat16"),
        (
            lambda: nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 3).double()),
            r"have one dtype: .*\['float32', 'float64'\]",
        ),
        (
            lambda: Custom(lambda m, x: x, a=nn.Linear(6, 3, dtype=torch.complex64)),
            r"have real parameters: .*complex64 in 'a\.weight'",
        ),
        (pruned, r"hold its weights plainly: .*'0\.weight' masked already\. torch's prune\.remove"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_a_reason(build, message):
    with pytest.raises(ValueError, match=f"^model must {message}"):
        Task(build(), train=(torch.zeros(40, 6), torch.arange(40) % 3), recipe=Recipe(steps=2))

"""Dense gradients: torch's own, at the masked weights, of one network or of several."""

import numpy as np
import pytest
import torch
from support.networks import RECIPES, make_task, masks_of
from torch import nn
from torch.nn import functional as F

import nets_deap as nets
from nets_deap.tickets import bits
from nets_deap.training import gradients
from nets_deap.training.gradients import dense_gradient
from nets_deap.training.problem import Plan


@pytest.mark.parametrize("module", ["mlp", "conv2d", "dropout", "frozen"])
@pytest.mark.parametrize("trained", [False, True])
def test_the_gradient_is_that_of_the_masked_network_at_all_weights(module, trained):
    task = make_task(module, RECIPES["adam"])
    (packed,) = masks_of(task, (0.5,))
    mask, start, rows = bits.unpack(packed, task.layout.size), None, torch.arange(9)
    model = task.model.eval()
    if trained:
        outcome = task.run([task.ticket(mask)], Plan(7, 1, keep_states=True))
        start = outcome.trained[0]
        model.load_state_dict(outcome.states[0])
    named = dict(model.named_parameters())
    for name, gate in task.layout.split(mask).items():
        named[name].requires_grad_()
        named[name].data.mul_(torch.from_numpy(gate.copy()))
    x, y = task.problem.train
    F.cross_entropy(model(x[rows]), y[rows]).backward()
    wanted = np.concatenate([named[name].grad.reshape(-1) for name in task.layout.names])
    found = dense_gradient(task.problem, mask, rows, start)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
    assert np.count_nonzero(found[~mask])


def test_unused_weights_have_a_gradient_of_zero():
    task = make_task("unused", RECIPES["adam"])
    (packed,) = masks_of(task, (0.5,))
    mask = bits.unpack(packed, task.layout.size)
    found = task.layout.split(dense_gradient(task.problem, mask, torch.arange(5)))
    assert not found["unused.weight"].any()
    assert found["used.weight"].any()


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "mse"])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid])
def test_the_cheap_gradient_is_the_dense_one(loss, activation, monkeypatch):
    x = torch.randn(40, 12, generator=torch.Generator().manual_seed(0)).double()
    y = torch.arange(40) % 3 if loss == "cross_entropy" else (x[:, :3] > 0).double()
    last = nn.Linear(9, 3, bias=False)
    parts = nn.Linear(12, 20), activation(), nn.Linear(20, 9), activation(), last
    task = nets.Task(
        nn.Sequential(*parts).double(), train=(x, y), val=(x, y), loss=loss,
        recipe=nets.Recipe(batch_size=20, steps=9), maskable=["0.weight", "4.weight"],
    )  # fmt: skip
    rows = torch.arange(5, 25)
    for density in (0.04, 0.5, 1.0):
        (packed,) = masks_of(task, (density,))
        mask = bits.unpack(packed, task.layout.size)
        for start in (None, task.run([task.ticket(mask)], Plan(7, 1)).trained[0]):
            wanted = dense_gradient(task.problem, mask, rows, start)
            with monkeypatch.context() as patch:
                patch.setattr(gradients, "dense_gradient", None)  # it takes no other way
                found = gradients.cheap_gradient(task.problem, mask, rows, start)
            np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
            assert np.count_nonzero(found[~mask]) or density == 1


@pytest.mark.parametrize("module", ["conv2d", "dropout"])
def test_any_other_module_has_the_cheap_gradient_from_torch(module):
    task = make_task(module, RECIPES["adam"])
    (packed,) = masks_of(task, (0.5,))
    mask, rows = bits.unpack(packed, task.layout.size), torch.arange(9)
    found = gradients.cheap_gradient(task.problem, mask, rows)
    np.testing.assert_array_equal(found, dense_gradient(task.problem, mask, rows))


@pytest.mark.parametrize("module", ["mlp", "conv2d", "dropout", "frozen", "unused"])
@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_several_networks_have_the_gradients_that_each_has_alone(module, at_once):
    task = make_task(module, RECIPES["adam"], engine="vmap")
    packed = masks_of(task, (0.1, 0.5, 1.0))
    masks, rows = [bits.unpack(one, task.layout.size) for one in packed], torch.arange(9)
    starts = [None, *task.run([task.ticket(mask) for mask in masks[1:]], Plan(3, 1)).trained]
    found = gradients.gradients_together(task.problem, packed, rows, starts, at_once=at_once)
    assert len(found) == 3
    for own, mask, start in zip(found, masks, starts, strict=True):
        wanted = dense_gradient(task.problem, mask, rows, start)
        np.testing.assert_allclose(own, wanted, rtol=1e-9, atol=1e-12)


def test_a_shortage_of_memory_makes_batches_of_gradients_smaller(monkeypatch):
    task = make_task("mlp", RECIPES["adam"], engine="vmap")
    packed, sizes = masks_of(task, (0.2, 0.4, 0.6, 0.8, 1.0)), []
    whole = gradients.Weights

    def weights(problem, networks):
        sizes.append(networks)
        if networks > 2:
            raise torch.OutOfMemoryError("out of memory")
        return whole(problem, networks)

    rows = torch.arange(9)
    wanted = gradients.gradients_together(task.problem, packed, rows, [None] * 5, at_once=5)
    monkeypatch.setattr(gradients, "Weights", weights)
    found = gradients.gradients_together(task.problem, packed, rows, [None] * 5, at_once=5)
    assert sizes == [5, 2, 2, 1]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)

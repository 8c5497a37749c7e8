"""Dense gradients: torch's own, at the masked weights."""

import numpy as np
import pytest
import torch
from support.networks import RECIPES, make_task, masks_of
from torch.nn import functional as F

from nets_deap.tickets import bits
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

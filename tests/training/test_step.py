"""A training step of one's own: the same numbers as a batch and alone, and as plain torch."""

import numpy as np
import pytest
import torch
from support.networks import PLAN, Custom, assert_same, make_task, masks_of, mlp, reference
from torch import nn
from torch.nn import functional as F

from nets_deap import Recipe
from nets_deap.training.engines import dispatch
from nets_deap.training.engines.dispatch import pick_engine, reason_for
from nets_deap.training.engines.vmap import train_vmap


def penalised(model, x, y):
    """Two forward passes and a term of the weights."""
    near = (model(x) - model(x + 0.1)).square().mean()
    return F.cross_entropy(model(x), y) + near + 0.01 * model[0].weight.abs().sum()


def adversarial():
    """A generator of inputs from classes, and a critic, in one module; its output is the critic's.

    With running statistics in the generator, and dropout in the critic.
    """
    return Custom(
        lambda m, x: m.critic(x),
        generator=nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 6), nn.BatchNorm1d(6)),
        critic=nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3)),
    )


def play(model, x, y):
    """The critic tells classes apart, and made-up ones are 0; the generator wants them believed."""
    made = model.generator(y)
    zeros = torch.zeros_like(y)
    return {
        "critic": F.cross_entropy(model.critic(x), y)
        + F.cross_entropy(model.critic(made.detach()), zeros),
        "generator": F.cross_entropy(model.critic(made), y),
    }


GAME = Recipe(optimizer="sgd", lr=0.1, momentum=0.9, training_step=play)


def test_a_batch_equals_single_trainings():
    model = mlp()
    task = make_task("mlp", Recipe(training_step=penalised), model=model)
    masks = masks_of(task)
    batch = train_vmap(task.problem, masks, PLAN)
    assert_same(batch, reference(task.problem, masks, PLAN), rtol=1e-9)
    usual = make_task("mlp", Recipe(), model=model)
    other = reference(usual.problem, masks, PLAN)
    assert (batch.metrics["val_loss"] != other.metrics["val_loss"]).all()


def test_parts_descend_losses_of_their_own():
    task = make_task("mlp", GAME, model=adversarial())
    masks = masks_of(task)
    expected = reference(task.problem, masks, PLAN)
    assert pick_engine("auto", task.problem) in ("vmap", "loop")
    assert_same(train_vmap(task.problem, masks, PLAN), expected, rtol=1e-9)
    assert_same(dispatch.train(task.problem, masks, PLAN, engine="loop"), expected, rtol=1e-9)


def test_a_step_is_that_of_a_textbook():
    """Two optimisers that take turns on one minibatch, as adversarial training is written."""
    model = adversarial()
    model.critic[2].p = 0.0  # patterns of dropout are not those of plain torch
    task = make_task("mlp", GAME, model=model)
    ours = train_vmap(task.problem, masks_of(task, (1.0,)), PLAN).states[0]
    plain, problem = task.model.train(), task.problem
    optimizers = {
        name: torch.optim.SGD(getattr(plain, name).parameters(), lr=0.1, momentum=0.9)
        for name in ("critic", "generator")
    }
    for rows in PLAN.batches(problem.n_examples, 8):
        losses = play(plain, *(part[rows] for part in problem.train))
        for name, loss in losses.items():
            own = list(getattr(plain, name).parameters())
            for p, slope in zip(
                own, torch.autograd.grad(loss, own, retain_graph=True), strict=True
            ):
                p.grad = slope
        for optimizer in optimizers.values():
            optimizer.step()
    for name, tensor in plain.state_dict().items():
        np.testing.assert_allclose(ours[name], tensor, rtol=1e-9, atol=1e-12, err_msg=name)
    assert not torch.equal(ours["generator.1.weight"], problem.initial["generator.1.weight"])


def test_other_engines_refuse_and_identity_changes():
    task = make_task("mlp", Recipe(training_step=penalised))
    assert (
        reason_for("auto", task.problem) == "not 'compiled': the training step is one of your own"
    )
    for engine in ("batched", "compiled"):
        with pytest.raises(ValueError, match=r"engine must suit .* the usual training step"):
            pick_engine(engine, task.problem)
    assert task.recipe.as_dict()["training_step"] == f"{__name__}.penalised"
    assert task.fingerprint != make_task("mlp", Recipe(), model=task.model).fingerprint


def test_a_step_that_draws_trains_one_by_one():
    def noisy(model, x, y):
        return F.cross_entropy(model(x + 0.1 * torch.randn_like(x)), y)

    task = make_task("mlp", Recipe(training_step=noisy))
    assert pick_engine("auto", task.problem) == "loop"
    once, again = (
        dispatch.train(task.problem, masks_of(task, (0.5,)), PLAN, engine="loop") for _ in range(2)
    )
    assert_same(once, again, rtol=0)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("mine", r"must be a function: expected a function of \(model, inputs, targets\)"),
        (lambda model: 1, r"must take what it is given"),
        (lambda model, x, y: 1.0, r"must return losses: expected a tensor, or a dictionary"),
        (lambda model, x, y: {"0": model(x).sum()}, r"must train everything: .* '2\.weight'"),
        (
            lambda model, x, y: {"": model(x).sum(), "1": model(x).mean()},
            r"must name parts of the model: .* got 1",
        ),
        (lambda model, x, y: model(x).detach().sum(), r"must have a gradient"),
    ],
)
def test_a_bad_step_is_told_of_when_the_task_is_built(step, message):
    with pytest.raises((ValueError, TypeError), match=rf"^recipe\.training_step {message}"):
        make_task("mlp", Recipe(training_step=step))

"""Training: a batch of P networks equals P single trainings, and plain torch loops."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.networks import (
    MODULES,
    PLAN,
    RECIPES,
    STEPS,
    assert_same,
    conv2d,
    each_module,
    each_optimizer,
    each_pair,
    make_task,
    masks_of,
    needs_cuda,
    noting,
    reference,
)
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from nets_deap import Recipe
from nets_deap.tickets import bits
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.engines.chunk import Chunk
from nets_deap.training.engines.vmap import default_chunk, train_vmap
from nets_deap.training.problem import Plan

both_engines = pytest.mark.parametrize("engine", [train_vmap, reference])


@each_pair
def test_a_batch_equals_single_trainings(module, optimizer):
    task = make_task(module, RECIPES[optimizer])
    batch = train_vmap(task.problem, masks_of(task), PLAN)
    assert (batch.curve.shape, len(batch.states)) == ((3, 3), 3)
    assert len(set(batch.metrics["val_loss"])) == 3, "the masks should make a difference"
    assert_same(batch, reference(task.problem, masks_of(task), PLAN), rtol=1e-9)


@each_module
def test_a_batch_equals_single_trainings_in_float32(module):
    optimizer = list(RECIPES)[list(MODULES).index(module) % len(RECIPES)]
    if module == "dropped":  # Adam divides the tiny gradients of attention's keys by their size
        optimizer = "sgd"
    task = make_task(module, RECIPES[optimizer], torch.float32)
    batch = train_vmap(task.problem, masks_of(task), PLAN)
    assert batch.trained[0].values.dtype == np.float32
    assert_same(batch, reference(task.problem, masks_of(task), PLAN), rtol=1e-4)


@pytest.mark.gpu
@needs_cuda
@each_optimizer
@each_module
def test_a_batch_equals_single_trainings_on_cuda(module, optimizer):
    cpu = make_task(module, RECIPES[optimizer])
    cuda = make_task(module, RECIPES[optimizer], model=cpu.model, device="cuda")
    batch = train_vmap(cuda.problem, masks_of(cuda), PLAN)
    assert_same(batch, reference(cuda.problem, masks_of(cuda), PLAN), rtol=1e-7)
    assert_same(batch, train_vmap(cpu.problem, masks_of(cpu), PLAN), rtol=1e-7)


@pytest.mark.parametrize(
    ("loss", "target"),
    [
        ("mse", lambda x, y: x[:, :3] ** 2),
        ("binary_cross_entropy", lambda x, y: (x[:, :3] > 0).astype(float)),
    ],
)
def test_a_batch_equals_single_trainings_under_other_losses(loss, target):
    task = make_task("mlp", Recipe(loss=loss), target=target)
    batch = train_vmap(task.problem, masks_of(task), PLAN)
    assert_same(batch, reference(task.problem, masks_of(task), PLAN), rtol=1e-9)
    assert np.isnan(batch.metrics["val_accuracy"]).all() == (loss == "mse")


def test_results_follow_their_masks_in_any_order_chunk_and_company():
    task = make_task("conv2d", RECIPES["adam"])
    one, two, three = masks_of(task)
    masks = [one, two, three, two]
    whole = train_vmap(task.problem, masks, PLAN)
    assert whole.metrics["val_loss"][1] == pytest.approx(whole.metrics["val_loss"][3], rel=1e-12)
    order, done = [2, 0, 3, 1], []
    for chunk in (None, 1, 3):
        shuffled = [masks[i] for i in order]
        outcome = train_vmap(task.problem, shuffled, PLAN, chunk=chunk, on_part=noting(done))
        assert_same(outcome, whole, rtol=1e-11, places=order)
    assert done == [4, 1, 1, 1, 1, 3, 1]
    assert default_chunk(task.problem) >= 1
    with pytest.raises(ValueError, match=r"chunk must be in range: expected an int >= 1, got 0"):
        train_vmap(task.problem, masks, PLAN, chunk=0)


# ---- the all-ones mask is a plain torch loop


def plain_torch(task, name):
    """Train the dense model as a textbook would; return it and the losses of all steps."""
    model, recipe = task.model.train(), RECIPES[name]
    parameters = [p for p in model.parameters() if p.requires_grad]
    options = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "sgd":
        options |= {"momentum": recipe.momentum, "nesterov": recipe.nesterov}
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    optimizer = kinds[recipe.optimizer](parameters, **options)
    schedulers = {
        "sgd": lambda o: lr_scheduler.LambdaLR(o, lambda _: 1.0),
        "nesterov": lambda o: lr_scheduler.LambdaLR(
            o, lambda i: min(1, (i + 1) / 6) * (1 + np.cos(np.pi * i / STEPS)) / 2
        ),
        "adam": lambda o: lr_scheduler.MultiStepLR(o, [25, 38], 0.1),
        "adamw": lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, STEPS),
    }
    scheduler = schedulers[name](optimizer)
    inputs, targets = task.problem.train
    losses = []
    for rows in PLAN.batches(len(inputs), 8):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs[rows]), targets[rows])
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(float(loss.detach()))
    return model.eval(), losses


@each_optimizer
@pytest.mark.parametrize("module", ["conv2d", "frozen", "embedding"])
def test_the_dense_ticket_is_a_plain_torch_loop(module, optimizer):
    task = make_task(module, RECIPES[optimizer])
    model, losses = plain_torch(task, optimizer)
    outcome = train_vmap(task.problem, [task.dense_ticket().packed], PLAN)
    assert losses[-1] < losses[0]
    assert outcome.metrics["train_loss"][0] == pytest.approx(np.mean(losses[-5:]), rel=1e-9)
    for name, tensor in model.state_dict().items():
        np.testing.assert_allclose(outcome.states[0][name], tensor, 1e-9, 1e-9, err_msg=name)
    for split in ("val", "test"):
        inputs, targets = getattr(task.problem, split)
        with torch.no_grad():
            output = model(inputs)
        loss = float(F.cross_entropy(output, targets))
        assert outcome.metrics[f"{split}_loss"][0] == pytest.approx(loss, rel=1e-9)
        accuracy = float((output.argmax(1) == targets).double().mean())
        assert outcome.metrics[f"{split}_accuracy"][0] == accuracy


# ---- pruned weights stay exactly zero


@each_optimizer
@pytest.mark.parametrize("module", ["mlp", "conv2d", "tied", "trap"])
def test_pruned_weights_and_their_optimiser_state_stay_exactly_zero(monkeypatch, module, optimizer):
    task = make_task(module, RECIPES[optimizer], torch.float32)
    packed = masks_of(task, (0.7, 0.2))
    unpacked = np.stack([bits.unpack(mask, task.layout.size) for mask in packed])
    pruned = {name: torch.from_numpy(~part) for name, part in task.layout.split(unpacked).items()}
    seen = []

    step = Chunk.step

    def watched(chunk):
        step(chunk)
        seen.append(chunk.schedule.at)
        moments = chunk.optimiser.moments()
        assert len(moments) == (2 if "adam" in optimizer else 1)
        for name, gone in pruned.items():
            for tensor in (chunk.weights.trained[name], *(named[name] for named in moments)):
                assert torch.count_nonzero(tensor[gone]) == 0
                assert torch.count_nonzero(tensor[~gone]) > 0

    monkeypatch.setattr(Chunk, "step", watched)
    outcome = train_vmap(task.problem, packed, PLAN)
    assert seen == list(range(1, STEPS + 1))
    for mask, state, end in zip(unpacked, outcome.states, outcome.trained, strict=True):
        flat = np.concatenate([state[name].reshape(-1) for name in task.layout.names])
        assert not flat[~mask].any()
        np.testing.assert_array_equal(flat[mask], end.values)
        assert np.isfinite(end.values).all()


def test_a_frozen_maskable_weight_is_masked_and_stays():
    task = make_task("frozen", RECIPES["adamw"])
    mask = np.arange(task.layout.size) % 2 == 0
    trained = train_vmap(task.problem, [task.ticket(mask).packed], PLAN).states[0]
    start = task.problem.initial
    kept = torch.from_numpy(task.layout.split(mask)["0.weight"])
    assert torch.equal(trained["0.weight"], start["0.weight"] * kept)
    assert torch.equal(trained["2.bias"], start["2.bias"])
    assert not torch.equal(trained["4.bias"], start["4.bias"])


# ---- what goes wrong stays where it is


@both_engines
@pytest.mark.parametrize("huge", [1e200, np.inf])
def test_a_diverging_network_does_not_disturb_its_neighbours(engine, huge):
    recipe = Recipe(optimizer="sgd", lr=0.05, momentum=0.9, loss="mse")
    task = make_task("mlp", recipe, target=lambda x, y: np.sin(x[:, :3]))
    wrong = task.layout.initial.copy()
    wrong[0] = huge
    starts = [None, TrainedState(wrong), None]
    healthy = np.random.default_rng(1).random((2, task.layout.size)) < 0.7
    healthy[:, 0] = False
    one, two = (task.ticket(mask).packed for mask in healthy)
    masks = [one, task.dense_ticket().packed, two]
    outcome = engine(task.problem, masks, PLAN, starts=starts)
    assert not np.isfinite(outcome.metrics["val_loss"][1])
    alone = reference(task.problem, [one, two], PLAN)
    assert np.isfinite(alone.curve).all()
    assert_same(alone, outcome, rtol=1e-9, places=[0, 2])


@both_engines
@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_cuda])]
)
def test_the_module_and_all_global_random_states_stay_untouched(engine, device):
    def drawn():
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        numpy = np.random.get_state()[1].tolist()  # noqa: NPY002
        return [numpy, random.getstate(), *(s.tolist() for s in (torch.get_rng_state(), *cuda))]

    model = nn.Sequential(conv2d(), nn.Dropout(0.5)).double().eval()
    model[0][0].weight.grad = torch.ones_like(model[0][0].weight)
    before, states = {k: t.clone() for k, t in model.state_dict().items()}, drawn()
    task = make_task("conv2d", Recipe(), model=model, device=device)
    outcome = engine(task.problem, masks_of(task), PLAN)
    assert drawn() == states
    for tensors in (model.state_dict(), task.model.state_dict()):
        assert all(torch.equal(tensor, before[name]) for name, tensor in tensors.items())
    assert not torch.equal(outcome.states[0]["0.0.weight"], before["0.0.weight"])
    assert not any(module.training for module in model.modules())
    grads = [None if p.grad is None else float(p.grad.sum()) for p in model.parameters()]
    assert grads == [27.0, None, None, None, None]


# ---- the plan


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 15), st.integers(1, 30), st.integers(0, 2**62))
def test_every_example_appears_equally_often(n, batch, steps, seed):
    rows = Plan(steps, seed).batches(n, batch)
    assert rows.shape == (steps, batch)
    flat = rows.reshape(-1).numpy()
    for start in range(0, len(flat) - n + 1, n):
        assert sorted(flat[start : start + n]) == list(range(n))
    counts = np.bincount(flat, minlength=n)
    assert counts.max() - counts.min() <= 1


def test_minibatches_follow_the_seed_and_a_longer_plan_starts_like_a_shorter_one():
    rows = Plan(20, 1).batches(30, 7)
    assert not torch.equal(rows, Plan(20, 2).batches(30, 7))
    assert torch.equal(rows[:12], Plan(12, 1).batches(30, 7))


@pytest.mark.parametrize(
    ("steps", "points", "expected"),
    [(10, 0, ()), (10, 1, (10,)), (10, 5, (2, 4, 6, 8, 10)), (7, 3, (2, 5, 7)), (2, 9, (1, 2))],
)
def test_curve_points(steps, points, expected):
    assert Plan(steps, 0, curve_points=points).curve_steps == expected


@both_engines
def test_a_point_of_the_curve_is_the_loss_of_a_training_that_ends_there(engine):
    task = make_task("dropout", RECIPES["sgd"])
    curved = engine(task.problem, masks_of(task), PLAN)
    assert curved.curve_steps == (17, 33, 50)
    for k, steps in enumerate(curved.curve_steps):
        shorter = engine(task.problem, masks_of(task), Plan(steps, PLAN.seed))
        assert shorter.curve.shape == (3, 0)
        np.testing.assert_allclose(curved.curve[:, k], shorter.metrics["val_loss"], rtol=1e-12)

"""Training: a batch of P networks equals P single trainings, and plain torch loops."""

import copy
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from nets_deap import Recipe, Task, bits
from nets_deap.training.one_by_one import train_one_by_one
from nets_deap.training.problem import METRICS, Outcome, Plan
from nets_deap.training.stacked import default_chunk, train_stacked

STEPS = 50
PLAN = Plan(steps=STEPS, seed=3, curve_points=3, test=True, keep_states=True)
RECIPES = {
    "sgd": Recipe(optimizer="sgd", lr=0.05, momentum=0.9, weight_decay=0.01),
    "nesterov": Recipe(
        optimizer="sgd", lr=0.03, momentum=0.9, nesterov=True, schedule="cosine", warmup_steps=5
    ),
    "adam": Recipe(optimizer="adam", lr=5e-3, weight_decay=1e-3, schedule="step"),
    "adamw": Recipe(optimizer="adamw", lr=5e-3, weight_decay=0.1, schedule="linear"),
}
GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


class Tied(nn.Module):
    """Two layers that share one weight, and one that uses it transposed."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.b.weight = self.a.weight

    def forward(self, x):
        x = torch.tanh(self.b(torch.tanh(self.a(x))))
        return self.c(F.linear(x, self.a.weight.t()))


class Unused(nn.Module):
    """A layer that the output does not depend on."""

    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x):
        return self.used(x)


class Buffers(nn.Module):
    """Buffers changed in place and by assignment, one of them in no state dict."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(3), persistent=False)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x):
        y = self.linear(x)
        if self.training:
            self.calls.add_(1)
            self.mean.mul_(0.9).add_(0.1 * y.detach().mean(0))
            self.scale = 0.99 * self.scale + 0.01
        return (y - self.mean) * self.scale


class Bag(nn.Module):
    """An embedding of integer inputs."""

    def __init__(self):
        super().__init__()
        self.embedding, self.linear = nn.Embedding(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(self.embedding(x).mean(1))


class Trap(nn.Module):
    """A weight whose gradient is NaN where it is zero, though its use is the identity."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, x):
        w = self.linear.weight
        return F.linear(x, torch.where(w == 0, w, w * w / w), self.linear.bias)


def mlp():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def conv2d():
    # No bias before the normalisation: its gradient is pure rounding, which Adam blows up.
    first = nn.Conv2d(1, 3, 3, bias=False)
    return nn.Sequential(first, nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3))


def conv1d():
    return nn.Sequential(
        nn.ConvTranspose1d(2, 4, 2), nn.Conv1d(4, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(15, 3)
    )


def dropout():
    return nn.Sequential(
        nn.Dropout(0.2), nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)
    )


def frozen():
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    model[0].weight.requires_grad_(False)  # maskable
    model[2].bias.requires_grad_(False)  # not maskable
    return model


MODULES = {
    "mlp": (mlp, (6,)),
    "conv2d": (conv2d, (1, 6, 6)),
    "conv1d": (conv1d, (2, 6)),
    "dropout": (dropout, (6,)),
    "frozen": (frozen, (6,)),
    "tied": (Tied, (6,)),
    "unused": (Unused, (6,)),
    "buffers": (Buffers, (6,)),
    "embedding": (Bag, (3,)),
    "trap": (Trap, (6,)),
}


def make_task(name, recipe, dtype=torch.float64, **more):
    """Return a small task of three classes with ``name``'s module."""
    build, shape = MODULES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = build().to(dtype)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 40)
    inputs = rng.normal(size=(40, *shape)) + labels.reshape(-1, *[1] * len(shape)) / 2
    if name == "embedding":
        inputs = rng.integers(0, 5, (40, *shape))
    data = {"train": (inputs[:25], labels[:25]), "val": (inputs[25:], labels[25:])}
    options = {"device": "cpu", "test": (inputs[20:], labels[20:]), **more}
    recipe = replace(recipe, batch_size=min(8, recipe.batch_size), steps=STEPS)
    return Task(model, recipe=recipe, **data, **options)


def masks_of(task, densities=(1.0, 0.6, 0.3)):
    """Return packed random masks of about the given densities."""
    rng = np.random.default_rng(5)
    return [task.ticket(rng.random(task.layout.size) < d).packed for d in densities]


def assert_same(one, other, rtol, atol=0.0):
    """Compare two outcomes number by number."""
    for name in METRICS:
        np.testing.assert_allclose(one.metrics[name], other.metrics[name], rtol, atol, err_msg=name)
    assert one.curve_steps == other.curve_steps
    np.testing.assert_allclose(one.curve, other.curve, rtol, atol)
    for ours, theirs in zip(one.values, other.values, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol, max(atol, rtol))
    for state, twin in zip(one.states, other.states, strict=True):
        assert state.keys() == twin.keys()
        for name, tensor in state.items():
            np.testing.assert_allclose(tensor, twin[name], rtol, max(atol, rtol), err_msg=name)


# ---- a batch of P networks is P single trainings


@pytest.mark.parametrize("optimizer", RECIPES)
@pytest.mark.parametrize("module", MODULES)
def test_a_batch_equals_single_trainings(module, optimizer):
    task = make_task(module, RECIPES[optimizer])
    masks = masks_of(task)
    batch = train_stacked(task.problem, masks, PLAN)
    alone = train_one_by_one(task.problem, masks, PLAN)
    assert batch.curve.shape == (3, 3)
    assert len({*batch.metrics["val_loss"].tolist()}) == 3, "the masks should make a difference"
    assert_same(batch, alone, rtol=1e-9)


@pytest.mark.parametrize("module", MODULES)
def test_a_batch_equals_single_trainings_in_float32(module):
    optimizer = list(RECIPES)[list(MODULES).index(module) % len(RECIPES)]
    task = make_task(module, RECIPES[optimizer], torch.float32)
    masks = masks_of(task)
    batch = train_stacked(task.problem, masks, PLAN)
    assert batch.values[0].dtype == np.float32
    assert_same(batch, train_one_by_one(task.problem, masks, PLAN), rtol=1e-4)


@pytest.mark.parametrize("optimizer", [pytest.param(name, marks=GPU) for name in RECIPES])
@pytest.mark.parametrize("module", [name for name in MODULES if name != "dropout"])
def test_a_batch_equals_single_trainings_on_cuda(module, optimizer):
    # Dropout draws from another stream on CUDA when it is batched.
    task = make_task(module, RECIPES[optimizer], device="cuda")
    masks = masks_of(task)
    batch = train_stacked(task.problem, masks, PLAN)
    assert_same(batch, train_one_by_one(task.problem, masks, PLAN), rtol=1e-7)
    cpu = make_task(module, RECIPES[optimizer], device="cpu")
    assert_same(batch, train_stacked(cpu.problem, masks, PLAN), rtol=1e-7)


@pytest.mark.parametrize("loss", ["mse", "binary_cross_entropy"])
def test_a_batch_equals_single_trainings_under_other_losses(loss):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 6))
    y = x[:, :3] > 0 if loss == "binary_cross_entropy" else x[:, :3] ** 2
    data = (x, y.astype(np.float64))
    recipe = Recipe(loss=loss, batch_size=7, steps=20)
    with torch.random.fork_rng(devices=[]):
        model = mlp().double()
    task = Task(model, train=data, val=data, recipe=recipe, device="cpu")
    masks, plan = masks_of(task), Plan(20, 0)
    batch = train_stacked(task.problem, masks, plan)
    assert_same(batch, train_one_by_one(task.problem, masks, plan), rtol=1e-9)
    assert np.isnan(batch.metrics["test_loss"]).all()
    assert np.isnan(batch.metrics["val_accuracy"]).all() == (loss == "mse")


def test_results_follow_their_masks_in_any_order_chunk_and_company():
    task = make_task("conv2d", RECIPES["adam"])
    one, two, three = masks_of(task)
    masks = [one, two, three, two]
    whole = train_stacked(task.problem, masks, PLAN)
    order = [2, 0, 3, 1]
    for chunk in (None, 1, 3):
        shuffled = train_stacked(task.problem, [masks[i] for i in order], PLAN, chunk=chunk)
        picked = Outcome(
            metrics={name: whole.metrics[name][order] for name in METRICS},
            curve_steps=whole.curve_steps,
            curve=whole.curve[order],
            values=[whole.values[i] for i in order],
            states=[whole.states[i] for i in order],
        )
        assert_same(shuffled, picked, rtol=1e-11, atol=1e-13)
    twin, other = whole.metrics["val_loss"][[1, 3]]
    assert twin == pytest.approx(other, rel=1e-12)


def test_chunks_are_reported_and_checked():
    task = make_task("mlp", RECIPES["sgd"])
    done = []
    masks = masks_of(task, (0.9, 0.8, 0.7, 0.6, 0.5))
    train_stacked(task.problem, masks, Plan(1, 0), chunk=2, on_chunk=done.append)
    assert done == [2, 2, 1]
    assert default_chunk(task.problem) >= 1
    with pytest.raises(ValueError, match=r"chunk must be in range: expected an int >= 1, got 0"):
        train_stacked(task.problem, masks, Plan(1, 0), chunk=0)


# ---- the all-ones mask is a plain torch loop


def plain_torch(task, name, plan):
    """Train the dense model as a textbook would; return it and the losses of all steps."""
    model, recipe = copy.deepcopy(task.model).train(), RECIPES[name]
    parameters = [p for p in model.parameters() if p.requires_grad]
    if recipe.optimizer == "sgd":
        optimizer = torch.optim.SGD(
            parameters, recipe.lr, recipe.momentum, 0, recipe.weight_decay, recipe.nesterov
        )
    else:
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
        optimizer = kind(parameters, recipe.lr, weight_decay=recipe.weight_decay)
    scheduler = {
        "sgd": lambda: lr_scheduler.LambdaLR(optimizer, lambda _: 1.0),
        "nesterov": lambda: lr_scheduler.LambdaLR(
            optimizer, lambda i: min(1, (i + 1) / 6) * (1 + np.cos(np.pi * i / plan.steps)) / 2
        ),
        "adam": lambda: lr_scheduler.MultiStepLR(optimizer, [25, 38], 0.1),
        "adamw": lambda: lr_scheduler.LinearLR(optimizer, 1.0, 0.0, plan.steps),
    }[name]()
    inputs, targets = task.problem.train
    losses = []
    for rows in plan.batches(len(inputs), task.recipe.batch_size):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs[rows]), targets[rows])
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(float(loss.detach()))
    return model.eval(), losses


@pytest.mark.parametrize("optimizer", RECIPES)
@pytest.mark.parametrize("module", ["conv2d", "frozen", "embedding"])
def test_the_dense_ticket_is_a_plain_torch_loop(module, optimizer):
    task = make_task(module, RECIPES[optimizer])
    model, losses = plain_torch(task, optimizer, PLAN)
    outcome = train_stacked(task.problem, [task.dense_ticket().packed], PLAN)
    assert outcome.metrics["train_loss"][0] == pytest.approx(np.mean(losses[-5:]), rel=1e-9)
    for name, tensor in {**dict(model.named_parameters()), **dict(model.named_buffers())}.items():
        np.testing.assert_allclose(
            outcome.states[0][name], tensor.detach(), rtol=1e-9, atol=1e-9, err_msg=name
        )
    for split in ("val", "test"):
        inputs, targets = getattr(task.problem, split)
        with torch.no_grad():
            output = model(inputs)
        loss = float(F.cross_entropy(output, targets))
        accuracy = float((output.argmax(1) == targets).double().mean())
        assert outcome.metrics[f"{split}_loss"][0] == pytest.approx(loss, rel=1e-9)
        assert outcome.metrics[f"{split}_accuracy"][0] == accuracy
    assert losses[-1] < losses[0]


# ---- pruned weights stay exactly zero


@pytest.mark.parametrize("optimizer", RECIPES)
@pytest.mark.parametrize("module", ["mlp", "conv2d", "tied", "trap"])
def test_pruned_weights_and_their_optimiser_state_stay_exactly_zero(module, optimizer):
    task = make_task(module, RECIPES[optimizer], torch.float32)
    packed = masks_of(task, (0.7, 0.2))
    stack = np.stack([bits.unpack(mask, task.layout.size) for mask in packed])
    pruned = {name: torch.from_numpy(~part) for name, part in task.layout.split(stack).items()}
    seen = []

    def watch(step, trained, optim):
        seen.append(step)
        moments = 0
        for name, gone in pruned.items():
            assert torch.count_nonzero(trained[name][gone]) == 0
            assert torch.count_nonzero(trained[name][~gone]) == (~gone).sum()
            for value in optim.state[trained[name]].values():
                if isinstance(value, Tensor) and value.shape == gone.shape:
                    moments += 1
                    assert torch.count_nonzero(value[gone]) == 0
                    assert torch.count_nonzero(value[~gone]) > 0
        assert moments == len(pruned) * (2 if "adam" in optimizer else 1)

    outcome = train_stacked(task.problem, packed, PLAN, watch=watch)
    assert seen == list(range(STEPS))
    for state in outcome.states:
        assert all(bool(torch.isfinite(t).all()) for t in state.values())
    for i, mask in enumerate(stack):
        flat = np.concatenate([outcome.states[i][n].reshape(-1) for n in task.layout.names])
        np.testing.assert_array_equal(flat[mask], outcome.values[i])
        assert not flat[~mask].any()


def test_a_frozen_maskable_weight_is_masked_and_stays():
    task = make_task("frozen", RECIPES["adamw"])
    mask = np.arange(task.layout.size) % 2 == 0
    result = train_stacked(task.problem, [task.ticket(mask).packed], PLAN).states[0]
    start = task.problem.initial["0.weight"]
    kept = torch.from_numpy(mask[: start.numel()].reshape(start.shape))
    assert torch.equal(result["0.weight"], start * kept)
    assert torch.equal(result["2.bias"], task.problem.initial["2.bias"])
    assert not torch.equal(result["4.bias"], task.problem.initial["4.bias"])


# ---- what goes wrong stays where it is


@pytest.mark.parametrize("huge", [1e200, np.inf])
@pytest.mark.parametrize("trainer", [train_stacked, train_one_by_one])
def test_a_diverging_network_does_not_disturb_its_neighbours(trainer, huge):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = mlp().double()
    with torch.no_grad():
        model[0].weight[0, 0] = huge
    x = np.random.default_rng(0).normal(size=(20, 6))
    data = (x, np.sin(x[:, :3]))
    recipe = Recipe(optimizer="sgd", lr=0.1, momentum=0.9, loss="mse", batch_size=5, steps=STEPS)
    task = Task(model, train=data, val=data, test=data, recipe=recipe, device="cpu")
    healthy = np.random.default_rng(1).random((2, task.layout.size)) < 0.7
    healthy[:, 0] = False
    masks = [task.ticket(m).packed for m in (healthy[0], np.ones(task.layout.size), healthy[1])]
    outcome = trainer(task.problem, masks, PLAN)
    assert not np.isfinite(outcome.metrics["val_loss"][1])
    alone = train_one_by_one(task.problem, [masks[0], masks[2]], PLAN)
    assert np.isfinite(alone.metrics["val_loss"]).all()
    for name in ("train_loss", "val_loss", "test_loss"):
        np.testing.assert_allclose(outcome.metrics[name][[0, 2]], alone.metrics[name], rtol=1e-9)
    for i, j in ((0, 0), (2, 1)):
        np.testing.assert_allclose(outcome.values[i], alone.values[j], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])
@pytest.mark.parametrize("trainer", [train_stacked, train_one_by_one])
def test_the_module_and_all_global_random_states_stay_untouched(trainer, device):
    def states():
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        numpy = torch.from_numpy(np.random.get_state()[1].astype(np.int64))  # noqa: NPY002
        return [torch.get_rng_state(), *cuda, numpy]

    model = nn.Sequential(conv2d(), nn.Dropout(0.5)).double().eval()
    model[0][0].weight.grad = torch.ones_like(model[0][0].weight)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    before = {name: t.detach().clone() for name, t in tensors.items()}
    x, y = np.random.default_rng(0).normal(size=(16, 1, 6, 6)), np.arange(16) % 3
    drawn, python = states(), random.getstate()
    recipe = Recipe(batch_size=8, steps=3)
    task = Task(model, train=(x, y), val=(x, y), test=(x, y), recipe=recipe, device=device)
    outcome = trainer(task.problem, masks_of(task), PLAN)
    assert not torch.equal(outcome.states[0]["0.0.weight"], before["0.0.weight"])
    assert all(map(torch.equal, states(), drawn))
    assert random.getstate() == python
    assert all(torch.equal(t, before[name]) for name, t in tensors.items())
    assert all(torch.equal(t, before[name]) for name, t in task.model.state_dict().items())
    assert not any(module.training for module in model.modules())
    grads = {name: p.grad for name, p in model.named_parameters()}
    assert torch.equal(grads.pop("0.0.weight"), torch.ones(3, 1, 3, 3, dtype=torch.float64))
    assert all(grad is None for grad in grads.values())


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
    assert torch.equal(rows, Plan(steps, seed).batches(n, batch))


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


@pytest.mark.parametrize("trainer", [train_stacked, train_one_by_one])
def test_a_point_of_the_curve_is_the_loss_of_a_training_that_ends_there(trainer):
    task = make_task("dropout", RECIPES["sgd"])
    masks = masks_of(task)
    curved = trainer(task.problem, masks, PLAN)
    assert curved.curve_steps == (17, 33, 50)
    for k, steps in enumerate(curved.curve_steps):
        shorter = trainer(task.problem, masks, Plan(steps, PLAN.seed))
        assert shorter.curve.shape == (3, 0)
        np.testing.assert_allclose(curved.curve[:, k], shorter.metrics["val_loss"], rtol=1e-12)


@pytest.mark.parametrize(("steps", "tail"), [(1, 1), (9, 1), (20, 2), (300, 30)])
def test_the_training_loss_is_a_mean_over_the_last_tenth(steps, tail):
    assert Plan(steps, 0).tail == tail

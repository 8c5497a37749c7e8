"""The data of a task: weights, several outputs, own losses, holdout, streams, augmentation."""

import functools
import logging
import random
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.networks import PLAN, RECIPES, Custom, assert_same, make_task, masks_of, reference
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from nets_deap import Recipe, Task, make_toolbox
from nets_deap.data import streamed
from nets_deap.data.holdout import hold_out
from nets_deap.errors import InvalidValueError
from nets_deap.training.engines.dispatch import pick_engine, train
from nets_deap.training.engines.loop import takes_threads, train_loop
from nets_deap.training.engines.probe import probe
from nets_deap.training.engines.vmap import train_vmap
from nets_deap.training.problem import Plan

ENGINES = {"vmap": train_vmap, "loop": train_loop}
each_engine = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
SHORT = replace(PLAN, steps=12, curve_points=2)


def numbers(n=40, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    return rng.normal(size=(n, 6)) + y[:, None] / 2, y


def weighted(scale=1.0, data=None):
    x, y = numbers() if data is None else data
    return x, y, scale * np.random.default_rng(3).integers(0, 4, len(x))


def task_of(model=None, train=None, *, recipe=RECIPES["adam"], **more):
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)) if model is None else model
    recipe = replace(recipe, batch_size=8, steps=12)
    data = {"train": numbers() if train is None else train, "val": numbers(seed=1), **more}
    return Task(model.double(), recipe=recipe, **{"device": "cpu", **data})


# ---- weights of examples


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "mse", "own"])
def test_whole_weights_count_as_copies_of_examples(loss):
    x, y, w = weighted()
    own = lambda output, target: F.cross_entropy(output, target, reduction="none")  # noqa: E731
    y = y if loss in ("cross_entropy", "own") else np.eye(3)[y]
    recipe = Recipe(optimizer="sgd", lr=0.1, loss=own if loss == "own" else loss)
    model = nn.Linear(6, 3)
    kept = [np.repeat(part, w.astype(int), axis=0) for part in (x, y)]
    once = task_of(model, (x, y, w), val=(x, y, 5 * w), recipe=recipe)
    copies = task_of(model, tuple(kept), val=tuple(kept), recipe=recipe)
    assert once.chance_loss == pytest.approx(copies.chance_loss, rel=0.2 if loss == "own" else 1e-9)
    plan = Plan(1, 0)  # measured after a step on the same minibatch
    everything = [
        Task(model, train=data, val=data, recipe=replace(recipe, batch_size=len(data[0]), steps=1))
        for data in ((x, y, w), tuple(kept))
    ]
    results = [train(t.problem, [t.dense_ticket().packed], plan).metrics for t in everything]
    for name in ("train_loss", "val_loss", "val_accuracy"):
        np.testing.assert_allclose(*(r[name] for r in results), rtol=1e-9, err_msg=name)


@each_engine
def test_weighted_batches_equal_single_trainings(engine):
    task = task_of(train=weighted())
    masks = masks_of(task)
    assert pick_engine("auto", task.problem) == "vmap"
    batch = engine(task.problem, masks, SHORT)
    assert_same(batch, reference(task.problem, masks, SHORT), rtol=1e-9)
    heavier = task_of(task.model, weighted(7.5))
    assert_same(engine(heavier.problem, masks, SHORT), batch, rtol=1e-9)
    plain = reference(task_of(task.model).problem, masks, SHORT)
    assert abs(plain.metrics["val_loss"] - batch.metrics["val_loss"]).min() > 1e-5


def test_weights_need_a_loss_for_each_example():
    with pytest.raises(ValueError, match=r"loss must return one loss for each .*reduction='none'"):
        task_of(train=weighted(), loss=F.cross_entropy)


# ---- losses and outputs of the user's own


class Heads(nn.Module):
    """Two outputs under names."""

    def __init__(self):
        super().__init__()
        self.body, self.kind, self.size = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 1)

    def forward(self, x):
        h = torch.tanh(self.body(x))
        return {"kind": self.kind(h), "size": self.size(h)[:, 0]}


def both(output, target):
    kind = F.cross_entropy(output["kind"], target["kind"])
    return kind + 0.5 * F.mse_loss(output["size"], target["size"])


def heads_data(seed=0):
    x, y = numbers(seed=seed)
    return x, {"kind": y, "size": x.sum(1)}


class Pairs(Dataset):
    """Examples one by one; counts how often they are read."""

    def __init__(self, data, weights=None):
        self.data, self.weights, self.read = data, weights, 0

    def __len__(self):
        return len(self.data[0])

    def __getitem__(self, i):
        self.read += 1
        x, y = self.data
        one = {k: v[i] for k, v in y.items()} if isinstance(y, dict) else y[i]
        return (x[i], one) if self.weights is None else (x[i], one, self.weights[i])


@each_engine
def test_several_outputs_train_under_a_function(engine):
    task = task_of(Heads(), heads_data(), val=heads_data(1), loss=both)
    masks = masks_of(task)
    batch = engine(task.problem, masks, SHORT)
    assert_same(batch, reference(task.problem, masks, SHORT), rtol=1e-9)
    assert np.isnan(batch.metrics["val_accuracy"]).all()
    assert not task.has_accuracy
    longer = engine(task.problem, masks[:1], replace(SHORT, steps=400))
    assert longer.metrics["train_loss"] < 0.5 * task.chance_loss, "it should learn"
    same = task_of(Heads(), Pairs(heads_data()), val=Pairs(heads_data(1)), loss=both)
    assert same.data_digest == task.data_digest
    message = r"val_accuracy.*|losses only under test_examples\.both"
    with pytest.raises(ValueError, match=message):
        make_toolbox(task, objectives=("val_accuracy", "density"), inherit="none")


def test_a_function_is_the_loss_with_its_name():
    named = task_of()
    own = task_of(named.model, loss=F.cross_entropy)
    masks = masks_of(named)
    assert pick_engine("auto", own.problem) == "vmap"
    outcome = train(own.problem, masks, SHORT)
    assert_same(outcome, reference(named.problem, masks, SHORT), rtol=1e-9)
    assert own.has_accuracy
    assert own.as_dict()["recipe"]["loss"] == "torch.nn.functional.cross_entropy"
    assert own.fingerprint != named.fingerprint
    with torch.no_grad():
        x, y = (torch.as_tensor(part) for part in numbers())
        assert own.chance_loss == pytest.approx(float(F.cross_entropy(named.model(x), y)))


def test_losses_that_are_modules_are_told_apart_by_settings_and_tensors():
    losses = [nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)]
    losses += [nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, w]).double()) for w in (3, 4)]
    model = nn.Linear(6, 3).double()
    tasks = [task_of(model, loss=loss) for loss in losses]
    assert len({task.fingerprint for task in tasks}) == 4
    assert task_of(model, loss=nn.CrossEntropyLoss()).fingerprint == tasks[0].fingerprint
    for task in tasks:
        masks = masks_of(task)
        batch = train(task.problem, masks, SHORT)
        assert_same(batch, reference(task.problem, masks, SHORT), rtol=1e-9)


def test_a_loss_that_cannot_be_batched_trains_alone(caplog):
    def loss(output, target):
        return (
            output.sum() * 0 if float(output.detach().abs().max()) > 1e9 else both_(output, target)
        )

    both_ = F.cross_entropy
    task = task_of(loss=loss)
    masks = masks_of(task)
    with caplog.at_level(logging.WARNING):
        outcome = train(task.problem, masks, SHORT)
    assert "torch.func cannot batch the loss" in caplog.text
    assert_same(outcome, reference(task.problem, masks, SHORT), rtol=1e-9)


def test_whatever_a_batch_fails_with_networks_train_alone(caplog):
    def loss(output, target):
        assert not torch._C._functorch.is_functorch_wrapped_tensor(
            output
        )  # as torch's compiler asserts
        return F.cross_entropy(output, target)

    task = task_of(loss=loss)
    masks = masks_of(task)
    assert_same(train(task.problem, masks, SHORT), reference(task.problem, masks, SHORT), rtol=1e-9)
    assert "torch.func cannot batch the loss" in caplog.text
    with pytest.raises(InvalidValueError, match=r"engine='loop'"):
        train(task.problem, masks, SHORT, engine="vmap")


@pytest.mark.slow
@pytest.mark.parametrize(
    "plain", [nn.CrossEntropyLoss(), lambda output, target: F.cross_entropy(output, target) * 2]
)
def test_compiled_losses_are_those_that_were_compiled(plain):
    compiled = torch.compile(plain, backend="eager")
    model = nn.Linear(6, 3).double()
    task, other = task_of(model, loss=plain), task_of(model, loss=compiled)
    assert Recipe(loss=compiled).loss is plain
    assert task.fingerprint == other.fingerprint
    assert task.train(task.dense_ticket()).val_loss == other.train(task.dense_ticket()).val_loss

    @functools.wraps(compiled)  # takes over attributes, too
    def twice(output, target):
        return 2 * compiled(output, target)

    assert Recipe(loss=twice).loss is twice


def test_a_scripted_function_is_a_loss():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer versions of torch discourage it
        loss = torch.jit.script(scripted)
    task = task_of(loss=loss)
    masks = masks_of(task)
    assert_same(train(task.problem, masks, SHORT), reference(task.problem, masks, SHORT), rtol=1e-9)


def scripted(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(output, target)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda output, target: 1.0, r"loss must return a number: expected a floating-point Tens"),
        (lambda output, target: output.argmax(), r"loss must return a number"),
        (lambda output, target: output.mean(0), r"loss must return losses: .*\(3,\) for B = 8"),
        (lambda output: output, r"loss must take the outputs and the targets of .* said:"),
    ],
)
def test_bad_losses(loss, message):
    with pytest.raises((ValueError, TypeError), match=message):
        task_of(loss=loss)


# ---- a validation split


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=200),
    st.floats(0.01, 0.99),
    st.integers(0, 2**40),
)
def test_every_class_gives_its_share(labels, share, seed):
    y, n = torch.tensor(labels), len(labels)
    stay, off = hold_out(y, n, share, seed)
    assert sorted([*stay, *off]) == list(range(n))
    assert len(off) == min(max(round(share * n), 1), n - 1)
    total = np.bincount(labels, minlength=5)
    given = np.bincount(y[off].numpy(), minlength=5)
    assert (np.abs(given - total * len(off) / n) < 1 + 1e-9).all()
    again = hold_out(y.reshape(-1, 1).double() if set(labels) <= {0, 1} else y, n, share, seed)
    assert np.array_equal(again[1], off)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("rare", [0, 1, 2])
def test_a_class_of_one_example_stays_to_be_learnt(rare, share):
    for n in (7, 20, 41) if share < 0.9 else (41,):  # fewer leave no room for three classes
        labels = np.array([i % 3 + (i % 3 >= rare) for i in range(n)] + [rare])
        for seed in range(5):
            order = np.random.default_rng(seed).permutation(n + 1)
            stay, off = hold_out(torch.tensor(labels[order]), n + 1, share, seed)
            assert rare in labels[order][stay]
            assert len(off) == max(round(share * (n + 1)), 1)
    pairs = torch.arange(20) // 2
    assert set(pairs[hold_out(pairs, 20, 0.5, 3)[0]].tolist()) == set(range(10))
    alone = torch.arange(20)  # each its own class: there is none to keep
    assert len(hold_out(alone, 20, 0.25, 0)[1]) == 5


def test_without_validation_data_a_tenth_is_held_out():
    x, y = numbers(400)
    tasks = [Task(nn.Linear(6, 3), train=(x, y), seed=seed) for seed in (0, 0, 1)]
    sizes = [len(task.problem.val[0]) for task in tasks]
    assert sizes == [40, 40, 40]
    rows = torch.cat([tasks[0].problem.train[0], tasks[0].problem.val[0]]).numpy()
    assert sorted(rows.tolist()) == sorted(x.astype(np.float32).tolist())
    assert tasks[0].data_digest == tasks[1].data_digest != tasks[2].data_digest
    counts = np.bincount(tasks[0].problem.val[1])
    assert np.abs(counts - np.bincount(y) / 10).max() <= 1
    w = np.arange(400.0)
    half = Task(nn.Linear(6, 3), train=(x, y, w), val=0.5)
    kept = half.problem.val[1].weight.double() / half.problem.val[1].weight.max()
    places = [
        np.flatnonzero((x.astype(np.float32) == row).all(1))[0]
        for row in half.problem.val[0].numpy()
    ]
    np.testing.assert_allclose(kept, w[places] / w[places].max(), rtol=1e-6)
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"val must be in range: expected a finite float in"):
            Task(nn.Linear(6, 3), train=(x, y), val=share)


# ---- data sets that stay where they are


@pytest.mark.parametrize("kind", ["vmap", "loop"])
def test_a_stream_gives_what_memory_gives(kind):
    x, y = numbers()
    kept = task_of(train=Pairs((x, y)), val=0.25, in_memory=True)
    data = Pairs((x, y), None)
    task = task_of(kept.model, data, val=0.25, in_memory=False, engine=kind)
    assert task.data_digest == kept.data_digest
    assert task.fingerprint == kept.fingerprint
    assert not isinstance(task.problem.train[0], torch.Tensor)
    masks = masks_of(task)
    probe(task.problem)
    before = data.read
    outcome = train(task.problem, masks, SHORT, engine=kind)
    assert_same(outcome, reference(kept.problem, masks, SHORT), rtol=1e-9)
    networks = 1 if kind == "vmap" else 3
    assert data.read - before == networks * (12 * 8 + 2 * 10 + (kind != "vmap") * 10)


def test_what_does_not_fit_is_streamed(monkeypatch):
    y = numbers()[1]
    images = (np.random.default_rng(0).integers(0, 256, (40, 1, 3, 2)).astype(np.uint8), y)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
    more = {"normalize": (0.3, 0.5), "val": images}
    memory = task_of(model, images, **more)
    monkeypatch.setattr(streamed, "_free_memory", lambda: 2 * 40 * 6 - 1)
    task = task_of(memory.model, Pairs(images), **more)
    assert pick_engine("auto", task.problem) == "vmap"
    masks = masks_of(task)
    assert_same(
        train(task.problem, masks, SHORT), reference(memory.problem, masks, SHORT), rtol=1e-9
    )
    monkeypatch.setattr(streamed, "_free_memory", lambda: 2 * 40 * 6)
    assert isinstance(task_of(model, Pairs(images), **more).problem.train[0], torch.Tensor)
    with pytest.raises(ValueError, match=r"engine must suit the task: .*data in memory"):
        task_of(model, Pairs(images), in_memory=False, engine="batched", **more)
    assert takes_threads(memory.problem)
    assert not takes_threads(task.problem), "reading draws from states that threads would share"
    with pytest.raises(TypeError, match=r"in_memory must be a switch"):
        task_of(in_memory="no")


def test_free_memory_is_a_sane_number():
    assert 2**20 < streamed.capacity_for_data(torch.device("cpu")) < 2**50


# ---- changed minibatches


def jitter(x):
    return x + 0.3 * torch.randn_like(x)


@each_engine
def test_all_networks_see_the_same_changed_minibatches(engine):
    task = task_of(augment=jitter)
    masks = masks_of(task)
    batch = engine(task.problem, masks, SHORT, chunk=2)
    assert_same(batch, reference(task.problem, masks, SHORT), rtol=1e-9)
    plain = task_of(task.model)
    assert plain.fingerprint != task.fingerprint
    difference = engine(plain.problem, masks, SHORT).metrics["val_loss"] - batch.metrics["val_loss"]
    assert np.abs(difference).min() > 1e-4


def test_each_step_draws_anew_and_validation_stays_as_it_is():
    seen = []

    def note(x):
        seen.append(torch.rand(2).tolist())
        return x

    task = task_of(augment=note)
    state = torch.get_rng_state()
    seen.clear()
    noted = train(task.problem, masks_of(task), SHORT)
    assert len(seen) == 12
    assert len({tuple(numbers) for numbers in seen}) == 12
    assert torch.equal(torch.get_rng_state(), state)
    assert_same(noted, train(task_of(task.model).problem, masks_of(task), SHORT), rtol=1e-9)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (3, r"augment must be a function"),
        (lambda x: x[:1], r"augment must return as many inputs: .*8 inputs of torch.float64"),
        (lambda x: x.float(), r"augment must return as many inputs"),
        (lambda x: None, r"augment must return as many inputs"),
    ],
)
def test_bad_changes(augment, message):
    with pytest.raises((ValueError, TypeError), match=message):
        task_of(augment=augment)


def test_custom_modules_take_streams_weights_and_functions_together():
    x, y = numbers()
    data = Pairs((x, y), np.arange(40.0))
    loss = nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1)
    model = Custom(
        lambda m, x: m.b(F.dropout(m.a(x), 0.3, m.training)), a=nn.Linear(6, 8), b=nn.Linear(8, 3)
    )
    task = task_of(model, data, val=0.2, in_memory=False, loss=loss, augment=jitter)
    masks = masks_of(task)
    batch = train(task.problem, masks, SHORT)
    assert_same(batch, reference(task.problem, masks, SHORT), rtol=1e-9)
    assert make_task("mlp", Recipe()).has_accuracy


class Jittered(Pairs):
    """Inputs with noise, drawn each time that they are read."""

    def __init__(self, data, draw):
        super().__init__(data)
        self.draw = draw

    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return x + self.draw(x.shape), y


own_generator = np.random.default_rng(0)
DRAWS = {
    "torch": lambda shape: torch.randn(shape, dtype=torch.float64).numpy(),
    "numpy": lambda shape: np.random.normal(size=shape),  # noqa: NPY002
    "python": lambda shape: random.random(),
    "own": lambda shape: own_generator.normal(size=shape),
}


@pytest.mark.parametrize("draw", DRAWS)
def test_random_transforms_that_are_kept_are_told(draw, caplog):
    data, model = numbers(), nn.Linear(6, 3)
    train = Jittered(data, DRAWS[draw])
    task_of(model, train, val=data, in_memory=None)
    (note,) = caplog.messages
    assert "in_memory=False to draw anew" in note
    caplog.clear()
    task_of(model, train, val=data, in_memory=False)
    task_of(model, train, val=data, in_memory=True)
    task_of(model, Pairs(data), val=Jittered(data, DRAWS[draw]))
    assert not caplog.messages

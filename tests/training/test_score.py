"""The loss and the accuracy on a whole split, under losses that are no means over examples."""

import functools
import logging
import math
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from support.networks import Custom
from torch import nn
from torch.nn import functional as F

from nets_deap import Evaluator, Recipe, Task, batch_map
from nets_deap.errors import InvalidValueError
from nets_deap.evolution.measures import accuracy
from nets_deap.training import score
from nets_deap.training.engines import functional, probe
from nets_deap.training.problem import Plan
from nets_deap.training.score import Score, joined
from nets_deap.training.task import FINAL_TRAINING

N = 2300  # three pieces, the last one shorter
WEIGHT = torch.tensor([0.1, 1.0, 9.0], dtype=torch.float64)
each_engine = pytest.mark.parametrize("engine", ["vmap", "loop"])


def in_class_order(n=N, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) * 3 // n
    return torch.tensor(rng.normal(size=(n, 6)) + y[:, None] / 2), torch.tensor(y)


def pearson(output, target):
    both = torch.stack([output[:, 0], target.to(output.dtype)])
    a, b = both - both.mean(1, keepdim=True)
    return 1 - (a * b).sum() / (a.norm() * b.norm())


def dice(output, target):
    p, t = output.softmax(1), F.one_hot(target, 3)
    return 1 - (2 * (p * t).sum(0) / (p.sum(0) + t.sum(0))).mean()


def contrast(output, target):
    z = F.normalize(output, dim=1)
    same = (target[:, None] == target).to(z.dtype)
    return -((z @ z.T).log_softmax(1) * same).sum(1).div(same.sum(1)).mean()


LOSSES = {
    "weight": nn.CrossEntropyLoss(weight=WEIGHT),
    "sum": nn.CrossEntropyLoss(reduction="sum"),
    "none": functools.partial(F.cross_entropy, reduction="none"),
    "ignored": functools.partial(F.cross_entropy, ignore_index=1),
    "pearson": pearson,
    "dice": dice,
    "contrast": contrast,
}


def task_of(loss, engine, model=None, val=None, batch=30, steps=6, **more):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)) if model is None else model
    recipe = Recipe(lr=1e-2, batch_size=batch, steps=steps, loss=loss)
    val = in_class_order() if val is None else val
    data = {"train": in_class_order(90, 1), "val": val, "test": [part[:1500] for part in val]}
    return Task(model.double(), recipe=recipe, engine=engine, device="cpu", **{**data, **more})


def trained(task):
    """Train two tickets; return the second one's result and its network."""
    half = np.arange(task.layout.size) % 2 == 0
    result = task.train_all([task.dense_ticket(), task.ticket(half)], points=2)[1]
    return result, result.module()


@each_engine
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "contrast")) for n in LOSSES]
)
def test_a_loss_is_that_of_all_rows_together(name, engine):
    loss = LOSSES[name]
    task = task_of(loss, engine)
    result, module = trained(task)
    with torch.no_grad():
        for found, (x, y) in (
            (result.val_loss, task.problem.val),
            (result.test_loss, task.problem.test),
            (result.curve[-1][1], task.problem.val),
        ):
            assert found == pytest.approx(float(loss(module(x), y).mean()), rel=1e-9)
        x, y = (part.repeat(-(-N // 90), *[1] * (part.ndim - 1)) for part in task.problem.train)
        assert task.chance_loss == pytest.approx(float(loss(task.model(x), y).mean()), rel=1e-9)


@each_engine
def test_a_loss_of_one_number_is_taken_in_any_shape(engine):
    plain, shaped = (
        trained(task_of(lambda o, t, shape=shape: F.cross_entropy(o, t).reshape(shape), engine))[0]
        for shape in ((), (1, 1))
    )
    assert shaped.val_loss == pytest.approx(plain.val_loss, rel=1e-12)
    x, y = in_class_order(90, 1)
    with pytest.raises(InvalidValueError, match=r"one loss for each example"):
        task_of(lambda o, t: F.cross_entropy(o, t).view(1), engine, train=(x, y, np.ones(90)))


@each_engine
def test_unlabelled_rows_count_nothing(engine):
    x, y = in_class_order()
    truth, y = y, y.clone()
    y[600:1700] = -100  # a whole piece
    task = task_of(nn.CrossEntropyLoss(), engine, val=(x, y))
    result, module = trained(task)
    with torch.no_grad():
        output, labelled = module(x), y != -100
        assert result.val_loss == pytest.approx(float(F.cross_entropy(output, y)), rel=1e-9)
        right = (output.argmax(1) == truth)[labelled].double().mean()
    assert result.val_accuracy == pytest.approx(float(right), rel=1e-12)
    assert accuracy(task.problem, result._state) == pytest.approx(float(right), rel=1e-12)


@each_engine
def test_a_minibatch_without_labels_trains_nothing_and_is_no_divergence(engine):
    """Torch's loss of it is NaN, its gradient zero."""
    x, y = in_class_order(90, 1)
    y[:85] = -100
    task = task_of(nn.CrossEntropyLoss(), engine, train=(x, y), batch=8, steps=60)
    model, losses = task.model, []
    plan = Plan(60, task.derived_seed(FINAL_TRAINING))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for rows in plan.batches(90, 8):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x[rows]), y[rows])
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    last = losses[-plan.tail :]
    assert 0 < np.isnan(last).sum() < len(last)
    result = task.train(task.dense_ticket())
    with torch.no_grad():
        true = F.cross_entropy(model(task.problem.val[0]), task.problem.val[1])
    assert result.val_loss == pytest.approx(float(true), rel=1e-9)
    assert result.train_loss == pytest.approx(np.nanmean(last), rel=1e-9)


def branching(output, target):
    return F.cross_entropy(output, target, ignore_index=2)


class Own(nn.Module):
    """A module that holds the loss that ignores a label."""

    def __init__(self):
        super().__init__()
        self.inner = nn.NLLLoss(ignore_index=2)

    def forward(self, output, target):
        return self.inner(output.log_softmax(1), target)


@pytest.mark.parametrize("shape", [(), (3, 4)], ids=["classes", "pixels"])
@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(ignore_index=2),
        functools.partial(F.cross_entropy, ignore_index=2),
        functools.partial(functools.partial(F.cross_entropy, ignore_index=2), reduction="none"),
        branching,
        lambda output, target: F.nll_loss(output.log_softmax(1), target, ignore_index=2),
        Own(),
    ],
)
def test_a_label_that_is_ignored_is_no_error(loss, shape):
    """Also one that names a class, whoever says so: the loss, a part of it, or nobody."""
    rng = np.random.default_rng(0)
    model = Custom(
        lambda m, x: m.linear(x).reshape(-1, 3, *shape),
        linear=nn.Linear(6, 3 * math.prod(shape)),
    )
    y = torch.tensor(rng.integers(0, 3, (60, *shape)))
    y[:20] = 2
    x = torch.tensor(rng.normal(size=(60, 6)))
    task = task_of(loss, "vmap", model, val=(x, y), train=(x, y))
    assert task.problem.ignored == (2,)
    result, module = trained(task)
    with torch.no_grad():
        right = (module(x).argmax(1) == y)[y != 2].double().mean()
    assert result.val_accuracy == pytest.approx(float(right), rel=1e-9)


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(weight=torch.tensor([0.0, 1.0, 1.0]).double()),
        nn.MultiMarginLoss(),
        lambda output, target: F.cross_entropy(output, target, label_smoothing=0.2),
        lambda output, target: F.cross_entropy(output, target, reduction="none").median(),
        lambda output, target: F.cross_entropy(output, target, reduction="none").max(),
        lambda output, target: F.cross_entropy(output, target, reduction="none").min(),
        lambda output, target: max(
            F.cross_entropy(output[target == c], target[target == c]) for c in range(3)
        ),
    ],
)
def test_labels_that_the_loss_hears_count(loss):
    assert task_of(loss, "vmap").problem.ignored == ()


Parts = namedtuple("Parts", "scores more")


def parts(model, x):
    h = torch.tanh(model.a(x))
    scores = model.b(h)
    return {"parts": Parts(scores, [h, None, "tag"]), "turned": scores.t(), "mean": h.mean(0)}


def of_parts(output, target):
    scores, (h, nothing, tag) = output["parts"]
    assert nothing is None
    assert tag == "tag"
    more = h.std() + output["mean"].sum() + (output["turned"].t() - scores).abs().sum()
    return F.cross_entropy(scores, target, weight=WEIGHT) + more


class Plain:
    def __init__(self, scores):
        self.scores = scores


@dataclass(frozen=True)
class Frozen:
    scores: torch.Tensor
    hidden: Plain | None = None


class Both(OrderedDict):
    """Attributes that are items, as transformers' outputs have them."""

    def __getattr__(self, name):
        if name not in self:
            raise AttributeError(name)
        return self[name]


class Opaque:
    """What nobody can look into."""

    __slots__ = ("scores",)

    def __init__(self, scores):
        self.scores = scores


@each_engine
def test_outputs_of_several_parts_are_put_together(engine):
    model = Custom(parts, a=nn.Linear(6, 8), b=nn.Linear(8, 3))
    task = task_of(of_parts, engine, model)
    result, module = trained(task)
    x, y = task.problem.val
    with torch.no_grad():
        assert result.val_loss == pytest.approx(float(of_parts(module(x), y)), rel=1e-9)


@each_engine
@pytest.mark.parametrize(
    "wrap",
    [Plain, lambda scores: Frozen(scores, Plain(scores)), lambda scores: Both(scores=scores)],
    ids=["object", "dataclass", "mapping"],
)
def test_outputs_in_objects_are_put_together(caplog, engine, wrap):
    model = Custom(lambda m, x: wrap(m.a(x)), a=nn.Linear(6, 3))
    weighted = LOSSES["weight"]
    task = task_of(lambda output, target: weighted(output.scores, target), engine, model)
    result, module = trained(task)
    x, y = task.problem.val
    with torch.no_grad():
        expected = float(weighted(module(x).scores, y))
    assert result.val_loss == pytest.approx(expected, rel=1e-9)
    assert not caplog.records


@each_engine
def test_what_cannot_be_put_together_is_a_mean_over_pieces(caplog, engine):
    model = Custom(lambda m, x: Opaque(m.a(x)), a=nn.Linear(6, 3))
    weighted = LOSSES["weight"]
    task = task_of(lambda output, target: weighted(output.scores, target), engine, model)
    result, module = trained(task)
    assert ["kind Opaque cannot be put together" in r.message for r in caplog.records] == [True]
    x, y = (part.split(767) for part in task.problem.val)
    with torch.no_grad():
        pieces = [len(b) * float(weighted(module(a).scores, b)) for a, b in zip(x, y, strict=True)]
    assert result.val_loss == pytest.approx(sum(pieces) / N, rel=1e-9)
    for outputs in ([torch.ones(2, 3), torch.ones(2, 4)], [{"a": 1}, {"b": 1}], [1.0, 2.0]):
        with pytest.raises(ValueError, match=r"pieces|of rows"):
            joined(outputs, [2, 2])


@each_engine
@pytest.mark.parametrize("networks", [1.5, 0.5])
def test_memory_is_bounded(monkeypatch, caplog, engine, networks):
    """Fewer networks at once give the same; a network alone that is too large goes by pieces."""
    whole, _ = trained(task_of(LOSSES["weight"], engine))
    limit = int(networks * 3 * 8 * N)
    for module in (score, functional, probe):
        monkeypatch.setattr(module, "OUTPUT_BYTES", limit)
    with caplog.at_level(logging.WARNING):
        task = task_of(LOSSES["weight"], engine)
        result, module = trained(task)
    told = [one.message for one in caplog.records if "outputs of a network" in one.message]
    assert len(told) == (0 if networks > 1 else 2), "once for each of val and test"
    if networks > 1:
        assert result.val_loss == pytest.approx(whole.val_loss, rel=1e-12)
        return
    x, y = (part.split(767) for part in task.problem.val)
    with torch.no_grad():
        pieces = [len(b) * float(LOSSES["weight"](module(a), b)) for a, b in zip(x, y, strict=True)]
    assert result.val_loss == pytest.approx(sum(pieces) / N, rel=1e-9)


@each_engine
def test_measuring_leaves_what_a_loss_keeps(engine):
    """A curve must not change the training that it is of."""

    class Warming(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, output, target):
            self.calls += 1
            return F.cross_entropy(output, target) / self.calls

    task = task_of(Warming(), engine)
    few, many = (task.train_all([task.dense_ticket()], points=n)[0] for n in (0, 6))
    assert few.val_loss == many.val_loss


def test_a_loss_that_keeps_what_it_saw_trains_alone():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.ones(()))

        def forward(self, output, target):
            found = F.cross_entropy(output, target)
            self.mean = 0.9 * self.mean + 0.1 * found.detach()
            return found / self.mean

    task, alone = task_of(Scaled(), "auto"), task_of(Scaled(), "loop")
    assert trained(task)[0].val_loss == pytest.approx(trained(alone)[0].val_loss, rel=1e-9)
    with pytest.raises(InvalidValueError, match="engine='loop'"):
        trained(task_of(Scaled(), "vmap"))


@each_engine
def test_weights_of_examples_and_unequal_pieces(engine):
    x, y = in_class_order()
    w = np.random.default_rng(0).integers(1, 5, N).astype(float)
    for loss in ("cross_entropy", LOSSES["none"]):
        task = task_of(loss, engine, val=(x, y, w), test=(x, y, w))
        result, module = trained(task)
        with torch.no_grad():
            each = F.cross_entropy(module(x), y, reduction="none").numpy()
            right = (module(x).argmax(1) == y).numpy()
        assert result.val_loss == pytest.approx(np.average(each, weights=w), rel=1e-6)
        assert result.val_accuracy == pytest.approx(np.average(right, weights=w), rel=1e-6)


def test_a_split_without_labels_has_no_accuracy():
    scores = Score(nn.CrossEntropyLoss(), torch.tensor([-100, -100]))
    scores.add(2, torch.zeros(2, 3), torch.tensor([-100, -100]))
    assert np.isnan(scores.result()).all()


def test_a_search_under_a_sum_has_a_volume():
    """The reference is of as many rows as the validation loss."""
    task = task_of(nn.CrossEntropyLoss(reduction="sum"), "vmap")
    evaluator = Evaluator(task, ("val_loss", "density"))
    ((loss, _),) = batch_map(evaluator, [task.dense_ticket()])
    assert 0.5 * task.chance_loss < loss < task.chance_loss

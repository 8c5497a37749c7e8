"""Folds: who validates and who trains in a generation, for every kind of data and engine."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import nets_deap as nets
from nets_deap.data.holdout import deal
from nets_deap.data.streamed import Streamed
from nets_deap.errors import InvalidValueError
from nets_deap.training.engines import chunk, dispatch
from nets_deap.training.engines.dispatch import train
from nets_deap.training.folds import check_folds, count_of, folded, rows_of_fold
from nets_deap.training.losses import Weighted
from nets_deap.training.problem import Fold, Plan
from nets_deap.training.workers.transfer import SharedProblem, copied

RECIPE = nets.Recipe(lr=0.05, batch_size=5, steps=3)


class Rows(torch.utils.data.Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, place):
        return self.x[place], int(self.y[place])


class Two(nn.Module):
    """Two inputs, by name."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, a, b):
        return self.layer(a + b)


def data(n=53, seed=0):
    rng = np.random.default_rng(seed)
    # Each example is known by its first input.
    x = rng.normal(size=(n, 4)).astype(np.float32)
    x[:, 0] = np.arange(n) / n
    return torch.from_numpy(x), torch.from_numpy(rng.choice(3, n, p=[0.6, 0.3, 0.1]))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def task_of(train, **more):
    return nets.Task(network(), train=train, recipe=RECIPE, val=more.pop("val", 0.2), **more)


def a_pass(problem, seed=0, first=0):
    count = count_of(problem)
    return [rows_of_fold(problem, Fold(seed, first * count + g)) for g in range(count)]


def test_every_example_validates_once_a_pass_and_never_where_it_trains():
    problem = task_of(data()).problem
    assert count_of(problem) == 5
    for number in (0, 1):
        each = a_pass(problem, first=number)
        assert sorted(np.concatenate([held for _, held in each])) == list(range(53))
        for trained, held in each:
            assert sorted([*trained, *held]) == list(range(53))
            assert len(held) <= 11
            assert len(trained) >= problem.n_examples
    first, second = ([set(held) for _, held in a_pass(problem, first=n)] for n in (0, 1))
    assert not any(one in second for one in first), "dealt anew"
    assert [set(held) for _, held in a_pass(problem)] == first, "by seed and generation alone"
    assert [set(held) for _, held in a_pass(problem, seed=1)] != first


def test_a_fold_has_its_share_of_every_class():
    problem = task_of(data()).problem
    labels = torch.cat([problem.train[1], problem.val[1]]).numpy()
    for _, held in a_pass(problem):
        for label, size in enumerate(np.bincount(labels)):
            assert abs((labels[held] == label).sum() - size / 5) < 1


def test_folds_have_their_share_of_groups_within_groups():
    counts, classes = np.repeat([0, 1], [20, 33]), np.tile([0, 1, 2], 18)[:53]
    folds = deal([counts, classes], 5, (1, 2))
    for fold in range(5):
        for own in (counts, 3 * counts + classes):
            for value in np.unique(own):
                share = (own == value).sum() / 5
                assert abs((own[folds == fold] == value).sum() - share) < 1
    assert (deal([counts, classes], 5, (1, 2)) == folds).all()
    assert (deal([counts, classes], 5, (1, 3)) != folds).any()


def by_kind(kind):
    x, y = data()
    tensors = (x[:40], y[:40]), (x[40:], y[40:])
    if kind == "tensors":
        return task_of(tensors[0], val=tensors[1])
    if kind == "weighted":
        weights = torch.arange(53) % 7 + 1.0
        first, second = (
            (*both, w) for both, w in zip(tensors, weights.split([40, 13]), strict=True)
        )
        return task_of(first, val=second)
    streams = [Rows(*both) for both in tensors]
    if kind == "streamed":
        return task_of(streams[0], val=streams[1], in_memory=False)
    streamed = task_of(streams[0], val=streams[1], in_memory=False)
    plain = task_of(tensors[0], val=tensors[1])
    streamed.problem = replace(streamed.problem, val=plain.problem.val)
    return streamed


@pytest.mark.parametrize("kind", ["tensors", "weighted", "streamed", "streamed in part"])
def test_the_rows_of_a_fold_are_its_examples_of_all_kinds_of_data(kind):
    problem = by_kind(kind).problem
    x, y = data()
    for generation in (0, 3, 9):
        found = folded(problem, Fold(0, generation))
        parts = rows_of_fold(problem, Fold(0, generation))
        for (inputs, targets), rows in zip((found.train, found.val), parts, strict=True):
            mixed = torch.arange(len(rows)).flip(0)
            assert len(inputs) == len(rows)
            assert torch.equal(inputs[mixed], x[rows].flip(0))
            assert torch.equal(inputs[2:9], x[rows][2:9])
            if kind == "weighted":
                raw = (torch.arange(53) % 7 + 1.0)[rows]
                torch.testing.assert_close(targets.weight, raw / raw.mean())
                targets = targets.target
            assert torch.equal(targets, y[rows])
        assert isinstance(found.train[0], Streamed) == kind.startswith("streamed")
        assert isinstance(found.train[1], Weighted) == (kind == "weighted")


def test_several_inputs_are_dealt_together():
    x, y = data()
    problem = nets.Task(Two(), train=({"a": x, "b": x * 2}, y), recipe=RECIPE, val=0.2).problem
    found = folded(problem, Fold(0, 2))
    assert torch.equal(found.train[0]["b"], 2 * found.train[0]["a"])
    assert len(found.val[0]["a"]) == len(found.val[1])


def test_one_fold_is_kept_at_a_time():
    problem = task_of(data()).problem
    first = folded(problem, Fold(0, 0))
    assert folded(problem, Fold(0, 0)) is first
    assert folded(problem, None) is problem
    folded(problem, Fold(0, 1))
    assert folded(problem, Fold(0, 0)) is not first


@pytest.mark.parametrize("engine", ["compiled", "batched", "vmap", "loop"])
def test_every_engine_trains_on_the_rest_and_measures_on_the_fold(engine):
    if engine == "compiled":
        pytest.importorskip("numba")
    task = task_of(data(), engine=engine)
    x, y = (torch.cat([a, b]) for a, b in zip(task.problem.train, task.problem.val, strict=True))
    masks = [task.dense_ticket().packed, task.dense_ticket().packed]
    for generation in (0, 1):
        fold = Fold(7, generation)
        plan = Plan(steps=3, seed=5, fold=fold, keep_states=True)
        outcome = train(task.problem, masks, plan, engine=engine)
        trained, held = rows_of_fold(task.problem, fold)
        model = network()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        for rows in plan.batches(len(trained), 5):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[trained][rows]), y[trained][rows])
            loss.backward()
            optimizer.step()
        expected = nn.functional.cross_entropy(model(x[held]), y[held]).item()
        assert outcome.metrics["val_loss"] == pytest.approx([expected] * 2, rel=1e-4)


def of_kind(kind):
    """A task of some kind of network and data, without anything kept from before."""
    x, y = data(68)
    if kind == "bf16":
        return task_of((x, y), engine="batched", precision="bf16")
    if kind == "inputs":
        pairs = {"a": x, "b": x.flip(1)}
        return nets.Task(Two(), train=(pairs, y), val=0.2, recipe=RECIPE, engine="vmap")
    if kind == "weights":
        return task_of((x, y, torch.linspace(0.5, 2, 68)), engine="vmap")
    if kind == "streamed":
        return task_of(Rows(x, y), in_memory=False, engine="vmap")
    more = {"augment": lambda part: part + torch.rand_like(part)} if kind == "augmented" else {}
    return task_of((x, y), engine="batched" if kind == "batched" else "vmap", **more)


@pytest.mark.parametrize(
    "kind", ["batched", "bf16", "vmap", "augmented", "inputs", "weights", "streamed"]
)
def test_a_chunk_that_is_captured_serves_all_folds_with_the_same_bits(monkeypatch, kind):
    """As on CUDA, where to build one for each fold would cost more than to train."""
    torch.manual_seed(0)
    task = of_kind(kind)
    rng = np.random.default_rng(3)
    masks = [task.ticket(rng.random(task.layout.size) < d).packed for d in (0.9, 0.5, 0.3)]
    plans = [
        Plan(9, g, curve_points=2, keep_states=True, fold=Fold(4, g)) for g in (0, 1, 2, 3, 4, 6)
    ]
    sizes = {folded(task.problem, plan.fold).n_examples for plan in plans}
    assert len(sizes) > 1, "folds differ in size"
    wanted = [train(task.problem, masks, plan, engine=task.engine) for plan in plans]
    monkeypatch.setattr(chunk, "spare", lambda device: 2)
    monkeypatch.setattr(dispatch, "spare", lambda device: 2)
    built, plain = [], chunk.Chunk.__init__
    monkeypatch.setattr(chunk.Chunk, "__init__", lambda *a: built.append(1) or plain(*a))
    for plan, one in zip(plans, wanted, strict=True):
        found = train(task.problem, masks, plan, engine=task.engine)
        for name, values in one.metrics.items():
            np.testing.assert_array_equal(found.metrics[name], values)
        np.testing.assert_array_equal(found.curve, one.curve)
        for state, other in zip(found.states, one.states, strict=True):
            assert all(torch.equal(state[name], other[name]) for name in state)
    assert len(built) == (len(plans) if kind in ("weights", "streamed") else 1)


def test_copies_of_a_problem_make_the_same_folds():
    problem = by_kind("weighted").problem
    wanted = folded(problem, Fold(0, 3))
    cpu = torch.device("cpu")
    for other in (copied(problem, cpu), SharedProblem.of(problem).on(cpu)):
        found = folded(other, Fold(0, 3))
        assert torch.equal(found.train[0], wanted.train[0])
        assert torch.equal(found.val[1].weight, wanted.val[1].weight)


def test_several_devices_train_the_same_fold():
    alone, both = task_of(data()), task_of(data(), device=["cpu", "cpu"])
    plan = Plan(steps=3, seed=5, fold=Fold(0, 1))
    numbers = [
        task.run([task.dense_ticket()] * 3, plan).metrics["val_loss"] for task in (alone, both)
    ]
    np.testing.assert_allclose(*numbers, rtol=1e-5)


def test_parts_that_cannot_change_places_are_refused():
    x, y = data()
    model = nn.Sequential(
        nn.Conv1d(1, 2, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(2, 3)
    )
    other = torch.zeros(5, 1, 9), y[:5]
    task = nets.Task(model, train=(x[:, None], y), val=other, recipe=RECIPE)
    with pytest.raises(InvalidValueError, match="training and validation data cannot change"):
        check_folds(task.problem)
    weights = torch.zeros(53)
    weights[[0, 45]] = 1
    task = task_of((x[:40], y[:40], weights[:40]), val=(x[40:], y[40:], weights[40:]))
    with pytest.raises(InvalidValueError, match="at least K = 5 such examples, got 2"):
        check_folds(task.problem)

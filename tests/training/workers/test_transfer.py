"""Copies of a problem: on devices and in shared memory, with the same results."""

import copy
import pickle
import sys

import numpy as np
import pytest
import torch

import nets_deap as nets
from nets_deap.training.engines.dispatch import train
from nets_deap.training.problem import Plan
from nets_deap.training.workers.transfer import (
    SearchPath,
    SharedProblem,
    StoredTensor,
    copied,
    n_bytes,
)


def weighted(outputs, targets):
    return torch.nn.functional.mse_loss(outputs, targets["value"], reduction="none").mean(1)


TASKS = {
    "classes": lambda x: nets.Task(
        torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2)).double(),
        train=(x, (x[:, 0] > 0).long()), device="cpu", recipe=nets.Recipe(steps=9, batch_size=5),
    ),
    "weights of examples": lambda x: nets.Task(
        torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6)).double(),
        train=(x, (x[:, 0] > 0).long(), x[:, 1].abs()), device="cpu",
        recipe=nets.Recipe(steps=9, batch_size=5),
    ),
    "several targets": lambda x: nets.Task(
        torch.nn.Linear(4, 3).double(), train=(x, {"value": x[:, :3] * 2}), device="cpu",
        loss=weighted, recipe=nets.Recipe(steps=9, batch_size=5),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_a_shared_problem_trains_the_same_without_another_copy_of_the_data(name):
    task = TASKS[name](torch.randn(40, 4, dtype=torch.float64))
    shared = SharedProblem.of(task.problem)
    for out in (shared, pickle.loads(pickle.dumps(shared))):
        problem = out.on(torch.device("cpu"))
        masks = [
            ticket.packed_mask for ticket in nets.make_toolbox(task, inherit="none").population(n=3)
        ]
        here, there = (train(p, masks, Plan(9, 1)) for p in (task.problem, problem))
        assert here.metrics["val_loss"].tolist() == there.metrics["val_loss"].tolist()
        for a, b in zip(here.trained, there.trained, strict=True):
            np.testing.assert_array_equal(a.values, b.values)
    problem = shared.on(torch.device("cpu"))
    assert problem.train[0].data_ptr() == task.problem.train[0].data_ptr()
    assert n_bytes(problem) == n_bytes(task.problem) > 40 * 4 * 8


def test_data_in_memory_that_cannot_be_written_trains_without_a_warning():
    task = TASKS["classes"](torch.randn(40, 4, dtype=torch.float64))
    shared = SharedProblem.of(task.problem)
    for name in ("train", "val"):
        inputs, targets = (
            StoredTensor(copy.deepcopy(part.array), part.dtype)
            for part in getattr(shared.problem, name)
        )
        inputs.array.setflags(write=False)
        targets.array.setflags(write=False)
        object.__setattr__(shared.problem, name, (inputs, targets))
    problem = shared.on(torch.device("cpu"))
    masks = [task.dense_ticket().packed_mask]
    for engine in ("compiled", "vmap", "loop"):
        assert np.isfinite(train(problem, masks, Plan(4, 1), engine=engine).metrics["val_loss"])


def test_numbers_that_numpy_does_not_have_come_back():
    tensor = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)
    stored = StoredTensor.of(tensor)
    assert torch.equal(StoredTensor.tensor(stored), tensor)
    assert StoredTensor.of("else") == StoredTensor.tensor("else") == "else"


def test_a_copy_has_a_model_and_a_cache_of_its_own():
    problem = TASKS["classes"](torch.randn(40, 4, dtype=torch.float64)).problem
    other = copied(problem, torch.device("cpu"))
    assert other.model is not problem.model
    assert other.cache is not problem.cache
    assert other.train[0] is problem.train[0]


def test_python_looks_where_it_looked_when_it_was_packed(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path), "/not/there"])
    packed = pickle.dumps(SearchPath())
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(tmp_path)])
    pickle.loads(packed)
    assert sys.path[-1] == str(tmp_path)

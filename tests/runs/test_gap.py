"""The guard of a task, and the gap that a recorder tells from it."""

import numpy as np
import pytest
import torch
from deap import algorithms
from torch import nn

import nets_deap as nets
from nets_deap.experiments.presets import preset
from nets_deap.experiments.run import build_task
from nets_deap.runs.gap import Gap
from nets_deap.runs.storage.reader import RunReader
from nets_deap.training.folds import folded
from nets_deap.training.problem import Fold


def task_of(**more):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 4)).astype(np.float32)
    x[:, 0] = np.arange(80) / 80
    y = (x[:, 1] > 0.5).astype(np.int64)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    recipe = nets.Recipe(lr=0.02, batch_size=10, steps=4)
    return nets.Task(model, train=(x, y), val=0.5, recipe=recipe, seed=3, device="cpu", **more)


def rows(split):
    return set(split[0][:, 0].tolist())


def test_the_guard_is_taken_by_class_and_neither_trains_nor_selects():
    task, plain = task_of(guard=0.25), task_of()
    problem = task.problem
    assert (len(problem.val[0]), len(problem.guard[0])) == (30, 10)
    assert rows(problem.val) | rows(problem.guard) == rows(plain.problem.val)
    share = plain.problem.val[1].float().mean()
    assert abs(problem.guard[1].float().mean() - share) < 0.1
    for generation in range(3):
        found = folded(problem, Fold(0, generation))
        assert not rows(problem.guard) & (rows(found.train) | rows(found.val))
    assert not rows(problem.guard) & rows(problem.train)
    assert task.fingerprint != plain.fingerprint
    assert task.as_dict()["examples"] == {"train": 40, "val": 30, "guard": 10}
    with pytest.raises(ValueError, match="guard must be in range"):
        task_of(guard=1.0)


def test_the_gap_is_the_loss_on_the_guard_less_that_which_selected():
    task = task_of(guard=0.25)
    box = nets.make_toolbox(task, inherit="none")
    recorder = nets.Recorder(task=task, progress="none")
    pop = box.population(n=4)
    algorithms.eaMuPlusLambda(pop, box, 4, 4, 0.3, 0.7, 2, recorder, verbose=False)
    best = min(recorder.front, key=lambda one: one.trained.metrics["val_loss"])
    state = best.trained.tensors(task.layout, best.mask)
    x, y = task.problem.guard
    hidden = torch.tanh(x @ state["0.weight"].T + state["0.bias"])
    loss = nn.functional.cross_entropy(hidden @ state["2.weight"].T + state["2.bias"], y).item()
    row = recorder.logbook[-1]
    assert row["guard_loss"] == pytest.approx(loss, rel=1e-6)
    assert row["selection_gap"] == pytest.approx(loss - best.trained.metrics["val_loss"], abs=1e-6)
    assert np.isfinite(row["selection_gap_mean"])
    plain = task_of()
    assert Gap(plain).columns(list(recorder.front)) == {}


def test_a_clear_gap_is_told_once_with_what_to_do(caplog):
    task = task_of(guard=0.25)
    box = nets.make_toolbox(task, inherit="none")
    pop = box.population(n=2)
    box.map(box.evaluate, pop)
    gap = Gap(task)
    gap.columns(pop)
    assert not caplog.text
    # Wrong labels on the guard alone, all of them.
    task.problem.guard[1].copy_(1 - task.problem.guard[1])
    for one in pop:
        state = one.trained
        values = state.values * 20
        object.__setattr__(state, "values", values)
        object.__setattr__(state, "metrics", {"val_loss": 0.0})
    gap.columns(pop)
    gap.columns(pop)
    assert caplog.text.count("Selection has learnt the validation part") == 1
    assert "Give a larger validation part" in caplog.text


def test_a_run_with_a_guard_goes_on_exactly(tmp_path):
    settings = {"population": 3, "seed": 1, "progress": "none", "holdout": "folds"}
    settings["inherit"] = "none"
    nets.search(task_of(guard=0.25), path=tmp_path / "a", generations=3, **settings)
    nets.search(task_of(guard=0.25), path=tmp_path / "b", generations=1, **settings)
    nets.search(task_of(guard=0.25), path=tmp_path / "b", generations=3, resume=True, **settings)
    logs = []
    for name in "ab":
        log = RunReader(tmp_path / name).log()
        logs.append([{k: v for k, v in row.items() if k != "seconds"} for row in log])
    assert logs[0] == logs[1]
    assert "selection_gap" in logs[0][-1]


def test_the_command_line_sets_guard_and_folds():
    given = {"task.guard": "0.25", "search.holdout": "folds", "search.reevaluate": "true"}
    config = preset("xor-mlp10").override(given)
    assert (config.search.holdout, config.search.reevaluate) == ("folds", True)
    problem = build_task(config).problem
    assert len(problem.guard[0]) * 3 == len(problem.val[0])
    with pytest.raises(ValueError, match=r"task.guard must be in range"):
        preset("xor-mlp10").override({"task.guard": "1.5"})

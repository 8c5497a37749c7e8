"""``holdout="folds"``: another validation part each generation, the same for all of its tickets."""

import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from deap import algorithms

import nets_deap as nets
from nets_deap.errors import InvalidValueError
from nets_deap.evolution import hints as module
from nets_deap.training.folds import folded, rows_of_fold
from nets_deap.training.problem import Fold


@pytest.fixture
def task():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 1)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    recipe = nets.Recipe(lr=0.02, batch_size=10, steps=4)
    return nets.Task(model, train=(x, y), val=0.25, recipe=recipe, seed=3, device="cpu")


def spied(task, monkeypatch):
    """Return the list that the folds of all trainings of a task go to."""
    seen, run = [], task.run

    def noted(tickets, plan, *args, **more):
        seen.append((len(tickets), plan.fold))
        return run(tickets, plan, *args, **more)

    monkeypatch.setattr(task, "run", noted)
    return seen


def test_all_tickets_of_a_generation_are_measured_on_its_fold_survivors_too(task, monkeypatch):
    box = nets.make_toolbox(task, inherit="none", holdout="folds")
    seen = spied(task, monkeypatch)
    pop = box.population(n=4)
    algorithms.eaMuPlusLambda(pop, box, 4, 4, 0.3, 0.7, 3, verbose=False)
    assert [fold for _, fold in seen] == [Fold(3, generation) for generation in range(4)]
    assert seen[-1][0] > 4, "four survivors, and who is new"
    # After a generation, every number is of its fold.
    box = nets.make_toolbox(task, inherit="none", holdout="folds")
    pop = box.population(n=3)
    for one, values in zip(pop, box.map(box.evaluate, pop), strict=True):
        one.fitness.values = values
    first = [one.fitness.values[0] for one in box.select(pop, 3)]
    child = box.clone(pop[0])
    child[0] = not child[0]
    box.map(box.evaluate, [child])
    evaluator = nets.Evaluator(task, ("val_loss", "density"), holdout="folds")
    evaluator.generation = 1
    for one in pop:
        before = one.fitness.values[0]
        assert before == pytest.approx(evaluator(box.clone(one))[0])
        assert before not in first


def test_the_last_training_and_its_validation_part_are_the_task_s(task):
    ticket = task.dense_ticket()
    before = task.train(ticket, steps=3).val_loss
    nets.search(task, inherit="none", holdout="folds", population=3, generations=2, progress="none")
    assert task.train(ticket, steps=3).val_loss == before


def test_gradients_are_of_examples_that_train(task, monkeypatch):
    box = nets.make_toolbox(task, inherit="none", holdout="folds", gradient=True)
    asked = []
    plain = module.cheap_gradient
    monkeypatch.setattr(
        module,
        "cheap_gradient",
        lambda problem, *rest: asked.append(problem) or plain(problem, *rest),
    )
    pop = box.population(n=2)
    box.map(box.evaluate, pop)
    assert asked[0] is folded(task.problem, Fold(3, 0))
    trained, held = rows_of_fold(task.problem, Fold(3, 0))
    assert len(asked[0].train[0]) == len(trained)
    assert not set(trained) & set(held)


def test_objectives_of_the_trained_network_are_measured_on_the_fold(task):
    def accuracy(measured):
        x, y = measured.problem.val
        seen.append(len(x))
        state = measured.state()
        hidden = torch.relu(x @ state["0.weight"].T + state["0.bias"])
        output = hidden @ state["2.weight"].T + state["2.bias"]
        return float((output.argmax(1) == y).double().mean())

    seen = []
    own = nets.Objective("own", "max", 0.0, accuracy, reference=0.0, needs_state=True)
    names = ("noise_accuracy:0", "val_accuracy", own)
    evaluator = nets.Evaluator(task, names, holdout="folds")
    for _ in range(4):
        ((noisy, plain, mine),) = evaluator.batch([task.dense_ticket()])
        assert noisy == pytest.approx(plain) == mine
    assert seen == [15] * 4


def _numbers(task, map_):
    box = nets.make_toolbox(task, inherit="none", holdout="folds", map=map_)
    found = nets.search(task, toolbox=box, population=3, generations=2, seed=5, progress="none")
    return [one.fitness.values for one in found.population]


def test_a_copy_of_the_evaluator_measures_on_the_same_fold(task):
    evaluator = nets.Evaluator(task, ("val_loss", "density"), holdout="folds")
    evaluator.generation = 2
    copy = pickle.loads(pickle.dumps(evaluator))
    assert copy.fold == evaluator.fold == Fold(3, 2)
    assert copy.batch([task.dense_ticket()]) == evaluator.batch([task.dense_ticket()])


@pytest.mark.slow
def test_a_pool_measures_on_the_same_folds(task):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert np.allclose(_numbers(task, pool.map), _numbers(task, None), rtol=1e-5)


def test_a_search_with_folds_keeps_its_budget_and_is_another_one(task):
    settings = {"population": 3, "generations": 3, "seed": 1, "progress": "none"}
    budget = nets.Budget(300, unit="steps", generations=3)
    found = nets.search(task, inherit="none", holdout="folds", budget=budget, **settings)
    assert task.ledger.network_steps == 300
    assert max(one.evaluations for one in found.population) > 1
    again = nets.search(task, inherit="none", holdout="folds", budget=budget, **settings)
    fixed = nets.search(task, inherit="none", budget=budget, **settings)
    numbers = [[one.fitness.values for one in each.front] for each in (found, again, fixed)]
    assert numbers[0] == numbers[1] != numbers[2]


def test_parents_that_die_are_not_measured_again(task):
    found = nets.search(
        task,
        inherit="none",
        holdout="folds",
        algorithm="comma",
        population=2,
        generations=2,
        progress="none",
    )
    assert {one.evaluations for one in found.population} == {1}


def test_what_would_not_be_held_out_or_compared_is_refused(task):
    with pytest.raises(InvalidValueError, match="holdout must be 'fixed' where weights are inher"):
        nets.make_toolbox(task, holdout="folds", inherit="weights")
    with pytest.raises(InvalidValueError, match="reevaluate must be left out with holdout='folds'"):
        nets.search(task, inherit="none", holdout="folds", reevaluate=False)
    with pytest.raises(InvalidValueError, match="holdout must come without survivors on islands"):
        nets.search(task, inherit="none", holdout="folds", islands=2)
    with pytest.raises(InvalidValueError, match="Did you mean 'folds'"):
        nets.make_toolbox(task, holdout="fold", inherit="none")

"""Which generation a ticket is of, and where a run begins."""

import random

import numpy as np
import pytest
import torch
from deap import algorithms, tools

import nets_deap as nets
from nets_deap.errors import CallOrderError
from nets_deap.evolution import evaluator as evaluator_file
from nets_deap.training.problem import Plan

RECIPE = nets.Recipe(lr=0.05, batch_size=2, steps=6, loss="binary_cross_entropy")


@pytest.fixture
def task():
    return nets.tasks.xor(hidden=4, noise=0.2, recipe=RECIPE, dtype="float64")


@pytest.fixture
def box(task):
    return nets.make_toolbox(task, inherit="none")


@pytest.fixture
def evaluator(box):
    return box.evaluate.func


def evaluate(tickets, box):
    for ticket, values in zip(tickets, box.map(box.evaluate, tickets), strict=True):
        ticket.fitness.values = values


def mutants(tickets, box):
    """Return a mutated clone of each ticket."""
    children = [box.clone(ticket) for ticket in tickets]
    for child in children:
        box.mutate(child)
    return children


def loss_in(generation, ticket, task):
    """What a ticket's loss is in a generation, trained on its own."""
    plan = Plan(task.steps, task.derived_seed(generation))
    return pytest.approx(task.run([ticket], plan).metrics["val_loss"][0], rel=1e-12)


# ---- tickets evaluated one by one


def test_selection_ends_a_generation_of_single_calls(box, task):
    tickets = box.population(n=3)
    for generation in range(3):
        for ticket in tickets:
            ticket.fitness.values = box.evaluate(ticket)
            assert ticket.fitness.values[0] == loss_in(generation, ticket, task)
        box.select(tickets, 2)
        box.select(tickets, 2)  # NSGA-II's first, say; nothing has been evaluated in between


def test_a_recorder_ends_a_generation_of_single_calls(box, task, evaluator):
    recorder = nets.Recorder(task=task, progress="none")
    tickets = box.population(n=2)
    for generation in range(3):
        for ticket in tickets:
            ticket.fitness.values = evaluator(ticket)
            assert ticket.fitness.values[0] == loss_in(generation, ticket, task)
        recorder.compile(tickets)


def test_a_batch_belongs_to_the_generation_that_single_calls_have_begun(box, task, evaluator):
    one, two = box.population(n=2)
    alone = box.evaluate(two)
    assert box.map(box.evaluate, [one, two])[1] == pytest.approx(alone)
    evaluator.end_generation()
    assert evaluator.generation == 1, "a batch has ended its own"
    assert box.evaluate(two)[0] == loss_in(1, two, task)


def test_a_plain_loop_ends_its_generations_itself(task):
    evaluator = nets.Evaluator(task, "val_loss")
    ticket = task.dense_ticket()
    for generation in range(3):
        assert evaluator(ticket)[0] == evaluator(ticket)[0] == loss_in(generation, ticket, task)
        evaluator.end_generation()


def test_generations_that_pass_without_a_word_are_warned_of(box, task, caplog, monkeypatch):
    monkeypatch.setattr(evaluator_file, "_warned", set())
    evaluator = nets.Evaluator(task, ("val_loss", "density"))
    (ticket,) = box.population(n=1)
    for _ in range(3):  # again, a child, a second child of it: nothing is wrong
        evaluator(ticket)
        child = box.clone(ticket)
        box.mutate(child)
        evaluator(child)
    assert not caplog.messages
    for _ in range(3):
        child = box.clone(child)
        child[int(np.flatnonzero(child.mask)[0])] = False
        evaluator(child)
    (warning,) = caplog.messages
    assert "one by one on the same minibatches" in warning
    caplog.clear()
    monkeypatch.setattr(evaluator_file, "_warned", set())
    evaluator.end_generation()
    for _ in range(3):
        child = box.clone(child)
        child[int(np.flatnonzero(child.mask)[0])] = False
        evaluator(child)
        evaluator.end_generation()
    assert not caplog.messages


def test_an_evaluate_registered_later_is_the_one_that_counts(box, task):
    other = nets.Evaluator(task, ("val_loss", "density"))
    box.register("evaluate", tools.DeltaPenalty(lambda ticket: True, 9.0)(other))
    tickets = box.population(n=2)
    for ticket in tickets:
        ticket.fitness.values = box.evaluate(ticket)
    box.select(tickets, 1)
    assert other.generation == 1


# ---- where a run begins


def eas(box):
    tickets = box.population(n=4)
    algorithms.eaSimple(tickets, box, 0.5, 0.5, 2, verbose=False)
    return [(t.digest, t.fitness.values) for t in tickets]


def single(box):
    tickets = box.population(n=3)
    return [box.evaluate(ticket) for ticket in tickets]


def registered_anew(box):
    box.register("generate", lambda: box.population(n=3))
    box.register("update", lambda tickets: None)
    tickets, _ = algorithms.eaGenerateUpdate(box, 3, verbose=False)
    return [t.fitness.values for t in tickets]


@pytest.mark.parametrize("run", [eas, single, registered_anew])
@pytest.mark.parametrize("map_", [nets.batch_map, map])
def test_the_same_toolbox_and_seed_give_the_same_again(run, map_, box):
    box.register("map", map_)
    found = []
    for _ in range(3):
        random.seed(5)
        found.append(run(box))
    assert found[0] == found[1] == found[2]
    random.seed(6)
    assert run(box) != found[0]


def test_generations_of_generated_populations_differ(box, task, evaluator):
    registered_anew(box)
    assert evaluator.generation == 3


def test_immigrants_among_the_offspring_change_nothing(box, task, evaluator):
    tickets = box.population(n=3)
    evaluate(tickets, box)
    for generation in range(1, 4):
        children = mutants(tickets, box)
        some = children + box.population(n=2)
        evaluate(some, box)
        assert some[-1].fitness.values[0] == loss_in(generation, some[-1], task)


@pytest.mark.parametrize("crossed", [False, True])
def test_after_immigrants_evaluated_apart_the_run_goes_on(crossed, box, task, evaluator):
    tickets = box.population(n=4)
    evaluate(tickets, box)
    seen = []
    for _ in range(3):
        evaluate(box.population(n=2), box)
        children = [box.clone(ticket) for ticket in tickets]
        if crossed:
            for pair in (children[:2], children[2:]):
                box.mate(*pair)
        evaluate(children, box)
        seen.append(evaluator.generation - 1)
        assert children[0].fitness.values[0] == loss_in(seen[-1], children[0], task)
        tickets = children
    assert seen == [2, 4, 6], "never the same minibatches again"


def test_children_of_a_new_population_stay_in_its_run(box, evaluator):
    for _ in range(2):
        tickets = box.population(n=3)
        evaluate(tickets, box)
        for generation in range(2, 4):
            children = mutants(tickets, box)
            evaluate(children, box)
            tickets = children
            assert evaluator.generation == generation


# ---- budgets


def test_a_new_population_leaves_a_budget_under_way_as_it_is(task, caplog):
    box = nets.make_toolbox(
        task, budget=nets.Budget(120, unit="steps", generations=3), inherit="none"
    )
    evaluator = box.evaluate.func
    tickets = box.population(n=3)
    evaluate(tickets, box)
    evaluate(box.population(n=2), box)
    assert (evaluator.generation, evaluator.budget.spent) == (2, 60)
    (warning,) = caplog.messages
    assert "goes on with generation 1 of the 3" in warning
    for _ in range(2):
        children = [box.clone(ticket) for ticket in tickets]
        evaluate(children, box)
    assert evaluator.budget.spent == task.ledger.network_steps == 120
    evaluate(box.population(n=3), box)
    assert (evaluator.generation, evaluator.budget.spent) == (1, 30), "a new run"


@pytest.mark.parametrize("map_", [map, nets.batch_map])
def test_a_budget_that_cannot_be_shared_out_says_what_to_do(map_, task):
    box = nets.make_toolbox(
        task, budget=nets.Budget(300, unit="steps", generations=2), inherit="none"
    )
    raw = box.evaluate
    box.register("map", map_)
    if map_ is nets.batch_map:
        box.register("evaluate", lambda ticket: (raw(ticket), raw(ticket)))
    tickets = box.population(n=2)
    with pytest.raises(CallOrderError, match=r"among all tickets of it at once: expected one call"):
        box.map(box.evaluate, tickets)


def test_one_ticket_a_generation_needs_no_batch(task):
    box = nets.make_toolbox(
        task, budget=nets.Budget(90, unit="steps", generations=2), inherit="none"
    )
    (ticket,) = box.population(n=1)
    for _ in range(3):
        ticket.fitness.values = box.evaluate(ticket)
        box.select([ticket], 1)
    assert task.ledger.network_steps == 90


# ---- objectives that return no number


def test_an_objective_may_return_any_one_number(task):
    ticket = task.dense_ticket()
    for value in (2, 2.0, True, np.float32(2), np.array(2), np.ones(1), torch.tensor(2.0)):
        objective = nets.Objective("mine", "min", 9.0, lambda measured, v=value: v, reference=1.0)
        (found,) = nets.Evaluator(task, objective)(ticket)
        assert type(found) is float
        assert found == float(value.item() if hasattr(value, "item") else value)


@pytest.mark.parametrize("value", [None, (1.0,), (1, 2), "3", 1j, np.ones(2)], ids=repr)
def test_an_objective_that_returns_none_is_named(value, task):
    objective = nets.Objective("mine", "min", 9.0, lambda measured: value, reference=1.0)
    kind = type(value).__name__
    for through in (map, nets.batch_map):
        with pytest.raises(
            TypeError, match=rf"objective 'mine' must return one number: .* got {kind}"
        ):
            list(through(nets.Evaluator(task, objective), [task.dense_ticket()]))

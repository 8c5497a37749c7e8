"""The front of tickets that inherit weights: what it shows is measured from W0."""

import functools
import random

import numpy as np
import pytest
from deap import algorithms, tools

import nets_deap as nets
from nets_deap import operators
from nets_deap.evolution.batch_map import evaluator_in
from nets_deap.evolution.evaluator import FRONT
from nets_deap.training.problem import Plan


@pytest.fixture(scope="module")
def run():
    """A run of the natural call: its task, toolbox and front."""
    recipe = nets.Recipe(lr=0.05, batch_size=4, steps=20, loss="binary_cross_entropy")
    task = nets.tasks.xor(hidden=10, recipe=recipe, dtype="float64")
    box = nets.make_toolbox(task)
    front = nets.ParetoFront()
    random.seed(3)
    population = box.population(n=6)
    algorithms.eaMuPlusLambda(population, box, 6, 6, 0.25, 0.75, 4, halloffame=front, verbose=False)
    return task, box, front


def test_members_have_what_a_training_from_w0_gives(run):
    task, box, front = run
    evaluator = box.evaluate.func
    plan = Plan(evaluator.front_steps or task.steps, task.derived_seed(FRONT, FRONT))
    assert len(front) > 1
    for ticket in front:
        fresh = task.ticket(ticket.mask)
        wanted = task.run([fresh], plan).metrics["val_loss"][0]
        assert ticket.fitness.values == pytest.approx((wanted, ticket.density), rel=1e-9)


def test_nobody_is_dominated_and_the_dense_station_counts(run):
    _, box, front = run
    for one in front:
        assert not any(other.fitness.dominates(one.fitness) for other in front)
    (stations,) = box.evaluate.func.stations.values()
    assert stations[0].density == 1
    assert 1 in [ticket.density for ticket in front.items]


def test_a_front_is_measured_once_and_again_after_an_update(run):
    task, box, front = run
    len(front)
    before = task.ledger.networks
    list(front), front[0], str(front)
    assert task.ledger.networks == before
    ticket = box.clone(front.items[-1])
    operators.mut_swap(ticket, fraction=0.5, rng=np.random.default_rng(0))
    del ticket.fitness.values
    (ticket.fitness.values,) = box.map(box.evaluate, [ticket])
    front.update([ticket])
    before = task.ledger.networks
    len(front)
    assert task.ledger.networks - before <= 1


def test_stations_cost_nothing_more_when_they_are_evaluated():
    recipe = nets.Recipe(lr=0.05, batch_size=4, steps=20, loss="binary_cross_entropy")
    task = nets.tasks.xor(hidden=10, recipe=recipe)
    box = nets.make_toolbox(task, rewinds=0)
    drawn = box.population(n=5)
    assert len(drawn) == 5
    before = task.ledger.network_steps
    assert before > 0
    values = box.map(box.evaluate, drawn)
    assert task.ledger.network_steps == before
    assert [value[1] for value in values] == [ticket.density for ticket in drawn]
    assert box.population(n=0) == []
    assert task.ledger.network_steps == before, "a second population descends no more"


def scaled(evaluate):
    """A decorator that gives ten times the loss."""

    @functools.wraps(evaluate)
    def through(ticket):
        loss, density = evaluate(ticket)
        return 10 * loss, density

    return through


def sparse(ticket):
    return ticket.density < 0.5


def run_with(box, front, generations=2, seed=3):
    random.seed(seed)
    population = box.population(n=6)
    algorithms.eaMuPlusLambda(
        population, box, 6, 6, 0.25, 0.75, generations, halloffame=front, verbose=False
    )
    return population


@pytest.mark.parametrize("inherit", ["weights", "none"])
def test_values_of_an_evaluate_of_ones_own_stay_and_are_compared_as_in_deap(run, inherit):
    task, *_ = run
    box = nets.make_toolbox(task, inherit=inherit)
    box.register("evaluate", lambda ticket: (999.0 - ticket.kept, ticket.density))
    front, stock = nets.ParetoFront(), tools.ParetoFront()
    for archive in (front, stock):
        run_with(box, archive)
    assert [t.fitness.values for t in front] == [(999.0 - t.kept, t.density) for t in front]
    assert {t.fitness.values for t in front} == {t.fitness.values for t in stock}


@pytest.mark.parametrize("inherit", ["weights", "none"])
@pytest.mark.parametrize("map_", [nets.batch_map, map])
def test_what_a_constraint_forbids_is_not_on_the_front(run, inherit, map_):
    task, *_ = run
    box = nets.make_toolbox(task, inherit=inherit)
    box.decorate("evaluate", tools.DeltaPenalty(sparse, (70.0, 70.0)))
    front = nets.ParetoFront()
    box.register("map", map_)
    run_with(box, front)
    assert len(front)
    assert all(sparse(ticket) for ticket in front)
    if inherit == "weights":
        plain = nets.make_toolbox(task).evaluate.func
        plain.front_steps = evaluator_in(box.evaluate).front_steps
        losses = [loss for loss, _ in plain.measure([task.ticket(t.mask) for t in front])]
        assert [t.fitness.values[0] for t in front] == pytest.approx(losses)


def test_what_is_measured_from_w0_goes_through_what_is_around_the_evaluator(run):
    task, *_ = run
    fronts = nets.ParetoFront(), nets.ParetoFront()
    boxes = nets.make_toolbox(task), nets.make_toolbox(task)
    boxes[1].decorate("evaluate", scaled)
    for box, front in zip(boxes, fronts, strict=True):
        run_with(box, front)
    plain, tenfold = ([(t.digest, *t.fitness.values) for t in front] for front in fronts)
    assert len(plain) > 1
    assert tenfold == [(who, pytest.approx(10 * loss), d) for who, loss, d in plain]


def test_after_a_resume_the_front_waits_for_what_is_around_the_evaluator(tmp_path, run, caplog):
    task, *_ = run
    box = nets.make_toolbox(task)
    box.decorate("evaluate", scaled)
    random.seed(3)
    recorder = nets.Recorder(tmp_path / "run", task=task, progress="none")
    algorithms.eaMuPlusLambda(
        box.population(n=6), box, 6, 6, 0.25, 0.75, 1, stats=recorder, verbose=False
    )
    recorder.close()
    again = nets.resume(tmp_path / "run", task=task, progress="none")
    box = nets.make_toolbox(task)  # as in another process
    box.decorate("evaluate", scaled)
    assert [t.fitness.values for t in again.front] == [t.fitness.values for t in again.front.items]
    assert "Let an algorithm evaluate a generation" in caplog.text
    algorithms.eaMuPlusLambda(
        again.population, box, 6, 6, 0.25, 0.75, 1, stats=again.recorder, verbose=False
    )
    plain = nets.make_toolbox(task).evaluate.func
    plain.front_steps = evaluator_in(box.evaluate).front_steps
    for ticket in again.front:
        ((loss, _),) = plain.measure([task.ticket(ticket.mask)])
        assert ticket.fitness.values[0] == pytest.approx(10 * loss)
    again.recorder.close()

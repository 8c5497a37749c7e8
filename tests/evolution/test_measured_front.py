"""The front of tickets that inherit weights: what it shows is measured from W0."""

import random

import numpy as np
import pytest
from deap import algorithms

import nets_deap as nets
from nets_deap import operators
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

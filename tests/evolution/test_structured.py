"""Structured tickets: what filters cost, floors, and the warning of a layer's last unit."""

import logging

import numpy as np
import pytest
import torch
from torch import nn

import nets_deap as nets
from nets_deap import operators
from nets_deap.evolution.criterion import costs_of, criterion
from nets_deap.evolution.evaluator import evaluator_of
from nets_deap.evolution.measured import Measured
from nets_deap.evolution.objectives import Objective, resolve


def task_of(unit="filter", **options):
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 20, 3), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(320, 30), nn.ReLU(), nn.Linear(30, 3)),
    )
    rng = np.random.default_rng(0)
    split = rng.normal(size=(32, 1, 8, 8)).astype(np.float32), rng.integers(0, 3, 32)
    recipe = nets.Recipe(optimizer="adam", lr=1e-2, batch_size=16, steps=4)
    return nets.Task(
        model, train=split, val=split, recipe=recipe, unit=unit, device="cpu", **options
    )


def counts(task, ticket):
    return [int(part.sum()) for part in task.layout.split(ticket.gates).values()]


def test_a_filter_costs_what_reads_it_too():
    task = task_of()
    first, second, third = costs_of(task).values()
    assert (first, second, third) == (
        9 * 36 + 20 * 9 * 16, 6 * 9 * 16 + 16 * 30, 320 + 3,
    )  # fmt: skip
    gates = np.ones(task.layout.size)
    gates[6:16] = 0  # half of the second layer's
    assert costs_of(task, task.ticket(gates))["0.weight"] == 9 * 36 + 10 * 9 * 16


@pytest.mark.parametrize("by", ["magnitude", "lamp", "cost"])
def test_no_layer_falls_below_its_floor(by):
    task = task_of(floor=0.25)
    assert task.layout.least_units.tolist() == [2, 5, 8]
    rng, ticket = np.random.default_rng(0), task.dense_ticket()
    seen = []
    for _ in range(30):
        operators.mut_prune(ticket, fraction=0.3, rng=rng, **criterion(task, by, ticket))
        seen.append(counts(task, ticket))
        assert (np.array(seen[-1]) >= [2, 5, 8]).all()
    assert seen[-1] == [2, 5, 8]
    for _ in range(10):
        operators.mut_swap(ticket, fraction=0.5, rng=rng)
        operators.mut_flip(ticket, indpb=0.5, rng=rng)
        assert (np.array(counts(task, ticket)) >= [2, 5, 8]).all()


def test_pruning_by_cost_takes_a_share_of_the_multiply_adds():
    task = task_of(floor=0.0)
    ticket = task.dense_ticket()
    costs = np.array([*costs_of(task).values()])
    total = (costs * [6, 20, 30]).sum()
    operators.mut_prune(ticket, fraction=0.3, **criterion(task, "cost", ticket))
    left = (costs * counts(task, ticket)).sum()
    assert abs(left - 0.7 * total) <= costs.max() / 2 + 1


def test_a_descent_by_cost_ends_at_the_floors():
    task = task_of(floor=0.5)
    found = nets.search(
        task, objectives=("val_loss", "multiply_adds"), population=3, generations=0,
        budget=200, budget_unit="steps", progress="none",
    )  # fmt: skip
    (stations,) = evaluator_of(task).stations.values()
    kept = [counts(task, ticket) for ticket in stations]
    assert kept[0] == [6, 20, 30]
    assert kept[-1] == [3, 10, 15]
    assert (np.diff(kept, axis=0) <= 0).all()
    assert len(found.networks) >= 1


def test_factors_of_layers_evolve_with_swaps():
    task = task_of()
    ticket = task.dense_ticket()
    operators.mut_swap(ticket, fraction=0.2, sigma=0.3, rng=np.random.default_rng(0))
    assert set(ticket.adaptation) == {"0.weight", "2.weight", "5.weight"}
    assert all(ticket.adaptation.values())


def test_a_layer_that_is_down_to_one_unit_is_told_once(caplog):
    task = task_of(floor=0.0)
    evaluator = nets.Evaluator(task, ("val_loss",))
    gates = np.ones(task.layout.size)
    gates[1:6] = 0
    with caplog.at_level(logging.WARNING, logger="nets_deap"):
        evaluator(task.ticket(gates))
        evaluator(task.ticket(gates))
        evaluator(task.dense_ticket())
    told = [r.getMessage() for r in caplog.records if "down to one" in r.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("Layer '0.weight' is down to one of its 6 units")


def test_what_a_search_prunes_by_is_what_its_objectives_save():
    task = task_of()
    adds, parameters = (
        costs_of(task, None, resolve(name)) for name in ("multiply_adds", "parameters")
    )
    assert adds == costs_of(task)
    names = list(adds)
    assert set(parameters) == set(names)
    dense = task.dense_ticket()

    def value(gates):
        return resolve("parameters")[0].measure(Measured(task.ticket(gates), {}, 0, task=task))

    whole = value(dense.gates)
    for layer in task.layout.layers:
        gates = dense.gates
        gates[layer.start + 1] = False
        expected = 1e6 * (whole - value(gates)) / whole
        assert parameters[layer.name] == pytest.approx(expected, rel=1e-6), layer.name


def test_measured_time_is_asked_for_once_and_no_saving_is_nothing():
    task, asked = task_of(), []

    def measure(measured):
        asked.append(measured)
        return 100.0 - (measured.ticket.gates.size - measured.ticket.gates.sum()) * 0.5

    timed = Objective("t", "min", 1e9, measure, reference="dense", timed=True)
    first = costs_of(task, None, [timed])
    n = len(asked)
    ticket = task.dense_ticket()
    assert costs_of(task, ticket, [timed]) == first
    assert len(asked) == n > 0
    flat = Objective("f", "min", 1e9, lambda measured: 1.0, reference="dense")
    assert costs_of(task, None, [flat]) == costs_of(task)
    slower = Objective("s", "min", 1e9, lambda m: float(m.ticket.kept % 7), reference="dense")
    assert min(costs_of(task, None, [slower]).values()) > 0

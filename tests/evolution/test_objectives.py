"""Objectives: values, directions, worst values, references, and how they are named."""

import math

import numpy as np
import pytest

import nets_deap as nets
from nets_deap import MaskLayout, Objective, Ticket, penalised, steps_to_loss
from nets_deap.errors import InvalidValueError
from nets_deap.evolution.measured import Measured
from nets_deap.evolution.objectives import (
    FACTORIES,
    OBJECTIVES,
    describe,
    resolve,
    values_of,
    worst_values,
)

METRICS = {"train_loss": 0.25, "val_loss": 0.5, "val_accuracy": 0.75}
OWN = Objective("own", "max", -9.0, lambda m: m.steps / 10, reference=2.0, reference_offset=0.5)

# One input, two hidden neurons, of which the ticket keeps one, and one output.
LAYOUT = MaskLayout([("a", (2, 1)), ("b", (1, 2))])
DENSE = Ticket([1, 1, 1, 1], LAYOUT)


def measured(metrics=METRICS, curve_steps=(10, 20, 40), curve=(1.0, 0.8, 0.5)):
    """Return what was measured of a ticket of density 0.5 in 40 steps."""
    return Measured(Ticket([1, 0, 1, 0], LAYOUT), metrics, 40, curve_steps, np.array(curve))


TABLE = [
    ("val_loss", 0.5, "min", 1e6, 0.7),
    ("val_accuracy", 0.75, "max", 0.0, 0.0),
    ("train_loss", 0.25, "min", 1e6, 0.7),
    ("density", 0.5, "min", 1.0, 1.0),
    ("multiply_adds", 2.0, "min", 1e15, 4.0),
    ("sparse_multiply_adds", 2.0, "min", 1e15, 4.0),
    ("live_inputs", 1.0, "min", 1e15, 1.0),
    ("val_curve_area", (10 * 0.9 + 20 * 0.65) / 30, "min", 1e6, 0.7),  # two trapezia
    (penalised(0.2), 0.5 + ((0.5 - 0.2) / 0.8) ** 2, "min", 1e6, 1.7),
    ("penalised:0.75", 0.5 + ((0.5 - 0.75) / 0.25) ** 2, "min", 1e6, 1.7),
    (steps_to_loss(0.8), 20.0, "min", 1e9, 1e4),
    (steps_to_loss(2.0), 10.0, "min", 1e9, 1e4),
    ("steps_to_loss:0.4", 41.0, "min", 1e9, 1e4),  # never reached
    (OWN, 4.0, "max", -9.0, 2.5),
]


@pytest.mark.parametrize(("objective", "value", "direction", "worst", "reference"), TABLE)
def test_value_direction_worst_and_reference(objective, value, direction, worst, reference):
    (found,) = resolve(objective)
    values = values_of([found], measured())
    assert values == (pytest.approx(value),)
    assert type(values[0]) is float
    assert (found.direction, found.worst) == (direction, worst)
    assert found.weight == {"min": -1.0, "max": 1.0}[direction]
    assert found.reference_for(chance=0.7, dense=DENSE) == pytest.approx(reference)
    assert found.weight * found.worst < found.weight * value, "a diverged network would win"


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_is_optimised_in_a_search(name, xor_task):
    assert OBJECTIVES[name].name == name
    assert OBJECTIVES[name].about
    wanted = list(dict.fromkeys((name, "density")))
    options = {"population": 4, "generations": 1, "progress": "none", "seed": 1}
    found = nets.search(xor_task, objectives=wanted, **options, inherit="none")
    objective = resolve(wanted)[0]
    for ticket in (*found.population, *found.front):
        assert math.isfinite(ticket.fitness.values[0])
        assert objective.weight * objective.worst < objective.weight * ticket.fitness.values[0]
    reference = objective.reference_for(xor_task.chance_loss, xor_task.dense_ticket(), xor_task)
    assert math.isfinite(reference)


def test_every_shipped_objective_stands_in_the_table():
    named = {row[0].partition(":")[0] for row in TABLE if isinstance(row[0], str)}
    of_the_network = {"int8_accuracy", "noise_accuracy"}  # measured in test_extra_objectives
    assert named | of_the_network <= {*OBJECTIVES, *FACTORIES}
    assert len(named | of_the_network) >= 11
    assert OBJECTIVES["int8_accuracy"].needs_state
    found = resolve("noise_accuracy:0.5")[0]
    assert (found.name, found.direction, found.needs_state) == ("noise_accuracy_0.5", "max", True)


def test_curves():
    needing = [
        o.name
        for o in (*OBJECTIVES.values(), penalised(), OWN, steps_to_loss(0.5))
        if o.needs_curve
    ]
    assert needing == ["val_curve_area", "steps_to_0.5"]
    one_point = measured(curve_steps=(40,), curve=[0.5])
    assert values_of(resolve("val_curve_area"), one_point) == (0.5,)
    # The first time counts, also when the loss rises again.
    assert values_of([steps_to_loss(0.5)], measured(curve=[1.0, 0.3, 0.9])) == (20.0,)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_anything_not_finite_spoils_all_objectives(value):
    for broken in ("train_loss", "val_loss"):
        assert values_of(resolve("density"), measured({**METRICS, broken: value})) is None
    odd = Objective("odd", "max", -1.0, lambda _: value, 0.0)
    assert values_of(resolve(["density", odd]), measured()) is None
    assert worst_values(resolve(["density", odd, "val_accuracy"])) == (1.0, -1.0, 0.0)


def test_order_and_description():
    found = resolve(["density", OWN, "val_loss"])
    assert values_of(found, measured()) == (0.5, 4.0, 0.5)
    assert describe(found)[1] == {"name": "own", "direction": "max", "worst": -9.0, "weight": 1.0}


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ("val_los", r"one of 'val_loss', .*got 'val_los'\. Did you mean 'val_loss'\? Or give"),
        (["density", "accuracy"], r"got 'accuracy'\. Did you mean 'val_accuracy'\?"),
        (["density", 3], r"objectives must be a known name: .*got 3\. Or give a nets\.Objective"),
        ("penalised:much", r"objectives must end in a number: expected penalised:0\.2, got pen"),
        ("penalised:1", r"target_density must be in range: .*\(0, 1\), got 1\.0"),
        ("steps_to_loss:nan", r"loss must be in range"),
        ([], r"objectives must be distinct: expected one or more, each once, got \[\]"),
        (["density", "density"], r"must be distinct: .*got \['density', 'density'\]"),
    ],
)
def test_bad_objectives(objectives, message):
    with pytest.raises(ValueError, match=message):
        resolve(objectives)


@pytest.mark.parametrize(
    ("direction", "worst", "reference", "message"),
    [
        ("minimise", 1.0, 0.0, r"direction must be a known name: .*Did you mean 'min'\?"),
        ("min", math.inf, 0.0, r"worst must be in range: expected a finite float"),
        ("min", 1.0, "chanse", r"reference must be a number"),
    ],
)
def test_bad_fields(direction, worst, reference, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Objective("x", direction, worst, lambda m: 0.0, reference)


def test_a_maximised_objective_needs_a_reference_of_its_own():
    with pytest.raises(InvalidValueError, match="reference must be a number for a maximised"):
        Objective("x", "max", 0.0, lambda m: 0.0)

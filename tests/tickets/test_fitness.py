"""Fitness classes: one per set of objectives, picklable without a global name."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from deap import base

from nets_deap.tickets.fitness import fitness_class

NAMES, WEIGHTS, REFERENCE = ("val_loss", "density"), (-1.0, -1.0), (2.3, 1.0)


def test_the_same_objectives_give_the_same_class():
    kind = fitness_class(NAMES, WEIGHTS, REFERENCE)
    assert kind is fitness_class(NAMES, WEIGHTS, REFERENCE)
    others = {
        fitness_class(("a", "b"), WEIGHTS, REFERENCE),
        fitness_class(NAMES, (-1.0, 1.0), REFERENCE),
        fitness_class(NAMES, WEIGHTS),
    }
    assert len(others | {kind}) == 4
    fitness = kind()
    assert isinstance(fitness, base.Fitness)
    assert not fitness.valid
    assert (fitness.names, fitness.weights, fitness.reference) == (NAMES, WEIGHTS, REFERENCE)


@pytest.mark.parametrize(
    "values",
    [
        (torch.tensor(0.5), torch.tensor(0.25, requires_grad=True)),
        torch.tensor([0.5, 0.25]),
        np.float32([0.5, 0.25]),
        (number for number in (0.5, 0.25)),
    ],
    ids=["tensors", "tensor", "array", "generator"],
)
def test_values_are_plain_numbers_whatever_holds_them(values):
    fitness = fitness_class(NAMES, WEIGHTS, REFERENCE)()
    fitness.values = values
    assert fitness.values == (0.5, 0.25)
    assert [type(value) for value in fitness.wvalues] == [float, float]


@pytest.mark.parametrize("values", [(0.5, 0.25), ()])
def test_pickle_keeps_class_values_and_attributes(values):
    fitness = fitness_class(NAMES, WEIGHTS, REFERENCE)(values)
    fitness.crowding_dist = 1.5
    back = pickle.loads(pickle.dumps(fitness))
    assert type(back) is type(fitness)
    assert (back.valid, back.values, back.crowding_dist) == (bool(values), values, 1.5)


def test_a_pickle_opens_in_a_process_that_never_made_the_class():
    data = pickle.dumps(fitness_class(NAMES, WEIGHTS, REFERENCE)((0.5, 0.25)))
    code = (
        "import pickle, sys; f = pickle.load(sys.stdin.buffer); "
        "print(f.names, f.weights, f.reference, f.values)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert done.stdout.decode().strip() == f"{NAMES} {WEIGHTS} {REFERENCE} (0.5, 0.25)"

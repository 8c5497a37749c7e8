"""Baselines of models that take several tensors: the tickets of the same numbers in one tensor."""

import functools

import numpy as np
import pytest
from support.networks import RECIPES, make_task
from support.tokens import each_of, token_task

import nets_deap as nets
from nets_deap import baselines

FOUND = {
    "snip": lambda task: baselines.snip(task, 0.4, examples=30),
    "grasp": lambda task: baselines.grasp(task, 0.4, examples=30),
    "synflow": lambda task: baselines.synflow(task, 0.4, rounds=5),
    "imp": lambda task: baselines.imp(task, rounds=2, steps=12),
    "rigl": lambda task: baselines.rigl(task, 0.4, steps=12),
}


@functools.cache
def found_by(name, form):
    return [level.ticket.mask for level in FOUND[name](token_task(form)).levels]


@each_of("form", ["tuple", "dict", "deep"], quick=["dict"])
@pytest.mark.parametrize("name", FOUND)
def test_a_baseline_finds_the_tickets_of_the_same_numbers_in_one_tensor(name, form):
    np.testing.assert_array_equal(found_by(name, form), found_by(name, "one tensor"))


def test_synflow_of_indices_is_that_of_the_first_example():
    """Nothing flows through padding: what stands there changes no score."""
    flow = baselines.scores.SynFlow
    plain = token_task()
    ids, mask = (part.numpy().copy() for part in plain.problem.train[0])
    y = plain.problem.train[1].numpy()
    mask[0, 3:] = False
    one = flow(token_task(train=((ids, mask), y))).scores(np.ones(plain.layout.size, bool))
    ids[0, 3:], ids[1:] = 7, 1
    other = flow(token_task(train=((ids, mask), y))).scores(np.ones(plain.layout.size, bool))
    np.testing.assert_allclose(one, other, rtol=1e-12)
    ids[0, 0] = 1 + ids[0, 0] % 8
    third = flow(token_task(train=((ids, mask), y))).scores(np.ones(plain.layout.size, bool))
    assert not np.allclose(one, third, rtol=1e-3)


def test_grasp_differentiates_attention_twice_in_the_models_own_dtype():
    import torch

    tasks = [make_task("attention", RECIPES["adam"], d) for d in (torch.float32, torch.float64)]
    scores = [
        baselines.scores.grasp_scores(task, np.arange(25), 1.0) / task.layout.size
        for task in (tasks[0], nets.Task(
            tasks[0].model.double(), train=tasks[1].problem.train, val=tasks[1].problem.val,
            recipe=tasks[1].recipe, device="cpu",
        ))
    ]  # fmt: skip
    np.testing.assert_allclose(*scores, rtol=1e-2, atol=1e-3 * np.abs(scores[1]).max())

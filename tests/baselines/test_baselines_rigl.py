"""RigL: layer counts at every update, what drops and grows, and the networks it returns."""

import importlib
import itertools
import math

import numpy as np
import pytest
import torch
from support.baselining import make_task, watched

from nets_deap import Recipe
from nets_deap.baselines import rigl
from nets_deap.evolution.operators import layer_counts
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.gradients import dense_gradient

rigl_module = importlib.import_module("nets_deap.baselines.rigl")
SOME = (0.6, 0.3)


def layers_of(task):
    """The layers' places in the mask."""
    return [slice(layer.start, layer.stop) for layer in task.layout.layers]


@pytest.mark.parametrize("distribution", ["erk", "uniform"])
def test_layer_counts_stay_at_every_update_while_masks_move(distribution, monkeypatch):
    task = make_task()
    calls = watched(task, monkeypatch)
    baseline = rigl(task, SOME, steps=40, delta=6, distribution=distribution)
    wanted = [layer_counts(task.layout, density, distribution) for density in SOME]
    for masks, *_ in calls:
        for mask, counts in zip(masks, wanted, strict=True):
            assert [mask[part].sum() for part in layers_of(task)] == counts.tolist()
    for i, ticket in enumerate(baseline.tickets):
        assert np.array_equal(ticket.mask, calls[-1][0][i])
        assert not np.array_equal(calls[0][0][i], calls[1][0][i])


def test_segments_train_together_until_the_masks_stay(monkeypatch):
    task = make_task()
    calls = watched(task, monkeypatch)
    rigl(task, SOME, steps=40, delta=6, end=0.75)
    # Updates at 6, 12, 18 and 24; 30 is the end itself.
    assert [plan.steps for _, plan, _, _ in calls] == [6, 6, 6, 6, 16]
    assert len({plan.seed for _, plan, _, _ in calls}) == 5
    assert all(len(masks) == 2 for masks, *_ in calls)
    assert calls[0][2] == [None, None]


def test_updates_drop_small_weights_and_grow_large_gradients(monkeypatch):
    task = make_task(activation="tanh")  # dead ReLUs would make ties
    calls = watched(task, monkeypatch)
    seen = []

    def watch(problem, mask, rows, start):
        seen.append(dense_gradient(problem, mask, rows, start))
        assert len(set(rows.tolist())) == task.recipe.batch_size
        return seen[-1]

    monkeypatch.setattr(rigl_module, "dense_gradient", watch)
    rigl(task, SOME, steps=40, delta=6, alpha=0.8)
    assert len(seen) == 8
    grown_in_all = 0
    for update, (before, now) in enumerate(itertools.pairwise(calls)):
        share = 0.4 * (1 + math.cos(math.pi * 6 * (update + 1) / 30))
        for i in range(2):
            old, new, start = before[0][i], now[0][i], now[2][i]
            values, after = np.zeros(103), np.zeros(103)
            values[old], after[new] = before[3].trained[i].values, start.values
            size = abs(seen[2 * update + i])
            for part in layers_of(task):
                kept = np.flatnonzero(old[part])
                k = 0 if old[part].all() else round(share * len(kept))
                dropped = kept[np.argsort(abs(values[part][kept]))[:k]]
                surviving = old[part].copy()
                surviving[dropped] = False
                free = np.flatnonzero(~surviving)
                wanted = surviving.copy()
                wanted[free[np.argsort(-size[part][free])[:k]]] = True
                assert np.array_equal(new[part], wanted)
            grown = new & ~old
            grown_in_all += grown.sum()
            assert not after[grown].any()
            np.testing.assert_array_equal(after[new & old], values[new & old])
            assert start.unmasked is before[3].trained[i].unmasked
    assert grown_in_all > 20


def test_the_gradient_is_taken_at_the_trained_weights(monkeypatch):
    task = make_task()
    calls = watched(task, monkeypatch)
    starts = []

    def watch(problem, mask, rows, start):
        starts.append(start)
        return dense_gradient(problem, mask, rows, start)

    monkeypatch.setattr(rigl_module, "dense_gradient", watch)
    rigl(task, SOME, steps=12, delta=5)
    for i, start in enumerate(starts):
        np.testing.assert_array_equal(start.values, calls[0][3].trained[i].values)
        assert isinstance(start, TrainedState)


def test_full_layers_stay_as_they_are():
    task = make_task()
    (level,) = rigl(task, 1.0, steps=12, delta=3, alpha=1.0).levels
    assert level.ticket.kept == 103


@pytest.mark.parametrize("still", [{"alpha": 0.0}, {"end": 0.0}, {"delta": 40}])
def test_without_updates_the_first_masks_stay(still):
    task = make_task()
    options = {"steps": 20, "delta": 5, **still}
    first = rigl(make_task(), SOME, steps=1).tickets
    assert rigl(task, SOME, **options).tickets == first


def test_networks_are_what_was_trained_and_are_not_trained_again():
    task = make_task(recipe=Recipe(lr=0.05, batch_size=10))
    baseline = rigl(task, SOME, steps=40, delta=6)
    assert [level.search_steps for level in baseline.levels] == [44, 88]
    before = task.ledger.network_steps
    results = baseline.train(task, 1000)
    assert task.ledger.network_steps == before
    x, y = task.problem.test
    for level, result in zip(baseline.levels, results, strict=True):
        assert result is level.trained
        assert result.steps == 40
        assert result.density == level.ticket.density
        module = result.module()
        with torch.no_grad():
            assert float((module(x).argmax(1) == y).double().mean()) == result.test_accuracy
        named = dict(module.named_parameters())
        flat = task.layout.join({n: named[n].detach().numpy() for n in task.layout.names})
        assert not flat[~level.ticket.mask].any()
    assert max(result.val_loss for result in results) < task.chance_loss


def test_a_density_trains_alike_in_any_company():
    alone = rigl(make_task(), 0.3, steps=20, delta=5)
    together = rigl(make_task(), SOME, steps=20, delta=5)
    assert alone.tickets[0] == together.tickets[1]
    assert alone.levels[0].trained.val_loss == pytest.approx(together.levels[1].trained.val_loss)

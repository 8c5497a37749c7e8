"""Magnitude pruning: nested levels of exact counts, rewinding, and with fine-tuning."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.baselining import make_task, watched

from nets_deap import Recipe
from nets_deap.baselines import finetune, imp, one_shot

D, SIZES = 103, (48, 40, 15)
BOTH = pytest.mark.parametrize("method", [imp, finetune])


def smallest(values, mask, k):
    """The ``k`` kept positions of smallest |value|."""
    kept = np.flatnonzero(mask)
    return set(kept[np.argsort(abs(values))[:k]].tolist())


# ---- levels


@settings(max_examples=12, deadline=None)
@given(fraction=st.floats(0.05, 0.9), rounds=st.integers(1, 5), seed=st.integers(0, 9))
@BOTH
def test_levels_are_nested_and_keep_exactly_their_share(method, fraction, rounds, seed):
    baseline = method(make_task(), rounds=rounds, steps=1, fraction=fraction, seed=seed)
    kept = [max(1, round(D * (1 - fraction) ** level)) for level in range(1, rounds + 1)]
    assert [ticket.kept for ticket in baseline.tickets] == kept
    masks = [ticket.mask for ticket in baseline.tickets]
    assert not any((b & ~a).any() for a, b in itertools.pairwise(masks))
    assert baseline.nested


@pytest.mark.parametrize(("output", "last"), [(None, 0.2), (0.7, 0.7)])
def test_layerwise_fractions_are_exact_and_leave_every_layer_a_weight(output, last):
    baseline = imp(
        make_task(), rounds=9, steps=1, fraction=0.4, scope="layerwise", output_fraction=output
    )
    for level, ticket in enumerate(baseline.tickets, 1):
        wanted = [
            max(1, round(size * (1 - f) ** level))
            for size, f in zip(SIZES, (0.4, 0.4, last), strict=True)
        ]
        assert ticket.layout.counts(ticket.packed).tolist() == wanted
    assert baseline.nested
    assert baseline.name == "imp-layerwise"


def test_finetune_prunes_half_as_much_of_the_last_layer():
    task = make_task()
    (ticket,) = finetune(task, rounds=1, steps=1, fraction=0.4, scope="layerwise").tickets
    assert task.layout.counts(ticket.packed).tolist() == [29, 24, 12]


@BOTH
@pytest.mark.parametrize("scope", ["global", "layerwise"])
def test_what_is_pruned_is_smallest_after_training(method, scope, monkeypatch):
    task = make_task()
    calls = watched(task, monkeypatch)
    levels = method(task, rounds=3, steps=6, fraction=0.3, scope=scope).levels
    ends = [(0, D)] if scope == "global" else [(0, 48), (48, 88), (88, 103)]
    for ((mask,), _, _, outcome), level in zip(calls, levels, strict=True):
        full = np.zeros(D)
        full[mask] = outcome.trained[0].values
        lost = mask & ~level.ticket.mask
        assert lost.any()
        for start, stop in ends:
            part, gone = mask[start:stop], lost[start:stop]
            smallest_here = smallest(full[start:stop][part], part, gone.sum())
            assert smallest_here == set(np.flatnonzero(gone).tolist())


# ---- where rounds start


def test_imp_starts_every_round_from_the_initial_weights_on_other_minibatches(monkeypatch):
    task = make_task()
    calls = watched(task, monkeypatch)
    baseline = imp(task, rounds=3, steps=6)
    masks = [task.dense_ticket().mask, *(ticket.mask for ticket in baseline.tickets)]
    assert [call[0][0].tolist() for call in calls] == [mask.tolist() for mask in masks[:3]]
    assert [call[2] for call in calls] == [[None]] * 3
    assert len({call[1].seed for call in calls}) == 3
    assert all(level.start is None and level.rewound_steps == 0 for level in baseline.levels)


def test_a_level_is_trained_from_initial_weights_times_mask():
    task = make_task(recipe=Recipe(lr=1e-12, batch_size=10))
    baseline = imp(task, rounds=2, steps=1)
    for ticket, result in zip(baseline.tickets, baseline.train(task, 1), strict=True):
        trained = dict(result.module().named_parameters())
        flat = task.layout.join({n: trained[n].detach().numpy() for n in task.layout.names})
        np.testing.assert_allclose(flat, task.layout.initial * ticket.mask, atol=1e-11)
        assert not flat[~ticket.mask].any()


def test_finetune_goes_on_from_what_the_round_before_trained(monkeypatch):
    task = make_task()
    calls = watched(task, monkeypatch)
    baseline = finetune(task, rounds=4, steps=6)
    assert calls[0][2] == [None]
    for before, now in itertools.pairwise(calls):
        (old,), (new,), outcome = before[0], now[0], before[3]
        full = np.zeros(D)
        full[old] = outcome.trained[0].values
        (start,) = now[2]
        np.testing.assert_array_equal(start.values, full[new])
        for name, tensor in outcome.trained[0].unmasked.items():
            np.testing.assert_array_equal(start.unmasked[name], tensor)
        assert set(start.unmasked) == {f"layers.{i}.bias" for i in range(3)}
    # What is reported starts from W0 all the same.
    assert all(level.start is None for level in baseline.levels)
    assert baseline.train(task, 3) == task.train_all(baseline.tickets, steps=3)


def test_the_first_round_is_common_to_all_methods():
    task = make_task()
    first = imp(task, rounds=1, steps=6, fraction=0.5).tickets[0]
    assert finetune(task, rounds=1, steps=6, fraction=0.5).tickets[0] == first
    assert one_shot(task, 0.5, steps=6).tickets[0] == first


# ---- rewinding


def test_rewinding_starts_at_a_step_of_a_dense_training_that_is_paid_once(monkeypatch):
    task = make_task()
    calls = watched(task, monkeypatch)
    baseline = imp(task, rounds=3, steps=6, rewind_to=4)
    assert [call[1].steps for call in calls] == [4, 6, 6, 6]
    assert [level.search_steps for level in baseline.levels] == [10, 16, 22]
    assert baseline.search_steps == task.ledger.network_steps
    assert len({call[1].seed for call in calls}) == 4
    early = calls[0][3]
    assert calls[0][2] == [None]
    for (mask,), _, (start,), _ in calls[1:]:
        np.testing.assert_array_equal(start.values, early.trained[0].values[mask])
        assert start.unmasked is early.trained[0].unmasked
    for level in baseline.levels:
        assert level.rewound_steps == 4
        np.testing.assert_array_equal(
            level.start.values, early.trained[0].values[level.ticket.mask]
        )
        assert not np.allclose(level.start.values, task.layout.initial[level.ticket.mask])
    rewound = baseline.train(task, 5)
    assert rewound == task.train_all(
        baseline.tickets, steps=5, starts=[level.start for level in baseline.levels]
    )
    assert rewound != task.train_all(baseline.tickets, steps=5)


def test_rewinding_to_step_zero_is_starting_from_w0():
    task = make_task()
    plain, zero = imp(task, rounds=2, steps=6), imp(task, rounds=2, steps=6, rewind_to=0)
    assert plain.tickets == zero.tickets
    assert imp(task, rounds=2, steps=6, rewind_to=4).tickets != plain.tickets


# ---- one shot


@pytest.mark.parametrize("scope", ["global", "layerwise"])
def test_one_shot_prunes_one_dense_training(scope, monkeypatch):
    task = make_task()
    calls = watched(task, monkeypatch)
    baseline = one_shot(task, (0.3, 0.8, 0.1), steps=6, scope=scope)
    (((mask,), plan, starts, outcome),) = calls
    assert mask.all()
    assert starts == [None]
    assert plan.steps == 6
    assert [ticket.kept for ticket in baseline.tickets] == [82, 31, 10]
    assert [level.search_steps for level in baseline.levels] == [6, 6, 6]
    values = abs(outcome.trained[0].values)
    for ticket in baseline.tickets:
        for start, stop in [(0, D)] if scope == "global" else [(0, 48), (48, 88), (88, 103)]:
            kept = ticket.mask[start:stop]
            assert values[start:stop][kept].min() > values[start:stop][~kept].max()
    if scope == "layerwise":
        layers = baseline.tickets[1].layer_densities.values()
        assert max(layers) - min(layers) < 1 / 15

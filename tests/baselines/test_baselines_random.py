"""Random tickets, and what every baseline has in common."""

import inspect
from collections import Counter

import numpy as np
import pytest
import torch
from support.baselining import make_task, watched

import nets_deap as nets
from nets_deap import Recipe, Ticket
from nets_deap.baselines import (
    BASELINES,
    Baseline,
    Level,
    one_shot,
    random_erk,
    random_like,
    random_uniform,
)
from nets_deap.evolution.operators import layer_counts
from nets_deap.experiments.methods import METHODS
from nets_deap.tickets.trained import TrainedState

SOME = (0.5, 0.25)


OPTIONS = {
    "random": {"densities": SOME},
    "erk": {"densities": SOME},
    "same-layers": {},
    "one-shot": {"densities": SOME, "steps": 5},
    "imp": {"rounds": 3, "steps": 4},
    "imp-layerwise": {"rounds": 3, "steps": 4},
    "finetune": {"rounds": 3, "steps": 4},
    "snip": {"densities": SOME, "examples": 25},
    "grasp": {"densities": SOME, "examples": 25},
    "synflow": {"densities": SOME, "rounds": 7},
    "rigl": {"densities": SOME, "steps": 21, "delta": 5},
}
# snip: one gradient over 25 examples in minibatches of 10; grasp: two. synflow: 7 rounds for each
# of two densities. rigl: 21 steps and the gradients of updates at 5, 10 and 15 for each of two.
COSTS = {
    "random": 0, "erk": 0, "same-layers": 0, "one-shot": 5, "imp": 12, "imp-layerwise": 12,
    "finetune": 12, "snip": 3, "grasp": 6, "synflow": 14, "rigl": 48,
}  # fmt: skip


# Of weights; what ranks neurons and filters alone is tested with them.
OF_WEIGHTS = sorted(set(BASELINES) - {"torch-pruning"})


def found_by(name, task, **changes):
    """Return what a baseline finds on a task with the options above."""
    options = {**OPTIONS.get(name, {"densities": SOME}), **changes}
    if name not in OPTIONS and "steps" in inspect.signature(BASELINES[name]).parameters:
        options["steps"] = 5
    if name == "same-layers":
        options["tickets"] = [random_erk(task, d, seed=9).tickets[0] for d in SOME]
    return BASELINES[name](task, **options)


# ---- all baselines


def test_the_registry_is_covered():
    assert set(OPTIONS) == set(COSTS) <= set(BASELINES)
    assert set(BASELINES) <= set(METHODS)


@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_costs_are_those_of_the_ledger(name):
    task = make_task()
    task.train(task.dense_ticket(), steps=2)
    before = task.ledger.network_steps
    baseline = found_by(name, task)
    assert task.ledger.network_steps - before == baseline.search_steps
    assert baseline.search_steps == COSTS.get(name, baseline.search_steps)
    spent = [level.search_steps for level in baseline.levels]
    assert spent == sorted(spent)
    assert spent[-1] == baseline.search_steps
    assert baseline.name == name


@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_the_same_seed_finds_the_same_and_another_seed_something_else(name):
    task = make_task()
    one, again, other = (found_by(name, task, seed=seed) for seed in (3, 3, 4))
    assert one.tickets == again.tickets == found_by(name, make_task(), seed=3).tickets
    if name != "synflow":  # which uses neither data nor chance
        assert one.tickets != other.tickets


@pytest.mark.parametrize("name", sorted(set(OF_WEIGHTS) - {"imp", "imp-layerwise", "finetune"}))
def test_levels_keep_the_densities_exactly_densest_first(name):
    task = make_task()
    changes = {} if name == "same-layers" else {"densities": (0.25, 0.5)}
    kept = [ticket.kept for ticket in found_by(name, task, **changes).tickets]
    assert kept == [round(0.5 * 103), round(0.25 * 103)]


@pytest.mark.parametrize("name", sorted(set(OF_WEIGHTS) - {"same-layers"}))
def test_a_random_state_of_the_program_is_not_touched(name):
    before = torch.get_rng_state().clone(), np.random.get_state()[1].copy()  # noqa: NPY002
    found_by(name, make_task())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("random", {"densities": ()}, r"densities must hold densities: .*at least one, got 0"),
        ("random", {"densities": None}, r"densities must be densities: .*got NoneType"),
        ("random", {"densities": "0.5"}, r"densities must be a number: .*got str"),
        ("snip", {"densities": [0.5, 0]}, r"densities must be a density: .*\(0, 1\], got 0"),
        ("erk", {"densities": 0.01}, r"density must leave every layer a weight: .*3 / 103"),
        ("erk", {"seed": -1}, r"seed must be in range: expected an int >= 0, got -1"),
        ("one-shot", {"scope": "globl"}, r"scope must be a known name: .*mean 'global'\?"),
        ("one-shot", {"steps": 0}, r"steps must be in range: expected an int >= 1, got 0"),
        ("imp", {"rounds": 0}, r"rounds must be in range: expected an int >= 1, got 0"),
        ("imp", {"fraction": 1.0}, r"fraction must be in range: .*\(0, 1\), got 1\.0"),
        ("imp", {"rewind_to": -1}, r"rewind_to must be in range: .*>= 0, got -1"),
        ("imp", {"output_fraction": 0.1}, r"output_fraction must be left out with scope='global'"),
        ("imp-layerwise", {"output_fraction": 0.0}, r"output_fraction must be in range: .*0\.0"),
        ("snip", {"examples": 41}, r"examples must be in range: expected an int in \[1, 40\]"),
        ("grasp", {"temperature": 0}, r"temperature must be in range: .*\(0, inf\)"),
        ("synflow", {"rounds": 0}, r"rounds must be in range: expected an int >= 1, got 0"),
        ("rigl", {"alpha": 1.5}, r"alpha must be in range: .*\[0, 1\], got 1\.5"),
        ("rigl", {"end": -0.5}, r"end must be in range: .*\[0, 1\], got -0\.5"),
        ("rigl", {"delta": 0}, r"delta must be in range: expected an int >= 1, got 0"),
        ("rigl", {"distribution": "er_k"}, r"distribution must be a known name: .*mean 'erk'"),
    ],
)  # fmt: skip
def test_bad_arguments_cost_nothing(name, changes, message):
    task = make_task()
    with pytest.raises((ValueError, TypeError), match=message):
        found_by(name, task, **changes)
    assert task.ledger.network_steps == 0


@pytest.mark.parametrize(
    ("name", "changes"),
    [("one-shot", {}), ("imp", {}), ("finetune", {}), ("rigl", {}), ("rigl", {"delta": 30})],
)
def test_a_diverging_search_says_so(name, changes):
    task = make_task(recipe=Recipe(optimizer="sgd", lr=1e300, batch_size=10))
    with pytest.raises(ValueError, match=r"task\.recipe must train without .*smaller learning"):
        found_by(name, task, **changes)
    assert task.ledger.diverged == 1


# ---- the final training


def test_final_training_starts_where_each_level_says_on_the_same_minibatches(monkeypatch):
    task = make_task()
    half, dense = task.ticket(np.arange(103) % 2), task.dense_ticket()
    start, done = TrainedState(np.full(52, 0.1)), task.train(half, steps=2)
    half_rest = task.ticket(np.arange(103) % 2 == 0)
    levels = [Level(dense), Level(half_rest, 3, start), Level(half, 4, trained=done)]
    calls = watched(task, monkeypatch)
    results = Baseline.of("mine", levels).train(task, 6)
    assert results[2] is done
    (masks, plan, starts, _) = calls[0]
    assert len(calls) == 1
    assert starts == [None, start]
    assert plan.steps == 6
    assert [mask.sum() for mask in masks] == [103, 52]
    assert results[0] == task.train(dense, steps=6)
    assert results[1] != task.train(half_rest, steps=6)
    seeded = Baseline.of("mine", levels).train(task, 6, seed=8)
    assert seeded[0] == task.train(dense, steps=6, seed=8) != results[0]


def test_nesting_is_read_off_the_masks():
    task = make_task()
    first, second = np.arange(103) < 50, np.arange(103) < 20
    tickets = [task.ticket(first), task.ticket(second)]
    assert Baseline.of("mine", [Level(t) for t in tickets]).nested
    tickets[1] = task.ticket(second[::-1].copy())
    assert not Baseline.of("mine", [Level(t) for t in tickets]).nested


@pytest.mark.parametrize("order", [(), (1, 0)])
def test_levels_out_of_order(order):
    task = make_task()
    levels = [Level(task.dense_ticket()), Level(random_erk(task, 0.5).tickets[0])]
    with pytest.raises(ValueError, match=r"levels must be ordered: .*densest first, got \["):
        Baseline.of("mine", [levels[i] for i in order])


def test_levels_of_another_task():
    baseline = random_erk(make_task(seed=1), 0.5)
    with pytest.raises(ValueError, match=r"ticket must belong to this task"):
        baseline.train(make_task(), 3)


# ---- random tickets


@pytest.mark.parametrize(("function", "kind"), [(random_uniform, "uniform"), (random_erk, "erk")])
def test_layer_counts_are_those_of_the_distribution(function, kind):
    task = make_task()
    for density, ticket in zip(SOME, function(task, SOME).tickets, strict=True):
        wanted = layer_counts(task.layout, density, kind)
        assert np.array_equal(task.layout.counts(ticket.packed), wanted)


def test_a_density_gets_the_same_ticket_in_any_company():
    task = make_task()
    alone = random_erk(task, 0.25, seed=2).tickets[0]
    assert random_erk(task, (0.25, 0.5, 0.9), seed=2).tickets[2] == alone
    twins = random_erk(task, (0.25, 0.25), seed=2).tickets
    assert twins[0] == alone != twins[1]


def test_random_masks_choose_every_weight_equally_often():
    task = nets.tasks.xor(hidden=4)
    chosen = Counter()
    for seed in range(400):
        chosen.update(np.flatnonzero(random_uniform(task, 0.5, seed=seed).tickets[0].mask).tolist())
    counts = np.array([chosen[i] for i in range(task.layout.size)])
    assert (abs(counts - 200) < 5 * 10).all()  # five standard deviations


def test_same_layers_keeps_layer_counts_and_nothing_else():
    task = make_task()
    found = one_shot(task, SOME, steps=5).tickets
    drawn = random_like(task, found[::-1]).tickets
    for ticket, like in zip(found, drawn, strict=True):
        assert np.array_equal(task.layout.counts(ticket.packed), task.layout.counts(like.packed))
        assert ticket != like
    assert random_like(task, iter(found)).tickets == drawn
    empty = np.arange(103) >= 48
    assert (
        random_like(task, [task.ticket(empty)]).tickets[0].layer_densities["layers.0.weight"] == 0
    )


@pytest.mark.parametrize(
    ("tickets", "message"),
    [
        ([], r"tickets must hold tickets: expected at least one, got 0"),
        ([[1, 0]], r"tickets must hold tickets: expected nets\.Tickets, got list"),
        (random_uniform(make_task(), 0.5), r"tickets must be several: .*\.tickets"),
        (make_task().dense_ticket(), r"tickets must be several: expected a list of nets\.Ticket"),
        ([Ticket([1, 0])], r"mask must have the right length: expected D = 103, got 2"),
    ],
)
def test_foreign_tickets(tickets, message):
    with pytest.raises((ValueError, TypeError), match=message):
        random_like(make_task(), tickets)

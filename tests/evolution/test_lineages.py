"""Lineages in niches of log density: who survives, who mates, and where they begin."""

import itertools
import random
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import nets_deap as nets
from nets_deap import operators
from nets_deap.errors import InvalidValueError
from nets_deap.evolution.criterion import usual_criterion
from nets_deap.evolution.descent import HURT, SHARE, TO_CHANCE, hurt_below
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.cost import dense_share

RECIPE = nets.Recipe(lr=0.05, batch_size=4, steps=20, loss="binary_cross_entropy")


def new_task(hidden=40):
    return nets.tasks.xor(hidden=hidden, recipe=RECIPE, dtype="float64")


def ticket(task, kept, loss, seed=0, parents=1):
    """Return an evaluated ticket that keeps so many weights, with so many parents."""
    mask = np.random.default_rng(seed).permutation(task.layout.size) < kept
    made = task.ticket(mask)
    state = TrainedState(np.ones(kept), packed=made.packed.copy(), digest="0" * 32)
    if parents:
        made.inherited = TrainedState(
            np.ones(kept), packed=made.packed.copy(), parents=("1", "2")[:parents]
        )
    made.note_training(TrainedState(state.values, packed=state.packed, digest=made.digest))
    made.fitness = nets.make_toolbox(task).evaluate.func.fitness()
    made.fitness.values = loss, made.density
    return made


@pytest.fixture(scope="module")
def task():
    return new_task()


def test_a_child_replaces_its_parent_however_well_that_did(task):
    parent, child = ticket(task, 30, 0.1), ticket(task, 30, 0.5, seed=1)
    assert operators.sel_lineages([parent, child], 2, residents=[parent]) == [child, child]
    assert operators.sel_lineages([parent, child], 2) == [parent, parent], "without residents"


def test_of_two_children_the_better_one_is_the_elite_and_without_any_the_parent_stays(task):
    parents = [ticket(task, 60, 0.1), ticket(task, 30, 0.2)]
    young = [ticket(task, 60, 0.5, seed=1), ticket(task, 60, 0.4, seed=2)]
    found = operators.sel_lineages([*parents, *young], 4, residents=parents)
    assert {id(one) for one in found} == {id(young[1]), id(parents[1])}


def test_a_child_of_two_parents_must_be_better_than_who_is_there(task):
    parent = ticket(task, 30, 0.3)
    worse, better = (ticket(task, 30, loss, seed=1, parents=2) for loss in (0.4, 0.2))
    own = ticket(task, 30, 0.6, seed=2)
    select = partial(operators.sel_lineages, k=1, residents=[parent])
    assert select([parent, worse]) == [parent]
    assert select([parent, better]) == [better]
    assert select([parent, worse, own]) == [own]


def test_elites_of_all_niches_make_up_k_and_the_sparse_ones_more_often(task):
    several = [ticket(task, kept, 0.1) for kept in (100, 60, 36, 20, 12)]
    found = Counter(one.kept for one in operators.sel_lineages(several * 3, 13))
    assert sum(found.values()) == 13
    assert set(found) == {100, 60, 36, 20, 12}
    assert found[12] > found[100]


def test_who_is_outside_of_the_range_survives_only_where_nothing_is_inside(task):
    dense, sparse = ticket(task, 110, 0.01), ticket(task, 12, 0.9)
    assert operators.sel_lineages([dense, sparse], 2, high=0.3) == [sparse, sparse]
    assert operators.sel_lineages([dense], 1, high=0.3) == [dense]


def test_who_mates_is_a_neighbour_in_density_whoever_was_drawn(task):
    pool = [ticket(task, kept, 0.1) for kept in (100, 60, 36, 20, 12)]
    mates = Counter()

    def cross(one, other, *, rng):
        mates[one.kept, other.kept] += 1
        return one, other

    for seed in range(60):
        operators.cx_near(
            pool[2].copy(), pool[4].copy(), cross=cross, pool=pool, rng=np.random.default_rng(seed)
        )
    assert set(mates) == {(36, 60), (36, 20), (12, 20)}
    assert mates[36, 60] > mates[36, 20] > 0, "more often with the denser one"
    assert mates[12, 20] == 60


def test_a_migrant_has_the_size_of_a_neighbour(task):
    pool = [ticket(task, kept, 0.1) for kept in (60, 36, 20)]
    sizes = set()
    for seed in range(30):
        child = pool[1].copy()
        rng = np.random.default_rng(seed)
        operators.mut_migrate(child, move=operators.mut_swap, pool=pool, rng=rng)
        sizes.add(child.kept)
    assert sizes == {60, 20}


# ---- where they begin


def test_a_descent_prunes_a_fifth_a_round_and_is_measured_already():
    task = new_task()
    box = nets.make_toolbox(task, density=(0.1, 1.0), rewinds=0)
    population = box.population(n=6)
    evaluator = box.evaluate.func
    (stations,) = evaluator.stations.values()
    kept = [one.kept for one in stations]
    assert kept[0] == 120
    assert kept[-1] in (12, 13), "a layer that would be empty keeps one more"
    ratios = np.array(kept[1:]) / kept[:-1]
    assert ((ratios > 0.77) & (ratios < 0.9)).all()
    assert all((b.mask <= a.mask).all() for a, b in itertools.pairwise(stations))
    assert max(one.density for one in population) <= evaluator.active_below
    before = task.ledger.totals()
    values = box.map(box.evaluate, population)
    assert task.ledger.totals() == before, "nothing is trained twice"
    for one, own in zip(population, values, strict=True):
        assert own == (one.trained.metrics["val_loss"], one.density)
    again = box.population(n=6)
    assert [one.digest for one in again] == [one.digest for one in population]
    assert task.ledger.totals() == before


def test_lineages_go_on_where_pruning_has_begun_to_hurt(task):
    losses = [0.5, 0.2, 0.1, 0.11, HURT * 0.1 + 0.01, 0.2, 0.4]
    stations = []
    for kept, loss in zip((120, 100, 80, 60, 40, 30, 20), losses, strict=True):
        one = ticket(task, kept, loss)
        one.inherited = TrainedState(
            np.ones(kept), packed=one.packed.copy(), digest=one.digest, metrics={"val_loss": loss}
        )
        stations.append(one)
    assert hurt_below(stations, 10.0) == 40 / 120
    assert hurt_below(stations[:4], 10.0) == 100 / 120, "three at least"
    # Where the least loss is near chance, no loss is so many times larger.
    assert hurt_below(stations, 0.1 + 0.009 / TO_CHANCE) == 60 / 120
    assert hurt_below(stations, 0.05) == 60 / 120, "what has learnt nothing"


def test_lineages_go_on_in_noisy_data_where_there_is_something_to_gain():
    torch.manual_seed(0)
    x, noise = torch.randn(600, 8), torch.rand(600)
    y = ((x[:, 0] * x[:, 1] > 0) ^ (noise < 0.3)).long()
    net = nn.Sequential(nn.Linear(8, 30), nn.ReLU(), nn.Linear(30, 2))
    recipe = nets.Recipe(optimizer="adam", lr=3e-3, batch_size=50, steps=150)
    task = nets.Task(net, train=(x[:400], y[:400]), val=(x[400:], y[400:]), recipe=recipe)
    box = nets.make_toolbox(task, density=(0.01, 1.0))
    box.population(n=12)
    evaluator = box.evaluate.func
    (stations,) = evaluator.stations.values()
    losses = [one.trained.metrics["val_loss"] for one in stations]
    assert max(losses) < HURT * min(losses)
    assert evaluator.active_below > stations[-3].density


def test_sparse_networks_train_longer_and_dense_ones_for_as_many_multiply_adds():
    task = new_task()
    box = nets.make_toolbox(task, density=(0.05, 1.0))
    box.population(n=4)
    evaluator = box.evaluate.func
    active = evaluator.active_below
    some = [ticket(task, kept, 0.1) for kept in (120, round(active * 120), 6)]
    dense, at, sparse = evaluator._steps(some)
    assert at == 20
    assert dense * 1.0 == pytest.approx(20 * active, abs=0.5)
    assert 20 < sparse < 20 * active / 0.05


def convolutional_task():
    """Return a task most of whose weights are linear, and multiply-adds those of convolutions."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(144, 10), nn.Linear(10, 2)),
    )
    x, y = torch.randn(60, 1, 6, 6), torch.arange(60) % 2
    data, recipe = (x, y), nets.Recipe(steps=6, batch_size=20)
    return nets.Task(model, train=data, val=data, recipe=recipe, device="cpu")


def test_what_convolutions_cost_decides_how_long_networks_train():
    task = convolutional_task()
    budget = nets.Budget(120, generations=6)
    box = nets.make_toolbox(task, density=(0.1, 1.0), budget=budget, rewinds=0)
    box.population(n=4)
    evaluator = box.evaluate.func
    (stations,) = evaluator.stations.values()
    shares = [dense_share(task.problem, one.packed_mask) for one in stations]
    assert shares[-1] > 2 * stations[-1].density, "convolutions stay denser than the network"
    cost = evaluator.front_steps * sum(shares)
    assert 0.5 * SHARE * budget.total < cost < SHARE * budget.total
    (at,) = [one for one in stations if one.density == evaluator.active_below]
    assert evaluator._length(dense_share(task.problem, at.packed_mask)) == 1


def test_a_budget_too_small_for_a_descent_is_refused_before_anything_is_trained():
    task = new_task()
    box = nets.make_toolbox(task, budget=nets.Budget(5, generations=3))
    with pytest.raises(InvalidValueError, match="budget must suffice for a first descent"):
        box.population(n=4)
    assert task.ledger.networks == 0


def test_swaps_become_fewer_as_a_run_goes_on(task):
    box = nets.make_toolbox(task, density=(0.1, 1.0), gradient=False)
    box.population(n=4)
    evaluator, parent = box.evaluate.func, ticket(task, 40, 0.1)
    evaluator.planned, swapped = 10, []
    for generation in (0, 5, 10):
        evaluator.generation = generation
        changes = []
        for seed in range(20):
            child = parent.copy()
            box.mutate(child, rng=np.random.default_rng(seed))
            assert child.kept == parent.kept
            changes.append(int((child.mask & ~parent.mask).sum()))
        assert min(changes) >= 1
        swapped.append(np.mean(changes))
    assert swapped[0] > swapped[1] > swapped[2] == 1


def test_a_population_may_begin_with_what_a_baseline_has_found():
    task = new_task()
    found = nets.baselines.finetune(task, rounds=8, steps=10)
    for inherit in ("weights", "none"):
        box = nets.make_toolbox(task, inherit=inherit)
        before = task.ledger.networks
        population = box.population(n=5, seeds=found)
        assert task.ledger.networks == before
        assert population[0].kept == found.tickets[0].kept
        assert population[-1].kept == found.tickets[-1].kept
        assert {one.digest for one in population} <= {one.digest for one in found.tickets}
        assert all(one.inherited is not None and not one.fitness.valid for one in population)
    other = nets.tasks.xor(hidden=9, recipe=RECIPE)
    with pytest.raises(InvalidValueError, match="seeds must have the layout of the task"):
        nets.make_toolbox(other).population(n=2, seeds=found.tickets)


def test_two_runs_with_one_seed_are_one(tmp_path):
    def go():
        random.seed(3)
        return nets.search(
            new_task(), population=8, generations=4, budget=400, density=(0.1, 1.0),
            seed=1, progress="none",
        )  # fmt: skip

    one, two = go(), go()
    assert [t.digest for t in one.front] == [t.digest for t in two.front]
    assert 399 < one.logbook[-1]["dense_steps"] <= 400


# ---- rewinding


def began_at_w0(task, *, generations, seed=0, planned=None, **options):
    """Return the generations of a run all of whose networks started from W0."""
    starts = []
    original = task.run

    def noted(tickets, plan, *, starts):
        seen.append(all(start is None for start in starts))
        return original(tickets, plan, starts=starts)

    seen = []
    random.seed(seed)
    box = nets.make_toolbox(task, density=(0.1, 1.0), **options)
    pop = box.population(n=6)
    box.evaluate.func.planned = planned
    task.run = noted
    for generation in range(generations + 1):
        seen.clear()
        if generation:
            pop = box.select(pop, 6)
            pop = [box.mutate(box.clone(one))[0] for one in pop]
        for one, values in zip(pop, box.map(box.evaluate, pop), strict=True):
            one.fitness.values = values
        assert len(set(seen)) <= 1, "all of a generation start alike"
        if seen == [] or seen[0]:
            starts.append(generation if seen else None)
    return starts, pop


@pytest.mark.parametrize(
    ("options", "planned", "expected"),
    [
        ({"rewinds": 3}, 45, [0, 15, 30]),
        ({"rewinds": 1}, 45, [0]),
        ({"rewinds": 8}, 45, [0, 10, 20, 30]),  # ten generations apart, none of the last ten
        ({"rewinds": 2}, None, [0, 30]),
        ({}, 45, [0, 12, 24]),
        ({"rewinds": 0}, 45, [None]),  # the stations are measured already
        ({"budget": nets.Budget(3000, generations=45), "rewinds": 3}, None, [0, 15, 30]),
    ],
)
def test_lineages_start_from_w0_again_evenly_over_a_run(options, planned, expected):
    starts, _ = began_at_w0(new_task(20), generations=45, planned=planned, **options)
    assert starts == expected


def test_what_starts_from_w0_counts_its_steps_from_there():
    task = new_task(20)
    _, pop = began_at_w0(task, generations=10, planned=40, rewinds=4)
    lengths = {one.trained.steps for one in pop}
    assert lengths <= set(range(20, 40)), "the steps of generation 10 alone"
    _, pop = began_at_w0(task, generations=12, planned=40, rewinds=4)
    assert all(one.trained.steps >= 60 for one in pop)


def test_a_descent_without_generations_after_it_is_not_rewound():
    starts, _ = began_at_w0(new_task(20), generations=0, budget=nets.Budget(300, generations=0))
    assert starts == [None]


def test_where_nothing_is_inherited_nothing_can_be_rewound(task):
    with pytest.raises(InvalidValueError, match="rewinds must be 0 where nothing is inherited"):
        nets.make_toolbox(task, inherit="none", rewinds=2)
    assert nets.make_toolbox(task, inherit="none").evaluate.func.rewinds == 0


@pytest.mark.parametrize("ignored", [{"sigma": 0.1}, {"flips": 0.1}])
def test_what_lineages_would_ignore_is_refused(task, ignored):
    (name,) = ignored
    with pytest.raises(InvalidValueError, match=rf"{name} must be left out where lineages go on"):
        nets.make_toolbox(task, **ignored)
    nets.make_toolbox(task, inherit="none", **ignored)
    nets.make_toolbox(task, prune=(0.1, 0.3))
    with pytest.raises(InvalidValueError, match="prune must be left out"):
        nets.make_toolbox(task, prune=(0.1, 0.3), first_density=(0.5, 0.5))


def test_memory_is_kept_for_operators_that_grow_by_it():
    task = new_task(20)
    box = nets.make_toolbox(task, memory=True, rewinds=0)
    pop = box.population(n=4)
    for one, values in zip(pop, box.map(box.evaluate, pop), strict=True):
        one.fitness.values = values
    child = box.mutate(box.clone(pop[-1]))[0]
    box.map(box.evaluate, [child])
    remembered = child.trained.pruned
    assert len(remembered), "what the descent has pruned"
    assert not child.mask[remembered].any()
    before = child.mask.copy()
    operators.mut_regrow(child, by="memory", fraction=0.2)
    assert set(np.flatnonzero(child.mask & ~before)) <= set(remembered.tolist())


def convolution():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(64, 3))


def connected():
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.ReLU(), nn.Linear(4, 3))


@pytest.mark.parametrize(
    ("model", "unit", "expected"),
    [
        (convolution, "weight", "lamp"),
        (convolution, "filter", "cost"),
        (connected, "weight", "magnitude"),
    ],
)
def test_lineages_prune_by_lamp_where_weights_are_used_unequally_often(model, unit, expected):
    images = torch.utils.data.TensorDataset(torch.rand(16, 1, 6, 6), torch.arange(16) % 3)
    recipe = nets.Recipe(steps=2, batch_size=8)
    task = nets.Task(model(), train=images, val=images, recipe=recipe, unit=unit)
    assert usual_criterion(task) == expected
    if unit == "weight":
        drawn = []
        for by in (None, expected, "lamp" if expected == "magnitude" else "magnitude"):
            random.seed(0)
            toolbox = nets.make_toolbox(task, density=(0.1, 1.0), by=by)
            drawn.append([t.digest for t in toolbox.population(n=4)])
        assert drawn[0] == drawn[1] != drawn[2]

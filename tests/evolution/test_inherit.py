"""Inheritance: what children go on from, in mutation, crossover, copies and the evaluator."""

import copy
import pickle
import random

import numpy as np
import pytest
from deap import algorithms, tools
from hypothesis import given, settings
from hypothesis import strategies as st
from support.trained import set_trained

import nets_deap as nets
from nets_deap import operators
from nets_deap.tickets import bits
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.gradients import dense_gradient
from nets_deap.training.problem import Plan

LAYOUT = nets.MaskLayout([("a", (4, 3)), ("b", (2, 4))], np.linspace(0.1, 2, 20))


def ticket_of(kept, values, **more):
    ticket = nets.Ticket(np.isin(np.arange(20), kept), layout=LAYOUT)
    set_trained(ticket, np.asarray(values, dtype=np.float32), **more)
    return ticket


# ---- a trained state, at another mask


def test_values_at_another_mask_are_the_parents_and_zero_where_regrown():
    state = ticket_of([2, 5, 9], [0.2, 0.5, 0.9], gradients=np.array([1.0, 2.0, 3.0])).trained
    other = np.isin(np.arange(20), [1, 5, 9])
    np.testing.assert_allclose(state.at(other), [0, 0.5, 0.9])
    np.testing.assert_allclose(state.spread(state.gradients, 20)[other], [0, 2, 3])


@settings(deadline=None, max_examples=60)
@given(
    densities=st.tuples(*[st.sampled_from([0.0, 0.3, 0.9, 1.0])] * 2), seed=st.integers(0, 2**32)
)
def test_moves_and_averages_are_those_of_whole_vectors(densities, seed):
    rng = np.random.default_rng(seed)
    masks = [rng.random(20) < density for density in densities]
    vectors = [np.where(mask, rng.normal(size=20), 0).astype(np.float32) for mask in masks]
    one, two = (
        ticket_of(np.flatnonzero(mask), vector[mask])
        for mask, vector in zip(masks, vectors, strict=True)
    )
    moved = one.inherited.at(masks[1])
    assert moved.dtype == np.float32
    np.testing.assert_array_equal(moved, vectors[0][masks[1]])
    spread = one.inherited.spread(one.inherited.values, 20)
    np.testing.assert_array_equal(spread, vectors[0])
    middle = one.inherited.average(two.inherited, 20)
    union = masks[0] | masks[1]
    np.testing.assert_array_equal(middle.values, ((vectors[0] + vectors[1]) / 2)[union])
    np.testing.assert_array_equal(bits.unpack(middle.packed, 20), union)


def test_an_average_is_worked_out_once_and_only_when_asked_for(monkeypatch):
    calls = []
    average = TrainedState.average
    monkeypatch.setattr(TrainedState, "average", lambda *args: calls.append(1) or average(*args))
    one, two = ticket_of([0, 1, 14], [1, 1, 1]), ticket_of([0, 2, 14], [3, 3, 3])
    operators.cx_layers(one, two, indpb=1.0)
    clone = copy.deepcopy(one)
    assert one.trained is clone.trained is None
    assert not calls
    assert clone.inherited is one.inherited is two.inherited
    assert one.inherited.values.tolist() == [2, 0.5, 1.5, 2]
    assert len(calls) == 1
    operators.cx_layers(one, two, indpb=1.0)
    third, fourth = ticket_of([0, 1, 14], [1, 1, 1]), ticket_of([0, 2, 14], [3, 3, 3])
    operators.cx_layers(third, fourth, indpb=1.0)
    back = pickle.loads(pickle.dumps(third))
    assert back.inherited.values.tolist() == [2, 0.5, 1.5, 2]
    assert len(calls) == 2


def test_the_average_is_the_midpoint_of_both_vectors():
    one = ticket_of(
        [0, 1, 2],
        [1, 2, 3],
        steps=5,
        unmasked={"bias": np.array([1.0, 0.0]), "calls": np.array(3)},
        gradients=np.ones(3),
        candidates=np.array([7, 4]),
    ).trained
    two = ticket_of(
        [1, 2, 3],
        [4, 5, 6],
        steps=9,
        unmasked={"bias": np.array([3.0, 1.0]), "calls": np.array(9)},
        gradients=3 * np.ones(3),
        candidates=np.array([4, 9]),
    ).trained
    middle = one.average(two, 20)
    assert np.flatnonzero(bits.unpack(middle.packed, 20)).tolist() == [0, 1, 2, 3]
    assert middle.values.tolist() == [0.5, 3, 4, 3]
    assert middle.values.dtype == np.float32
    assert middle.gradients.tolist() == [0.5, 2, 2, 1.5]
    assert middle.candidates.tolist() == [7, 4, 9]
    assert middle.unmasked["bias"].tolist() == [2, 0.5]
    assert middle.unmasked["calls"] == 3
    assert middle.steps == 9
    assert one.average(ticket_of([1], [1]).trained, 20).gradients is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_what_is_inherited_travels_compactly_and_cannot_be_changed(copied):
    ticket = ticket_of([2, 5], [0.25, -0.5], unmasked={"bias": np.ones(2)})
    ticket.adaptation = {"a": 0.5}
    ticket[7] = 1
    back = copied(ticket)
    assert back.trained is None
    assert back.inherited.values.tolist() == [0.25, -0.5]
    assert back.adaptation == {"a": 0.5}
    for array in (back.inherited.values, back.inherited.packed, back.inherited.unmasked["bias"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    # Kept positions only: a ticket of few weights stays small.
    assert len(pickle.dumps(back)) < 1500


# ---- operators


def test_a_child_of_crossover_inherits_the_average_and_an_unchanged_one_its_own():
    one, two = ticket_of([0, 1, 14], [1, 1, 1]), ticket_of([0, 2, 14], [3, 3, 3])
    own = one.inherited
    operators.cx_uniform(one, two, indpb=0.0)
    assert one.inherited is own
    operators.cx_layers(one, two, indpb=1.0)
    assert one.inherited.values.tolist() == [2, 0.5, 1.5, 2]
    assert two.inherited is one.inherited
    assert one.trained is None


def test_a_child_of_only_one_trained_parent_inherits_from_that():
    one, two = ticket_of([0, 1, 14], [1, 1, 1]), nets.Ticket([0, 0, 1] * 6 + [0, 1], layout=LAYOUT)
    trained = one.inherited
    operators.cx_layers(one, two, indpb=1.0)
    assert one.inherited is trained
    assert two.inherited is trained


def test_cx_average_keeps_the_largest_of_the_average_and_prunes_a_fraction():
    one = ticket_of([0, 1, 2, 3, 12, 13], [9, 1, 5, -8, 7, 1])
    two = ticket_of([0, 2, 3, 4, 12, 14], [9, -5, -8, 3, 7, 1])
    child, other = operators.cx_average(one, two, fraction=0.5)
    # Sums: 18, 1, 0, -16, 3, ..., 14, 1, 1; the half of six weights is three.
    assert np.flatnonzero(child.mask).tolist() == [0, 3, 12]
    assert child == other
    assert child.inherited.at(child.mask).tolist() == [9, -8, 7]
    assert child.trained is None


def test_cx_average_of_untrained_tickets_goes_by_the_initial_weights():
    one = nets.Ticket(np.arange(20) % 2 == 0, layout=LAYOUT)
    two = nets.Ticket(np.arange(20) % 2 == 1, layout=LAYOUT)
    child, _ = operators.cx_average(one, two)
    # The largest of W0 are the last ones; a layer that would be empty keeps a weight.
    assert child.mask[11:].all()
    assert child.kept == 10
    bare = [nets.Ticket([1, 0, 1, 0]), nets.Ticket([0, 1, 1, 0])]
    assert [t.kept for t in operators.cx_average(*bare, rng=np.random.default_rng(0))] == [2, 2]


def test_noise_makes_the_two_children_differ():
    pair = [ticket_of(range(20), np.linspace(1, 1.2, 20)) for _ in range(2)]
    one, two = operators.cx_average(*pair, fraction=0.5, noise=0.3, rng=np.random.default_rng(0))
    assert one.kept == two.kept == 10
    assert one != two


def test_layer_factors_evolve_with_the_ticket_and_decide_which_layer_is_pruned():
    ticket = ticket_of(range(20), np.ones(20))
    ticket.adaptation = {"a": 1.0, "b": -1.0}
    operators.mut_prune(ticket, fraction=0.25)
    assert ticket.mask[:12].all()
    assert ticket.kept == 15
    before = ticket.adaptation
    operators.mut_prune(ticket, fraction=0.1, sigma=0.1, rng=np.random.default_rng(0))
    assert before == {"a": 1.0, "b": -1.0}
    assert set(ticket.adaptation) == {"a", "b"}
    assert 0 < abs(ticket.adaptation["a"] - 1) < 1
    mate = ticket_of([3, 15], [1, 1])
    mate.adaptation = {"a": 3.0}
    wanted = {"a": (ticket.adaptation["a"] + 3) / 2, "b": ticket.adaptation["b"] / 2}
    child, _ = operators.cx_average(ticket, mate)
    assert child.adaptation == pytest.approx(wanted)


def test_pruning_by_gradient_goes_by_the_product():
    kept = [0, 1, 2, 13, 14]
    ticket = ticket_of(kept, [1, 2, 3, 4, 5], gradients=np.array([9.0, 1.0, 3.0, 0.1, 1.0]))
    operators.mut_prune(ticket, fraction=0.4, by="gradient")
    assert np.flatnonzero(ticket.mask).tolist() == [0, 2, 14]


def test_regrowth_and_swaps_by_gradient_take_the_largest_first():
    ticket = ticket_of([0, 1, 2, 13], [1, 2, 3, 4], candidates=np.array([9, 15, 2, 7]))
    operators.mut_regrow(ticket, fraction=0.5, by="gradient")
    assert np.flatnonzero(ticket.mask).tolist() == [0, 1, 2, 9, 13, 15]
    operators.mut_swap(ticket, fraction=0.17, grow="gradient")
    # The regrown ones count as 0 and go first; 7 is the only candidate left.
    assert ticket.mask[7]
    assert ticket.kept == 6
    assert ticket.mask[[0, 1, 2, 13]].all()


@pytest.mark.parametrize(
    ("operator", "options"),
    [
        (operators.mut_prune, {"by": "gradient"}),
        (operators.mut_regrow, {"by": "gradient"}),
        (operators.mut_swap, {"grow": "gradient"}),
    ],
)
def test_what_needs_gradients_says_how_to_get_them(operator, options):
    ticket = ticket_of([0, 1, 2, 13], [1, 2, 3, 4])
    with pytest.raises(
        ValueError, match=r"by must have gradients to go by: .* Make the toolbox with gradient=True"
    ):
        operator(ticket, fraction=0.5, **options)


# ---- the evaluator


@pytest.fixture
def task():
    recipe = nets.Recipe(lr=0.05, batch_size=4, steps=20, loss="binary_cross_entropy")
    return nets.tasks.xor(hidden=6, recipe=recipe, dtype="float64")


def test_a_child_goes_on_from_its_parents_values_and_the_ticket_is_still_w0(task):
    box = nets.make_toolbox(task, inherit="weights")
    (parent,) = box.population(n=1)
    # Where lineages go on a network trains for the recipe's steps.
    assert parent.density == box.evaluate.func.active_below
    parent.fitness.values = box.map(box.evaluate, [parent])[0]
    first = parent.trained
    child = box.clone(parent)
    box.mutate(child)
    del child.fitness.values
    mask = child.mask
    assert child.kept == parent.kept
    assert (mask != parent.mask).any()
    wanted = task.run(
        [child],
        Plan(20, task.derived_seed(1)),
        starts=[TrainedState(first.at(mask), first.unmasked)],
    )
    (values,) = box.map(box.evaluate, [child])
    assert values == (wanted.metrics["val_loss"][0], child.density)
    np.testing.assert_array_equal(child.trained.values, wanted.trained[0].values)
    assert child.trained.steps == first.steps + 20
    assert set(child.trained.unmasked) == {"layers.0.bias", "layers.1.bias"}
    # What is reported is trained from W0, whatever was inherited.
    fresh = task.ticket(mask)
    assert task.train(child).val_loss == task.train(fresh).val_loss


def test_without_inheritance_a_child_trains_from_w0(task):
    box = nets.make_toolbox(task, inherit="none")
    one, two = task.ticket(np.ones(18)), task.ticket(np.ones(18))
    set_trained(one, np.full(18, 3.0))
    values = [box.clone(box.evaluate)(ticket) for ticket in (one, two)]
    assert values[0] == values[1]


def test_equal_masks_with_other_ancestors_are_other_networks(task):
    evaluator = nets.Evaluator(task, "val_loss", inherit="weights")
    tickets = [task.ticket(np.ones(18)) for _ in range(4)]
    set_trained(tickets[2], np.full(18, 0.3), unmasked={})
    tickets[3].inherited = tickets[2].inherited
    before = task.ledger.networks
    values = evaluator.batch(tickets)
    assert task.ledger.networks - before == 2
    assert values[0] == values[1] != values[2] == values[3]


def test_a_search_keeps_its_budget_exactly_and_starts_dense(task):
    found = nets.search(
        task, inherit="weights", population=2, offspring=3, generations=4, budget=500,
        cxpb=0.5, mutpb=0.5, density=(0.3, 1.0), noise=0.2, seed=3, progress="none",
    )  # fmt: skip
    # What is left is too little for one step of any network.
    assert 499 < found.logbook[-1]["dense_steps"] <= 500
    densities = [ticket.density for ticket in found.front]
    assert densities == sorted(densities, reverse=True)
    assert {t.density for t in found.front.items} >= {1.0, 6 / 18}
    assert densities[-1] < 0.5
    again = nets.search(
        nets.tasks.xor(hidden=6, recipe=task.recipe, dtype="float64"), inherit="weights",
        population=2, offspring=3, generations=4, budget=500, cxpb=0.5, mutpb=0.5,
        density=(0.3, 1.0), noise=0.2, seed=3, progress="none",
    )  # fmt: skip
    assert [t.digest for t in again.front] == [t.digest for t in found.front]


def test_gradients_are_measured_and_paid_for(task):
    found = nets.search(
        task, inherit="none", population=1, offspring=1, generations=3, budget=200, cxpb=0,
        budget_unit="steps", mutpb=1, gradient=True, progress="none",
    )  # fmt: skip
    assert task.ledger.network_steps == 200
    sparsest = found.front[-1]
    state = sparsest.trained
    assert state.steps == 200 // 4 - 1
    assert state.gradients.shape == state.values.shape
    assert len(state.candidates) == len(state.scores) == min(sparsest.kept // 2, 18 - sparsest.kept)
    assert (np.diff(state.scores) <= 0).all()
    assert not sparsest.mask[state.candidates].any()


@pytest.mark.parametrize("engine", ["compiled", "vmap", "loop"])
@pytest.mark.parametrize("unit", ["weight", "neuron", "2:4"])
def test_what_is_regrown_first_has_the_largest_gradient_on_one_minibatch(engine, unit):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(90, 8)).astype(np.float32), rng.integers(0, 4, 90)
    recipe = nets.Recipe(batch_size=20, lr=0.01, steps=5)
    model = nets.models.MLP((8, 16, 4), seed=1)
    task = nets.Task(model, train=data, val=data, recipe=recipe, engine=engine, unit=unit)
    evaluator = nets.Evaluator(task, "val_loss", inherit="weights", gradients=True)
    ticket = operators.init_density(nets.Ticket, task.layout, density=0.4, rng=rng)
    evaluator.generation = 3
    evaluator.batch([ticket])
    state, gates, share = ticket.trained, ticket.gates, ticket.density
    (rows,) = Plan(1, task.derived_seed(3, 1)).batches(90, 20)
    gradient = np.abs(dense_gradient(task.problem, ticket.mask, rows, state))
    np.testing.assert_allclose(state.gradients, gradient[ticket.mask], rtol=1e-4, atol=1e-7)
    worth = gradient if ticket.units is None else ticket.units.root_mean_square(gradient)
    most = min((~gates).sum(), max(1, gates.sum() // 2, len(gates) // 20))
    wanted = np.sort(worth[~gates])[::-1][:most]
    np.testing.assert_allclose(state.scores, wanted, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(worth[state.candidates], wanted, rtol=1e-4, atol=1e-7)
    assert not gates[state.candidates].any()
    assert task.ledger.network_steps == 5 + 1
    assert task.ledger.dense_steps == pytest.approx(5 * share + (1 + 2 * share) / 3)


def test_sparse_tickets_know_more_candidates_than_they_could_swap():
    data = np.zeros((20, 100), np.float32), np.zeros(20, int)
    task = nets.Task(
        nets.models.MLP((100, 20, 2)),
        train=data,
        val=data,
        recipe=nets.Recipe(steps=1, batch_size=20),
    )
    evaluator = nets.Evaluator(task, "val_loss", gradients=True)
    for kept, known in ((10, 20), (60, 102), (400, 200), (2000, 40)):
        ticket = task.ticket(np.arange(2040) >= 2040 - kept)
        evaluator.batch([ticket])
        assert len(ticket.trained.candidates) == known


def test_the_budget_must_match_the_generations(task):
    budget = nets.Budget(200, unit="steps", generations=2)
    box = nets.make_toolbox(task, inherit="weights", budget=budget)
    with pytest.raises(nets.errors.CallOrderError, match="this is generation 3"):
        algorithms.eaMuCommaLambda(
            box.population(n=1), box, mu=1, lambda_=1, cxpb=0, mutpb=1, ngen=5, verbose=False
        )


def test_bad_choices_are_refused(task):
    with pytest.raises(ValueError, match="inherit must be a known name"):
        nets.make_toolbox(task, inherit="weigths")
    with pytest.raises(ValueError, match="algorithm must be a known name"):
        nets.search(task, algorithm="comma+", inherit="none")
    with pytest.raises(
        ValueError,
        match=r"offspring must be enough for .*: expected at least population = 4, got 3",
    ):
        nets.search(task, algorithm="comma", population=4, offspring=3, inherit="none")
    with pytest.raises(ValueError, match=r"toolbox must come alone: .*\['inherit', 'budget'\]"):
        nets.search(task, toolbox=nets.make_toolbox(task), inherit="none", budget=5)


def test_a_search_for_few_multiply_adds_shrinks_and_spreads_over_them():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(60, 6)).astype(np.float32)
    data = {name: (x, (x.sum(1) > 0).astype(int)) for name in ("train", "val")}
    model = nets.models.MLP((6, 12, 8, 2))
    task = nets.Task(model, **data, recipe=nets.Recipe(batch_size=20, lr=0.01))
    found = nets.search(
        task, objectives=("val_loss", "multiply_adds"), inherit="weights", population=2,
        offspring=3, generations=6, cxpb=0.5, mutpb=0.5, budget=600, sigma=0.2,
        budget_unit="steps", density=(0.1, 1.0), progress="none",
    )  # fmt: skip
    assert found.logbook[-1]["network_steps"] == 600
    adds = [ticket.fitness.values[1] for ticket in found.front]
    assert adds == sorted(adds, reverse=True)
    assert adds[0] == 6 * 12 + 12 * 8 + 8 * 2
    assert adds[-1] < 0.5 * adds[0]
    assert found.front[0].fitness.reference[1] == adds[0]


def test_crossover_needs_two_parents(task):
    with pytest.raises(ValueError, match=r"population must be in range: expected an int >= 2"):
        nets.search(task, population=1, cxpb=0.1, mutpb=0.9, inherit="none")


# ---- survivors evaluated again


def test_survivors_are_evaluated_again_with_the_next_generation_and_averaged(task):
    box = nets.make_toolbox(task, reevaluate=True, inherit="none")
    pop = box.population(n=4)
    for ticket, values in zip(pop, box.map(box.evaluate, pop), strict=True):
        ticket.fitness.values = values
    survivors = box.select(pop, 3)
    first = [ticket.fitness.values for ticket in survivors]
    child = box.clone(pop[0])
    child[0] = not child[0]
    before = task.ledger.networks
    values = box.map(box.evaluate, [child])
    assert len(values) == 1
    assert task.ledger.networks - before == 1 + 3
    plain = nets.Evaluator(task, ("val_loss", "density"))
    plain.generation = 1
    alone = [plain(box.clone(ticket)) for ticket in survivors]
    for ticket, one, two in zip(survivors, first, alone, strict=True):
        assert ticket.fitness.values == pytest.approx(np.mean([one, two], axis=0))
        assert ticket.evaluations == 2
    assert child.evaluations == 1
    box.map(box.evaluate, [box.clone(child)])
    assert task.ledger.networks - before == 1 + 3 + 3 + 1, "only once for each selection"


def test_a_plus_search_may_evaluate_again_and_a_comma_search_may_not(task):
    found = nets.search(
        task,
        population=3,
        generations=2,
        reevaluate=True,
        budget=200,
        budget_unit="steps",
        progress="none",
        seed=1,
        inherit="none",
    )
    assert task.ledger.network_steps == 200
    assert max(ticket.evaluations for ticket in found.population) >= 2
    with pytest.raises(ValueError, match="reevaluate must be left out where parents die"):
        nets.search(task, algorithm="comma", reevaluate=True, inherit="none")


def test_gradients_reach_the_toolbox_s_mutations_and_only_parents_are_measured(task):
    box = nets.make_toolbox(task)
    (ticket,) = box.population(n=1)
    box.map(box.evaluate, [ticket])
    free = np.flatnonzero(~ticket.mask)
    assert ticket.trained.candidates is None
    before, by_gradient = task.ledger.totals(), 0
    for seed in range(40):
        child = box.clone(ticket)
        box.mutate(child, rng=np.random.default_rng(seed))
        grown = child.mask & ~ticket.mask
        candidates = ticket.trained.candidates
        by_gradient += candidates is not None and set(np.flatnonzero(grown)) <= {*candidates}
    assert task.ledger.since(before)[1] == 1, "one minibatch for all children of a parent"
    assert 0 < len(candidates) < len(free)
    assert 20 <= by_gradient <= 38, "most regrow by gradient, some at random"


def test_survivors_are_evaluated_again_through_a_decorated_evaluate_too(task):
    box = nets.make_toolbox(task, reevaluate=True, inherit="none")
    box.decorate("evaluate", tools.DeltaPenalty(lambda ticket: ticket.kept > 1, (9.0, 1.0)))
    pop = box.population(n=3)
    for ticket, values in zip(pop, box.map(box.evaluate, pop), strict=True):
        ticket.fitness.values = values
    (survivor,) = box.select(pop, 1)
    child = box.clone(survivor)
    child[0] = not child[0]
    box.map(box.evaluate, [child])
    assert survivor.evaluations == 2


def test_a_diverged_parent_is_mutated_by_what_is_known_of_it():
    ticket = ticket_of(
        [0, 1, 2, 13], [1, 2, 3, 4], gradients=np.ones(4), candidates=np.array([9, 7])
    )
    ticket.inherited = None
    operators.mut_prune(ticket, fraction=0.25, by="gradient")
    assert not ticket.mask[0], "the smallest of W0"
    operators.mut_regrow(ticket, fraction=0.34, by="gradient")
    assert ticket.kept == 4


def test_children_of_one_parent_differ_by_default(task):
    found = nets.search(
        task, inherit="weights", population=2, generations=2, budget=300, cxpb=0.5, mutpb=0.5,
        density=(0.1, 1.0), progress="none",
    )  # fmt: skip
    assert len({ticket.digest for ticket in found.population}) == 2
    assert found.logbook[-1]["evaluations"] > 1 + 2 * 2


@pytest.mark.parametrize("own", [None, [1.0, 2.0], {"a": 7}])
def test_operators_leave_a_strategy_of_the_programs_own_alone(own):
    one, two = ticket_of([0, 1, 14], [1, 1, 1]), ticket_of([0, 2, 14], [3, 3, 3])
    for ticket in (one, two):
        ticket.strategy, ticket.parents = own, own
    operators.cx_uniform(one, two)
    operators.cx_average(one, two)
    operators.mut_prune(one, sigma=0.5)
    assert one.strategy == one.parents == two.strategy == own
    assert set(one.adaptation) == {layer.name for layer in one.layout.layers}


def test_two_children_do_not_share_parameters_that_evolve():
    one, two = ticket_of([0, 1, 14], [1, 1, 1]), ticket_of([0, 2, 14], [3, 3, 3])
    one.adaptation = {"a": 1.0}
    operators.cx_average(one, two)
    assert one.adaptation == two.adaptation == {"a": 0.5}
    assert one.adaptation is not two.adaptation


@pytest.mark.parametrize("unit", ["weight", "neuron", "2:4"])
def test_gradients_of_a_generation_may_be_measured_together(unit, monkeypatch):
    from nets_deap.evolution import evaluator as module

    found = []
    for at_once in (1, 3):
        task = nets.tasks.xor(
            hidden=8,
            unit=unit,
            recipe=nets.Recipe(lr=0.05, batch_size=4, steps=5, loss="binary_cross_entropy"),
        )
        monkeypatch.setattr(module, "together_by", lambda *_, n=at_once: n)
        box = nets.make_toolbox(task, inherit="none", gradient=True)
        random.seed(0)
        pop = box.population(n=5)
        box.map(box.evaluate, pop)
        found.append([ticket.trained for ticket in pop])
        assert task.ledger.network_steps == len({t.digest for t in pop}) * (task.steps + 1)
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one.gradients, other.gradients, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-4, atol=1e-7)
        assert set(one.candidates) == set(other.candidates)

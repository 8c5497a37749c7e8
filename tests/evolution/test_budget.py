"""Budgets: kept exactly, shared out as asked, in either unit."""

import itertools

import pytest
from deap import algorithms
from hypothesis import given
from hypothesis import strategies as st

import nets_deap as nets
from nets_deap import Budget
from nets_deap.errors import CallOrderError


def in_steps(total, generations, **options):
    return Budget(total, unit="steps", generations=generations, **options)


@given(
    st.integers(200, 10_000),
    st.lists(st.integers(1, 5), min_size=1, max_size=20),
    st.floats(0.3, 4),
)
def test_steps_are_kept_exactly_and_networks_of_a_generation_differ_by_a_step(total, sizes, growth):
    budget = in_steps(total * 5, len(sizes) - 1, growth=growth)
    shares = [budget.allocate([0.1] * n, generation) for generation, n in enumerate(sizes)]
    assert sum(map(sum, shares)) == budget.spent == total * 5
    assert [len(share) for share in shares] == sizes
    assert all(max(share) - min(share) <= 1 for share in shares)


@given(
    st.floats(100, 10_000),
    st.lists(st.lists(st.floats(0.001, 1), min_size=1, max_size=6), min_size=1, max_size=6),
    st.floats(0.3, 4),
    st.booleans(),
)
def test_dense_steps_are_kept_to_a_step_and_never_exceeded(total, generations, growth, alike):
    budget = Budget(total, generations=len(generations) - 1, growth=growth)
    spent = 0.0
    for g, shares in enumerate(generations):
        lengths = [1 / share for share in shares] if alike else None
        steps = budget.allocate(shares, g, lengths=lengths)
        assert min(steps) >= 1
        spent += sum(n * share for n, share in zip(steps, shares, strict=True))
    assert spent == pytest.approx(budget.spent)
    assert total - max(generations[-1]) <= spent + 1e-6 * total
    assert spent <= total * (1 + 1e-9)


@given(
    st.lists(st.tuples(st.floats(0.001, 1), st.floats(0.2, 5)), min_size=1, max_size=20),
    st.floats(1, 3),
)
def test_each_network_trains_where_there_is_just_enough(networks, times):
    shares, lengths = zip(*networks, strict=True)
    total = sum(shares) * times * (1 + 1e-12)
    steps = Budget(total, generations=0).allocate(shares, 0, lengths=lengths)
    assert min(steps) >= 1
    assert sum(n * share for n, share in zip(steps, shares, strict=True)) <= total * (1 + 1e-6)


def test_a_generation_with_too_small_a_share_takes_from_the_last_ones():
    budget = Budget(12, generations=9)
    assert budget.allocate([1.0], 0) == [1]
    assert budget.allocate([1.0] * 4, 1) == [1] * 4
    assert budget.left == 7
    assert not budget.ends_before(2)
    budget.spend(2)  # and as much before the next one
    assert budget.ends_before(2)
    assert not budget.ends_before(10)  # after the last one of the plan
    budget.spend(2)
    with pytest.raises(nets.NetsError, match=r"at least 4 dense steps for P = 4 in generation 2"):
        budget.allocate([1.0] * 4, 2)
    assert budget.allocate([1.0], 2) == [1]


def test_a_search_ends_with_what_it_has_where_a_plan_is_too_much_for_the_budget(xor_task):
    found = nets.search(xor_task, budget=60, population=6, generations=30, progress="none")
    assert found.stopped == "the budget of 60 dense steps is spent"
    assert len(found.front) >= 1
    assert len(found.logbook) < 31
    assert found.logbook[-1]["dense_steps"] <= 60


def test_a_budget_that_was_planned_for_another_search_is_refused_before_it(xor_task):
    planned = Budget(900, generations=5, growth=2)
    for options in ({"budget": planned}, {"toolbox": nets.make_toolbox(xor_task, budget=planned)}):
        with pytest.raises(nets.NetsError, match=r"expected 4 or None, got 5. Give the search gen"):
            nets.search(xor_task, generations=4, progress="none", **options)
    with pytest.raises(nets.NetsError, match=r"growth must stand in the budget, .* expected 2"):
        nets.search(xor_task, budget=planned, generations=5, growth=3)
    with pytest.raises(nets.NetsError, match=r"budget_unit must stand in the budget"):
        nets.search(xor_task, budget=planned, generations=5, budget_unit="steps")


def test_equal_lengths_and_equal_multiply_adds_by_hand():
    even = Budget(150, generations=0)
    assert even.allocate([1.0, 0.5], 0) == [100, 100]
    alike = Budget(100, generations=0)
    assert alike.allocate([1.0, 0.5, 0.05], 0, lengths=[1, 2, 20]) == [33, 67, 667]
    assert alike.spent == pytest.approx(33 + 33.5 + 33.35)


def test_shares_grow_linearly_from_the_first_generation_to_the_last():
    budget = in_steps(1000, 3, growth=3)
    assert [sum(budget.allocate([1], g)) for g in range(4)] == [125, 208, 292, 375]
    even = in_steps(90, 2)
    assert [even.allocate([1, 1], g) for g in range(3)] == [[15, 15]] * 3


def test_steps_are_rounded_over_the_whole_run():
    # 6,600 over 23 generations: 286.96 each, as multiples of that rounded.
    budget = in_steps(6600, 22)
    steps = [budget.allocate([1], g)[0] for g in range(23)]
    ends = [round(6600 * (g + 1) / 23) for g in range(23)]
    assert steps == [b - a for a, b in itertools.pairwise([0, *ends])]


def test_what_a_generation_leaves_the_later_ones_get():
    budget = in_steps(90, 2)
    assert budget.allocate([1], 0) == [30]
    assert budget.allocate([1] * 7, 2) == [9, 9, 9, 9, 8, 8, 8]


def test_what_is_spent_beside_the_generations_they_lack():
    budget = Budget(100, generations=1)
    budget.spend(40)
    assert budget.allocate([0.5], 0) == [60]  # half of the 60 that are left
    assert (budget.left, budget.progress) == (30, 0.7)
    assert budget.allocate([0.25], 1) == [120]
    assert (budget.left, budget.progress) == (0, 1)


def test_without_a_plan_each_trains_as_usual_while_it_lasts():
    budget = Budget(100)
    assert budget.allocate([1.0, 0.5], 0, usual=[40, 40]) == [40, 40]
    assert budget.left == 40
    assert budget.allocate([1.0, 0.5], 7, usual=[40, 40]) == [27, 26]
    with pytest.raises(CallOrderError, match=r"The budget of 100 dense steps is spent. Give an"):
        budget.allocate([1.0], 8, usual=[40])


@pytest.mark.parametrize("unit", ["steps", "dense steps"])
def test_a_recorder_stops_what_has_nothing_left(unit, xor_task):
    box = nets.make_toolbox(xor_task, budget=Budget(2000, unit=unit), inherit="none")
    recorder = nets.Recorder(task=xor_task, progress="none")
    population = box.population(n=10)
    with pytest.raises(nets.SearchStopped, match=f"the budget of 2000 {unit} is spent"):
        algorithms.eaMuPlusLambda(
            population, box, 10, 10, 0.4, 0.6, 99, stats=recorder, verbose=False
        )
    column = {"steps": "network_steps", "dense steps": "dense_steps"}[unit]
    assert 1998 < recorder.logbook[-1][column] <= 2000
    assert len(recorder.logbook) > 3


def test_a_search_keeps_its_dense_steps(xor_task):
    before = xor_task.ledger.dense_steps
    found = nets.search(
        xor_task, budget=900, population=6, generations=5, inherit="none", progress="none"
    )
    spent = xor_task.ledger.dense_steps - before
    assert found.logbook[-1]["dense_steps"] == pytest.approx(spent, abs=1e-3)
    assert 899 < spent <= 900 * (1 + 1e-9)


def test_what_a_first_population_by_descent_costs_is_in_the_budget(xor_task):
    box = nets.make_toolbox(xor_task, inherit="weights", budget=Budget(900, generations=5))
    before = xor_task.ledger.dense_steps
    algorithms.eaMuPlusLambda(
        box.population(n=6), box, 6, 6, cxpb=0.4, mutpb=0.6, ngen=5, verbose=False
    )
    assert 899 < xor_task.ledger.dense_steps - before <= 900 * (1 + 1e-9)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"total": 0}, r"total must be in range: expected a finite float in \(0, inf\), got 0"),
        ({"total": 0, "unit": "steps"}, "total must be in range: expected an int >= 1, got 0"),
        ({"generations": -1}, "generations must be in range: expected an int >= 0, got -1"),
        ({"growth": 0}, r"growth must be in range: .* got 0"),
        ({"unit": "flops"}, r"unit must be a known name: .* Did you mean 'dense steps'\?"),
    ],
)
def test_bad_budgets_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        Budget(**{"total": 10, **options})


def test_a_budget_that_does_not_suffice_says_so():
    budget = in_steps(10, 4)
    with pytest.raises(
        ValueError,
        match=r"budget must suffice for each network: expected at least 9 steps for P = 3 in "
        r"generation 0, got 2. Give a larger budget",
    ):
        budget.allocate([1] * 3, 0, least=3)
    with pytest.raises(CallOrderError, match=r"planned for 4 generations .* this is generation 5"):
        budget.allocate([1], 5)


def test_what_generations_cost_between_them_is_kept_back_for_those_to_come():
    budget = nets.Budget(1000, generations=9)
    given = []
    for generation in range(10):
        if generation:
            budget.spend(20)
        given.append(budget.allocate([0.5, 0.5], generation)[0])
    assert budget.spent == pytest.approx(1000)
    # The first generation cannot know of it.
    assert given[0] == 100
    assert max(given[1:]) - min(given[1:]) <= 2
    assert budget.between == 180
    budget.begin(30)
    assert (budget.spent, budget.between) == (30, 0)

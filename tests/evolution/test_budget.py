"""Budgets: kept exactly, shared out as asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nets_deap import StepBudget
from nets_deap.errors import CallOrderError


@given(
    st.integers(200, 10_000),
    st.lists(st.integers(1, 5), min_size=1, max_size=20),
    st.floats(0.3, 4),
)
def test_the_sum_is_kept_exactly_and_networks_of_a_generation_differ_by_a_step(
    total, sizes, growth
):
    budget = StepBudget(total * 5, len(sizes) - 1, growth=growth)
    shares = [budget.allocate(size, generation) for generation, size in enumerate(sizes)]
    assert sum(map(sum, shares)) == budget.spent == total * 5
    assert [len(share) for share in shares] == sizes
    assert all(max(share) - min(share) <= 1 for share in shares)


def test_shares_grow_linearly_from_the_first_generation_to_the_last():
    budget = StepBudget(1000, 3, growth=3)
    assert [sum(budget.allocate(1, g)) for g in range(4)] == [125, 208, 292, 375]
    even = StepBudget(90, 2)
    assert [even.allocate(2, g) for g in range(3)] == [[15, 15]] * 3


def test_what_a_generation_leaves_the_next_one_gets():
    budget = StepBudget(90, 2)
    assert budget.allocate(1, 0) == [30]
    assert budget.allocate(7, 2) == [9, 9, 9, 9, 8, 8, 8]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0, 3), "budget must be in range: expected an int >= 1, got 0"),
        ((10, -1), "generations must be in range: expected an int >= 0, got -1"),
    ],
)
def test_bad_budgets_are_refused(values, text):
    with pytest.raises(ValueError, match=text):
        StepBudget(*values)


def test_bad_growth_is_refused():
    with pytest.raises(ValueError, match=r"growth must be in range: .* got 0"):
        StepBudget(10, 3, growth=0)


def test_a_budget_that_does_not_suffice_says_so():
    budget = StepBudget(10, 4)
    with pytest.raises(
        ValueError,
        match=r"budget must suffice for each network: expected at least 9 steps for P = 3 in "
        r"generation 0, got 2. Give a larger budget",
    ):
        budget.allocate(3, 0, least=3)
    with pytest.raises(CallOrderError, match=r"planned for 4 generations .* this is generation 5"):
        budget.allocate(1, 5)

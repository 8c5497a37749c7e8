"""Selection: what NSGA-II and the roulette select, and that being better never hurts."""

import functools
import math
import random

import numpy as np
import pytest
from deap import tools
from deap.tools import emo
from hypothesis import given, settings
from hypothesis import strategies as st

from nets_deap import Ticket
from nets_deap.evolution.operators import elitist, sel_niched, sel_nsga2, sel_roulette_low
from nets_deap.tickets.fitness import fitness_class


def population(values, weights=None):
    """Return evaluated tickets with these objective values, minimised unless weighted."""
    values = np.asarray(values, dtype=float)
    weights = weights or (-1.0,) * values.shape[1]
    kind = fitness_class(tuple(f"f{i}" for i in range(len(weights))), tuple(weights))
    found = [Ticket([1, 0], fitness=kind()) for _ in values]
    for ticket, row in zip(found, values.tolist(), strict=True):
        ticket.fitness.values = tuple(row)
    return found


def places(chosen, individuals):
    """Return the positions of the very objects that were chosen."""
    position = {id(individual): i for i, individual in enumerate(individuals)}
    return [position[id(individual)] for individual in chosen]


@st.composite
def points(draw, objectives=(1, 2, 3)):
    """Draw points (P, M) with many ties, weights of either sign, and how many to select."""
    m = draw(st.sampled_from(objectives))
    values = draw(st.lists(st.tuples(*[st.integers(0, 6)] * m), min_size=1, max_size=25))
    weights = draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * m))
    return values, weights, draw(st.integers(0, len(values)))


@settings(deadline=None)
@given(m=st.integers(2, 3), n=st.integers(1, 40), seed=st.integers(0, 2**32), data=st.data())
def test_selects_what_deap_selects(m, n, seed, data):
    """Without ties in an objective, crowding distances are those of DEAP."""
    rng, k = np.random.default_rng(seed), data.draw(st.integers(1, n))
    values = np.array([rng.permutation(n) for _ in range(m)]).T
    weights = tuple(rng.choice([-1.0, 1.0], m).tolist())
    ours, theirs = population(values, weights), population(values, weights)
    mine = places(sel_nsga2(ours, k), ours)
    deap = places(tools.selNSGA2(theirs, k), theirs)
    for front in emo.sortNondominated(theirs, n):
        emo.assignCrowdingDist(front)
    crowd = [individual.fitness.crowding_dist for individual in theirs]
    assert len(set(mine)) == k
    for i in mine:
        assert ours[i].fitness.crowding_dist == pytest.approx(crowd[i])
    for i in set(mine) ^ set(deap):  # only ties with the last one selected may differ
        assert crowd[i] == pytest.approx(crowd[deap[-1]])


@settings(deadline=None)
@given(points(objectives=(2, 3)))
def test_takes_as_many_of_each_front_as_deap_with_ties(drawn):
    values, weights, k = drawn
    individuals = population(values, weights)
    fronts = emo.sortNondominated(individuals, len(individuals))
    rank = {id(individual): r for r, front in enumerate(fronts) for individual in front}
    chosen = [rank[id(individual)] for individual in sel_nsga2(individuals, k)]
    assert chosen == sorted(rank.values())[:k]


@settings(deadline=None)
@given(points())
def test_a_strictly_better_ticket_is_never_less_likely_to_survive(drawn):
    values, weights, k = drawn
    individuals = population(values, weights)
    order = places(sel_nsga2(individuals, k), individuals)
    survives = [i in order for i in range(len(individuals))]
    assert sum(survives) == k
    for i, one in enumerate(individuals):
        for j, other in enumerate(individuals):
            if one.fitness.dominates(other.fitness):
                assert survives[i] >= survives[j]
                assert not survives[j] or order.index(i) < order.index(j)


@settings(deadline=None)
@given(points(objectives=(1,)))
def test_one_objective_selects_the_best(drawn):
    values, weights, k = drawn
    individuals = population(values, weights)
    chosen = [individual.fitness.wvalues[0] for individual in sel_nsga2(individuals, k)]
    assert chosen == sorted((i.fitness.wvalues[0] for i in individuals), reverse=True)[:k]


def test_the_least_crowded_of_a_front_come_first():
    values = [[0, 10], [2, 6], [3, 5], [8, 1], [10, 0], [10, 10]]
    individuals = population(values)
    assert places(sel_nsga2(individuals, 6), individuals) == [0, 4, 3, 2, 1, 5]
    assert places(sel_nsga2(individuals, 3), individuals) == [0, 4, 3]
    # Half the sum of what the neighbours leave open of the span, 10: (3 + 5) / 20 and so on.
    distances = [individual.fitness.crowding_dist for individual in individuals[:5]]
    assert distances == pytest.approx([np.inf, 0.4, 0.55, 0.6, np.inf])


def test_none_and_all():
    individuals = population([[1, 2], [2, 1], [3, 3]])
    assert sel_nsga2(individuals, 0) == []
    assert sel_nsga2([], 0) == []
    assert places(sel_nsga2(individuals, 3), individuals) == [0, 1, 2]
    assert places(sel_nsga2(tuple(individuals[::-1]), 3), individuals) == [1, 0, 2]


def test_sets_what_the_crowded_tournament_needs():
    rng = np.random.default_rng(0)
    individuals = population(rng.random((20, 2)))
    chosen = sel_nsga2(individuals, 12)
    assert all(individual.fitness.crowding_dist >= 0 for individual in individuals)
    parents = tools.selTournamentDCD(chosen, 12)
    assert len(parents) == 12
    assert set(places(parents, individuals)) <= set(places(chosen, individuals))


@pytest.mark.parametrize(
    ("k", "text"),
    [
        (3, r"k must be in range: expected an int in \[0, 2\], got 3"),
        (-1, r"k must be in range: expected an int in \[0, 2\], got -1"),
        (1.0, r"k must be a whole number: expected an int in \[0, 2\], got float"),
    ],
)
def test_numbers_that_cannot_be_selected(k, text):
    with pytest.raises((ValueError, TypeError), match=text):
        sel_nsga2(population([[1, 2], [2, 1]]), k)


def test_refuses_what_is_not_evaluated():
    individuals = population([[1, 2], [2, 1]])
    del individuals[1].fitness.values
    with pytest.raises(ValueError, match=r"individuals must be evaluated: .* got one without"):
        sel_nsga2(individuals, 1)


# ---- one objective: a roulette wheel for losses, and elitism


def draws(values, weights=None, k=6000):
    """Return how often the wheel draws each of some individuals, as shares."""
    individuals = population([[value] for value in values], weights)
    chosen = sel_roulette_low(individuals, k, rng=np.random.default_rng(0))
    return np.bincount(places(chosen, individuals), minlength=len(values)) / k


@pytest.mark.parametrize("values", [[0.1, 0.5, 0.9], [-900, -5, -1], [-1, 0, 1], [0.1, 0.2, 1e6]])
def test_the_roulette_turns_towards_low_losses_whatever_their_sign(values):
    assert draws(values) == pytest.approx([3 / 6, 2 / 6, 1 / 6], abs=0.03)
    assert draws(values, (1.0,)) == pytest.approx([1 / 6, 2 / 6, 3 / 6], abs=0.03)


def test_deaps_own_roulette_favours_the_worst_loss():
    individuals = population([[0.1], [0.5], [0.9]])
    chosen = places(tools.selRoulette(individuals, 3000), individuals)
    assert np.bincount(chosen)[2] > 1500


def test_equal_losses_have_equal_shares():
    assert draws([2.0, 2.0, 2.0, 2.0]) == pytest.approx([0.25] * 4, abs=0.03)
    assert draws([1.0, 3.0, 3.0]) == pytest.approx([3 / 6, 1.5 / 6, 1.5 / 6], abs=0.03)


def test_the_roulette_repeats_by_seed_and_draws_nothing_from_nothing():
    individuals = population([[1.0], [2.0], [3.0]])
    random.seed(2)
    first = sel_roulette_low(individuals, 20)
    random.seed(2)
    assert places(sel_roulette_low(individuals, 20), individuals) == places(first, individuals)
    assert sel_roulette_low(individuals, 0) == sel_roulette_low([], 0) == []


def test_what_the_roulette_refuses():
    with pytest.raises(ValueError, match=r"have one objective to be drawn by: expected M = 1"):
        sel_roulette_low(population([[1, 2], [2, 1]]), 1)
    with pytest.raises(ValueError, match="be there to draw from"):
        sel_roulette_low([], 1)
    with pytest.raises(ValueError, match="k must be in range"):
        sel_roulette_low(population([[1]]), -1)


def test_elitism_keeps_the_best_whatever_selects():
    individuals = population([[3], [1], [2], [5], [4]])
    worst = functools.partial(tools.selWorst)
    assert places(elitist(worst, 2)(individuals, 4), individuals) == [1, 2, 3, 4]
    assert places(elitist(worst, 9)(individuals, 3), individuals) == [1, 2, 0]
    assert places(elitist(worst, 0)(individuals, 2), individuals) == [3, 4]
    assert elitist(worst, 1)([], 0) == []
    best = population([[3, 9], [1, 5], [1, 2]], (1.0, -1.0))
    assert places(elitist(worst, 3)(best, 3), best) == [0, 2, 1]


def test_no_individual_is_kept_twice_as_the_best():
    one, two = population([[1], [2]])
    assert elitist(tools.selBest, 2)([one, one, two], 2) == [one, two]
    assert elitist(tools.selBest, 2)([one, one, two], 2)[1] is two


def test_what_elitism_refuses():
    with pytest.raises(ValueError, match="n must be in range"):
        elitist(tools.selBest, -1)
    with pytest.raises(ValueError, match="k must be in range"):
        elitist(tools.selBest)(population([[1]]), -1)


# ---- survivors spread over density


def of(density, loss):
    ticket = Ticket(np.arange(1000) < round(1000 * density))
    ticket.fitness = fitness_class(("loss", "size"), (-1.0, -1.0))()
    ticket.fitness.values = (loss, density)
    return ticket


def test_each_niche_of_log_density_sends_its_best_before_any_sends_a_second():
    crowd = [of(0.9 + i / 1000, 0.1 + i / 100) for i in range(10)]
    sparse, worse, middle = of(0.01, 5.0), of(0.011, 6.0), of(0.1, 3.0)
    chosen = sel_niched([*crowd, worse, sparse, middle], 4)
    # Four niches between 0.909 and 0.01; one of them is empty.
    assert [round(t.density, 3) for t in chosen[:3]] == [0.9, 0.1, 0.01]
    assert chosen[2] is sparse
    assert chosen[3] is crowd[1]


@given(st.lists(st.tuples(st.floats(0.001, 1), st.floats(0, 9)), min_size=1), st.data())
def test_the_best_of_all_always_survives_and_nobody_twice(points, data):
    tickets = [of(max(d, 0.001), loss) for d, loss in points]
    k = data.draw(st.integers(1, len(tickets)))
    chosen = sel_niched(tickets, k)
    assert len({id(t) for t in chosen}) == k
    best = min(t.fitness.values[0] for t in tickets)
    assert best in [t.fitness.values[0] for t in chosen]
    assert sel_niched(tickets, 0) == []


def test_niched_selection_of_equal_densities_is_by_objective():
    tickets = [of(0.5, loss) for loss in (3.0, 1.0, 2.0)]
    assert [t.fitness.values[0] for t in sel_niched(tickets, 2)] == [1.0, 2.0]
    with pytest.raises(ValueError, match="objective must be in range"):
        sel_niched(tickets, 1, objective=2)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("select", "weights"),
    [
        (sel_nsga2, (-1.0,)),
        (sel_nsga2, (-1.0, 1.0)),
        (sel_nsga2, (1.0, -1.0, 1.0)),
        (sel_niched, (1.0, -1.0)),
        (tools.selNSGA2, (-1.0, 1.0)),
        (tools.selBest, (1.0, -1.0)),
    ],
)
def test_who_is_not_finite_survives_only_where_nobody_else_is_left(select, weights, bad):
    rng = np.random.default_rng(0)
    for _ in range(10):
        values = rng.random((21, len(weights)))
        values[:5] = 9 * np.array(weights)  # else the best of all
        values[np.arange(5), rng.integers(len(weights), size=5)] = bad
        individuals = population(values, weights)
        order = rng.permutation(21)
        chosen = places(select([individuals[i] for i in order], 16), individuals)
        assert sorted(chosen) == list(range(5, 21))
    assert len(select(individuals, 20)) == 20


def test_roulette_and_elitism_put_the_not_finite_last():
    individuals = population([[math.nan], [0.5], [-math.inf], [0.25], [math.inf]])
    drawn = sel_roulette_low(individuals, 4000, rng=np.random.default_rng(0))
    counts = np.bincount(places(drawn, individuals), minlength=5) / 4000
    np.testing.assert_allclose(counts, np.array([2, 4, 2, 5, 2]) / 15, atol=0.03)
    assert places(elitist(sel_roulette_low, 2)(individuals, 2), individuals) == [3, 1]

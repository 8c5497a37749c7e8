"""Fronts against brute force and against DEAP's own."""

import itertools
import math
import pickle

import numpy as np
import pytest
from deap import tools
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nets_deap.errors import InvalidValueError, NetsError
from nets_deap.evolution import archives, fronts
from nets_deap.evolution.archives import NicheArchive
from nets_deap.tickets.fitness import fitness_class
from nets_deap.tickets.ticket import Ticket

unhurried = settings(deadline=None)


def evaluated(bits, values, weights=None, names=()):
    """Return a ticket of ``bits`` with fitness ``values``, minimised unless told."""
    ticket = Ticket(bits, fitness=fitness_class(tuple(names), weights or (-1.0,) * len(values))())
    ticket.fitness.values = values
    return ticket


@st.composite
def costs(draw, low_m=1, high_m=3):
    """Draw up to 12 points (P, M) on a small grid, so that ties and duplicates are common."""
    m = draw(st.integers(low_m, high_m))
    rows = draw(st.lists(st.tuples(*[st.integers(0, 4)] * m), min_size=1, max_size=12))
    return np.array(rows, dtype=np.float64)


@st.composite
def generations(draw):
    """Draw three populations of two-bit tickets, so that genomes and fitnesses are often equal."""
    weights = draw(st.lists(st.sampled_from((-1.0, 1.0, 2.0)), min_size=1, max_size=3))
    one = st.builds(
        lambda genes, values: evaluated(genes, values, tuple(weights)),
        st.tuples(st.booleans(), st.booleans()),
        st.tuples(*[st.integers(-2, 2)] * len(weights)),
    )
    return draw(st.lists(st.lists(one, max_size=8), min_size=3, max_size=3))


def dominates(one, other):
    return np.all(one <= other) and np.any(one < other)


def ranks_by_peeling(points):
    """Rank points by taking off one front after another."""
    rank, left = np.full(len(points), -1), set(range(len(points)))
    for level in itertools.count():
        if not left:
            return rank
        front = {i for i in left if not any(dominates(points[j], points[i]) for j in left)}
        rank[list(front)] = level
        left -= front


def members(front):
    """Return what a front holds, in an order that does not depend on ties."""
    return sorted((ticket.fitness.wvalues, tuple(ticket)) for ticket in front)


# ---- costs, ranks, crowding


def test_costs_turn_every_objective_to_smaller_is_better():
    tickets = [evaluated([1], (3.0, 4.0), (1.0, -1.0)), evaluated([0], (1.0, 2.0), (1.0, -1.0))]
    assert fronts.costs_of(tickets).tolist() == [[-3, 4], [-1, 2]]
    assert fronts.costs_of([]).shape == (0, 0)


@pytest.mark.parametrize("fitness", [None, fitness_class(("a",), (1.0,))()])
def test_costs_need_a_valid_fitness(fitness):
    tickets = [evaluated([1], (3.0,)), Ticket([1], fitness=fitness)]
    with pytest.raises(InvalidValueError, match=r"individuals must be evaluated.*Evaluate first"):
        fronts.costs_of(tickets)


@unhurried
@given(costs())
def test_ranks_agree_with_peeling(points):
    assert fronts.ranks(points).tolist() == ranks_by_peeling(points).tolist()


NUMBERS = (0.0, 1.0, 2.0, -1.0, 1e308, -1e308, math.inf, -math.inf)


@st.composite
def wild(draw, numbers=NUMBERS):
    """Draw up to 8 points (P, M) with infinite numbers, some twice; of one objective to five."""
    m = draw(st.integers(1, 5))
    rows = draw(st.lists(st.tuples(*[st.sampled_from(numbers)] * m), max_size=8))
    return np.array(rows + rows[: draw(st.integers(0, 3))], dtype=np.float64).reshape(-1, m)


@unhurried
@given(wild())
@example(np.array([[math.inf, 2, 3], [math.inf, 3, 2]]))
def test_infinite_numbers_stand_in_their_place(points):
    expected = ranks_by_peeling(points)
    assert fronts.ranks(points.tolist() if points.size else points).tolist() == expected.tolist()
    assert fronts.nondominated(points).tolist() == (expected == 0).tolist()
    finite = np.isfinite(points).all(axis=1)
    crowd = fronts.crowding(points)
    assert not np.isnan(crowd).any()
    assert not crowd[~finite].any()
    assert crowd[finite].tolist() == fronts.crowding(points[finite]).tolist()


@unhurried
@given(wild((*NUMBERS[:4], math.inf, math.nan)))
def test_nan_is_the_worst_of_its_column(points):
    worse = np.where(np.isnan(points), 9e9, np.where(np.isinf(points), 8e9, points))
    assert fronts.ranks(points).tolist() == ranks_by_peeling(worse).tolist()
    assert fronts.nondominated(points).tolist() == (ranks_by_peeling(worse) == 0).tolist()


def test_no_points_have_no_ranks_and_no_crowding():
    for shape in ((0, 0), (0, 2)):
        assert fronts.ranks(np.zeros(shape)).shape == (0,)
        assert fronts.crowding(np.zeros(shape)).shape == (0,)


@unhurried
@given(st.integers(1, 9), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_crowding_is_what_deap_assigns(n, m, seed):
    points = np.random.default_rng(seed).random((n, m))
    tickets = [evaluated([1], tuple(row)) for row in points]
    tools.emo.assignCrowdingDist(tickets)
    expected = [ticket.fitness.crowding_dist for ticket in tickets]
    np.testing.assert_allclose(fronts.crowding(points), expected, rtol=1e-12)


def test_crowding_of_equal_points_is_finite_but_at_the_ends():
    distance = fronts.crowding(np.ones((4, 2)))
    assert sorted(distance) == [0, 0, math.inf, math.inf]


# ---- hypervolume


@unhurried
@given(costs(), st.integers(1, 5))
@example(np.array([[4.0, 0.0], [0.0, 4.0], [4.0, 0.0]]), 4)
def test_hypervolume_counts_the_dominated_cells(points, reference):
    m = points.shape[1]
    cells = itertools.product(range(reference), repeat=m)
    volume = sum(bool(np.all(points <= cell, axis=1).any()) for cell in cells)
    assert fronts.hypervolume(points, [reference] * m) == pytest.approx(volume)
    assert fronts.hypervolume(points[::-1] / 8 - 1, [reference / 8 - 1] * m) == pytest.approx(
        volume / 8**m
    )


def test_hypervolume_of_unlike_sides():
    assert fronts.hypervolume([[0.0, 0.0, 0.0]], (1, 2, 3)) == pytest.approx(6)
    assert fronts.hypervolume([[1, 4], [2, 3]], [3, 6]) == pytest.approx(5)


@pytest.mark.parametrize("points", [[], np.zeros((0, 2)), [[2, 0], [0, 3]], [[9, 9]]])
def test_hypervolume_is_zero_where_nothing_is_better_than_the_reference(points):
    assert fronts.hypervolume(points, (2, 2)) == 0.0


@pytest.mark.parametrize(
    ("points", "reference"), [([[1, 2]], (3,)), ([[1]], 3), ([1, 2], (3, 3)), ([[1, 2]], [[3, 3]])]
)
def test_hypervolume_needs_shapes_that_match(points, reference):
    with pytest.raises(InvalidValueError, match=r"reference must match the points: .*costs \(F, M"):
        fronts.hypervolume(points, reference)


@unhurried
@given(wild((0.0, 1.0, 2.0, math.inf, -math.inf)))
@example(np.array([[-math.inf, 2.0, 1.0], [1.0, 3.0, 1.0]]))
@example(np.array([[1.0, 2.0, 1.0, 1.0], [-math.inf, 2.0, 1.0, 1.0]]))
def test_hypervolume_of_infinite_points(points):
    m = points.shape[1]
    better = points[(points < 3).all(axis=1)]
    if np.isinf(better).any():
        expected = math.inf
    else:
        cells = itertools.product(range(3), repeat=m)
        expected = sum(bool((better <= cell).all(axis=1).any()) for cell in cells)
    assert fronts.hypervolume(points, [3.0] * m) == pytest.approx(expected)


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5])
def test_hypervolume_refuses_nan_and_what_is_no_number(m):
    points = np.ones((3, m))
    points[1, m // 2] = math.nan
    with pytest.raises(InvalidValueError, match="costs must hold numbers: expected no NaN, got 1"):
        fronts.hypervolume(points, [4.0] * m)
    with pytest.raises(InvalidValueError, match="reference must hold numbers: expected no NaN"):
        fronts.hypervolume(np.ones((3, m)), [math.nan] * m)
    with pytest.raises(NetsError, match="costs must be an array: expected numbers, got list"):
        fronts.hypervolume([["a"] * m], [4.0] * m)


def test_hypervolume_up_to_an_infinite_reference():
    assert fronts.hypervolume([[1.0, 2.0]], [math.inf, 3.0]) == math.inf
    assert fronts.hypervolume([[1.0, 4.0]], [math.inf, 3.0]) == 0.0
    assert fronts.hypervolume([[1.0, 2.0]], [-math.inf, 3.0]) == 0.0


def test_attainment_with_infinite_points():
    inf = math.inf
    given = [[[1, inf], [2, 1]], [[1, 3], [-inf, 5], [1, 3]]]
    every, some = fronts.attainment(given, [100, 50])
    assert sorted(every.tolist()) == [[2, 3]]
    assert sorted(some.tolist()) == [[-inf, 5], [1, 3], [2, 1]]
    every, some = fronts.attainment([[[inf, 1, 1]], [[2, 2, 2]]], [100, 50])
    assert every.tolist() == []
    assert some.tolist() == [[2, 2, 2]]


@pytest.mark.parametrize("given", [[], [[1, 2]], [[[1]]], [[[1] * 4]], [[[1, 2]], [[1, 2, 3]]]])
def test_attainment_of_what_has_no_surface_is_refused(given):
    with pytest.raises(InvalidValueError, match=r"fronts must hold points.* one M = 2 or 3"):
        fronts.attainment(given, [50])
    with pytest.raises(InvalidValueError, match="no NaN"):
        fronts.attainment([[[1, math.nan]]], [50])


# ---- values that are not finite


def lost_and_found(weights, lost):
    """Return individuals of random finite values, and others with one that is not."""
    rng = np.random.default_rng(len(lost))
    found = [evaluated([1, 0], tuple(row), weights) for row in rng.random((7, len(weights)))]
    others = []
    for i, value in enumerate(lost):
        row = np.full(len(weights), -9.0) * weights  # better than all others
        row[i % len(weights)] = value
        others.append(evaluated([1, 1], tuple(row), weights))
    return found, others


@pytest.mark.parametrize("weights", [(-1.0,), (1.0, -1.0), (1.0, 1.0, -1.0)])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_who_is_not_finite_is_worse_than_who_is(weights, value):
    found, lost = lost_and_found(weights, [value] * 5)
    mixed = [*lost[:2], *found, *lost[2:]]
    for archive in (archives.ParetoFront(), tools.ParetoFront(), tools.HallOfFame(1)):
        archive.update(mixed)
        alone = type(archive)(1) if type(archive) is tools.HallOfFame else type(archive)()
        alone.update(found)
        assert members(archive) == members(alone)
    assert fronts.knee(mixed) is fronts.knee(found)
    for objective in range(len(weights)):
        assert fronts.best(mixed, objective=objective) is fronts.best(found, objective=objective)
    archive = archives.ParetoFront()
    archive.update(lost)
    assert not len(archive)
    for pick in (fronts.knee, fronts.best):
        with pytest.raises(InvalidValueError, match="one with finite values, got 5 without"):
            pick(lost)


def test_the_greatest_numbers_do_not_overflow():
    most = np.finfo(float).max
    front = [evaluated([1], v) for v in ((most, -most), (1.0, 1.0), (-most, most))]
    assert fronts.knee(front) is front[0]  # all lie on one line
    assert fronts.crowding(fronts.costs_of(front)).tolist() == [math.inf, 1.0, math.inf]


def test_costs_need_the_same_objectives():
    with pytest.raises(
        InvalidValueError, match=r"the same objectives: expected one M, got \[1, 2\]"
    ):
        fronts.costs_of([evaluated([1], (1.0, 2.0)), evaluated([1], (1.0,))])


# ---- the archive


@unhurried
@given(generations())
def test_the_archive_holds_what_deaps_holds(generations):
    ours, stock = archives.ParetoFront(), tools.ParetoFront()
    for population in generations:
        ours.update(population)
        stock.update(population)
        assert members(ours) == members(stock)
        values = [ticket.fitness.wvalues for ticket in ours]
        assert values == [ticket.fitness.wvalues for ticket in stock]
        assert [key.wvalues for key in ours.keys] == values[::-1]


def test_the_archive_keeps_copies_and_its_own_members():
    front = archives.ParetoFront()
    front.update([])
    ticket = evaluated([1, 0], (1.0, 2.0))
    front.update([ticket])
    kept = front[0]
    ticket[0] = 0
    del ticket.fitness.values
    front.update(iter([evaluated([1, 0], (1.0, 2.0)), evaluated([1, 1], (2.0, 1.0))]))
    front.update([])
    assert front[0] is kept
    assert [list(member) for member in front] == [[1, 0], [1, 1]]


@pytest.mark.parametrize(("alike", "n_kept"), [(True, 1), (False, 3)])
def test_similar_decides_which_equals_are_kept(alike, n_kept):
    one, other = evaluated([1, 0], (1.0, 2.0)), evaluated([0, 1], (1.0, 2.0))
    front = archives.ParetoFront(lambda a, b: alike)
    front.update([one, other, one])
    assert len(front) == n_kept
    assert front[0] == one


def test_the_archive_still_does_what_deaps_base_class_offers():
    front = archives.ParetoFront()
    front.update([evaluated([1, 0], (1.0, 2.0)), evaluated([0, 1], (2.0, 1.0))])
    back = pickle.loads(pickle.dumps(front))
    assert members(back) == members(front)
    front.insert(evaluated([1, 1], (1.5, 1.5)))
    assert [ticket.fitness.values[0] for ticket in front] == [1.0, 1.5, 2.0]
    front.remove(0)
    assert [key.values[0] for key in front.keys] == [2.0, 1.5]
    front.clear()
    front.update([evaluated([0, 0], (9.0, 9.0))])
    assert len(front) == 1


def test_the_archive_refuses_what_is_not_evaluated_and_stays_as_it_is():
    front = archives.ParetoFront()
    front.update([evaluated([1], (1.0, 2.0))])
    with pytest.raises(InvalidValueError, match="individuals must be evaluated"):
        front.update([evaluated([1], (0.0, 0.0)), Ticket([1])])
    assert [ticket.fitness.values for ticket in front] == [(1.0, 2.0)]


# ---- picks


def test_the_knee_does_not_depend_on_units_or_directions():
    values = [(0.0, 1.0), (0.2, 0.65), (0.45, 0.45), (1.0, 0.0)]  # the third is nearer to (0, 0)
    for scale, weight in ((1, -1.0), (1000, -1.0), (-1, 1.0)):
        front = [evaluated([1], (scale * a + 5, b / 100), (weight, -1.0)) for a, b in values]
        assert fronts.knee(front) is front[1]


@pytest.mark.parametrize(
    ("values", "at"),
    [
        ([(3, 3, 4), (3, 4, 3), (4, 3, 3), (3.5, 3.5, 3.5)], 3),
        ([(2.0,), (1.0,), (3.0,)], 1),
        ([(3.0, 4.0)], 0),
    ],
)
def test_the_knee_of_three_objectives_of_one_and_of_one_member(values, at):
    front = [evaluated([1], value) for value in values]
    assert fronts.knee(front) is front[at]


def test_best_picks_by_objective_and_density():
    names, weights = ("accuracy", "density"), (1.0, -1.0)
    dense = evaluated([1, 1, 1, 1], (0.9, 1.0), weights, names)
    half = evaluated([1, 1, 0, 0], (0.8, 0.5), weights, names)
    sparse = evaluated([1, 0, 0, 0], (0.8, 0.25), weights, names)
    front = [dense, half, sparse]
    assert fronts.best(front) is dense
    assert fronts.best(front, max_density=0.5) is sparse  # as accurate as half, and sparser
    assert fronts.best(front, max_density=0.25) is sparse
    assert fronts.best(front, objective="density") is fronts.best(front, objective=1) is sparse


def test_picks_of_nothing_or_of_what_is_not_there_are_refused():
    front = [evaluated([1, 1, 0, 0], (0.8, 0.5), names=("loss", "density"))]
    for pick in (fronts.knee, fronts.best):
        with pytest.raises(InvalidValueError, match=r"front must have members: .*Update it with"):
            pick(archives.ParetoFront())
        with pytest.raises(InvalidValueError, match="individuals must be evaluated"):
            pick([Ticket([1])])
    cases = [
        (r"met by the front: expected at least 0\.5, got 0\.4", {"max_density": 0.4}),
        (r"max_density must be a density", {"max_density": 0}),
        (r"objective .*Did you mean 'density'", {"objective": "densty"}),
        (r"objective must .*an int in \[0, 1\], got 2", {"objective": 2}),
        (r"objective must be a whole number", {"objective": None}),
    ]
    for text, options in cases:
        with pytest.raises(NetsError, match=text):
            fronts.best(front, **options)


# ---- the archive of niches


def placed(density, loss):
    """Return an evaluated ticket of 1,000 bits."""
    ticket = Ticket(np.arange(1000) < round(1000 * density))
    ticket.fitness = fitness_class(("val_loss", "size"), (-1.0, -1.0))()
    ticket.fitness.values = (loss, 5000 * density)
    return ticket


def test_niches_keep_the_best_of_about_equal_density_whatever_dominates_it():
    archive = NicheArchive(width=2.0)
    archive.update([placed(0.9, 0.5), placed(0.3, 0.2), placed(0.4, 0.3)])
    archive.update([placed(0.8, 0.4), placed(0.02, 0.1), placed(0.35, 0.25)])
    # 0.02 is better than all of them in both objectives, and yet each niche keeps its best.
    assert [(t.density, t.fitness.values[0]) for t in archive] == [
        (0.8, 0.4),
        (0.3, 0.2),
        (0.02, 0.1),
    ]
    assert archive[0].fitness is archive.keys[-1]


def test_niches_hold_copies_and_keep_the_first_of_equals():
    archive, first = NicheArchive(), placed(0.5, 0.3)
    archive.update([first])
    held = archive[0]
    first[0] = not first[0]
    archive.update([placed(0.5, 0.3)])
    assert archive[0] is held
    assert held.kept == 500
    archive.clear()
    assert len(archive) == 0


def test_niches_may_spread_over_an_objective():
    archive = NicheArchive(width=10.0, by="size")
    archive.update([placed(0.5, 0.3), placed(0.9, 0.2), placed(0.1, 0.9)])
    assert [t.fitness.values[0] for t in archive] == [0.2, 0.9]
    with pytest.raises(InvalidValueError, match=r"by must be a known name: .*'val_loss', 'size'"):
        NicheArchive(by="sizes").update([placed(0.5, 0.3)])


def test_niches_refuse_what_is_not_evaluated_and_widths_that_are_none():
    with pytest.raises(InvalidValueError, match="individuals must be evaluated"):
        NicheArchive().update([Ticket([1, 0])])
    with pytest.raises(InvalidValueError, match=r"width must be in range"):
        NicheArchive(width=1.0)


def test_niches_go_by_the_first_objective_that_they_are_not_over():
    def of(density, loss):
        ticket = Ticket(np.arange(1000) < round(1000 * density))
        ticket.fitness = fitness_class(("density", "val_loss"), (-1.0, -1.0))()
        ticket.fitness.values = (density, loss)
        return ticket

    archive = NicheArchive(width=2.0)
    archive.update([of(0.3, 5.0), of(0.31, 0.1)])
    assert [t.fitness.values[1] for t in archive] == [0.1]


def test_diverged_tickets_never_hold_a_niche():
    lost = placed(0.5, 1e6)
    lost.note_training(None)
    archive = NicheArchive()
    archive.update([lost, placed(0.1, 0.2)])
    assert [t.density for t in archive] == [0.1]


def test_a_ticket_evaluated_again_replaces_its_luckier_self():
    archive, ticket = archives.ParetoFront(), placed(0.5, 0.1)
    archive.update([ticket, placed(0.2, 0.4)])
    ticket.fitness.values = (0.3, 2500.0)
    ticket.note_evaluations(2)
    archive.update([ticket])
    assert sorted(t.fitness.values[0] for t in archive) == [0.3, 0.4]


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_tickets_without_finite_values_never_hold_a_niche(loss):
    for values in ((loss, 2500.0), (0.1, loss)):
        lost = placed(0.5, 0.1)
        lost.fitness.values = values
        archive = NicheArchive(by="size")
        archive.update([lost, placed(0.1, 0.2)])
        assert [t.density for t in archive] == [0.1]

"""The numbers of a summary against numbers computed by hand."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nets_deap.experiments.methods import METHODS
from nets_deap.experiments.summarise import summarise
from nets_deap.experiments.summary import SHARES


def row(method, seed, density, accuracy, adds=None, *, steps=0, dense=0.0, seconds=0.0):
    return {
        "seed": seed,
        "method": method,
        "density": density,
        "multiply_adds": adds,
        "test_accuracy": accuracy,
        "val_accuracy": accuracy,
        "search_steps": steps,
        "search_dense_steps": dense,
        "search_seconds": seconds,
        "final_steps": 1234,
    }


def dense(seeds, adds=None):
    return [row("dense", seed, 1.0, 0.97 + 0.01 * seed, adds) for seed in seeds]


def pairs(ours, theirs, baseline="erk"):
    """Two levels, 0.2 and 0.1, of which the second is 0.02 below the first."""
    return [
        row(name, seed, level, accuracy - (0.02 if level == 0.1 else 0.0))
        for name, accuracies in (("evolution", ours), (baseline, theirs))
        for seed, accuracy in enumerate(accuracies)
        for level in (0.2, 0.1)
    ]


def by_name(summary):
    return {one.name: one for one in summary.methods}


def staircase(points):
    """The area below 0 and left of 20 that points (error, log10 size) dominate, cell by cell."""
    inside = [(x, y) for x, y in points if x < 20 and y < 0]
    xs = sorted({x for x, _ in inside} | {20.0})
    ys = sorted({y for _, y in inside} | {0.0})
    return sum(
        (x1 - x0) * (y1 - y0)
        for x0, x1 in itertools.pairwise(xs)
        for y0, y1 in itertools.pairwise(ys)
        if any(x <= x0 and y <= y0 for x, y in inside)
    )


def test_accuracies_are_read_off_at_the_levels_on_a_log_axis():
    rows = [row("erk", 0, 0.4, 0.9), row("erk", 0, 0.1, 0.8), *dense([0])]
    one = by_name(summarise(rows, (0.5, 0.4, 0.2, 0.1)))["erk"]
    assert one.accuracy == pytest.approx(np.array([[0.9, 0.9, 0.85, 0.8]]))
    assert one.overall == pytest.approx([(0.9 + 0.9 + 0.85 + 0.8) / 4])
    assert one.seeds == (0,)


def test_a_level_below_the_front_is_nan_in_every_mean_over_it():
    rows = [row("erk", 0, 0.4, 0.9), row("erk", 0, 0.1, 0.8), row("erk", 1, 0.05, 0.7)]
    summary = summarise([*rows, *dense([0, 1])], (0.2, 0.05))
    one = by_name(summary)["erk"]
    assert np.isnan(one.accuracy).tolist() == [[False, True], [False, False]]
    assert np.isnan(one.overall).tolist() == [True, False]
    cells = next(line for line in summary.text().splitlines() if line.startswith("erk")).split()
    # The level at 0.2 has a number, that at 0.05 and the mean have none.
    assert cells[1] == "77.50"
    assert cells.count("-") == 2


@pytest.mark.parametrize(("density", "reached"), [(0.1008, True), (0.0992, True), (0.102, False)])
def test_a_hair_beside_a_level_is_on_it(density, reached):
    one = by_name(summarise([row("erk", 0, density, 0.8), *dense([0])], (0.1,)))["erk"]
    assert np.isfinite(one.accuracy).all() == reached


def test_snapped_densities_count_in_the_hypervolume():
    rows = [row("erk", 0, 0.1008, 0.9), *dense([0])]
    # 10 % of error left of 20 %, one decade below density 1.
    assert by_name(summarise(rows, (0.1,)))["erk"].hypervolume == pytest.approx([10.0])


def test_the_hypervolume_of_a_staircase():
    rows = [row("erk", 0, 0.1, 0.98), row("erk", 0, 0.01, 0.90), row("erk", 0, 0.001, 0.7)]
    # Errors 2, 10 and 30; the last is beyond 20, so it counts nothing.
    hand = (10 - 2) * 1 + (20 - 10) * 2
    one = by_name(summarise([*rows, *dense([0])], (0.1, 0.01, 0.001)))["erk"]
    assert one.hypervolume == pytest.approx([hand])


def test_the_hypervolume_of_a_hard_task_reaches_to_twice_the_dense_error():
    rows = [row("erk", 0, 0.1, 0.7), {**row("dense", 0, 1.0, 0.8)}]
    summary = summarise(rows, (0.1,))
    assert summary.reference_error == pytest.approx(0.4)
    assert by_name(summary)["erk"].hypervolume == pytest.approx([10.0])  # 30 of 40 %, one decade
    assert "up to an error of 40 %" in summary.text()


def test_the_text_fits_a_terminal():
    levels = tuple(0.5**k for k in range(10))
    rows = [row(name, seed, d, 0.9) for name in ("erk", "snip") for seed in (0, 1) for d in levels]
    text = summarise([*rows, *dense([0, 1])], levels).text()
    assert max(map(len, text.splitlines())) <= 100
    heads = [line.split()[1::2] for line in text.splitlines() if line.startswith("method ")]
    assert [float(one) for head in heads[:-1] for one in head if one[0].isdigit()] == [
        pytest.approx(100 * level, abs=0.006) for level in levels
    ]


def test_more_members_do_not_make_a_larger_hypervolume():
    few = [row("erk", 0, d, a) for d, a in ((0.1, 0.9), (0.01, 0.8))]
    # Between the levels, above the line through them: lucky, but not on a level.
    more = [*[{**r, "method": "snip"} for r in few], row("snip", 0, 0.05, 0.99)]
    found = by_name(summarise([*few, *more, *dense([0])], (0.1, 0.01)))
    assert found["snip"].hypervolume == pytest.approx(found["erk"].hypervolume)


FRONT = st.lists(st.tuples(st.floats(0.7, 1), st.floats(0.001, 1)), min_size=1, max_size=6)


@given(FRONT)
def test_the_hypervolume_is_what_brute_force_counts(front):
    rows = [row("erk", 0, size, accuracy, None) for accuracy, size in front]
    levels = tuple(sorted({size for _, size in front}, reverse=True))
    one = by_name(summarise(rows, levels))["erk"]
    costs = [
        (100 * (1 - accuracy), math.log10(size))
        for accuracy, size in zip(one.accuracy[0], levels, strict=True)
    ]
    assert one.hypervolume[0] == pytest.approx(staircase(costs), abs=1e-9)


def test_accuracy_at_shares_of_the_dense_multiply_adds():
    rows = [
        row("erk", 0, 0.2, 0.98, 3600),  # 0.45 of the dense network's
        row("erk", 0, 0.1, 0.94, 900),  # 0.1125
        row("erk", 0, 0.05, 0.90, 400),  # 0.05
        *dense([0], adds=8000),
    ]
    assert SHARES == (0.225, 0.075)
    one = by_name(summarise(rows, (0.2, 0.1)))["erk"]
    # Both shares are geometric means of their neighbours.
    assert one.adds_accuracy == pytest.approx(np.array([[0.96, 0.92]]))
    # The area at the shares 0.8^k: from 1 on the densest member serves, from 0.05 on none.
    grid = [0.8**k for k in range(14)]
    logs, heights = np.log([0.05, 0.1125, 0.45]), [90, 94, 98]
    errors = [100 - np.interp(np.log(share), logs, heights) for share in grid]
    points = [(error, math.log10(share)) for error, share in zip(errors, grid, strict=True)]
    assert one.adds_hypervolume == pytest.approx([staircase(points)])


def test_a_share_that_is_not_reached_is_nan_and_a_disconnected_network_needs_one():
    rows = [row("erk", 0, 0.2, 0.9, 800), row("snip", 0, 0.2, 0.85, 0), *dense([0], adds=8000)]
    found = by_name(summarise(rows, (0.2,)))
    assert np.isnan(found["erk"].adds_accuracy).tolist() == [[False, True]]
    # On the grid of shares 0.8^k the last that is reached, and its end.
    assert found["erk"].adds_hypervolume == pytest.approx([10 * -math.log10(0.8**10)])
    assert found["snip"].adds_hypervolume == pytest.approx([5 * -math.log10(0.8**20)])


def test_costs_are_means_over_seeds_and_dense_is_listed():
    rows = [row("imp", s, 0.1, 0.9, steps=100 + s, dense=40.0 + s, seconds=1.0 + s) for s in (0, 1)]
    summary = summarise([*rows, *dense([0, 1])], (0.1,))
    one = summary.methods[0]
    assert (one.search_steps, one.search_dense_steps, one.search_seconds) == (100.5, 40.5, 1.5)
    head, line = (one.split() for one in summary.text().split("\n\n")[3].splitlines()[1:])
    assert (head[-4:], line[-3:]) == (["steps", "dense", "steps", "seconds"], ["100", "40", "1.5"])
    assert summary.as_dict()["methods"]["imp"]["search_dense_steps"] == 40.5
    assert summary.dense == pytest.approx([0.97, 0.98])
    assert summary.final_steps == 1234


def test_rows_of_before_do_not_say_what_they_cost_in_multiply_adds():
    old = [row("imp", 0, 0.1, 0.9, steps=100), *dense([0])]
    for one in old:
        del one["search_dense_steps"]
    summary = summarise(old, (0.1,))
    line = next(line for line in reversed(summary.text().splitlines()) if line.startswith("imp"))
    assert line.split()[-3:] == ["100", "-", "0.0"]
    assert summary.as_dict()["methods"]["imp"]["search_dense_steps"] is None


def test_methods_stand_in_the_order_of_the_table_of_methods():
    rows = [row(name, 0, 0.1, 0.9) for name in ("random", "imp", "evolution")]
    assert [m.name for m in summarise(rows, (0.1,)).methods] == ["evolution", "imp", "random"]


# ---- tests


def test_wilcoxon_of_five_wins():
    theirs = [0.90, 0.91, 0.92, 0.93, 0.94]
    gains = [0.01, 0.02, 0.03, 0.04, 0.05]
    ours = [a + g for a, g in zip(theirs, gains, strict=True)]
    (test,) = summarise([*pairs(ours, theirs), *dense(range(5))], (0.2, 0.1)).tests
    assert test.baseline == "erk"
    assert test.difference == pytest.approx(0.03)
    assert 0.01 < test.low < 0.03 < test.high < 0.05
    assert (test.accuracy.wins, test.accuracy.n) == (5, 5)
    assert test.accuracy.p_value == pytest.approx(1 / 32)
    assert (test.hypervolume.wins, test.hypervolume.p_value) == (5, pytest.approx(1 / 32))


def test_wilcoxon_pairs_by_seed_and_is_one_sided():
    theirs = [0.90, 0.91, 0.92, 0.93, 0.94]
    gains = [-0.01, 0.02, 0.03, 0.04, 0.05]  # the loss has the least rank
    ours = [a + g for a, g in zip(theirs, gains, strict=True)]
    rows = [*pairs(ours, theirs), *dense(range(5))]
    (test,) = summarise(rows, (0.2, 0.1)).tests
    assert (test.accuracy.wins, test.accuracy.losses) == (4, 1)
    assert test.accuracy.statistic == 2 + 3 + 4 + 5
    assert test.accuracy.p_value == pytest.approx(2 / 32)
    (turned,) = summarise([*pairs(theirs, ours), *dense(range(5))], (0.2, 0.1)).tests
    assert turned.accuracy.p_value == pytest.approx(31 / 32)
    assert turned.difference == pytest.approx(-test.difference)


def test_evolution_is_tested_on_the_levels_that_both_reach_with_the_same_seeds():
    rows = [
        *pairs([0.9, 0.94], [0.8, 0.85]),
        *[row("snip", seed, 0.2, 0.91) for seed in (0, 1)],  # does not reach 0.1
        *[row("random", seed, 0.2 if seed else 0.1, 0.5) for seed in (0, 1)],  # one seed does
        row("grasp", 0, 0.1, 0.9),  # misses a seed
        *dense([0, 1]),
    ]
    summary = summarise(rows, (0.2, 0.1))
    tests = {test.baseline: test for test in summary.tests}
    assert {name: test.levels for name, test in tests.items()} == {"snip": 1, "random": 1, "erk": 2}
    snip = tests["snip"]
    assert snip.difference == pytest.approx(0.01)  # 0.90 and 0.94 beside 0.91 at 0.2 alone
    assert (snip.accuracy.wins, snip.accuracy.losses) == (1, 1)
    # The hypervolumes, too, are those of that level: at 0.1 snip would have none.
    assert (snip.hypervolume.wins, snip.hypervolume.losses) == (1, 1)
    assert "grasp 0" not in summary.text()
    assert "(snip 1, random 1 of 2); such levels are left out" in " ".join(summary.text().split())
    far = summarise([row("evolution", 0, 0.2, 0.9), row("erk", 0, 0.4, 0.9), *dense([0])], (0.2,))
    assert far.tests == ()
    assert "Not tested against evolution: erk (no level that both reach" in far.text()
    assert summarise(rows[4:], (0.2, 0.1)).tests == ()


def test_one_seed_has_no_interval_rather_than_one_without_width():
    summary = summarise([*pairs([0.9], [0.8]), *dense([0])], (0.2, 0.1))
    (test,) = summary.tests
    assert math.isnan(test.low)
    assert math.isnan(test.high)
    assert summary.text().splitlines()[-1].split()[:5] == ["erk", "2", "+10.000", "-", "1/1"]
    assert summary.as_dict()["tests"]["erk"]["interval"] is None


def test_without_accuracies_on_test_data_those_of_validation_are_compared():
    rows = [*pairs([0.9], [0.8]), *dense([0])]
    blank = [{**one, "test_accuracy": None, "val_accuracy": 0.5} for one in rows]
    summary = summarise(blank, (0.2, 0.1))
    assert summary.split == "validation"
    assert summary.methods[0].accuracy.tolist() == [[0.5, 0.5]]
    assert summary.text().startswith("Validation accuracy in %")


def test_the_search_for_few_multiply_adds_is_tested_by_its_hypervolume():
    rows = [
        row(name, seed, 0.1, 0.9 + 0.001 * seed, adds + seed)
        for name, adds in (("evolution", 4000), ("evolution-adds", 800), ("imp", 400))
        for seed in range(3)
    ]
    summary = summarise([*rows, *dense(range(3), adds=8000)], (0.1,))
    assert set(summary.adds_tests) == {"evolution", "imp"}
    assert summary.adds_tests["evolution"].wins == 3
    assert summary.adds_tests["evolution"].p_value == pytest.approx(1 / 8)
    assert summary.adds_tests["imp"].losses == 3


# ---- text and JSON


@pytest.fixture
def full():
    rows = [
        row(name, seed, level, 0.95 - 0.01 * i - 0.01 * (level < 0.2) + 0.001 * seed, 2000 - 10 * i)
        for i, name in enumerate(METHODS)
        for seed in (0, 1, 2)
        for level in (0.2, 0.1)
        if name != "grasp" or level > 0.1
    ]
    return summarise([*rows, *dense([0, 1, 2], adds=8000)], (0.2, 0.1))


def test_the_text_has_every_method_in_each_of_its_tables(full):
    parts = full.text().split("\n\n")
    title, means, note, short, costs, tests, adds = parts
    title = " ".join(title.split())
    assert "over log density" in " ".join(note.split())
    assert "with 3 seeds it is 0.12 at the least" in " ".join(tests.split())
    assert [line.split()[0] for line in costs.splitlines()[2:]] == list(METHODS)
    assert "(grasp 1 of 2)" in short
    assert "after 1,234 steps from W0" in title
    assert "over 3 seeds; dense: 98.00 [" in title
    assert [line.split()[0] for line in means.splitlines()[1:]] == list(METHODS)
    paired = [line.split()[0] for line in tests.split("hv p\n")[1].splitlines()]
    assert paired == [name for name in METHODS if name != "evolution"]
    levels = {line.split()[0]: line.split()[1] for line in tests.split("hv p\n")[1].splitlines()}
    assert {name for name, count in levels.items() if count == "1"} == {"grasp"}
    assert [line.split()[0] for line in adds.split("  p\n")[1].splitlines()] == list(METHODS)
    head, first = means.splitlines()[:2]
    assert head.split()[-1] == "mean"
    assert "95.10 [95.00, 95.20]" in first
    assert "nan" not in full.text()


def test_text_of_one_seed_has_no_intervals():
    text = summarise([*pairs([0.9], [0.8]), *dense([0])], (0.2, 0.1)).text()
    assert "from W0, one seed; dense: 97.00\n" in text
    first = next(line for line in text.splitlines() if line.startswith("evolution "))
    assert first.split()[1:4] == ["90.00", "88.00", "89.00"]


def test_the_dictionary_is_strict_json_with_none_for_nan(full):
    plain = json.loads(json.dumps(full.as_dict(), allow_nan=False))
    assert plain == full.as_dict()
    assert list(plain["methods"]) == list(METHODS)
    (grasp,) = (one for one in full.methods if one.name == "grasp")
    assert plain["methods"]["grasp"]["accuracy"] == [
        [pytest.approx(grasp.accuracy[seed, 0]), None] for seed in range(3)
    ]
    assert plain["methods"]["erk"]["about"] == METHODS["erk"].about
    assert plain["tests"]["erk"]["accuracy"]["wins"] == 3
    assert set(plain["tests"]["erk"]) == {
        *("difference", "interval", "levels", "accuracy", "hypervolume")
    }
    assert plain["tests"]["grasp"]["levels"] == 1
    assert plain["adds_tests"]["imp"]["n"] == 3


def test_without_multiply_adds_the_part_about_them_is_left_out():
    summary = summarise([*pairs([0.9, 0.95], [0.8, 0.8]), *dense([0, 1])], (0.2, 0.1))
    assert "multiply-adds" not in summary.text()
    assert summary.adds_tests == {}
    plain = json.loads(json.dumps(summary.as_dict(), allow_nan=False))
    assert plain["methods"]["erk"]["adds_hypervolume"] == [None, None]
    assert plain["methods"]["erk"]["adds_accuracy"] == [[None, None], [None, None]]


def test_multiply_adds_are_read_off_what_validation_would_choose():
    row = {
        "seed": 0, "method": "erk", "kept": 1, "search_steps": 0, "search_seconds": 0.0,
        "final_steps": 1, "test_loss": 0.0, "ticket": "",
    }  # fmt: skip
    points = [(1000, 0.9, 0.91), (225, 0.8, 0.99), (100, 0.85, 0.83), (75, 0.7, 0.6)]
    rows = [
        {**row, "density": 0.1, "multiply_adds": adds, "val_accuracy": val, "test_accuracy": test}
        for adds, val, test in points
    ]
    (one,) = summarise(rows, (0.1,)).methods
    # At 225 the smaller network of 100 is better on validation data, whatever the test says.
    share = np.log(225 / 100) / np.log(1000 / 100)
    assert one.adds_accuracy == pytest.approx(np.array([[0.83 + share * 0.08, 0.6]]))


def test_a_ticket_is_on_a_level_as_near_as_whole_weights_allow():
    def of(name, kept, accuracy):
        return {**row(name, 0, kept / 3000, accuracy), "kept": kept}

    whole = [{**one, "kept": 3000} for one in dense([0])]
    levels = (0.1, 0.0019)  # of 5.7 weights
    found = summarise([of("imp", 300, 0.9), of("imp", 6, 0.5), *whole], levels)
    assert found.methods[0].accuracy.tolist() == [[0.9, 0.5]]
    found = summarise([of("imp", 300, 0.9), of("imp", 7, 0.5), *whole], levels)
    assert np.isnan(found.methods[0].accuracy[0, 1])


def test_the_text_says_where_a_sparser_ticket_stands_for_a_level():
    rows = [row("imp", 0, 0.2, 0.9), row("imp", 1, 0.05, 0.8), row("erk", 0, 0.2, 0.7)]
    found = summarise([*rows, *dense([0, 1])], (0.2, 0.1))
    assert found.methods[0].above == (0, 1)
    text = " ".join(found.text().split())
    assert "a sparser one stands for it: imp at 20.00, 10.00 %." in text

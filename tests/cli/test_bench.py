"""Benchmarks: every operator has a row, what is made up is what training gives, nothing leaks."""

import contextlib
import functools
import io
import json
import random

import numpy as np
import pytest

from nets_deap import MaskLayout, operators
from nets_deap.cli.bench import evolution
from nets_deap.cli.bench.bookkeeping import measure_recorder, measure_selection
from nets_deap.cli.bench.operators import cost_table, measure_operators
from nets_deap.cli.bench.tickets import INHERITED, made_up_ticket

SHAPES = [("a", (6, 9)), ("b", (5, 6)), ("c", (3, 5))]
LAYOUT = MaskLayout(SHAPES, np.random.default_rng(0).normal(size=99).astype(np.float32))


def test_every_operator_is_measured_at_every_density_and_inherited_state():
    costs = measure_operators(layout=LAYOUT, densities=(1.0, 0.3), repeats=2)
    rows = {(cost.operator, cost.density, cost.inherited) for cost in costs}
    names = {name for name, _, _ in rows}
    assert rows == {(n, d, h) for n in names for d in (1.0, 0.3) for h in INHERITED}
    assert len(rows) == len(costs)
    groups = (operators.CROSSOVERS, operators.MUTATIONS, operators.NEURONS, operators.GENOME)
    for operator in (op for group in groups for op in group):
        assert any(name.split()[0] == operator.__name__ for name in names), operator.__name__
    assert all(cost.milliseconds > 0 for cost in costs)
    lines = cost_table(costs).splitlines()
    assert len(lines) == 2 + len(names)
    assert len({len(line) for line in lines}) == 1


def test_only_some_rows_and_names_that_are_known():
    costs = measure_operators(
        layout=LAYOUT, densities=(0.5,), inherited=("own",), only=("mut_swap",), repeats=1
    )
    assert [cost.operator for cost in costs] == ["mut_swap"]
    with pytest.raises(ValueError, match="Did you mean 'mut_prune'"):
        measure_operators(layout=LAYOUT, only=("mut_prun",))
    with pytest.raises(ValueError, match="inherited must be a known name"):
        measure_operators(layout=LAYOUT, inherited=("mine",))


@pytest.mark.parametrize("inherited", INHERITED)
def test_made_up_tickets_inherit_what_their_name_says(inherited):
    ticket = made_up_ticket(LAYOUT, 0.4, inherited, np.random.default_rng(0), gradients=True)
    assert ticket.kept == 40
    assert ticket.fitness.valid
    assert (ticket.inherited is None) == (inherited == "none")
    assert (ticket.trained is None) == (inherited != "own")
    if inherited != "none":
        assert len(ticket.inherited.values) == len(ticket.inherited.gradients) == 40
        assert set(ticket.inherited.unmasked) == {"a.bias", "b.bias", "c.bias"}


@pytest.fixture(scope="module")
def reported():
    state, printed = random.getstate(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        small = functools.partial(measure_operators, layout=LAYOUT, densities=(0.5,))
        patch.setattr(evolution, "measure_operators", small)
        data = evolution.report(population=4, generations=2, repeats=1)
    assert random.getstate() == state
    return printed.getvalue(), data


@pytest.mark.slow
def test_a_report_is_text_and_the_same_numbers_as_plain_data(reported):
    text, data = reported
    assert json.loads(json.dumps(data)) == json.loads(json.dumps(data, allow_nan=False))
    assert set(data) == {"operators", "selection", "recorder", "evolution"}
    assert {cost["objectives"] for cost in data["selection"]} == {2, 3}
    assert [len(cost["seconds"]) for cost in data["evolution"]] == [2] * 5
    for cost in data["evolution"]:
        assert f"median {1000 * cost['median']:.1f} ms a generation" in text
    assert f"{data['recorder']['milliseconds']:.1f} ms" in text


def test_whole_searches_leave_training_out_and_keep_their_densities(monkeypatch):
    seen = []

    class Watched(evolution._Clock):
        def compile(self, population):
            seen.extend(population)
            return super().compile(population)

    monkeypatch.setattr(evolution, "_Clock", Watched)
    cost = evolution.measure(population=4, generations=2, density=(0.03, 0.07), inherit="weights")
    assert cost.size == 266_200
    assert all(0.03 <= ticket.density <= 0.0701 for ticket in seen)
    assert all(ticket.trained is not None for ticket in seen)


def test_selection_and_recorder_are_measured_on_what_they_say():
    costs = measure_selection(tickets=6, objectives=(3,), repeats=1)
    assert [(cost.selection, cost.tickets, cost.objectives) for cost in costs] == [
        ("sel_nsga2", 6, 3),
        ("sel_niched", 6, 3),
    ]
    cost = measure_recorder(population=3, fresh=1, generations=1)
    assert (cost.population, cost.fresh) == (3, 1)
    with pytest.raises(ValueError, match="fresh must be in range"):
        measure_recorder(population=3, fresh=4)

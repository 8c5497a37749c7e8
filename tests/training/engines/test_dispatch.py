"""The registry of engines, and what belongs to one problem alone."""

import copy
import inspect
import pickle
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from support.networks import (
    PLAN,
    RECIPES,
    assert_same,
    deep,
    make_task,
    masks_of,
    noting,
    reference,
)

import nets_deap as nets
from nets_deap import names
from nets_deap.training.engine import Train
from nets_deap.training.engines.dispatch import ENGINES
from nets_deap.training.engines.probe import probe
from nets_deap.training.executor import (
    executed_by,
    executor_of,
    journal_of,
    set_executor,
    set_journal,
)
from nets_deap.training.problem import once

each_engine = pytest.mark.parametrize("name", ENGINES)
DOCS = Path(__file__).parents[3] / ".docs"


def test_the_names_for_the_command_line_are_those_of_the_registry():
    assert ("auto", *ENGINES) == names.ENGINES
    assert [engine.name for engine in ENGINES.values()] == list(ENGINES)


@each_engine
def test_the_documentation_lists_every_engine(name):
    listed = runpy.run_path(str(DOCS / "conf.py"))["list_of_engines"]()
    assert f"- ``{name}``: {ENGINES[name].needs}." in listed.splitlines()


@pytest.mark.parametrize("name", ["compiled", "batched", "vmap", "loop"])
def test_what_is_shipped_is_told_where_users_look(name):
    assert name in ENGINES
    assert f'``"{name}"``' in nets.Task.__doc__
    assert f'| `"{name}"` |' in (DOCS / "speed.md").read_text()


@each_engine
def test_engines_share_a_signature_and_its_contract(name):
    """More options of its own may follow; each network is told of once, under its place."""
    expected = list(inspect.signature(Train.__call__).parameters.values())[1:]
    given = list(inspect.signature(ENGINES[name].train).parameters.values())
    assert given[: len(expected)] == expected
    assert all(more.default is not inspect.Parameter.empty for more in given[len(expected) :])
    task = make_task("mlp", RECIPES["adam"], model=deep())
    masks, sizes, parts = masks_of(task), [], {}

    def on_part(places, outcome):
        noting(sizes)(places, outcome)
        parts.update(zip(places, outcome.split(), strict=True))

    assert ENGINES[name].suits(task.problem)
    whole = ENGINES[name].train(task.problem, masks, PLAN, chunk=2, on_part=on_part)
    assert max(sizes) <= 2
    assert sorted(parts) == [0, 1, 2]
    for place, part in parts.items():
        assert_same(part, whole, rtol=0, places=[place])
    assert_same(whole, reference(task.problem, masks, PLAN), rtol=1e-8)
    assert ENGINES[name].at_once(task.problem) >= 1


class Nobody:
    """Somebody to attach."""


def test_what_is_attached_or_found_out_belongs_to_one_problem_alone():
    problem = make_task("mlp", RECIPES["adam"]).problem
    calls, inner, outer, journal = [], Nobody(), Nobody(), Nobody()

    @once
    def looked(problem, what, *, more=0):
        calls.append((what, more))
        return len(calls)

    assert [looked(problem, "a"), looked(problem, "b"), looked(problem, "a", more=1)] == [1, 2, 3]
    assert [looked(problem, "a"), looked(problem, "a", more=1)] == [1, 3]
    set_executor(problem, outer)
    set_journal(problem, journal)
    with executed_by(problem, None):
        assert executor_of(problem) is outer
    with executed_by(problem, inner):
        assert executor_of(problem) is inner
    assert executor_of(problem) is outer
    assert journal_of(problem) is journal
    probe(problem)
    for twin in (replace(problem), copy.deepcopy(problem), pickle.loads(pickle.dumps(problem))):
        assert (executor_of(twin), journal_of(twin), len(twin.cache.facts)) == (None, None, 0)
    assert looked(replace(problem), "a") == 4
    problem.cache.clear()
    assert looked(problem, "a") == 1, "facts outlive what is kept for speed"
    del journal
    assert journal_of(problem) is None, "whoever is gone keeps nothing"

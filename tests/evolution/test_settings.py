"""Settings: one record behind the arguments, their documentation and their errors."""

import inspect
import re
from dataclasses import dataclass, fields

import numpy as np
import pytest

import nets_deap as nets
from nets_deap.errors import InvalidTypeError, InvalidValueError
from nets_deap.evolution.settings import (
    EvaluationSettings,
    MapSettings,
    OperatorSettings,
    Settings,
    ToolboxSettings,
    setting,
    takes,
)
from nets_deap.experiments.config import FinalConfig, SearchConfig, TaskConfig
from nets_deap.runs.search.search import SearchArguments
from nets_deap.runs.search.settings import AlgorithmSettings, LimitSettings, RunSettings

PARTS = [AlgorithmSettings, LimitSettings, EvaluationSettings, OperatorSettings, RunSettings]
FUNCTIONS = [(nets.make_toolbox, ToolboxSettings), (nets.search, SearchArguments)]


def names_of(record):
    return [item.name for item in fields(record)]


@pytest.mark.parametrize(("function", "record"), FUNCTIONS)
def test_help_and_editors_see_each_setting_once_with_its_default(function, record):
    parameters = inspect.signature(function).parameters
    assert list(parameters) == ["task", *names_of(record)]
    for item in fields(record):
        assert parameters[item.name].default == item.default
        assert len(re.findall(rf"^    {item.name}: ", inspect.getdoc(function), re.M)) == 1
    assert "**settings" not in inspect.getdoc(function)
    assert max(map(len, inspect.getdoc(function).splitlines())) <= 96


def test_no_setting_stands_in_two_records():
    seen = [name for record in (*PARTS, MapSettings) for name in names_of(record)]
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("record", [SearchConfig, TaskConfig, FinalConfig, SearchArguments])
def test_every_setting_says_what_it_is(record):
    for item in fields(record):
        assert re.fullmatch(r"(?s)[A-Z`].*\.", item.metadata["about"]), item.name


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda task: nets.search(task, populaton=3, inherit="none"),
            r"search's .*\. Did you mean 'population'",
        ),
        (
            lambda task: nets.make_toolbox(task, densty=1, inherit="none"),
            r"'objectives', .*Did you mean 'density'",
        ),
        (
            lambda task: nets.make_toolbox(task, engine="ray", inherit="none"),
            "make_toolbox's argument must be a",
        ),
        (
            lambda task: nets.search(task, x=1, y=2, inherit="none"),
            r"(?s)2 bad fields.*got 'x'.*got 'y'",
        ),
        (lambda _: nets.Island(mutbp=1), "Island's .* Did you mean 'mutpb'"),
        (lambda _: nets.search(), "missing a required argument: 'task'"),
        (lambda task: nets.search(task, 40, inherit="none"), "too many positional arguments"),
    ],
)
def test_arguments_that_there_are_not_are_type_errors(call, message, xor_task):
    with pytest.raises(TypeError, match=message):
        call(xor_task)


def test_the_task_may_be_named(xor_task):
    assert len(nets.make_toolbox(task=xor_task).population(n=2)) == 2


def test_all_bad_settings_are_told_together(xor_task):
    with pytest.raises(InvalidValueError) as caught:
        nets.search(
            xor_task, population="many", offspring=0, density=(0.5, 2), prune=3, noise=-1, flips=2,
            inherit="weigths", islands=2.5, map=3, seed=-1, growth=0, distribution="erc", cxpb="a",
        )  # fmt: skip
    lines = str(caught.value).splitlines()
    assert lines[0] == "search has 13 bad fields:"
    told = [re.match(r"  - (\w+)", line)[1] for line in lines[1:]]
    assert sorted(told) == [
        "cxpb", "density", "distribution", "flips", "growth", "inherit", "islands", "map", "noise",
        "offspring", "population", "prune", "seed",
    ]  # fmt: skip
    with pytest.raises(InvalidValueError, match=r"(?s)make_toolbox has 2 .*prune\[0\].*flips must"):
        nets.make_toolbox(xor_task, prune=(0, 1), flips=-1, inherit="none")


def test_settings_hold_plain_numbers():
    held = OperatorSettings(density=[np.float32(0.5), 1], flips=np.float64(0.25))
    assert (type(held.density), type(held.density[0]), type(held.flips)) == (tuple, float, float)


def test_parts_and_changes_are_told_apart():
    held = SearchConfig(population=5, density=(0.5, 1.0), islands=2)
    assert held.part(AlgorithmSettings) == {
        "population": 5, "offspring": None, "cxpb": 0.25, "mutpb": 0.75, "algorithm": None
    }  # fmt: skip
    assert sorted(held.changed(SearchConfig)) == ["density", "islands", "population"]
    assert held.changed(OperatorSettings, EvaluationSettings) == ["density"]


@dataclass(frozen=True, kw_only=True)
class _Own(Settings):
    many: int = setting(3, "How many.")


def test_a_record_of_ones_own_makes_the_arguments_of_a_function():
    @takes(_Own)
    def repeat(text, own):
        """Return a text many times.

        Args:
            text: The text.
            **settings: How.
        """
        return text * own.many

    assert (repeat("a"), repeat("a", many=2)) == ("aaa", "aa")
    assert "    text: The text.\n    many: How many." in repeat.__doc__
    assert str(inspect.signature(repeat)) == "(text, *, many: int = 3)"
    with pytest.raises(InvalidTypeError, match="repeat's argument must be a known name"):
        repeat("a", amny=2)


def test_a_search_does_not_go_on_with_other_densities(xor_task, tmp_path):
    options = {"population": 4, "generations": 1, "progress": "none", "path": tmp_path / "run"}
    nets.search(xor_task, density=(0.5, 1.0), **options)
    with pytest.raises(nets.NetsError, match=r"density was \[0\.5, 1\.0\], is \[0\.2, 1\.0\]"):
        nets.search(xor_task, density=(0.2, 1.0), resume=True, **options)


@pytest.mark.parametrize("name", ["density", "prune", "sigma", "population", "path", "map"])
def test_an_array_is_named_with_all_else_that_is_bad(name, xor_task):
    with pytest.raises((InvalidTypeError, InvalidValueError)) as caught:
        nets.search(xor_task, **{name: np.array([0.1, 0.5]), "growth": -1, "callbacks": 5})
    assert "callbacks must be a list" in str(caught.value)
    assert "growth must be in range" in str(caught.value)
    if name != "path":  # which is whatever opens
        assert f"{name} must be" in str(caught.value)


def test_what_an_objective_holds_on_to_is_not_looked_through(tmp_path, xor_task):
    class Held:
        def tolist(self):
            raise AssertionError("the run's facts describe an objective, not what it holds")

    held = Held()
    own = nets.Objective("own", "min", 1e9, lambda measured: float(held is None), 1.0)
    options = {"population": 2, "generations": 0, "progress": "none"}
    nets.search(xor_task, objectives=("density", own), path=tmp_path / "run", **options)

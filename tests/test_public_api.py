"""The public names: all there, documented, and cheap to get at."""

import importlib
import inspect
import subprocess
import sys

import pytest

import nets_deap as nets
from nets_deap import models


@pytest.mark.parametrize("name", nets.__all__)
def test_every_public_name_exists_and_is_documented(name):
    assert inspect.getdoc(getattr(nets, name))


def test_every_home_is_exported_and_listed():
    assert set(nets.__all__) == {*nets._HOMES, *nets._MODULES}
    assert set(nets.__all__) <= set(dir(nets))


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'sparsity'"):
        nets.sparsity


@pytest.mark.parametrize("line", ["import nets_deap", "import nets_deap.cli.main"])
def test_importing_does_not_import_torch_or_numpy(line):
    check = f"{line}; import sys; print('torch' in sys.modules, 'numpy' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("name", ["Ticket", "Genome", "MaskLayout", "models"])
def test_what_needs_no_torch_does_not_import_it(name):
    check = f"import sys, nets_deap; nets_deap.{name}; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_models_are_made_by_the_names_listed_whatever_was_imported_before():
    """A file of the name of a function would hide it, once imported."""
    assert set(models.__all__) == set(models._HOMES) <= set(dir(models))
    for home in models._HOMES.values():
        importlib.import_module(f"nets_deap.models.{home}")
    assert all(callable(getattr(models, name)) for name in models.__all__)
    with pytest.raises(AttributeError, match="no attribute 'lenet'"):
        models.lenet


def test_the_version_is_that_of_the_distribution():
    from importlib.metadata import version

    assert version("nets-deap") == nets.__version__


def public():
    """Yield all public functions and classes by name, but for records that the package fills in."""
    filled = ("Baseline", "Level", "DataSplits", "Operator", "members_of", "batch_map")
    filled += ("values_of", "worst_values", "resolve")
    for name in nets.__all__:
        thing = getattr(nets, name)
        inner = {name: thing}
        if inspect.ismodule(thing):
            names = vars(thing).get("__all__", [n for n, v in vars(thing).items() if callable(v)])
            inner = {n: getattr(thing, n) for n in names}
            own = thing.__name__
            inner = {n: v for n, v in inner.items() if getattr(v, "__module__", "").startswith(own)}
            inner = {n: v for n, v in inner.items() if (name, n) != ("objectives", "describe")}
        for one in inner.values():
            known = one.__name__[0] != "_" and one.__name__ not in filled
            is_error = isinstance(one, type) and issubclass(one, Exception)
            if known and not is_error and not (isinstance(one, type) and thing is nets.sanity):
                yield one


@pytest.mark.parametrize("one", list(public()))
def test_unknown_arguments_are_refused_by_our_own_errors(one):
    with pytest.raises(nets.NetsError, match=f"{one.__name__}'s argument .*got 'wrng'"):
        one(wrng=1)


@pytest.mark.parametrize(
    ("module", "name", "meant"),
    [
        ("", "lod_task", "tasks"),
        ("", "serch", "search"),
        ("tasks", "lent", "lenet"),
        ("baselines", "impp", "imp"),
        ("operators", "mut_flp", "mut_flip"),
        ("plots", "pareto_frnt", "pareto_front"),
        ("data", "load_mnst", "load_mnist"),
        ("objectives", "penalized", "penalised"),
        ("frames", "frnt", "front"),
    ],
)
def test_names_that_there_are_not_come_with_what_was_meant(module, name, meant):
    there = getattr(nets, module) if module else nets
    with pytest.raises(AttributeError, match=f"no attribute '{name}'. Did you mean '{meant}'"):
        getattr(there, name)
    assert not hasattr(there, "__wrapped__")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ngen": 1}, "Did you mean 'generations'"),
        ({"mu": 1}, "Did you mean 'population'"),
        ({"lambda_": 1}, "Did you mean 'offspring'"),
        ({"engine": "loop"}, r"belongs to the task: nets.Task\(..., engine=\)"),
        ({"workers": 2}, r"map=nets.RayMap\(task, workers=\)"),
        ({"lr": 1}, r"nets.Recipe\(lr=\)"),
        ({"halloffame": 1}, "a search's result has its front"),
    ],
)
def test_search_knows_deaps_words_and_whose_the_others_are(options, text, xor_task):
    with pytest.raises(nets.NetsError, match=f"search's argument must .*{text}"):
        nets.search(xor_task, **options, inherit="none")
    if "ngen" in options:
        with pytest.raises(
            nets.NetsError, match=r"make_toolbox's .* nets.search\(task, generations="
        ):
            nets.make_toolbox(xor_task, **options, inherit="none")


@pytest.mark.parametrize(("word", "meant"), [("stacked", "vmap"), ("compiled ", "compiled"),
    ("Loop", "loop"), ("one_by_one", "loop"), ("numba", "compiled")])  # fmt: skip
def test_engines_by_other_names(word, meant):
    with pytest.raises(
        nets.NetsError, match=f"engine must be .* got '{word}'. Did you mean '{meant}'"
    ):
        nets.tasks.xor(engine=word)


@pytest.mark.parametrize(("options", "least"), [({}, 2), ({"cxpb": 0.0}, 1)])
def test_a_population_too_small_is_told_its_least_at_once(options, least, xor_task):
    with pytest.raises(nets.NetsError, match=f"population must .* an int >= {least}, got 0"):
        nets.search(xor_task, population=0, **options, inherit="none")
    for call in (nets.search, nets.make_toolbox):
        with pytest.raises(nets.NetsError, match=rf"{call.__name__}'s task must .* got MLP"):
            call(xor_task.model)

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

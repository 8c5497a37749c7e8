"""The public names: all there, documented, and cheap to get at."""

import inspect
import subprocess
import sys

import pytest

import nets_deap as nets


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


def test_the_version_is_that_of_the_distribution():
    from importlib.metadata import version

    assert version("nets-deap") == nets.__version__

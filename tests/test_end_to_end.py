"""The main job on real digits, the script of the README, and full MNIST where it is at hand."""

import os
import re
import runpy
from pathlib import Path

import pytest
from deap import creator

from nets_deap.cli.main import main
from nets_deap.data.download import ENVIRONMENT, default_data_dir

README = Path(__file__).parent.parent / "README.md"


def snippets():
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.S)


def quick_or_slow(number, text):
    """Mark the snippets that start workers or read a folder of images."""
    slow = "RayMap" in text or "ImageFolder" in text
    return pytest.param(number, marks=pytest.mark.slow) if slow else number


@pytest.mark.parametrize("number", [quick_or_slow(*pair) for pair in enumerate(snippets())])
def test_snippets_of_the_readme_run_as_written(number, tmp_path, monkeypatch):
    import matplotlib as mpl

    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    text = snippets()[number]
    if "RayMap" in text:
        pytest.importorskip("ray", reason='workers need the extra "ray"')
    # Smaller numbers, so that the test is quick; each must be there to be replaced.
    for pattern, small in (
        (r"\bsteps=\d+", "steps=5"),
        (r"\bn=\d+", "n=4"),
        (r"\bmu=\d+", "mu=4"),
        (r"\blambda_=\d+", "lambda_=4"),
        (r"\bngen=\d+", "ngen=1"),
        (r"\bpopulation=\d\d+", "population=4"),
        (r"\bgenerations=\d+", "generations=4"),
        (r"\bbudget=\d+", "budget=200"),
        (r"\brounds=\d+", "rounds=2"),
    ):
        text = re.sub(pattern, small, text)
    script = tmp_path / "snippet.py"
    script.write_text(text)
    try:
        runpy.run_path(str(script))
    finally:
        for name in ("Fitness", "Mine"):
            creator.__dict__.pop(name, None)


def test_quickstart_on_real_digits(tmp_path, capsys):
    out = tmp_path / "run"
    small = ["--population", "6", "--generations", "1", "--set", "search.budget=900"]
    small += ["--set", "final.steps=200", "--set", "final.members=2"]
    assert main(["run", "quickstart", "--out", str(out), "--progress", "none", *small]) == 0
    table = capsys.readouterr().out
    dense = float(re.search(r"(\d+\.\d+) %$", table, re.M).group(1))
    assert dense > 85


@pytest.mark.mnist
@pytest.mark.slow
def test_lenet_on_full_mnist(tmp_path, capsys):
    root = default_data_dir()
    if not list((root / "MNIST" / "raw").glob("train-images-*")):
        pytest.skip(
            f"full MNIST is not under {root}: name its folder in ${ENVIRONMENT}, "
            "or run 'nets-deap run lenet-mnist' once where it can be downloaded"
        )
    out = tmp_path / "run"
    small = ["--generations", "6", "--set", "search.budget=700"]
    small += ["--set", "final.steps=600", "--set", "final.members=2"]
    assert main(["run", "lenet-mnist", "--out", str(out), "--progress", "none", *small]) == 0
    dense = float(re.search(r"(\d+\.\d+) %$", capsys.readouterr().out, re.M).group(1))
    assert dense > 94


def test_the_environment_names_the_data_folder(monkeypatch, tmp_path):
    monkeypatch.setitem(os.environ, ENVIRONMENT, str(tmp_path))
    assert default_data_dir() == tmp_path


def test_every_place_tells_the_same_time_for_quickstart():
    from nets_deap.cli import main as cli
    from nets_deap.experiments.presets import PRESETS

    readme = re.search(r"It takes (.*?) on two cores", README.read_text()).group(1)
    (line,) = (line for line in cli.EPILOG.splitlines() if line.endswith(readme))
    assert "run quickstart" in line
    assert PRESETS["quickstart"].about.endswith(readme)

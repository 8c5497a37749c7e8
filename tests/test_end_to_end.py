"""The main job on real digits, the script of the README, and full MNIST where it is at hand."""

import os
import re
import runpy
from pathlib import Path

import pytest
from support.written import blocks, smaller

from nets_deap.cli.main import main
from nets_deap.data.download import ENVIRONMENT, default_data_dir

README = Path(__file__).parent.parent / "README.md"


SNIPPETS = blocks(README.read_text())


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippets_of_the_readme_run_as_written(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "snippet.py"
    script.write_text(smaller(SNIPPETS[number]))
    runpy.run_path(str(script))


def test_the_readme_is_short_and_what_it_links_is_there():
    text = README.read_text()
    assert len(text.splitlines()) <= 220
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert len(links) > 20
    assert not [link for link in links if not (README.parent / link).exists()]


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

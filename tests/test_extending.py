"""CONTRIBUTING's words: each example is one file and one line, and all that follows sees it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
# What must see a new one, beside the tests that CONTRIBUTING names: a program for each section.
SEEN = {
    "An operator": """
from nets_deap import operators
from nets_deap.cli.bench.operators import measure_operators
assert operators.mut_rotate in operators.MUTATIONS
assert "mut_rotate" in operators.__all__  # which the documentation lists
rows = measure_operators(only=["mut_rotate"], densities=[0.1], repeats=1)
assert {row.operator for row in rows} == {"mut_rotate"}
""",
    "An objective": """
import runpy
assert "`overfitting`" in runpy.run_path(".docs/conf.py")["table_of_objectives"]()
settings = ["--set", "search.objectives=overfitting,density", "--set", "recipe.steps=5"]
settings += ["--generations", "1", "--population", "4", "--progress", "none"]
assert main(["run", "xor-mlp10", "--out", "made", *settings]) == 0
assert "overfitting" in open("made/front.csv").readline()
""",
    "A baseline": """
import nets_deap as nets
from nets_deap.experiments.methods import METHODS
assert "hazard" in METHODS
assert main(["baseline", "list"]) == 0
task = nets.tasks.xor(hidden=4)
assert nets.baselines.BASELINES["hazard"](task, [0.5]).tickets[0].kept == 6
""",
    "An engine": """
import runpy
import nets_deap as nets
assert "``patient``" in runpy.run_path(".docs/conf.py")["list_of_engines"]()
task = nets.tasks.xor(hidden=4, engine="patient")
assert task.train(task.dense_ticket(), steps=5).steps == 5
few = ["--nets", "lenet", "--populations", "2", "--densities", "0.5", "--seconds", "0.01"]
assert main(["bench", "training", "--engine", "patient", *few]) == 0
""",
    "A kind of figure": """
import nets_deap as nets
assert main(["plot", "list"]) == 0
assert "sizes" in nets.plots.KINDS and callable(nets.plots.sizes)
""",
    "A data set": """
import nets_deap as nets
assert nets.data.is_at_hand("stripes")
task = nets.tasks.lenet(dataset="stripes")
assert task.layout.size == 28 * 28 * 300 + 300 * 100 + 100 * 2
assert task.train(task.dense_ticket(), steps=20).test_accuracy > 0.9
""",
    "A function of torch for compacting": """
import torch
from torch import nn
from nets_deap.models.compact.compact import compact
class Sums(nn.Module):
    def forward(self, x):
        return x.cumsum(-1)
layers = nn.Conv2d(1, 4, 3, bias=False), Sums(), nn.Flatten(), nn.Linear(144, 2)
model = nn.Sequential(*layers).double()
with torch.no_grad():
    model[0].weight[:3] = 0
small, x = compact(model), torch.randn(5, 1, 8, 8).double()
torch.testing.assert_close(small(x), model(x))
assert small[0].out_channels == 1
""",
}
# What tests over a registry call it.
NAMES = {
    "An operator": "mut_rotate",
    "An objective": "overfitting",
    "A baseline": "hazard",
    "An engine": "patient",
    "A kind of figure": "sizes",
}


def sections():
    """Return the text of each way to add something that has an example."""
    parts = re.split(r"^### (.*)$", TEXT.partition("## Add something")[2], flags=re.M)
    return {
        title: text
        for title, text in zip(parts[1::2], parts[2::2], strict=True)
        if "```diff" in text
    }


def add(text, root):
    """Follow a section; return how many files and lines, imports apart, that took."""
    files = re.findall(r"```python\n# (\S+)\n(.*?)```", text, re.S)
    for path, content in files:
        assert not (root / path).exists()
        (root / path).write_text(content, encoding="utf-8")
    hunks = re.split(r"^--- (.*)$", re.search(r"```diff\n(.*?)```", text, re.S)[1], flags=re.M)
    added = []
    for path, hunk in zip(hunks[1::2], hunks[2::2], strict=True):
        found = hunk.strip("\n").splitlines()
        before = "\n".join(line[1:] for line in found if line[0] == " ") + "\n"
        after = "\n".join(line[1:] for line in found) + "\n"
        code = (root / path).read_text(encoding="utf-8")
        assert code.count(before) == 1, f"{path} has no such line: {before}"
        (root / path).write_text(code.replace(before, after), encoding="utf-8")
        added += [line[1:] for line in found if line[0] == "+"]
    imports = [line for line in added if line.startswith("from ")]
    return len(files), len(added) - len(imports) or len(imports)


def python(root, *words):
    """Run Python in a copy of the project."""
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=root, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


def test_every_kind_has_its_words():
    assert set(sections()) == set(SEEN)


@pytest.mark.slow
@pytest.mark.parametrize("title", SEEN)
def test_one_file_and_one_line_are_seen_by_all(title, tmp_path):
    text, root = sections()[title], tmp_path / "project"
    root.mkdir()
    for name in ("nets_deap", "tests", ".docs", ".github"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "README.md", ".ruff.toml"):
        shutil.copy(ROOT / name, root / name)
    assert add(text, root) == (1, 1)
    python(root, "-c", f"from nets_deap.cli.main import main\n{SEEN[title]}")
    named = re.search(r"Covered by `(\S+)`", text)[1]
    test = ["-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    chosen = ["-k", NAMES[title]] if title in NAMES else []
    out = python(root, *test, named, *chosen)
    assert int(re.search(r"(\d+) passed", out)[1]) > 0
    python(root, *test, "tests/test_architecture.py")

"""``nets-deap ship`` where the run was begun in Python."""

import textwrap

import pytest

import nets_deap as nets
from nets_deap.cli.main import main

TASK = """
import nets_deap as nets

def make_task(seed):
    recipe = nets.Recipe(lr=0.05, batch_size=4, steps=20, loss="binary_cross_entropy")
    return nets.tasks.xor(hidden=8, unit="neuron", recipe=recipe, seed=seed)
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "mytask.py").write_text(textwrap.dedent(TASK))
    space = {}
    exec(TASK, space)
    path = tmp_path / "run"
    nets.search(
        space["make_task"](1), objectives=("val_loss", "multiply_adds"), population=3,
        generations=0, path=path, progress="none", seed=1,
    )  # fmt: skip
    return path


def test_the_task_is_named(run, capsys):
    task = f"{run.parent / 'mytask.py'}:make_task"
    shipped = ["ship", str(run), "--to", "torch", "--repeats", "1", "--dense-steps", "2"]
    assert main(shipped) != 0
    assert "--preset FILE.py:FUNCTION" in capsys.readouterr().err
    assert main([*shipped, "--preset", task]) != 0
    assert "initial_digest was" in capsys.readouterr().err
    assert main([*shipped, "--preset", task, "--seed", "1"]) == 0
    assert "multiply-adds" in capsys.readouterr().out
    found = [*shipped, "--preset", task, "--seed", "1", "--batches", "2, 8"]
    assert main(found) == 0
    assert "ms at B = 8" in capsys.readouterr().out
    assert main([*found[:-1], "2;8"]) == 2
    assert "--batches must be sizes" in capsys.readouterr().err

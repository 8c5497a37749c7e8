"""Tasks of one's own, named by the function that makes them, wherever a preset is named."""

import csv
import json
import re
import sys

import pytest
import torch
from torch import nn

import nets_deap as nets
from nets_deap.cli.main import main
from nets_deap.errors import InvalidTypeError, InvalidValueError
from nets_deap.experiments.own import configuration
from nets_deap.experiments.own_task import label, loaded, record_of

SOURCE = """
import nets_deap as nets

def make_task(seed, hidden=30, lr: float = 0.05, device="cpu", *, noise=None):
    recipe = nets.Recipe(lr=lr, batch_size=3, steps=10, loss="binary_cross_entropy")
    return nets.tasks.xor(hidden=hidden, seed=seed, device=device, recipe=recipe)

def deaf(seed):
    return nets.tasks.xor(hidden=4, seed=0)

def other(seed):
    return "a task"

def two(seed, data):
    return None
"""
TINY = ["--generations", "1", "--population", "4", "--progress", "none"]
TINY += ["--set", "final.steps=5", "--set", "final.members=2", "--set", "search.density=0.1,1"]
BRIEF = {"seeds": 1, "budget": 60, "densities": (0.3, 0.2), "on_done": lambda line: None}
SETTINGS = {"search.population": 4, "search.generations": 1, "final.steps": 3}


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file with functions, in the working directory; what it leaves in Python is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "mytask", raising=False)
    (tmp_path / "mytask.py").write_text(SOURCE)
    yield tmp_path / "mytask.py"
    sys.modules.pop("mytask", None)


def rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


# ---- run and resume


def test_a_run_of_ones_own_task_takes_settings_and_remembers_what_made_it(file, capsys):
    more = ["--set", "task.hidden=20", "--set", "recipe.lr=0.1", "--seed", "3"]
    assert main(["run", "mytask.py:make_task", *TINY, *more]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^mytask: .*the front, 5 steps from W0, densest first$", out, re.M)
    held = json.loads((file.parent / "runs/mytask-seed3/config.json").read_text())
    assert held["config"]["task"]["source"] == f"{file}:make_task"
    assert held["config"]["task"]["arguments"] == {
        "hidden": 20, "lr": 0.05, "device": "cpu", "noise": None,
    }  # fmt: skip
    assert held["task"]["layers"][0] == ["layers.0.weight", [20, 2]]
    assert held["task"]["recipe"]["lr"] == held["config"]["recipe"]["lr"] == 0.1
    assert held["task"]["seed"] == 3
    # 20 and 5 times the recipe's 10 steps, where nothing else is set.
    assert held["config"]["search"]["budget"] == 200


def test_such_a_run_goes_on_from_anywhere_and_tells_of_a_changed_file(
    file, tmp_path_factory, monkeypatch, capsys, caplog
):
    free = ["--set", "search.budget=none"]
    assert main(["run", "mytask.py", *TINY, *free, "--out", "whole", "--generations", "2"]) == 0
    assert main(["run", "mytask.py", *TINY, *free, "--out", "parts"]) == 0
    run = str((file.parent / "parts").absolute())
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    file.write_text(SOURCE + "# a word\n")
    assert main(["resume", run, "--generations", "2", "--progress", "none"]) == 0
    assert "has changed since this run began" in caplog.text
    ours, whole = (rows(file.parent / name / "front.csv") for name in ("parts", "whole"))
    assert ours == whole
    file.write_text(SOURCE.replace("hidden=hidden", "hidden=hidden + 1"))
    capsys.readouterr()
    assert main(["resume", run, "--generations", "2", "--progress", "none"]) == 2
    assert "task must have the layers and initial weights of the run" in capsys.readouterr().err
    file.unlink()
    assert main(["resume", run, "--progress", "none"]) == 2
    assert str(file) in capsys.readouterr().err


def test_no_file_of_a_run_folder_is_ever_run(file, capsys):
    assert main(["run", "mytask.py", *TINY, "--out", "r"]) == 0
    planted = file.parent / "r" / "mytask.py"
    planted.write_text("raise SystemExit('run')")
    config = file.parent / "r" / "config.json"
    config.write_text(config.read_text().replace(str(file), str(planted)))
    assert main(["resume", "r"]) == 2
    assert "lie outside of the run folder" in capsys.readouterr().err


# ---- the other commands


def test_the_other_commands_take_it_as_a_preset(file, capsys):
    assert main(["describe", "mytask:make_task", "--set", "task.hidden=7"]) == 0
    assert "layers.0.weight  Linear  7x2 " in capsys.readouterr().out
    assert main(["presets", "mytask.py"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"task.hidden=30", "recipe.steps=10", "search.budget=200", "final.steps=50"} <= {*lines}
    assert main(["baseline", "erk", "--preset", "mytask.py", "--densities", "0.2"]) == 0
    assert "20.00 %" in capsys.readouterr().out
    assert main(["slurm", "array", "mytask.py:make_task", "--set", "recipe.lr=0.3"]) == 0
    script = capsys.readouterr().out
    assert 'nets-deap run mytask.py:make_task --seed "$seed"' in script
    assert "--job-name=mytask\n" in script
    assert main(["slurm", "array", "mytask.py", "--set", "task.width=3"]) == 2
    assert "task.width must be a parameter of" in capsys.readouterr().err


def test_a_ticket_of_such_a_run_is_checked_on_its_task(file, capsys):
    assert main(["run", "mytask.py", *TINY, "--out", "r"]) == 0
    (ticket, *_) = sorted(
        (file.parent / "r/tickets").glob("*"), key=lambda path: nets.Ticket.load(path).density
    )
    capsys.readouterr()
    assert main(["ticket", "check", str(ticket), "--seeds", "2"]) == 0
    assert "5 steps from scratch, 2 replicates" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("nothing.py:make_task", "task must be in a file"),
        ("mytask.py:make_tsk", "Did you mean 'make_task'?"),
        ("nothing.at.all:make_task", "task must be in a module"),
        (".mytask:make_task", "task must be in a module"),
        ("mytask.py:two", "make_task must take what it is given"),
        ("mytask.py:other", "returns must be a task"),
        ("mytask.py:deaf", "Pass it on: nets.Task(..., seed=seed)."),
    ],
)
def test_what_makes_no_task_is_refused(reference, text, file, capsys):
    assert main(["run", reference, "--seed", "1", *TINY]) == 2
    assert text in capsys.readouterr().err
    assert [path.name for path in file.parent.iterdir() if path.name != "__pycache__"] == [
        "mytask.py"
    ]


def test_folders_are_called_by_file_and_function():
    assert label("a/my task.py:make_task") == "my-task"
    assert label("a/mine.py") == label("pkg.mine:make_task") == "mine"
    assert label("mine.py:small") == "mine-small"


def test_parameters_are_read_by_annotation_or_default(file):
    made = loaded("mytask.py")
    hints = {field: type(value) for field, value in made.as_dict()["arguments"].items()}
    assert hints == {"hidden": int, "lr": float, "device": str, "noise": type(None)}
    assert record_of(lambda seed, on=False, sizes=(3, 4), make=dict: None).as_dict()[
        "arguments"
    ] == {"on": False, "sizes": (3, 4)}


# ---- compare


def make_task(seed, hidden=20):
    recipe = nets.Recipe(lr=0.05, batch_size=3, steps=10, loss="binary_cross_entropy")
    return nets.tasks.xor(hidden=hidden, seed=seed, recipe=recipe, device="cpu")


def test_compare_in_python_is_that_of_the_command_line(file, capsys):
    methods = ["evolution", "erk"]
    given = {**BRIEF, "settings": {**SETTINGS, "task.hidden": 20}, "methods": methods}
    found = nets.compare("mytask.py:make_task", "python", **given)
    assert str(found) == found.text()
    settings = [f"--set={name}={value}" for name, value in given["settings"].items()]
    arguments = ["compare", "mytask.py", "--seeds", "1", "--budget", "60", *settings]
    assert main([*arguments, "--densities", "0.3,0.2", "--methods", "evolution,erk"]) == 0
    one, other = (rows(file.parent / name) for name in
                  ("python/rows.csv", "runs/compare-mytask/rows.csv"))  # fmt: skip
    same = [{k: v for k, v in row.items() if k != "search_seconds"} for row in one]
    assert same == [{k: v for k, v in row.items() if k != "search_seconds"} for row in other]
    loose = nets.compare(make_task, **{**given, "settings": SETTINGS})
    assert [one.accuracy.tolist() for one in loose.methods] == [
        one.accuracy.tolist() for one in found.methods
    ]


def test_compare_goes_on_unless_the_task_is_another_one(file, caplog):
    given = {**BRIEF, "settings": {**SETTINGS, "task.hidden": 20}}
    nets.compare("mytask.py", "c", methods=["erk"], **given)
    file.write_text(SOURCE + "# a word\n")
    nets.compare("mytask.py", "c", methods=["erk", "random"], **given)
    assert "has changed since c was begun" in caplog.text
    file.write_text(SOURCE.replace("hidden=hidden", "hidden=hidden, noise=0.2"))
    with pytest.raises(InvalidValueError, match=r"be that of dense with seed 0.*another folder"):
        nets.compare("mytask.py", "c", methods=["erk", "snip"], **given)
    with pytest.raises(InvalidValueError, match=r"hold the same comparison.*hidden 21 \(there: 20"):
        nets.compare("mytask.py", "c", **{**given, "settings": {**SETTINGS, "task.hidden": 21}})


def test_levels_that_leave_a_layer_empty_are_left_out_of_the_usual_ones():
    lines = []
    given = {**BRIEF, "densities": None, "on_done": lines.append}
    found = nets.compare(make_task, methods=["erk"], settings=SETTINGS, **given)
    assert found.densities == pytest.approx([0.8**10, 0.8**12, 0.8**14, 0.8**16])
    assert len(lines) == 2


def test_without_a_test_split_validation_is_compared():
    def task(seed):
        made = make_task(seed)
        inputs, targets = made.problem.train
        return nets.Task(
            made.model, train=(inputs, targets), val=(inputs, targets), seed=seed,
            recipe=made.recipe, device="cpu",
        )  # fmt: skip

    found = nets.compare(task, methods=["erk"], settings=SETTINGS, **BRIEF)
    assert found.split == "validation"
    assert found.text().startswith("Validation accuracy in % after 3 steps from W0, one seed")


def test_a_method_that_the_task_is_not_for_is_left_out_with_a_word(monkeypatch):
    from nets_deap.experiments import methods

    def refuse(setting, budget):
        raise InvalidValueError("not for this")

    few = {n: methods.METHODS[n] for n in ("evolution", "snip", "erk")}
    few["snip"] = methods.Method("snip", "", refuse)
    for module in ("methods", "compare", "summarise", "summary"):
        monkeypatch.setattr(f"nets_deap.experiments.{module}.METHODS", few)
    lines = []
    found = nets.compare(make_task, settings=SETTINGS, **{**BRIEF, "on_done": lines.append})
    assert [one.name for one in found.methods] == ["evolution", "erk"]
    assert "seed 0  snip           left out: not for this" in lines
    with pytest.raises(InvalidValueError, match="not for this"):
        nets.compare(make_task, settings=SETTINGS, methods=["snip"], **BRIEF)


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (make_task(0), InvalidTypeError, "make_task must make a task for each seed"),
        ("quikstart", InvalidValueError, "Did you mean 'quickstart'"),
        (lambda: 0, InvalidTypeError, "make_task must take what it is given"),
        ("xor-mlp10", InvalidValueError, "budget must be given"),
    ],
)
def test_what_cannot_be_compared_is_told(given, error, text):
    with pytest.raises(error, match=text):
        nets.compare(given, seeds=1)


def test_a_task_without_accuracy_is_refused():
    def task(seed):
        return nets.tasks.xor(
            hidden=20,
            seed=seed,
            device="cpu",
            recipe=nets.Recipe(steps=5, batch_size=4, loss="mse"),
        )

    with pytest.raises(InvalidValueError, match="have an accuracy to compare by"):
        nets.compare(task, methods=["erk"], **BRIEF)


def test_a_function_is_named_by_its_file_where_that_makes_it_again():
    assert record_of(make_task).source == f"{__file__}:make_task"
    assert record_of(lambda seed: None).source.endswith(".<lambda>")
    assert record_of(lambda seed: None).digest == record_of(make_task).digest is not None


@pytest.mark.parametrize("seeded", ["never", "always alike", "by seed"])
def test_initial_weights_that_seeds_do_not_fix_are_told(seeded, caplog):
    def task(seed):
        if seeded != "never":
            torch.manual_seed(seed if seeded == "by seed" else 0)
        model = nn.Sequential(nn.Linear(2, 20), nn.ReLU(), nn.Linear(20, 1))
        made = make_task(seed)
        return nets.Task(
            model, train=made.problem.train, val=made.problem.val, seed=seed, recipe=made.recipe
        )

    given = {**BRIEF, "settings": SETTINGS, "methods": ["erk"], "seeds": [0, 1]}
    if seeded == "never":
        with pytest.raises(InvalidValueError, match="must make the same initial weights"):
            nets.compare(task, **given)
        return
    nets.compare(task, **given)
    alike = "Seeds 0 and 1 begin with the same initial weights" in caplog.text
    assert alike == (seeded == "always alike")


@pytest.mark.parametrize("unit", ["weight", "neuron"])
def test_a_search_for_units_trains_them(tmp_path, unit):
    (tmp_path / "mine.py").write_text(
        "import nets_deap as nets\n"
        "def make(seed):\n"
        "    recipe = nets.Recipe(steps=40, batch_size=4, loss='binary_cross_entropy')\n"
        f"    return nets.tasks.xor(hidden=8, unit={unit!r}, recipe=recipe, seed=seed)\n"
    )
    search = configuration(f"{tmp_path / 'mine.py'}:make", {"search.patience": 3}).search
    assert search.budget == 20 * 40
    assert search.patience == 3
    if unit == "weight":
        assert (search.population, search.generations) == (40, 60)
        assert search.objectives == ("val_loss", "density")
        return
    assert search.objectives == ("val_loss", "multiply_adds")
    # A generation of networks that are as dear as dense ones trains each for a tenth of the recipe.
    assert search.budget / (search.population * (search.generations + 1)) > 0.1 * 40
    set_ = configuration(f"{tmp_path / 'mine.py'}:make", {"search.generations": 9}).search
    assert (set_.generations, set_.population) == (9, search.population)

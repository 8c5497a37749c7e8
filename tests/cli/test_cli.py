"""The command line, in this process and as users start it."""

import csv
import importlib
import json
import pkgutil
import re
import subprocess
import sys

import pytest
from torchvision.datasets import CIFAR10

from nets_deap import cli
from nets_deap.cli.main import main

TINY = ["--generations", "1", "--population", "6", "--progress", "none"]
TINY += ["--set", "recipe.steps=10", "--set", "final.steps=10", "--set", "final.members=3"]


def read_csv(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def call(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "nets_deap", *arguments], capture_output=True, text=True
    )


def test_run_prints_the_table_and_leaves_the_folder(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["run", "xor-mlp10", "--seed", "3", "--out", str(out), *TINY]) == 0
    text = capsys.readouterr().out
    assert "random mask" in text
    assert f"run folder: {out}" in text
    files = {p.name for p in out.iterdir()}
    assert files == {
        *("checkpoints", "config.json", "log.jsonl", "log.csv", "history.jsonl"),
        *("front.csv", "curves.json", "front.png", "tickets"),
    }
    config = json.loads((out / "config.json").read_text())
    assert config["preset"] == "xor-mlp10"
    assert config["config"]["seed"] == config["task"]["seed"] == config["search"]["seed"] == 3
    assert config["task"]["recipe"]["steps"] == 10
    assert [o["direction"] for o in config["search"]["objectives"]] == ["min", "min"]
    rows = read_csv(out / "front.csv")
    trained = [row for row in rows if row["test_accuracy"]]
    assert 1 <= len(trained) <= 3
    assert (out / "front.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_only_the_figure_of_run_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["run", "xor-mlp10", "--out", str(tmp_path / "run"), *TINY]) == 0
    text = capsys.readouterr().out
    assert "\nfront.png was not drawn: " in text
    assert 'pip install -e ".[plots]"' in text
    assert (tmp_path / "run" / "front.csv").exists()
    assert not (tmp_path / "run" / "front.png").exists()


def test_the_same_seed_gives_byte_identical_fronts(tmp_path, capsys):
    def front(name, *arguments):
        main(["run", "xor-mlp10", "--out", str(tmp_path / name), *TINY, *arguments])
        return (tmp_path / name / "front.csv").read_bytes()

    one = front("one", "--seed", "1")
    assert one == front("two", "--seed", "1")
    assert one != front("three", "--seed", "2")


def test_another_chunk_size_gives_the_same_tickets_in_float64(tmp_path, capsys):
    def rows(chunk):
        out = tmp_path / str(chunk)
        more = ["--set", f"task.chunk={chunk}", "--set", "task.dtype=float64"]
        main(["run", "xor-mlp10", "--out", str(out), *TINY, *more])
        return read_csv(out / "front.csv")

    one, other = rows(1), rows(4)
    assert [row["ticket"] for row in one] == [row["ticket"] for row in other]
    for a, b in zip(one, other, strict=True):
        assert float(a["val_loss"]) == pytest.approx(float(b["val_loss"]), abs=1e-6)


def test_default_folders_do_not_collide(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["run", "xor-mlp10", *TINY]) == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == [
        "xor-mlp10-seed0",
        "xor-mlp10-seed0-2",
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["run", "xor"], "preset must be a known name"),
        (["run", "xor-mlp10", "--set", "recipe.lr"], "--set must be FIELD=VALUE"),
        (["run", "xor-mlp10", "--set", "recipe.lr=fast"], "recipe.lr must be readable"),
        (["run", "xor-mlp10", "--set", "recipe.lrr=1"], "Did you mean 'recipe.lr'"),
        (
            ["run", "xor-mlp10", "--set", "search.objectives=loss"],
            "objectives must be a known name",
        ),
        (["run", "xor-mlp10", "--population", "1"], "search.population must be in range"),
        (["run", "xor-mlp10", "--seed", "-1"], "seed must be in range"),
        (["run", "xor-mlp10", "--device", "tpu"], "device must be"),
        (["run", "xor-mlp10", "--device", "cuda:99"], "device must be there"),
        (["run", "xor-mlp10", "--seed", "1", "--set", "seed=2"], "seed must be set once"),
        (["presets", "quikstart"], "Did you mean 'quickstart'"),
    ],
)
def test_bad_input_is_one_line_status_2_and_no_files(
    arguments, text, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("nets-deap: error: ")
    assert text in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_told_before_any_training(tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert main(["run", "xor-mlp10", "--out", str(tmp_path / "file" / "run"), *TINY]) == 2
    assert "must be a writable folder" in capsys.readouterr().err


def test_a_folder_in_use_is_refused_and_kept(tmp_path, capsys):
    (tmp_path / "precious").write_text("x")
    assert main(["run", "xor-mlp10", "--out", str(tmp_path), *TINY]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]


def test_missing_mnist_names_folder_preset_and_flag(tmp_path, capsys, monkeypatch):
    from torchvision import datasets

    def offline(*_, **__):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(datasets.MNIST, "download", offline)
    out = tmp_path / "out"
    folder = tmp_path / "data"
    status = main(["run", "lenet-mnist", "--data-dir", str(folder), "--out", str(out), *TINY])
    text = capsys.readouterr().err
    assert status == 2
    for part in (str(folder), "--data-dir", "quickstart"):
        assert part in text
    assert not out.exists()


def test_an_interrupt_ends_with_130_and_keeps_the_folder(tmp_path, capsys, monkeypatch):
    from nets_deap.experiments import run

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "train_front", interrupt)
    assert main(["run", "xor-mlp10", "--out", str(tmp_path / "r"), *TINY]) == 130
    assert (tmp_path / "r" / "front.csv").exists()


def test_presets_lists_them_and_every_field_of_one(capsys):
    assert main(["presets"]) == 0
    listing = capsys.readouterr().out
    for name in ("quickstart", "xor-mlp10", "xor-mlp100", "lenet-mnist"):
        assert name in listing
    assert main(["presets", "quickstart"]) == 0
    assert "recipe.lr=0.0012" in capsys.readouterr().out.splitlines()


def test_describe_prints_the_parameters_of_a_preset(capsys):
    assert main(["describe", "xor-mlp10", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [
        "layers.0.weight",
        "Linear",
        "10x2",
        "20",
        "yes",
        "weight",
        "of",
        "a",
        "linear",
        "layer",
    ]
    assert "maskable  30 of 41 parameters in 2 layers" in "\n".join(lines)
    assert main(["describe", "xor-mlp10", "--set", "task.maskable=Conv2d"]) == 2
    assert "expected one of Linear, got Conv2d" in capsys.readouterr().err


@pytest.mark.parametrize("preset", ["conv2-cifar10", "resnet20-cifar10"])
def test_data_that_are_not_there_are_one_clear_error(preset, tmp_path, monkeypatch, capsys):
    def download(self):
        raise OSError("offline")

    monkeypatch.setattr(CIFAR10, "download", download)
    arguments = ["run", preset, "--data-dir", str(tmp_path), "--out", str(tmp_path / "r")]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    for part in (str(tmp_path / "cifar-10-batches-py"), "--data-dir", "'conv2-mnist5k'", "offline"):
        assert part in said
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_bench_evolution_prints_the_cost(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "evolution", "--population", "4", "--generations", "2"]) == 0
    assert "266200 bits, mu = lambda = 4: median" in capsys.readouterr().out
    found = json.loads((tmp_path / "runs" / "bench-evolution.json").read_text())
    assert set(found) == {"evolution"}
    assert set(found["evolution"]) == {"operators", "selection", "recorder", "evolution"}


@pytest.mark.slow
def test_bench_training_prints_a_table_and_writes_it(tmp_path, capsys):
    target = tmp_path / "new" / "bench.json"
    few = ["--nets", "lenet", "--populations", "2", "--densities", "0.05", "--repeats", "1"]
    arguments = ["bench", "training", *few, "--seconds", "0.01", "--engine", "batched"]
    assert main([*arguments, "--device", "cpu", "--out", str(target)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^lenet +2 +5 %", out, re.M)
    (row,) = json.loads(target.read_text())["training"]["rows"]
    assert (row["population"], row["density"], row["engine"]) == (2, 0.05, "batched")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--populations", "1,x"], "--populations must be numbers: expected 8,64, got '1,x'"),
        (["--densities", "5%"], "--densities must be numbers: expected 0.1,0.02"),
        (["--nets", "lenett"], "net must be a known name: "),
        (["--engine", "quick"], "engine must be a known name: "),
        (["--out", "/proc/bench.json"], "path must be a writable folder"),
        (["--out", "/tmp"], "/tmp is a folder, not a file"),
    ],
)
def test_bench_refuses_bad_input_before_it_measures(arguments, message, tmp_path, capsys):
    more = [] if "--out" in arguments else ["--out", str(tmp_path / "b.json")]
    assert main(["bench", "training", "--device", "cpu", *more, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "b.json").exists()


def test_help_and_errors_as_users_start_it():
    helped = call("--help")
    assert helped.returncode == 0
    assert "run quickstart" in helped.stdout
    assert call("run").returncode == 2
    bad = call("run", "xor-mlp10", "--set", "recipe.lr=-1")
    assert bad.returncode == 2
    assert "Traceback" not in bad.stderr


def test_every_command_has_a_file_of_its_name_and_every_file_with_a_command_is_listed(capsys):
    files = {info.name for info in pkgutil.iter_modules(cli.__path__)}
    modules = {name: importlib.import_module(f"nets_deap.cli.{name}") for name in files}
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = set(re.findall(r"^    (\w+)", capsys.readouterr().out, re.M)) - {"COMMAND"}
    assert commands == {name for name, module in modules.items() if hasattr(module, "add")}
    assert {"run", "bench", "completion"} < commands


def test_overwrite_replaces_the_default_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["run", "xor-mlp10", "--overwrite", *TINY]) == 0
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["xor-mlp10-seed0"]

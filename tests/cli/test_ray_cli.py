"""Workers by name: toolbox, search and command line, and nothing that they leave behind."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from support.running import TINY, left_by, start

import nets_deap as nets
from nets_deap.cli.main import main
from nets_deap.errors import InvalidValueError
from nets_deap.evolution.batch_map import batch_map, unwrap
from nets_deap.experiments.presets import PRESETS
from nets_deap.experiments.run import run
from nets_deap.training.workers import ray_session
from nets_deap.training.workers.ray_session import TempFolder

pytestmark = pytest.mark.extra


@pytest.fixture
def place(monkeypatch):
    """A folder for temporary files that no other test has, with a name short enough for Ray."""
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield folder


def left_over(place):
    """Return what a Ray with its files in this place leaves: processes, files."""
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    found = [line for line in processes.stdout.splitlines() if f"{place}/nets-ray-" in line]
    return found + [str(file) for file in Path(place).glob("nets-ray-*")]


def test_a_map_is_not_an_engine(xor_task):
    assert unwrap(nets.make_toolbox(xor_task, inherit="none").map) is batch_map
    with pytest.raises(TypeError, match=r"map must be callable: expected such as nets\.RayMap"):
        nets.make_toolbox(xor_task, map="ray", inherit="none")
    with pytest.raises(InvalidValueError, match="engine must be a known name"):
        nets.tasks.xor(hidden=3, engine="ray")


@pytest.mark.parametrize("command", ["run", "resume"])
@pytest.mark.parametrize(
    "flags",
    [["--workers", "2"], ["--address", "auto"], ["--gpus-per-worker", "0.5", "--workers", "2"]],
)
def test_options_of_workers_want_workers(command, flags, tmp_path, capsys):
    nets.search(
        nets.tasks.xor(hidden=3),
        generations=0,
        path=tmp_path / "run",
        progress="none",
        inherit="none",
    )
    (tmp_path / "run" / "config.json").rename(tmp_path / "config.json")
    facts = json.loads((tmp_path / "config.json").read_text())
    facts["config"] = PRESETS["xor-mlp10"].as_dict()
    (tmp_path / "run" / "config.json").write_text(json.dumps(facts))
    name = "xor-mlp10" if command == "run" else str(tmp_path / "run")
    assert main([command, name, *flags]) == 2
    message = capsys.readouterr().err
    assert "--map must have workers: expected ray, got local. Or leave out --" in message
    assert all(flag in message for flag in flags if flag.startswith("--"))


@pytest.mark.parametrize("mapped", ["search", "toolbox"])
def test_a_map_gets_each_generation_and_is_the_callers_to_close(mapped, xor_task):
    seen = []

    class Map:
        def __call__(self, function, tickets):
            seen.append(len(tickets))
            return batch_map(function, tickets)

        def close(self):
            raise AssertionError("closed by somebody else")

    options = {"population": 4, "generations": 2, "progress": "none"}
    if mapped == "search":
        nets.search(xor_task, map=Map(), **options, inherit="none")
    else:
        nets.search(
            xor_task, toolbox=nets.make_toolbox(xor_task, map=Map(), inherit="none"), **options
        )
    assert seen[0] == 4
    assert len(seen) == 3


def test_without_ray_the_extra_is_named(xor_task, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(nets.NetsError, match=r'pip install -e "\.\[ray\]"'):
        nets.RayMap(xor_task, workers=1)
    with pytest.raises(nets.NetsError, match=r'pip install -e "\.\[ray\]"'):
        run(PRESETS["xor-mlp10"], tmp_path / "run", map=nets.RayMap)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_program_left_is_swept_and_what_is_in_use_is_not(tmp_path):
    gone, fresh = tmp_path / "nets-ray-gone", tmp_path / "nets-ray-fresh"
    for folder in (gone, fresh, tmp_path / "other"):
        folder.mkdir()
        (folder / "log").touch()
    mine = TempFolder(str(tmp_path))
    for path in (gone, Path(mine.path)):
        os.utime(path, (0, 0))
    other = TempFolder(str(tmp_path))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"nets-ray-fresh", "other", Path(mine.path).name, Path(other.path).name}
    mine.remove()
    other.remove()
    assert {path.name for path in tmp_path.iterdir()} == {"nets-ray-fresh", "other"}


@pytest.mark.slow  # Ray starts twice
def test_a_run_on_workers_that_is_interrupted_ends_as_in_one_process(tmp_path, place):
    pytest.importorskip("ray", reason='workers need the extra "ray"')
    more = ["run", "xor-mlp10", *TINY, "--set", "task.dtype=float64"]
    for name in ("whole", "cut"):
        where = [] if name == "whole" else ["--map", "ray", "--workers", 2]
        process = start(*more, "--out", tmp_path / name, *where)
        if name == "cut":
            log = tmp_path / "cut" / "log.jsonl"
            while process.poll() is None and not (log.exists() and log.read_text().count("\n") > 1):
                time.sleep(0.02)
            assert process.poll() is not None or left_over(place)
            process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=120)
        assert process.returncode in ((0,) if name == "whole" else (0, 128 + signal.SIGTERM)), error
    assert left_over(place) == []
    if process.returncode:
        assert "go on with: nets-deap resume" in error
    process = start(
        "resume", tmp_path / "cut", "--map", "ray", "--workers", 1, "--progress", "none"
    )
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert "front, 20 steps from W0, densest first" in out
    whole, cut = left_by(tmp_path / "whole"), left_by(tmp_path / "cut")
    assert cut["front.csv"] == whole["front.csv"]
    assert json.loads(cut["curves.json"]) == json.loads(whole["curves.json"])
    assert left_over(place) == []
    assert not any("nets-ray" in name for name in os.listdir("/dev/shm"))


TWO = """
import pathlib, ray, sys, tempfile
import nets_deap as nets

first, second = (nets.tasks.xor(hidden=3) for _ in range(2))
ahead = nets.RayMap(first, workers=2)
behind = nets.RayMap(second, workers=1)
ahead.close()
print(len(list(pathlib.Path(tempfile.gettempdir()).glob("nets-ray-*"))))
toolbox = nets.make_toolbox(second, inherit="none")
assert len(behind(toolbox.evaluate, toolbox.population(n=2))) == 2
ray.shutdown()
try:
    behind(toolbox.evaluate, toolbox.population(n=2))
except nets.errors.CallOrderError as error:
    print(error)
behind.close()
print(ray.is_initialized())
"""


@pytest.mark.slow  # Ray starts
def test_the_last_of_two_ends_ray_and_none_starts_it_again(place):
    pytest.importorskip("ray", reason='workers need the extra "ray"')
    done = subprocess.run([sys.executable, "-c", TWO], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "1",  # while it runs, there is such a folder
        "Ray was shut down. Make a new nets.RayMap.",
        "False",
    ]
    assert left_over(place) == []


def test_without_a_place_for_files_that_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    monkeypatch.setattr(ray_session, "LONGEST_TEMP", 10_000)
    with pytest.raises(nets.errors.FileAccessError, match="Set TMPDIR"):
        TempFolder()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "localhost:99999999"])
def test_where_nothing_answers_that_is_said_at_once(address, xor_task, monkeypatch):
    ray = pytest.importorskip("ray", reason='workers need the extra "ray"')
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(nets.errors.CallOrderError, match="expected one that answers"):
        nets.RayMap(xor_task, workers=1, address=address)

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
from nets_deap.errors import InvalidValueError
from nets_deap.evolution.batch_map import batch_map, unwrap
from nets_deap.training.workers import ray_session
from nets_deap.training.workers.ray_session import TempFolder

pytestmark = pytest.mark.extra


def left_over():
    """Return what a Ray of ours leaves: processes, shared memory, files."""
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    found = [line for line in processes.stdout.splitlines() if "nets-ray-" in line]
    return found + [str(file) for file in Path("/tmp").glob("nets-ray-*")]


def test_names_of_places_are_not_names_of_engines(xor_task):
    assert unwrap(nets.make_toolbox(xor_task).map) is batch_map
    with pytest.raises(InvalidValueError, match=r"engine must be a known.*Task\(engine='vmap'"):
        nets.make_toolbox(xor_task, engine="vmap")
    with pytest.raises(InvalidValueError, match=r"engine must have workers.*leave out"):
        nets.make_toolbox(xor_task, workers=2)
    with pytest.raises(InvalidValueError, match=r"engine must have workers.*gpus_per_worker"):
        nets.make_toolbox(xor_task, gpus_per_worker=0.5)
    with pytest.raises(InvalidValueError, match="engine must be a known name"):
        nets.tasks.xor(hidden=3, engine="ray")


def test_without_ray_the_extra_is_named(xor_task, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(nets.NetsError, match=r'pip install "nets-deap\[ray\]"'):
        nets.make_toolbox(xor_task, engine="ray", workers=1)


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
def test_a_run_on_workers_that_is_interrupted_ends_as_in_one_process(tmp_path):
    pytest.importorskip("ray", reason='workers need the extra "ray"')
    before = left_over()
    more = ["run", "xor-mlp10", *TINY, "--set", "task.dtype=float64"]
    for name in ("whole", "cut"):
        where = [] if name == "whole" else ["--engine", "ray", "--workers", 2]
        process = start(*more, "--out", tmp_path / name, *where)
        if name == "cut":
            log = tmp_path / "cut" / "log.jsonl"
            while process.poll() is None and not (log.exists() and log.read_text().count("\n") > 1):
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=120)
        assert process.returncode in ((0,) if name == "whole" else (0, 128 + signal.SIGTERM)), error
    assert left_over() == before
    if process.returncode:
        assert "go on with: nets-deap resume" in error
    process = start(
        "resume", tmp_path / "cut", "--engine", "ray", "--workers", 1, "--progress", "none"
    )
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert "front after 20 steps from W0" in out
    whole, cut = left_by(tmp_path / "whole"), left_by(tmp_path / "cut")
    assert cut["front.csv"] == whole["front.csv"]
    assert json.loads(cut["curves.json"]) == json.loads(whole["curves.json"])
    assert left_over() == before
    assert not any("nets-ray" in name for name in os.listdir("/dev/shm"))


TWO = """
import ray, sys
import nets_deap as nets

first, second = (nets.tasks.xor(hidden=3) for _ in range(2))
ahead = nets.RayMap(first, workers=2)
behind = nets.RayMap(second, workers=1)
ahead.close()
toolbox = nets.make_toolbox(second)
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
def test_the_last_of_two_ends_ray_and_none_starts_it_again():
    pytest.importorskip("ray", reason='workers need the extra "ray"')
    before = left_over()
    done = subprocess.run([sys.executable, "-c", TWO], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Ray was shut down. Make a new nets.RayMap.",
        "False",
    ]
    assert left_over() == before


def test_without_a_place_for_files_that_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    monkeypatch.setattr(ray_session, "LONGEST_TEMP", 10_000)
    with pytest.raises(nets.errors.FileAccessError, match="Set TMPDIR"):
        ray_session._folder()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "localhost:99999999"])
def test_where_nothing_answers_that_is_said_at_once(address, xor_task, monkeypatch):
    ray = pytest.importorskip("ray", reason='workers need the extra "ray"')
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(nets.errors.CallOrderError, match="expected one that answers"):
        nets.RayMap(xor_task, workers=1, address=address)

"""Programs of users that get signals: they end as if by the signal, and say how to go on."""

import os
import signal
import subprocess
import sys
import time

import pytest
from support.running import ROOT

from nets_deap.runs.storage import npz

HEAD = """
import sys
from deap import algorithms
import nets_deap as nets
path, on = sys.argv[1], len(sys.argv) > 2
task = nets.tasks.xor(hidden=10)
"""
SEARCH = """
nets.search(task, path=path, resume=on, population=20, generations=10**5, progress="none")
"""
STOCK = """
toolbox = nets.make_toolbox(task)
recorder = None if on else nets.Recorder(path, task=task, progress="none")
population = toolbox.population(n=20)
if on:
    run = nets.resume(path, task=task, progress="none")
    recorder, population = run.recorder, run.population
algorithms.eaMuPlusLambda(
    population, toolbox, 20, 20, 0.2, 0.8, 10**5, stats=recorder, halloffame=recorder.front,
    verbose=False,
)
"""


def begin(path, code, *more):
    """Start a program; return it once it has saved something."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD + code, path, *more],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    start = time.time()
    for _ in range(1200):
        saved = list(path.glob("checkpoints/0*.npz"))
        if any(file.stat().st_mtime > start for file in saved):
            return process
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("nothing was saved")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda n: n.name)
@pytest.mark.parametrize(("code", "how"), [(SEARCH, "resume=True"), (STOCK, "nets.resume(")])
def test_a_script_ends_with_128_and_the_signal_in_one_line(tmp_path, code, how, number):
    path = tmp_path / "run"
    process = begin(path, code)
    process.send_signal(number)
    err = process.communicate(timeout=60)[1]
    if code == STOCK and process.returncode == -number:  # not while it was training
        assert err == ""
    else:
        (line,) = err.splitlines()
        assert line.startswith(f"{number.name}: all that is done is saved; go on with")
        assert how in line
        assert process.returncode == 128 + number
    again = begin(path, code, "on")
    again.kill()
    again.communicate()
    assert all(npz.read(file) for file in path.glob("checkpoints/0*.npz"))


@pytest.mark.slow
@pytest.mark.parametrize("code", [SEARCH, STOCK], ids=["search", "stock"])
def test_ctrl_c_ends_a_script_with_a_line_that_says_how_to_go_on(tmp_path, code):
    path = tmp_path / "run"
    process = begin(path, code)
    process.send_signal(signal.SIGINT)
    lines = process.communicate(timeout=60)[1].splitlines()
    if process.returncode == -signal.SIGINT:  # not while it was training: Python's own
        assert "KeyboardInterrupt" in lines
    else:
        assert process.returncode == 128 + signal.SIGINT
        assert len(lines) == 1
    if code == STOCK or len(lines) == 1:
        assert ("resume=True" if code == SEARCH else "nets.resume(") in lines[-1]
    again = begin(path, code, "on")
    again.kill()
    again.communicate()

"""Runs that are killed at random points end as if they had not been."""

import multiprocessing
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.running import TINY, command, left_by, on_with

MNIST = ["--generations", 3, "--population", 3, "--progress", "none"]
MNIST += ["--set", "recipe.steps=20", "--set", "final.steps=10", "--set", "final.members=1"]
MNIST += ["--set", "search.inherit=weights", "--set", "search.budget=none"]
RUNS = {"xor-mlp10": (TINY, 100), "quickstart": (MNIST, 20)}

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["support.running", "support.warm"])


def run(arguments):
    """Run a command in a process that is forked from one which has imported torch."""
    process = server.Process(target=command, args=(arguments,))
    process.start()
    return process


def kill_and_go_on(folder, preset, kills, lasts, wanted):
    """Kill runs at random points; return how many left something else than ``wanted``."""
    rng, killed, other = random.Random(str(folder)), 0, 0
    while killed < kills:
        path = folder / f"killed{killed}"
        while True:
            process = run(on_with(path, preset, RUNS[preset][0]))
            if killed < kills and rng.random() < 0.8:
                process.join(rng.random() * lasts)
                if process.is_alive():
                    os.kill(process.pid, signal.SIGKILL)
                    killed += 1
            process.join()
            if process.exitcode == 0:
                break
            assert process.exitcode == -signal.SIGKILL, process.exitcode
        other += left_by(path) != wanted
    return other


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "kills"), [(name, RUNS[name][1]) for name in RUNS])
def test_killed_runs_end_as_unharmed_ones(tmp_path, preset, kills):
    for name in ("whole", "timed"):
        start = time.monotonic()
        process = run(on_with(tmp_path / name, preset, RUNS[preset][0]))
        process.join()
        lasts = time.monotonic() - start
        assert process.exitcode == 0
    wanted = left_by(tmp_path / "whole")
    assert left_by(tmp_path / "timed") == wanted
    shares = {tmp_path / "a": kills // 2, tmp_path / "b": kills - kills // 2}
    with ThreadPoolExecutor(2) as pool:
        begun = [
            pool.submit(kill_and_go_on, folder, preset, share, lasts, wanted)
            for folder, share in shares.items()
        ]
    assert sum(each.result() for each in begun) == 0

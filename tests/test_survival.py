"""Runs that are killed at random points, and one that goes on for very long."""

import multiprocessing
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from running import RECIPE, TINY, command, left_by, on_with

import nets_deap as nets
from nets_deap.runs import checkpoints

MNIST = ["--generations", 3, "--population", 3, "--progress", "none"]
MNIST += ["--set", "recipe.steps=20", "--set", "final.steps=10", "--set", "final.members=1"]
MNIST += ["--set", "search.inherit=weights", "--set", "search.budget=none"]
RUNS = {"xor-mlp10": (TINY, 100), "quickstart": (MNIST, 20)}

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["running", "warm"])


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


@pytest.mark.parametrize(
    ("preset", "kills"),
    [
        ("xor-mlp10", 3),
        *(pytest.param(name, RUNS[name][1], marks=pytest.mark.slow) for name in RUNS),
    ],
)
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


def usage():
    """Return memory in bytes, open files and threads of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    threads = len(os.listdir("/proc/self/task"))
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd")), threads


def soak(path, generations, answer):
    import torch

    torch.set_num_threads(1)
    checkpoints.SHARE = 0.05
    task = nets.tasks.xor(hidden=4, recipe=RECIPE.with_steps(5))
    seen = []

    compile_ = nets.Recorder.compile

    def watch(self, population):
        row = compile_(self, population)
        if self.generation in (100, generations):
            seen.append(usage())
        return row

    nets.Recorder.compile = watch
    nets.search(
        task, population=8, generations=generations, path=path, progress="none",
        objectives=("val_loss", "density"),
    )  # fmt: skip
    seen.append((threading.active_count(), sorted(p.name for p in path.iterdir())))
    answer.put(seen)


@pytest.mark.slow
def test_two_thousand_generations_take_no_more_memory_files_or_threads(tmp_path):
    answer = server.Queue()
    process = server.Process(target=soak, args=(tmp_path / "run", 2000, answer))
    process.start()
    early, late, (threads, names) = answer.get(timeout=900)
    process.join()
    answer.close()
    answer.join_thread()
    assert late[0] < 1.05 * early[0]
    assert late[1:] == early[1:]
    assert threads == 1
    expected = ["checkpoints", "config.json", "front.csv", "history.jsonl"]
    assert names == [*expected, "log.csv", "log.jsonl", "tickets"]
    assert np.isfinite(late[0])

"""A run that goes on for very long takes no more memory, files or threads."""

import multiprocessing
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from support.running import RECIPE

import nets_deap as nets
from nets_deap.runs.checkpoint import checkpoints

server = multiprocessing.get_context("forkserver")


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
        objectives=("val_loss", "density"), inherit="none"
    )  # fmt: skip
    seen.append((threading.active_count(), sorted(p.name for p in path.iterdir())))
    answer.put(seen)


@pytest.mark.slow
@pytest.mark.parametrize("generations", [2000])
def test_many_generations_take_no_more_memory_files_or_threads(tmp_path, generations):
    answer = server.Queue()
    process = server.Process(target=soak, args=(tmp_path / "run", generations, answer))
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

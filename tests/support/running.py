"""What tests of runs share: a tiny run with any algorithm, and what it left."""

import hashlib
import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from deap import algorithms

import nets_deap as nets
from nets_deap.training.engines import dispatch

ROOT = Path(__file__).parent.parent.parent
NGEN = 5
RECIPE = nets.Recipe(lr=0.05, batch_size=4, steps=20, loss="binary_cross_entropy")
ALGORITHMS = {
    "plus": lambda *a, **k: algorithms.eaMuPlusLambda(*a, 8, 12, 0.3, 0.6, **k),
    "comma": lambda *a, **k: algorithms.eaMuCommaLambda(*a, 8, 12, 0.3, 0.6, **k),
    "simple": lambda *a, **k: algorithms.eaSimple(*a, 0.3, 0.7, **k),
}


class Cut(Exception):
    """An interruption that tests cause."""


def new_task(**options):
    return nets.tasks.xor(hidden=4, **{"recipe": RECIPE, **options})


def new_toolbox(task, options):
    budget = nets.Budget(20_000, unit="steps", generations=NGEN)
    return nets.make_toolbox(task, **{"budget": budget, "inherit": "none", **options})


def begin(path, options, archive=None, task=None):
    """Return toolbox, population and recorder of a fresh run."""
    task = new_task() if task is None else task
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    toolbox = new_toolbox(task, options)
    population = toolbox.population(n=8)
    recorder = nets.Recorder(path, task=task, generations=NGEN, progress="none", archive=archive)
    return toolbox, population, recorder


def go(kind, toolbox, population, recorder, ngen=NGEN, until=None):
    """Run an algorithm; cut it off after generation ``until``."""
    compile_ = recorder.compile

    def compile_and_cut(tickets):
        row = compile_(tickets)
        if recorder.generation == until:
            raise Cut
        return row

    recorder.compile = compile_and_cut
    try:
        ALGORITHMS[kind](
            population, toolbox, ngen=ngen, stats=recorder, halloffame=recorder.front, verbose=False
        )
    except Cut:
        pass
    finally:
        del recorder.compile
        recorder.close()


def left_by(path):
    """Return everything that a run left, without times and checkpoints."""
    found = {}
    for file in sorted(path.rglob("*")):
        name = str(file.relative_to(path))
        if file.is_dir() or name.startswith(("checkpoints", ".lock")) or name == "config.json":
            continue
        found[name] = file.read_bytes()
    rows = [json.loads(line) for line in found.pop("log.jsonl").splitlines()]
    found["rows"] = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    lines = found.pop("log.csv").decode().splitlines()
    at = lines[0].split(",").index("seconds")
    cells = [line.split(",") for line in lines]
    found["lines"] = [line[:at] + line[at + 1 :] for line in cells]
    return found


def who(population):
    """Return what a population is, with who is whom."""
    return [
        (t.digest, t.fitness.values, t.evaluations, [t is other for other in population])
        for t in population
    ]


def start(*arguments, **options):
    """Start the command line as users do."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "nets_deap", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


class Bomb:
    """Sets a flag if it is ever unpickled."""

    exploded = False

    def __reduce__(self):
        return setattr, (Bomb, "exploded", True)


def sealed(content):
    """Return a zip file whose comment of 64 bytes is the SHA-256 that belongs there."""
    blank = content[:-64] + b"0" * 64
    return content[:-64] + hashlib.sha256(blank).hexdigest().encode()


TINY = ["--generations", 6, "--population", 30, "--progress", "none"]
TINY += ["--set", "recipe.steps=20", "--set", "final.steps=20", "--set", "final.members=3"]


def command(arguments, every=True):
    """Run the command line in this process, silently, on one thread, for processes of tests."""
    from nets_deap.cli import main
    from nets_deap.runs.checkpoint import checkpoints

    torch.set_num_threads(1)
    if every:
        checkpoints.SHARE = float("inf")
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        sys.exit(main.main([*map(str, arguments)]))


def on_with(path, preset, more):
    """Return the arguments that go on with a run, or begin it."""
    if (path / "config.json").exists():
        return ["resume", path, "--progress", "none"]
    return ["run", preset, "--out", path, *more]


def trained_by(monkeypatch, name, train, **more):
    """Let a function, and more fields, take the place of an engine's."""
    engine = replace(dispatch.ENGINES[name], train=train, **more)
    monkeypatch.setitem(dispatch.ENGINES, name, engine)

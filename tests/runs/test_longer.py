"""Runs that go on for longer than planned, or from elsewhere."""

import json
import random
import shutil

import pytest
from deap import algorithms
from support.running import NGEN, begin, go, left_by, new_task, new_toolbox

import nets_deap as nets
from nets_deap.cli.main import main
from nets_deap.errors import InvalidValueError, RunChangedError
from nets_deap.runs.checkpoint import checkpoints
from nets_deap.runs.recorder import Recorder
from nets_deap.runs.status import status
from nets_deap.training.executor import journal_of

OPTIONS = {"population": 8, "seed": 2, "progress": "none"}


@pytest.fixture(autouse=True)
def _each_generation(monkeypatch):
    monkeypatch.setattr(checkpoints, "SHARE", float("inf"))


def test_a_search_made_longer_is_the_longer_search(tmp_path):
    nets.search(new_task(), path=tmp_path / "long", generations=5, **OPTIONS, inherit="none")
    nets.search(new_task(), path=tmp_path / "run", generations=2, **OPTIONS, inherit="none")
    nets.search(
        new_task(), path=tmp_path / "run", generations=5, resume=True, **OPTIONS, inherit="none"
    )
    assert left_by(tmp_path / "run") == left_by(tmp_path / "long")
    both = [json.loads((tmp_path / run / "config.json").read_text()) for run in ("run", "long")]
    assert both[0] == both[1]
    found = status(tmp_path / "run")
    assert (found.state, found.generation, found.generations) == ("finished", 5, 5)


def test_a_budget_is_for_so_many_generations_and_no_more(tmp_path):
    options = {**OPTIONS, "budget": 5000}
    nets.search(new_task(), path=tmp_path / "run", generations=2, **options, inherit="none")
    with pytest.raises(RunChangedError, match="generations was 2, is 5"):
        nets.search(
            new_task(), path=tmp_path / "run", generations=5, resume=True, **options, inherit="none"
        )


def test_one_that_dies_while_it_is_made_longer_goes_on(tmp_path, monkeypatch):
    path = tmp_path / "run"
    nets.search(new_task(), path=tmp_path / "long", generations=5, **OPTIONS, inherit="none")
    nets.search(new_task(), path=path, generations=2, **OPTIONS, inherit="none")
    write = Recorder._write_config

    def die(self):
        write(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Recorder, "_write_config", die)
    with pytest.raises(KeyboardInterrupt):
        nets.search(new_task(), path=path, generations=5, resume=True, **OPTIONS, inherit="none")
    monkeypatch.undo()
    monkeypatch.setattr(checkpoints, "SHARE", float("inf"))
    # The configuration is that of the longer run, the newest checkpoint that of the shorter one.
    assert max((path / "checkpoints").iterdir()).stem == "00000002"
    nets.search(new_task(), path=path, generations=5, resume=True, **OPTIONS, inherit="none")
    assert left_by(path) == left_by(tmp_path / "long")


def longer(path, generations):
    task = new_task()
    run = nets.resume(path, task=task, generations=generations, progress="none")
    box = nets.make_toolbox(task, inherit="none")
    go("plus", box, run.population, run.recorder, run.remaining)
    return run


def test_a_stock_algorithm_goes_on_for_longer(tmp_path):
    for name, ngen in (("run", 3), ("long", NGEN)):
        task = new_task()
        _, population, recorder = begin(tmp_path / name, {}, task=task)
        recorder.progress.generations = ngen
        go("plus", nets.make_toolbox(task, inherit="none"), population, recorder, ngen)
    assert longer(tmp_path / "run", NGEN).remaining == NGEN - 3
    assert left_by(tmp_path / "run") == left_by(tmp_path / "long")
    assert status(tmp_path / "run").state == "finished"
    with pytest.raises(InvalidValueError, match="generations must be in range"):
        nets.resume(tmp_path / "run", task=new_task(), generations=2)


def test_the_command_line_makes_runs_longer(tmp_path, capsys):
    tiny = ["--population", "6", "--progress", "none", "--set", "recipe.steps=10"]
    tiny += ["--set", "final.steps=10", "--set", "final.members=2"]
    for name, ngen in (("run", "1"), ("long", "3")):
        out = ["--out", str(tmp_path / name), "--generations", ngen]
        assert main(["run", "xor-mlp10", *out, *tiny]) == 0
    capsys.readouterr()
    again = ["resume", str(tmp_path / "run"), "--progress", "none"]
    assert main([*again, "--generations", "3"]) == 0
    assert left_by(tmp_path / "run") == left_by(tmp_path / "long")
    assert main(again) == 0  # as of now it is one of three generations
    assert main([*again, "--generations", "2"]) == 2
    assert "generations was 3, is 2" in capsys.readouterr().err


def test_a_copy_of_a_folder_goes_on_and_the_program_may_be_elsewhere(tmp_path, monkeypatch):
    go("plus", *begin(tmp_path / "whole", {}))
    monkeypatch.chdir(tmp_path)
    go("plus", *begin("run", {}), until=2)
    shutil.copytree("run", "elsewhere/copy")
    for path in ("run", "elsewhere/copy"):
        monkeypatch.chdir(tmp_path)
        task = new_task()
        run = nets.resume(path, task=task, progress="none")
        monkeypatch.chdir("/")
        go("plus", new_toolbox(task, {}), run.population, run.recorder, run.remaining)
        assert left_by(tmp_path / path) == left_by(tmp_path / "whole")
        assert len(run.recorder.history) == NGEN + 1


def test_rows_that_were_given_up_do_not_stop_a_run(tmp_path):
    go("plus", *begin(tmp_path / "run", {}), until=2)
    (tmp_path / "run" / "log.jsonl").unlink()
    task = new_task()
    run = nets.resume(tmp_path / "run", task=task, progress="none", force=True)
    go("plus", new_toolbox(task, {}), run.population, run.recorder, run.remaining)
    assert [row["gen"] for row in run.logbook] == [3, 4, 5]


def test_two_runs_of_one_program_on_one_task_go_on_side_by_side(tmp_path):
    """Islands: each compiles in turn, and each has its folder."""

    def islands(paths, ngen, on=False):
        task = new_task()
        boxes = [new_toolbox(task, {}) for _ in paths]
        if on:
            runs = [nets.resume(path, task=task, progress="none") for path in paths]
            recorders, populations = [r.recorder for r in runs], [r.population for r in runs]
        else:
            random.seed(1)
            recorders = [nets.Recorder(path, task=task, progress="none") for path in paths]
            populations = [box.population(n=4) for box in boxes]
        for generation in range(ngen + 1):
            for i, (box, recorder) in enumerate(zip(boxes, recorders, strict=True)):
                children = populations[i]
                if generation:
                    children = algorithms.varOr(populations[i], box, 4, 0.3, 0.6)
                fresh = [t for t in children if not t.fitness.valid]
                for ticket, values in zip(fresh, box.map(box.evaluate, fresh), strict=True):
                    ticket.fitness.values = values
                if generation:
                    populations[i] = box.select([*populations[i], *children], 4)
                recorder.compile(populations[i])
        recorders[0].close()
        assert journal_of(task.problem) is not None  # the other run's
        recorders[1].close()
        assert journal_of(task.problem) is None

    whole, cut = ([tmp_path / f"{name}{i}" for i in (0, 1)] for name in ("whole", "cut"))
    islands(whole, 5)
    islands(cut, 2)
    islands(cut, 3, on=True)
    for one, other in zip(whole, cut, strict=True):
        assert (one / "front.csv").read_bytes() == (other / "front.csv").read_bytes()

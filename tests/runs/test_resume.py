"""Runs that are cut off and go on: the result is that of the uninterrupted one."""

import json
import logging
import random
import shutil

import numpy as np
import pytest
import torch
from deap import base, creator, tools
from support.running import NGEN, RECIPE, begin, go, left_by, new_task, new_toolbox, trained_by, who

import nets_deap as nets
from nets_deap.errors import (
    CallOrderError,
    FileAccessError,
    InvalidTypeError,
    InvalidValueError,
    RunChangedError,
    RunFileError,
)
from nets_deap.evolution.evaluator import evaluator_of
from nets_deap.runs.checkpoint import checkpoints
from nets_deap.runs.checkpoint.partial import Partial
from nets_deap.training import interrupt
from nets_deap.training.engines import dispatch


@pytest.fixture(autouse=True)
def _each_generation(monkeypatch):
    """Save every generation, however short."""
    monkeypatch.setattr(checkpoints, "SHARE", float("inf"))


def archive_of(kind):
    return nets.NicheArchive() if kind == "comma" else None


def whole_and_cut(tmp_path, kind, options, until):
    """Return the folder and population of an uninterrupted run, and the folder of one cut off."""
    toolbox, population, recorder = begin(tmp_path / "whole", options, archive_of(kind))
    go(kind, toolbox, population, recorder)
    toolbox, again, recorder = begin(tmp_path / "cut", options, archive_of(kind))
    go(kind, toolbox, again, recorder, until=until)
    # Nothing of this process may be needed.
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002
    torch.manual_seed(99)
    return tmp_path / "whole", population, tmp_path / "cut"


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("plus", {}),
        ("plus", {"reevaluate": True}),
        ("plus", {"inherit": "none", "holdout": "folds"}),
        ("plus", {"inherit": "weights", "gradient": True}),
        ("comma", {"inherit": "weights", "noise": 0.1}),
        ("simple", {"inherit": "weights"}),
    ],
)
def test_stock_algorithms_go_on_exactly(tmp_path, kind, options):
    whole, population, cut = whole_and_cut(tmp_path, kind, options, until=2)
    task = new_task()
    toolbox = new_toolbox(task, options)
    run = nets.resume(cut, task=task, progress="none")
    assert (run.generation, run.remaining, len(run.logbook)) == (2, NGEN - 2, 3)
    go(kind, toolbox, run.population, run.recorder, run.remaining)
    assert who(run.population) == who(population)
    assert left_by(cut) == left_by(whole)
    assert len(run.recorder.logbook) == NGEN + 1


def odd_steps(measured):
    """Beyond its declared worst value at first, and for some networks not finite."""
    early = evaluator_of(measured.task).generation == 0
    return np.nan if measured.ticket.kept % 5 == 0 else 50.0 if early else 5.0


def test_what_a_diverged_network_gets_goes_on_exactly(tmp_path):
    own = nets.Objective("own", "min", 10.0, odd_steps, reference=100.0)
    options = {"objectives": ("val_loss", own)}
    whole, population, cut = whole_and_cut(tmp_path, "plus", options, until=0)
    task = new_task()
    run = nets.resume(cut, task=task, progress="none")
    toolbox = new_toolbox(task, options)
    evaluator = toolbox.evaluate.func
    go("plus", toolbox, run.population, run.recorder, run.remaining)
    assert who(run.population) == who(population)
    assert left_by(cut) == left_by(whole)
    assert evaluator.worst[1] == 1e12


def test_structured_tickets_go_on_exactly(tmp_path):
    def task():
        return new_task(unit="neuron")

    toolbox, population, recorder = begin(tmp_path / "whole", {}, task=task())
    go("plus", toolbox, population, recorder)
    toolbox, again, recorder = begin(tmp_path / "cut", {}, task=task())
    go("plus", toolbox, again, recorder, until=2)
    fresh = task()
    run = nets.resume(tmp_path / "cut", task=fresh, progress="none")
    go("plus", new_toolbox(fresh, {}), run.population, run.recorder, run.remaining)
    assert who(run.population) == who(population)
    assert left_by(tmp_path / "cut") == left_by(tmp_path / "whole")


def test_the_toolbox_may_be_made_after_resuming(tmp_path):
    whole, population, cut = whole_and_cut(tmp_path, "plus", {}, until=3)
    task = new_task()
    run = nets.resume(cut, task=task, progress="none")
    state = random.getstate()
    toolbox = new_toolbox(task, {})
    assert random.getstate() == state
    go("plus", toolbox, run.population, run.recorder, run.remaining)
    assert who(run.population) == who(population)
    assert left_by(cut) == left_by(whole)


def test_a_run_can_be_cut_off_again_and_again(tmp_path):
    whole, population, cut = whole_and_cut(tmp_path, "comma", {"inherit": "weights"}, until=0)
    for until in (1, 2, 3, 4, None):
        task = new_task()
        toolbox = new_toolbox(task, {"inherit": "weights"})
        run = nets.resume(cut, task=task, progress="none")
        go("comma", toolbox, run.population, run.recorder, run.remaining, until)
    assert who(run.population) == who(population)
    assert left_by(cut) == left_by(whole)


def test_genomes_keep_their_weights(tmp_path):
    from nets_deap.experiments.nets2023 import toolbox_2023

    def evolve(path, until=None):
        task = new_task()
        toolbox = toolbox_2023(task)
        random.seed(5)
        population = toolbox.population(n=6)
        recorder = nets.Recorder(path, task=task, generations=NGEN, progress="none")
        go("simple", toolbox, population, recorder, until=until)
        return population

    population = evolve(tmp_path / "whole")
    evolve(tmp_path / "cut", until=2)
    task = new_task()
    run = nets.resume(tmp_path / "cut", task=task, progress="none")
    go("simple", toolbox_2023(task), run.population, run.recorder, run.remaining)
    assert all(type(genome) is nets.Genome for genome in run.population)
    assert who(run.population) == who(population)
    assert left_by(tmp_path / "cut") == left_by(tmp_path / "whole")


def test_classes_of_the_user_and_archives_of_deap_come_back(tmp_path):
    creator.create("RunFitness", base.Fitness, weights=(-1.0, -1.0))
    creator.create("RunTicket", nets.Ticket, fitness=creator.RunFitness)
    try:
        task = new_task()
        toolbox = nets.make_toolbox(task, inherit="none")
        population = nets.operators.init_log_spaced(creator.RunTicket, task.layout, 6)
        population[0].note = {"words": ("a", 1)}
        recorder = nets.Recorder(tmp_path, task=task, progress="none", archive=tools.HallOfFame(3))
        go("plus", toolbox, population, recorder, ngen=1)
        front = [(t.digest, t.fitness.values) for t in recorder.front]
        run = nets.resume(tmp_path, task=task, progress="none")
        assert run.remaining is None
        assert who(run.population) == who(population)
        assert {type(t) for t in run.population} == {creator.RunTicket}
        assert {type(t.fitness) for t in run.population} == {creator.RunFitness}
        assert type(run.front) is tools.HallOfFame
        assert run.front.maxsize == 3
        assert [(t.digest, t.fitness.values) for t in run.front] == front
        assert [vars(t).get("note") for t in population] == [
            vars(t).get("note") for t in run.population
        ]
        run.recorder.close()
    finally:
        del creator.RunTicket, creator.RunFitness


def test_an_archive_of_ones_own_is_given_again(tmp_path):
    def same(one, other):
        return one.density == other.density

    task = new_task()
    archive = nets.ParetoFront(similar=same)
    toolbox, population, recorder = begin(tmp_path, {}, archive, task=task)
    go("plus", toolbox, population, recorder, until=1)
    with pytest.raises(InvalidValueError, match="archive must be given"):
        nets.resume(tmp_path, task=task, progress="none")
    with pytest.raises(InvalidValueError, match="archive must be of the class that it had"):
        nets.resume(tmp_path, task=task, progress="none", archive=nets.NicheArchive())
    run = nets.resume(tmp_path, task=task, progress="none", archive=nets.ParetoFront(same))
    assert [t.digest for t in run.front] == [t.digest for t in recorder.front]


def test_search_resumes_with_one_argument_more(tmp_path):
    options = {"population": 8, "generations": 4, "seed": 2, "progress": "none"}
    nets.search(new_task(), path=tmp_path / "whole", **options)
    with pytest.raises(RunChangedError, match="generations was 4, is 3"):
        nets.search(
            new_task(), path=tmp_path / "whole", resume=True, **{**options, "generations": 3}
        )
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for generation in (3, 4):
        (tmp_path / "cut" / "checkpoints" / f"{generation:08d}.npz").unlink()
    before = random.getstate()
    found = nets.search(new_task(), path=tmp_path / "cut", resume=True, **options)
    assert random.getstate() == before
    assert left_by(tmp_path / "cut") == left_by(tmp_path / "whole")
    assert len(found.logbook) == 5
    with pytest.raises(InvalidValueError, match="path must be given to resume"):
        nets.search(new_task(), resume=True, **options)


def test_a_limit_that_was_reached_still_holds(tmp_path):
    options = {"population": 8, "generations": 9, "max_steps": 1, "progress": "none"}
    assert "are spent" in nets.search(new_task(), path=tmp_path, **options).stopped
    again = nets.search(new_task(), path=tmp_path, resume=True, **options)
    assert "are spent" in again.stopped
    assert len(again.logbook) == 1


@pytest.mark.parametrize("there", [False, True])
def test_a_search_that_is_to_go_on_begins_where_there_is_none(tmp_path, there):
    path = tmp_path / "run"
    if there:
        path.mkdir()
    options = {"population": 6, "generations": 1, "progress": "none"}
    begun = nets.search(new_task(), path=path, resume=True, **options)
    again = nets.search(new_task(), path=path, resume=True, **options)
    assert [t.digest for t in again.front] == [t.digest for t in begun.front]
    assert len(again.logbook) == 2


def test_a_run_without_a_checkpoint_begins_again_in_search_alone(tmp_path):
    options = {"population": 6, "generations": 2, "progress": "none"}
    nets.search(new_task(), path=tmp_path / "whole", **options)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints")
    with pytest.raises(CallOrderError, match="interrupted in its first generation"):
        nets.resume(tmp_path / "cut", task=new_task(), progress="none")
    nets.search(new_task(), path=tmp_path / "cut", resume=True, **options)
    assert left_by(tmp_path / "cut") == left_by(tmp_path / "whole")


def test_interrupts_leave_population_front_and_folder_usable(tmp_path, monkeypatch):
    """What a notebook does: Ctrl-C in the midst of training, then on with what is there."""
    toolbox, whole, recorder = begin(tmp_path / "whole", {})
    go("plus", toolbox, whole, recorder)
    toolbox, population, recorder = begin(tmp_path / "cut", {})
    train, calls = dispatch.ENGINES["compiled"].train, []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    trained_by(monkeypatch, "compiled", interrupted)
    with pytest.raises(KeyboardInterrupt):
        go("plus", toolbox, population, recorder)
    assert all(ticket.fitness.valid for ticket in population)
    assert len(recorder.front) >= 1
    run = nets.resume(tmp_path / "cut", task=recorder.task, progress="none")
    go("plus", toolbox, run.population, run.recorder, run.remaining)
    assert who(run.population) == who(whole)
    assert left_by(tmp_path / "cut") == left_by(tmp_path / "whole")


@pytest.mark.parametrize(
    "engine",
    ["compiled", *(pytest.param(e, marks=pytest.mark.slow) for e in ("vmap", "loop"))],
)
def test_a_generation_cut_short_does_not_train_again_what_was_trained(
    tmp_path, monkeypatch, engine
):
    def task():
        return new_task(engine=engine, chunk=4)

    toolbox, whole, recorder = begin(tmp_path / "whole", {}, task=task())
    go("plus", toolbox, whole, recorder, until=1)
    toolbox, population, recorder = begin(tmp_path / "cut", {}, task=task())
    trained = []
    part = Partial.part

    def count_and_interrupt(self, places, outcome):
        part(self, places, outcome)
        if recorder.generation == 0:
            trained.append(len(places))
            interrupt.ask(15)
            interrupt.check()

    monkeypatch.setattr(Partial, "part", count_and_interrupt)
    try:
        with pytest.raises(interrupt.Interrupted):
            go("plus", toolbox, population, recorder, until=1)
    finally:
        interrupt.forget()
    assert (tmp_path / "cut" / "checkpoints" / "unfinished.npz").exists()
    done, trained[:] = sum(trained), []
    monkeypatch.setattr(Partial, "part", lambda s, p, o: (trained.append(len(p)), part(s, p, o))[1])
    fresh = task()
    run = nets.resume(tmp_path / "cut", task=fresh, progress="none")
    go("plus", new_toolbox(fresh, {}), run.population, run.recorder, run.remaining, until=1)
    assert who(run.population) == who(whole)
    assert left_by(tmp_path / "cut") == left_by(tmp_path / "whole")
    rows = left_by(tmp_path / "cut")["rows"]
    assert sum(trained) + done == rows[1]["evaluations"] - rows[0]["evaluations"]
    assert not (tmp_path / "cut" / "checkpoints" / "unfinished.npz").exists()


def test_a_damaged_unfinished_generation_is_trained_from_its_beginning(tmp_path, caplog):
    whole, _, cut = whole_and_cut(tmp_path, "plus", {}, until=2)
    (cut / "checkpoints" / "unfinished.npz").write_bytes(b"x" * 1000)
    task = new_task()
    run = nets.resume(cut, task=task, progress="none")
    go("plus", new_toolbox(task, {}), run.population, run.recorder, run.remaining)
    assert "trained from its beginning" in caplog.text
    assert left_by(cut) == left_by(whole)


def test_what_was_written_after_the_checkpoint_is_cut_off(tmp_path):
    whole, _, cut = whole_and_cut(tmp_path, "plus", {}, until=2)
    for name in ("log.jsonl", "log.csv", "history.jsonl"):
        with (cut / name).open("a") as file:
            file.write('{"generation": 3, "evalu')  # torn
    (cut / ".front.csv.123.part").write_text("stale")
    (cut / "checkpoints" / ".00000003.npz.123.part").write_text("stale")
    (cut / "tickets" / f"{'0' * 16}.safetensors").write_text("of a later generation")
    task = new_task()
    run = nets.resume(cut, task=task, progress="none")
    assert not list(cut.rglob("*.part"))
    go("plus", new_toolbox(task, {}), run.population, run.recorder, run.remaining)
    assert left_by(cut) == left_by(whole)
    histories = [(path / "history.jsonl").read_bytes() for path in (cut, tmp_path / "whole")]
    assert histories[0] == histories[1]


def test_a_log_that_was_changed_is_refused_unless_forced(tmp_path, caplog):
    _, _, cut = whole_and_cut(tmp_path, "plus", {}, until=2)
    text = (cut / "log.jsonl").read_text()
    (cut / "log.jsonl").write_text(text.replace('"generation": 1', '"generation": 7'))
    with pytest.raises(RunFileError, match="must be as the checkpoint of generation 2 left it"):
        nets.resume(cut, task=new_task(), progress="none")
    (cut / "log.jsonl").unlink()
    run = nets.resume(cut, task=new_task(), progress="none", force=True)
    assert len(run.logbook) == 0
    run.recorder.close()


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"recipe": nets.Recipe(lr=0.1, batch_size=4, steps=20, loss="binary_cross_entropy")},
         "recipe.lr was 0.05, is 0.1"),
        ({"noise": 0.3}, "data_digest was"),
        ({"chunk": 7}, "chunk was None, is 7"),
    ],
)  # fmt: skip
def test_another_configuration_or_data_is_refused_with_the_difference(
    tmp_path, changed, text, caplog
):
    _, _, cut = whole_and_cut(tmp_path, "plus", {}, until=1)
    before = left_by(cut)
    with pytest.raises(RunChangedError, match=text):
        nets.resume(cut, task=new_task(**changed), progress="none")
    assert left_by(cut) == before
    run = nets.resume(cut, task=new_task(**changed), progress="none", force=True)
    assert "not that of one uninterrupted run" in caplog.text
    run.recorder.close()
    nets.resume(cut, task=new_task(), progress="none").recorder.close()  # nothing has happened
    task = new_task(**changed)
    run = nets.resume(cut, task=task, progress="none", force=True)
    go("plus", new_toolbox(task, {}), run.population, run.recorder, 1)
    assert nets.resume(cut, task=task, progress="none").generation == 2


@pytest.mark.parametrize("options", [{"seed": 1}, {"hidden": 5}])
def test_other_weights_or_layers_are_never_taken(tmp_path, options):
    _, _, cut = whole_and_cut(tmp_path, "plus", {}, until=1)
    task = nets.tasks.xor(**{"hidden": 4, "recipe": RECIPE, **options})
    with pytest.raises(RunChangedError, match="must have the layers and initial weights"):
        nets.resume(cut, task=task, progress="none", force=True)


def test_an_edited_config_is_refused_with_the_difference(tmp_path):
    _, _, cut = whole_and_cut(tmp_path, "plus", {}, until=1)
    facts = json.loads((cut / "config.json").read_text())
    facts["task"]["recipe"]["lr"] = 9
    (cut / "config.json").write_text(json.dumps(facts))
    with pytest.raises(RunChangedError, match=r"config.json: task.recipe.lr was 0.05, is 9"):
        nets.resume(cut, task=new_task(), progress="none")


def test_other_versions_are_told(tmp_path, monkeypatch, caplog):
    from nets_deap.runs import resume as module

    _, _, cut = whole_and_cut(tmp_path, "plus", {}, until=1)
    versions = {**module.versions(), "torch": "99.0"}
    monkeypatch.setattr(module, "versions", lambda: versions)
    nets.resume(cut, task=new_task(), progress="none").recorder.close()
    assert "may differ in rounding" in caplog.text


def test_what_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(FileAccessError, match="must be a run folder"):
        nets.resume(tmp_path / "nothing", task=new_task())
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RunFileError, match="not a configuration of a run"):
        nets.resume(tmp_path, task=new_task())
    _, _, cut = whole_and_cut(tmp_path, "plus", {}, until=1)
    with pytest.raises(InvalidTypeError, match="task must be a task"):
        nets.resume(cut, task="xor")
    with pytest.raises(CallOrderError, match=r"resume it there, with nets\.resume"):
        nets.resume(cut)


def test_an_attribute_that_is_not_plain_data_is_told_once(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    toolbox, population, recorder = begin(tmp_path, {})
    for ticket in population:
        ticket.friend = object()
    go("plus", toolbox, population, recorder, until=2)
    assert caplog.text.count("is not kept in checkpoints") == 1


def test_a_user_can_resume_a_run_of_the_command_line(tmp_path, capsys):
    from nets_deap.cli.main import main

    out = tmp_path / "run"
    tiny = ["--generations", "2", "--population", "6", "--progress", "none"]
    tiny += ["--set", "recipe.steps=10", "--set", "final.steps=10", "--set", "final.members=2"]
    assert main(["run", "xor-mlp10", "--out", str(out), *tiny]) == 0
    table, before = capsys.readouterr().out, left_by(out)
    assert main(["status", str(out)]) == 0
    assert "finished" in capsys.readouterr().out
    run = nets.resume(out, progress="none")
    assert (run.generation, run.remaining) == (2, 0)
    run.recorder.close()
    assert main(["resume", str(out), "--progress", "none"]) == 0
    assert capsys.readouterr().out == table
    assert left_by(out) == before
    facts = json.loads((out / "config.json").read_text())
    facts["config"]["recipe"]["lr"] = 0.5
    (out / "config.json").write_text(json.dumps(facts))
    assert main(["resume", str(out), "--progress", "none"]) == 2
    assert "recipe.lr was" in capsys.readouterr().err

"""How a run of a recorder ends: measured where its end is known, else saved, and told as it is."""

import csv
import os
import random
import signal
import subprocess
import sys
from contextlib import nullcontext

import pytest
from deap import algorithms, base, creator
from support.running import ROOT, new_task

import nets_deap as nets
from nets_deap.cli.main import main
from nets_deap.evolution.evaluator import Evaluator
from nets_deap.runs.checkpoint.checkpoints import Checkpoints
from nets_deap.runs.status import status

SCRIPT = """
import os, random, signal, sys, threading, time
from deap import algorithms
import nets_deap as nets

recipe = nets.Recipe(lr=0.05, batch_size=4, steps=20, loss="binary_cross_entropy")
task = nets.tasks.xor(hidden=4, recipe=recipe)
random.seed(3)
box = nets.make_toolbox(task)
recorder = nets.Recorder(sys.argv[1], task=task, progress="none")
def end(number):
    while signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:  # until something trains
        time.sleep(0.0002)
    os.kill(os.getpid(), number)

def look(recorder, row):
    {body}
recorder.callbacks = (look,)
algorithms.eaMuPlusLambda(
    box.population(n=6), box, 6, 6, 0.25, 0.75, {ngen}, stats=recorder, verbose=False
)
"""


def rows_of(path, name="front.csv"):
    with (path / name).open() as file:
        return list(csv.DictReader(file))


def dominated(rows):
    points = [(float(row["val_loss"]), float(row["density"])) for row in rows]
    return [p for p in points if any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points)]


def go(path, *, close=True, generations=None, budget=None, ngen=2, front=None):
    task = new_task()
    random.seed(3)
    box = nets.make_toolbox(task, budget=budget)
    recorder = nets.Recorder(path, task=task, progress="none", generations=generations)
    algorithms.eaMuPlusLambda(
        box.population(n=6), box, 6, 6, 0.25, 0.75, ngen, stats=recorder, halloffame=front,
        verbose=False,
    )  # fmt: skip
    if close:
        recorder.close()
    return task, recorder


@pytest.mark.parametrize("known", ["generations", "budget", "close"])
def test_the_end_leaves_a_front(known, tmp_path):
    path = tmp_path / "run"
    options = {
        "generations": {"generations": 2, "close": False},
        "budget": {"budget": nets.Budget(300, generations=2), "close": False},
        "close": {},
    }[known]
    task, recorder = go(path, **options)
    rows = rows_of(path)
    assert len(rows) == len(recorder.front) > 0
    assert not dominated(rows)
    assert not (path / "niches.csv").exists()
    recorder.close()
    assert status(path).state == "finished"
    assert len(nets.resume(path, task=task, progress="none").front) == len(rows)


def test_until_then_what_is_kept_is_not_called_a_front(tmp_path):
    path = tmp_path / "run"
    task, recorder = go(path, close=False)
    assert not (path / "front.csv").exists()
    assert len(rows_of(path, "niches.csv")) == len(recorder.front.items)
    assert "niches" in recorder.logbook[-1]
    assert "front_size" not in recorder.logbook[-1]
    assert "elites" in repr(recorder)
    assert "none yet" in status(path).front
    ax = nets.plots.pareto_front(path)
    assert [text.get_text() for text in ax.get_legend().get_texts()][-1].startswith("elites")
    assert main(["report", str(path)]) == 0
    assert "No front yet" in (path / "report.html").read_text()
    recorder._saver.let_go()  # as where the program ends
    again = nets.resume(path, task=task, progress="none")
    assert len(again.front) < len(again.front.items)
    again.recorder.close()
    assert len(rows_of(path)) == len(again.front)
    assert not dominated(rows_of(path))


def test_a_with_block_ends_the_run_unless_an_exception_leaves_it(tmp_path):
    for name, fails in (("whole", False), ("cut", True)):
        path, task = tmp_path / name, new_task()
        box = nets.make_toolbox(task)
        expected = pytest.raises(ValueError, match="mine") if fails else nullcontext()
        with expected, nets.Recorder(path, task=task, progress="none") as recorder:
            algorithms.eaMuPlusLambda(
                box.population(n=6), box, 6, 6, 0.25, 0.75, 1, stats=recorder, verbose=False
            )
            if fails:
                raise ValueError("mine")
        assert (path / "front.csv").exists() != fails
        found = status(path)
        assert found.checkpoint == 1
        assert (found.state == "finished") != fails


def run_script(path, body="pass", ngen=3):
    text = SCRIPT.format(body=body, ngen=ngen)
    done = subprocess.run(
        [sys.executable, "-c", text, str(path)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("body", "code"), [("pass", 0), ("if recorder.generation == 3: sys.exit(3)", 3)]
)
def test_a_program_that_ends_without_closing_has_all_saved(body, code, tmp_path):
    path = tmp_path / "run"
    returned, error = run_script(path, body)
    assert returned == code, error
    found = status(path)
    assert (found.generation, found.checkpoint) == (3, 3)
    assert "how many were planned is not known" in found.text()
    assert nets.resume(path, task=new_task(), progress="none").generation == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_training_leaves_the_last_generation_saved(number, tmp_path):
    path = tmp_path / "run"
    body = (
        f"if recorder.generation == 3: threading.Thread(target=end, args=({int(number)},)).start()"
    )
    returned, error = run_script(path, body, 2000)
    assert returned in (-number, 128 + number), error
    found = status(path)
    assert found.generation == found.checkpoint >= 3
    assert f"nets.resume({str(path)!r}, task=task)" in error
    assert nets.resume(path, task=new_task(), progress="none").generation == found.generation


def test_a_generation_saved_while_the_next_is_made_knows_nothing_of_it(tmp_path, monkeypatch):
    def begin(path):
        task = new_task()
        random.seed(3)
        box = nets.make_toolbox(task, budget=nets.Budget(600, generations=6))
        return task, box, nets.Recorder(path, task=task, progress="none")

    def go_on(population, box, recorder, generations):
        algorithms.eaMuPlusLambda(
            population, box, 6, 6, 0.25, 0.75, generations, stats=recorder, verbose=False
        )

    task, box, recorder = begin(tmp_path / "whole")
    go_on(box.population(n=6), box, recorder, 6)

    monkeypatch.setattr(Checkpoints, "is_due", lambda self: False)
    task, box, recorder = begin(tmp_path / "cut")
    mutate, made = box.mutate, []

    def fail_late(individual):
        found = mutate(individual)
        made.append(recorder.generation)
        if made.count(3) == 4:  # operators have asked for gradients of parents by now
            raise ValueError("mine")
        return found

    box.register("mutate", fail_late)
    note, noted = Evaluator.note_gradients, []

    def watched(evaluator, ticket):
        noted.append(recorder.generation)
        note(evaluator, ticket)

    monkeypatch.setattr(Evaluator, "note_gradients", watched)
    with pytest.raises(ValueError, match="mine"):
        go_on(box.population(n=6), box, recorder, 6)
    assert noted.count(3) > 0
    recorder._saver.let_go()  # as where the program ends
    assert status(tmp_path / "cut").checkpoint == 3
    task = new_task()
    box = nets.make_toolbox(task, budget=nets.Budget(600, generations=6))
    again = nets.resume(tmp_path / "cut", task=task, progress="none")
    go_on(again.population, box, again.recorder, again.remaining)
    cut, whole = (rows_of(tmp_path / name, "log.csv") for name in ("cut", "whole"))
    assert [{**row, "seconds": 0} for row in cut] == [{**row, "seconds": 0} for row in whole]
    assert rows_of(tmp_path / "cut") == rows_of(tmp_path / "whole")


def test_more_generations_than_the_budget_was_planned_for_end_the_search(tmp_path):
    task = new_task()
    random.seed(3)
    box = nets.make_toolbox(task, budget=nets.Budget(300, generations=2))
    recorder = nets.Recorder(tmp_path / "run", task=task, progress="none")
    with pytest.raises(nets.SearchStopped, match="planned for 2 generations") as stop:
        algorithms.eaMuPlusLambda(
            box.population(n=6), box, 6, 6, 0.25, 0.75, 6, stats=recorder, verbose=False
        )
    assert len(stop.value.population) == 6
    assert len(stop.value.logbook) == 3
    recorder.close()
    assert status(tmp_path / "run").state == "finished"
    assert not dominated(rows_of(tmp_path / "run"))


def test_tickets_of_a_class_of_ones_own_keep_the_objectives_names(tmp_path):
    creator.create("OwnFitness", base.Fitness, weights=(-1.0, -1.0))
    creator.create("OwnTicket", nets.Ticket, fitness=creator.OwnFitness)
    task = new_task()
    random.seed(3)
    box = nets.make_toolbox(task)
    population = nets.operators.init_log_spaced(creator.OwnTicket, task.layout, n=6)
    recorder = nets.Recorder(tmp_path / "run", task=task, progress="none", generations=1)
    algorithms.eaMuPlusLambda(population, box, 6, 6, 0.25, 0.75, 1, stats=recorder, verbose=False)
    best = min(recorder.front, key=lambda one: one.fitness.values[0])
    assert nets.best(recorder.front, objective="val_loss") is best
    for file in (tmp_path / "run" / "tickets").iterdir():
        assert nets.Ticket.load(file).fitness.names == ("val_loss", "density")
    again = nets.resume(tmp_path / "run", task=task, progress="none")
    again.recorder.close()
    for file in (tmp_path / "run" / "tickets").iterdir():
        assert nets.Ticket.load(file).fitness.names == ("val_loss", "density")

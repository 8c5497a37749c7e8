"""Workers of Ray: the same results as one process, whatever happens to them."""

import logging
import math
import os
import random
import signal

import numpy as np
import pytest
import torch
import traps
from deap import algorithms
from running import who

import nets_deap as nets
from nets_deap.engines import CrewLostError, RayMap
from nets_deap.engines.session import Session
from nets_deap.errors import CallOrderError, InvalidTypeError, InvalidValueError
from nets_deap.training.crew import lent

pytest.importorskip("ray", reason='workers need the extra "ray"')


@pytest.fixture(scope="module", autouse=True)
def session():
    """One Ray for all tests here: it takes seconds to start."""
    session = Session("local", cpus=6, gpus=0, store=0)
    yield session
    session.close()


@pytest.fixture(scope="module")
def traps_set(session, tmp_path_factory):
    """A task whose networks can go wrong, its two workers, and where traps are set."""
    folder = tmp_path_factory.mktemp("traps")
    task = traps.task(folder)
    workers = RayMap(task, workers=2, silence=4, retries=1)
    yield task, workers, folder
    workers.close()


def before_and_after(task, workers, tickets):
    """Return the fitness of tickets from this process and from workers, with the losses."""
    toolbox = nets.make_toolbox(task)
    here = toolbox.map(toolbox.evaluate, tickets)
    toolbox.evaluate.func.restart()
    lost, networks = workers.traffic.lost, workers.traffic.networks
    there = workers(toolbox.evaluate, tickets)
    assert workers.traffic.networks > networks
    return here, there, workers.traffic.lost - lost


def evolve(task, workers=None, ngen=2, **options):
    """Run stock DEAP; return who survived and what it cost."""
    random.seed(5)
    objectives = ("val_loss", "density", "val_curve_area")
    toolbox = nets.make_toolbox(task, objectives=objectives, **options)
    if workers is not None:
        toolbox.register("map", workers)
    population = toolbox.population(n=10)
    front = nets.ParetoFront()
    for ticket, values in zip(population, toolbox.map(toolbox.evaluate, population), strict=True):
        ticket.fitness.values = values
    algorithms.eaMuCommaLambda(
        population, toolbox, 6, 10, 0.3, 0.7, ngen, halloffame=front, verbose=False
    )
    return who(population), [ticket.digest for ticket in front], vars(task.ledger)


@pytest.mark.parametrize("inherit", ["none", "weights"])
def test_any_number_of_workers_gives_the_same_population_to_the_last_digit(inherit):
    options = {"inherit": inherit, "gradient": inherit == "weights"}
    recipe = nets.Recipe(lr=0.05, batch_size=4, steps=40, loss="binary_cross_entropy")

    def task():
        return nets.tasks.xor(hidden=6, dtype="float64", recipe=recipe)

    alone = evolve(task(), **options)
    for n in (1, 3):
        there = task()
        with RayMap(there, workers=n) as workers:
            assert evolve(there, workers, **options) == alone
            assert workers.traffic.networks > 0


def test_a_budget_curves_and_trained_networks_come_back_as_they_are_in_one_process():
    task = nets.tasks.xor(hidden=5, dtype="float64")
    population = nets.make_toolbox(task).population(n=9)
    here = task.train_all(population, steps=30, points=4)
    with RayMap(task, workers=2):
        there = task.train_all(population, steps=30, points=4)
    for a, b in zip(here, there, strict=True):
        assert (a.val_loss, a.test_loss) == (b.val_loss, b.test_loss)
        np.testing.assert_array_equal(a.curve, b.curve)
        for p, q in zip(a.module().parameters(), b.module().parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=0, atol=0)


def test_dropout_draws_the_same_in_any_chunk():
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 9), torch.nn.ReLU(), torch.nn.Dropout(0.4), torch.nn.Linear(9, 2)
    ).double()
    x = torch.randn(50, 4, dtype=torch.float64)
    task = nets.Task(
        model, train=(x, (x.sum(1) > 0).long()), device="cpu",
        recipe=nets.Recipe(batch_size=10, steps=25, lr=0.01),
    )  # fmt: skip
    population = nets.make_toolbox(task).population(n=8)
    here = task.train_all(population)
    with RayMap(task, workers=2):
        there = task.train_all(population)
    np.testing.assert_allclose(
        [r.val_loss for r in there], [r.val_loss for r in here], rtol=1e-12
    )


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSEGV", "exit", "SIGSTOP", "raise"])
def test_a_worker_that_is_lost_changes_nothing(how, traps_set, caplog):
    task, workers, folder = traps_set
    traps.set_trap(folder, how, 1)
    with caplog.at_level(logging.WARNING, logger="nets_deap"):
        here, there, lost = before_and_after(task, workers, traps.tickets(task, range(5, 25)))
    assert there == here
    assert lost == (0 if how == "raise" else 1)
    assert (folder / how).read_text() == "0"
    assert ("A chunk of" if how == "raise" else "another one takes its place") in caplog.text
    (folder / how).unlink()


def test_a_network_that_kills_every_worker_is_isolated_and_gets_the_worst(traps_set, caplog):
    task, workers, folder = traps_set
    traps.set_trap(folder, "exit", 99)
    diverged = task.ledger.diverged
    with caplog.at_level(logging.WARNING, logger="nets_deap"):
        here, there, lost = before_and_after(task, workers, traps.tickets(task, range(9, 15)))
    (folder / "exit").unlink()
    assert there.pop(3) == (1e6, 1.0)
    here.pop(3)
    assert there == here
    assert 2 <= lost <= 5
    assert (workers.traffic.condemned, task.ledger.diverged - diverged) == (1, 1)
    assert "failed 2 times alone" in caplog.text


def test_a_shortage_of_memory_in_a_worker_is_handled_there_and_said_here(traps_set, caplog):
    task, workers, folder = traps_set
    traps.set_trap(folder, "memory", 99)
    with caplog.at_level(logging.WARNING, logger="nets_deap"):
        here, there, lost = before_and_after(task, workers, traps.tickets(task, [5, 15, 16]))
    (folder / "memory").unlink()
    assert there == [here[0], (1e6, 1.0), here[2]]
    assert "does not fit in memory" in caplog.text
    assert lost == 0


def test_an_interrupt_ends_what_workers_do_and_the_next_call_is_right(traps_set, monkeypatch):
    task, workers, _ = traps_set
    tickets = traps.tickets(task, range(20, 30))

    def interrupt(*_):
        raise KeyboardInterrupt

    with lent(task.problem, workers.crew), pytest.raises(KeyboardInterrupt):
        task.train_all(tickets, on_chunk=interrupt)
    here, there, _ = before_and_after(task, workers, tickets)
    assert there == here


def test_an_error_of_all_networks_is_raised_as_in_one_process(tmp_path):
    task = traps.task(tmp_path)
    traps.set_trap(tmp_path, "raise", 99)
    with RayMap(task, workers=1), pytest.raises(ArithmeticError, match="sprung"):
        task.train_all(traps.tickets(task, [14, 14]))

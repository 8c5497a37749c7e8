"""Workers of Ray: the same results as one process, whatever happens to them."""

import copy
import logging
import pickle
import random
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from deap import algorithms
from support import traps
from support.running import who

import nets_deap as nets
from nets_deap.errors import CallOrderError, ExecutorLostError, InvalidTypeError, InvalidValueError
from nets_deap.evolution.ray_map import RayMap
from nets_deap.runs.checkpoint.partial import Partial
from nets_deap.runs.storage.folder import RunFolder
from nets_deap.training.executor import executed_by, set_journal
from nets_deap.training.workers import ray_executor
from nets_deap.training.workers.ray_options import RayOptions
from nets_deap.training.workers.ray_session import RaySession

pytestmark = [pytest.mark.extra, pytest.mark.slow]  # Ray takes seconds to start

pytest.importorskip("ray", reason='workers need the extra "ray"')


@pytest.fixture(scope="module", autouse=True)
def session():
    """One Ray for all tests here: it takes seconds to start."""
    session = RaySession("local", cpus=9, gpus=0, store=0)
    yield session
    session.close()


@pytest.fixture(scope="module")
def task_and_maps(session):
    """A task in float64 with one worker, and with three."""
    recipe = nets.Recipe(lr=0.05, batch_size=4, steps=40, loss="binary_cross_entropy")
    task = nets.tasks.xor(hidden=6, dtype="float64", recipe=recipe)
    one, three = RayMap(task, workers=1), RayMap(task, workers=3)
    yield task, one, three
    one.close()
    three.close()


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
    toolbox = nets.make_toolbox(task, inherit="none")
    here = toolbox.map(toolbox.evaluate, tickets)
    toolbox.evaluate.func.restart()
    lost, networks = workers.traffic.lost, workers.traffic.networks
    there = workers(toolbox.evaluate, tickets)
    assert workers.traffic.networks > networks
    return here, there, workers.traffic.lost - lost


def evolve(task, workers=None, ngen=2, **options):
    """Run stock DEAP; return who survived and what it cost."""
    random.seed(5)
    before = dict(vars(task.ledger))
    objectives = ("val_loss", "density", "val_curve_area")
    shares = nets.Budget(1500, unit="steps", generations=ngen)
    toolbox = nets.make_toolbox(task, objectives=objectives, budget=shares, **options)
    if workers is not None:
        toolbox.register("map", workers)
    population = toolbox.population(n=10)
    front = nets.ParetoFront()
    algorithms.eaMuCommaLambda(
        population, toolbox, 6, 10, 0.3, 0.7, ngen, halloffame=front, verbose=False
    )
    cost = {name: value - before[name] for name, value in vars(task.ledger).items()}
    cost["dense_steps"] = round(cost["dense_steps"], 6)  # of a float that grows from run to run
    return who(population), [ticket.digest for ticket in front.items], cost


@pytest.mark.parametrize("inherit", ["none", "weights"])
def test_any_number_of_workers_gives_the_same_population_to_the_last_digit(inherit, task_and_maps):
    # Without a descent, whose single networks train at home.
    options = {"inherit": inherit, "gradient": inherit == "weights", "first_density": (0.3, 1.0)}
    task, *workers = task_and_maps
    alone = evolve(task, **options)
    for some in workers:
        before = some.traffic.networks
        assert evolve(task, some, **options) == alone
        assert some.traffic.networks - before == alone[2]["networks"]


def test_curves_and_trained_networks_come_back_as_they_are_in_one_process(task_and_maps):
    task, _, workers = task_and_maps
    population = nets.make_toolbox(task, inherit="none").population(n=9)
    here = task.train_all(population, steps=30, points=4)
    with executed_by(task.problem, workers.executor):
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
    population = nets.make_toolbox(task, inherit="none").population(n=8)
    here = task.train_all(population)
    with RayMap(task, workers=1):
        there = task.train_all(population)
    np.testing.assert_allclose([r.val_loss for r in there], [r.val_loss for r in here], rtol=1e-12)


@pytest.mark.parametrize("ways", [["SIGSTOP"], ["SIGKILL", "SIGSEGV", "exit", "raise"]], ids=len)
def test_workers_that_are_lost_change_nothing(ways, traps_set, caplog):
    task, workers, folder = traps_set
    for how in ways:
        traps.set_trap(folder, how, 1)
    with caplog.at_level(logging.WARNING, logger="nets_deap"):
        here, there, lost = before_and_after(task, workers, traps.tickets(task, range(5, 25)))
    assert there == here
    assert [(folder / how).read_text() for how in ways] == ["0"] * len(ways)
    assert lost == len(ways) - ("raise" in ways)
    assert caplog.text.count("another one takes its place") == lost
    assert ("A chunk of" in caplog.text) == ("raise" in ways)
    for how in ways:
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
    assert (workers.traffic.failed, task.ledger.diverged - diverged) == (1, 1)
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

    with executed_by(task.problem, workers.executor), pytest.raises(KeyboardInterrupt):
        task.train_all(tickets, on_chunk=interrupt)
    here, there, _ = before_and_after(task, workers, tickets)
    assert there == here


def test_an_error_of_all_networks_is_raised_as_in_one_process(tmp_path):
    task = traps.task(tmp_path)
    traps.set_trap(tmp_path, "raise", 99)
    with RayMap(task, workers=1), pytest.raises(ArithmeticError, match="sprung"):
        task.train_all(traps.tickets(task, [14, 14]))


def test_without_workers_a_run_ends_and_what_is_finished_is_not_trained_again(
    tmp_path, traps_set, monkeypatch
):
    task, workers, folder = traps_set
    tickets = traps.tickets(task, range(12, 32))
    here = [result.val_loss for result in task.train_all(tickets)]
    traps.set_trap(folder, "exit", 99)
    monkeypatch.setattr(RayOptions, "most_losses", 0)
    # One by one, the costliest first: the trap is in the last.
    monkeypatch.setattr("nets_deap.training.workers.chunks.portion", lambda *_, **__: 1)
    run = RunFolder(tmp_path / "run")
    journal = Partial(run, 1)
    set_journal(task.problem, journal)
    with (
        executed_by(task.problem, workers.executor),
        pytest.raises(ExecutorLostError, match=r"All workers are lost: 1 .*nets-deap resume RUN"),
    ):
        task.train_all(tickets)
    (folder / "exit").unlink()
    monkeypatch.undo()
    journal, before = Partial(run, 1), workers.traffic.networks
    set_journal(task.problem, journal)
    with executed_by(task.problem, workers.executor):
        there = [result.val_loss for result in task.train_all(tickets)]
    set_journal(task.problem, None)
    run.close()
    assert there == here
    assert 0 < workers.traffic.networks - before < len(tickets)


def test_workers_share_the_data_of_their_node(session):
    """8 MB of data, which lie in the memory that Ray shares."""

    def inputs_lie_in(worker):
        """Return the bytes of the training inputs, and the mapping of memory that they lie in."""
        inputs = worker.problem.train[0]
        for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
            begin, end = (int(part, 16) for part in line.split()[0].split("-"))
            if begin <= inputs.data_ptr() < end:
                return inputs.nbytes, line
        return inputs.nbytes, ""

    x = torch.randn(10_000, 100, dtype=torch.float64)
    y = (x[:, 0] > 0).long()
    task = nets.Task(
        torch.nn.Linear(100, 2).double(), train=(x, y), val=(x[:9], y[:9]), device="cpu",
        recipe=nets.Recipe(steps=2, batch_size=5),
    )  # fmt: skip
    with RayMap(task, workers=2) as workers:
        task.train_all(nets.make_toolbox(task, inherit="none").population(n=4))
        actors = [handle.actor for handle in workers.executor.handles]
        held = session.ray.get([actor.__ray_call__.remote(inputs_lie_in) for actor in actors])
    assert [bytes_ for bytes_, _ in held] == [x.nbytes, x.nbytes]
    assert all("plasma" in where or "/dev/shm" in where for _, where in held)


def test_what_cannot_be_is_said_before_ray_is_looked_for(xor_task):
    with pytest.raises(InvalidTypeError, match="task must be a task"):
        RayMap("task")
    with pytest.raises(InvalidValueError, match="workers must be in range"):
        RayMap(xor_task, workers=0)
    with pytest.raises(InvalidValueError, match="gpus_per_worker must be in range"):
        RayMap(xor_task, gpus_per_worker=-1)
    with pytest.raises(InvalidValueError, match="address must be where Ray is"):
        RayMap(xor_task, address="ray://here:10001")
    with pytest.raises(InvalidValueError, match=r"must leave room for a worker: .* 1 GPUs"):
        RayMap(xor_task, gpus_per_worker=1)


def test_closed_workers_say_so_and_what_they_did_can_still_be_read(xor_task):
    workers = RayMap(xor_task, workers=1)
    assert repr(workers) == "<RayMap of 1 workers, open: 0 networks trained, 0 workers lost>"
    workers.close()
    workers.close()
    for call in (lambda: workers(abs, [1]), workers.__enter__):
        with pytest.raises(CallOrderError, match="workers are closed"):
            call()
    assert workers.traffic.networks == 0
    assert "closed" in repr(workers)


@pytest.mark.parametrize("way", [pickle.dumps, copy.deepcopy])
def test_workers_stay_in_their_process(way, task_and_maps):
    with pytest.raises(InvalidTypeError, match="map must stay in its process"):
        way(task_and_maps[1])


def test_islands_train_on_workers_as_in_one_process(task_and_maps):
    task, _, three = task_and_maps
    options = {"islands": 3, "population": 4, "generations": 3, "progress": "none", "seed": 1}
    options["migration"] = nets.Migration(every=2)
    toolbox = nets.make_toolbox(task, inherit="none")
    toolbox.register("map", three)
    there = nets.search(task, toolbox=toolbox, **options)
    plain = nets.tasks.xor(hidden=6, dtype="float64", recipe=task.recipe)
    here = nets.search(plain, inherit="none", **options)
    assert [t.fitness.values for t in there.population] == [
        t.fitness.values for t in here.population
    ]


def test_a_task_that_cannot_be_sent_is_refused_without_its_data():
    lock = threading.Lock()

    def locked(output, target):
        with lock:
            return torch.nn.functional.cross_entropy(output, target)

    x = torch.randn(80, 2)
    data = x, (x[:, 0] > 0).long()
    task = nets.Task(torch.nn.Linear(2, 2), train=data, val=data, loss=locked, device="cpu")
    with pytest.raises(InvalidTypeError, match=r"can be pickled.*lock") as caught:
        RayMap(task, workers=1)
    assert len(str(caught.value)) < 500


def test_a_process_has_one_cluster_at_a_time(xor_task):
    with pytest.raises(CallOrderError, match=r"connected already.*got '10\.9\.8\.7:1'"):
        RayMap(xor_task, workers=1, address="10.9.8.7:1")


def test_where_others_have_taken_all_that_is_said(xor_task, caplog, monkeypatch):
    monkeypatch.setattr(ray_executor, "QUIET_START", 0.5)
    with (
        RayMap(xor_task, cpus_per_worker=9, workers=1, start_seconds=2) as workers,
        pytest.raises(ExecutorLostError, match=r"of 9 CPUs free"),
    ):
        workers(nets.make_toolbox(xor_task, inherit="none").evaluate, [xor_task.dense_ticket()])
    assert caplog.text.count("No worker is ready") == 1

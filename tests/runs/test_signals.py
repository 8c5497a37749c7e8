"""Signals: during evaluation, during a write, at start-up; twice."""

import os
import signal
import threading
import time

import pytest
from support.running import TINY, left_by, new_task, start, trained_by

import nets_deap as nets
from nets_deap.runs import signals
from nets_deap.runs.checkpoint import checkpoints
from nets_deap.runs.signals import ENDINGS, listening
from nets_deap.runs.storage import npz
from nets_deap.training import interrupt
from nets_deap.training.engines import dispatch

OPTIONS = {"population": 8, "generations": 4, "seed": 2, "progress": "none"}


@pytest.fixture(autouse=True)
def _each_generation(monkeypatch):
    monkeypatch.setattr(checkpoints, "SHARE", float("inf"))
    yield
    interrupt.forget()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an uninterrupted search leaves."""
    path = tmp_path_factory.mktemp("whole") / "run"
    nets.search(new_task(), path=path, **OPTIONS, inherit="none")
    return left_by(path)


def interrupted(path, number):
    """Search until the signal ends it, then go on; return what is left."""
    before = [signal.getsignal(each) for each in ENDINGS]
    with pytest.raises(interrupt.Interrupted) as caught, listening():
        nets.search(new_task(), path=path, **OPTIONS, inherit="none")
    assert caught.value.signal == number
    assert [signal.getsignal(each) for each in ENDINGS] == before
    assert not interrupt.asked()
    found = nets.search(new_task(), path=path, resume=True, **OPTIONS, inherit="none")
    assert found.stopped is None
    return left_by(path)


@pytest.mark.parametrize("number", ENDINGS, ids=lambda number: number.name)
def test_during_evaluation(tmp_path, monkeypatch, number, whole):
    train, calls = dispatch.ENGINES["compiled"].train, []

    def signalled(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), number)
        return train(*arguments, **options)

    trained_by(monkeypatch, "compiled", signalled)
    assert interrupted(tmp_path / "run", number) == whole


def test_during_a_write(tmp_path, monkeypatch, whole):
    write, calls = npz.write, []

    def signalled(*arguments):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        write(*arguments)

    monkeypatch.setattr(npz, "write", signalled)
    assert interrupted(tmp_path / "run", signal.SIGTERM) == whole
    assert len(calls) > 4


def test_before_the_first_generation(tmp_path, monkeypatch, whole):
    begin = nets.Recorder.__init__

    def signalled(*arguments, **options):
        begin(*arguments, **options)
        if not interrupt.asked() and not (tmp_path / "run" / "log.jsonl").exists():
            os.kill(os.getpid(), signal.SIGUSR1)
            monkeypatch.undo()

    monkeypatch.setattr(nets.Recorder, "__init__", signalled)
    assert interrupted(tmp_path / "run", signal.SIGUSR1) == whole


def test_a_search_listens_where_nobody_else_does(tmp_path, monkeypatch):
    seen = {}
    train = dispatch.ENGINES["compiled"].train

    def look(*arguments, **options):
        seen.update({number: signal.getsignal(number) for number in ENDINGS})
        return train(*arguments, **options)

    trained_by(monkeypatch, "compiled", look)
    mine = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        nets.search(new_task(), **OPTIONS, inherit="none")
        assert seen[signal.SIGINT] is signal.default_int_handler
        assert seen[signal.SIGTERM] is signals._note
        assert seen[signal.SIGUSR1] == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGUSR1, mine)


def test_other_threads_change_nothing():
    found = []

    def look():
        with listening():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]


@pytest.mark.parametrize("engine", ["vmap", "loop", "batched"])
def test_every_engine_can_be_interrupted_between_steps(engine):
    loss = "cross_entropy" if engine == "batched" else "binary_cross_entropy"
    recipe = nets.Recipe(lr=0.05, batch_size=4, steps=10**5, loss=loss)
    if engine == "batched":
        import torch

        x, y = torch.randn(20, 3), torch.arange(20) % 2
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
        task = nets.Task(model, train=(x, y), val=(x, y), recipe=recipe, engine=engine)
    else:
        task = new_task(engine=engine, recipe=recipe)
    timer = threading.Timer(0.5, interrupt.ask, [15])
    timer.start()
    try:
        with pytest.raises(interrupt.Interrupted):
            task.train(task.dense_ticket())
    finally:
        timer.join()


def wait_for(condition, process):
    for _ in range(1200):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("it did not come")


MANY = [*TINY[:1], 10**5, *TINY[2:]]


def test_the_command_line_ends_with_128_and_the_signal_and_says_how_to_go_on(tmp_path):
    path = tmp_path / "run"
    process = start("run", "xor-mlp10", "--out", path, *MANY)
    wait_for((path / "checkpoints").exists, process)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM
    (line,) = err.splitlines()
    assert line.endswith(f"go on with: nets-deap resume {path}")
    assert not list(path.rglob("*.part"))
    assert not (path / ".lock").exists()


@pytest.mark.slow
def test_at_start_up_nothing_has_been_written(tmp_path):
    process = start("run", "xor-mlp10", "--out", tmp_path / "run", *MANY)
    time.sleep(0.7)  # torch is being imported
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode in (128 + signal.SIGINT, -signal.SIGINT)
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_twice_ends_at_once_and_damages_nothing(tmp_path):
    child = os.fork()
    if child == 0:
        with listening():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 128 + signal.SIGINT


def test_running_ones_have_a_status(tmp_path):
    path = tmp_path / "run"
    process = start("run", "xor-mlp10", "--out", path, *MANY)
    try:
        wait_for((path / "checkpoints").exists, process)
        time.sleep(0.3)
        from nets_deap.runs.status import status

        found = status(path)
        assert found.state.startswith(f"running (process {process.pid} on ")
        assert (found.generations, found.health, found.advice) == (10**5, [], "")
    finally:
        process.kill()
        process.communicate()
    assert status(path).state == "interrupted"

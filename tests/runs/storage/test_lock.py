import fcntl
import gc
import json
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest
from support.running import ROOT, begin, new_task

import nets_deap as nets
from nets_deap.errors import FileAccessError, FolderInUseError
from nets_deap.runs.storage import lock
from nets_deap.runs.storage.lock import Lock, holder, is_held


@pytest.fixture
def other(tmp_path):
    """Another process that holds the folder."""
    code = (
        "import sys, time; from pathlib import Path; from nets_deap.runs.storage.lock import Lock\n"
        "held = Lock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, env=environment
    )
    assert child.stdout.readline() == b"held\n"
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def test_a_second_program_is_refused_until_the_first_is_dead(tmp_path, other):
    assert is_held(tmp_path)
    assert holder(tmp_path)["pid"] == other.pid
    with pytest.raises(FolderInUseError, match=f"process {other.pid} on .* writes into it"):
        Lock(tmp_path)
    with pytest.raises(FolderInUseError):  # whatever it is asked for
        Lock(tmp_path, force=True)
    with pytest.raises(FolderInUseError):
        nets.Recorder(tmp_path, task=new_task())
    with pytest.raises(FolderInUseError):
        nets.search(
            new_task(), path=tmp_path, population=4, generations=1, progress="none", inherit="none"
        )
    other.kill()
    other.wait()
    assert not is_held(tmp_path)
    Lock(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_free_again_once_its_recorder_is_gone(tmp_path):
    task = new_task()
    recorder = begin(tmp_path, {}, task=task)[2]
    assert is_held(tmp_path)
    del recorder
    gc.collect()
    assert not is_held(tmp_path)


def test_a_second_run_of_the_same_program_takes_over_and_the_first_one_stops(tmp_path):
    toolbox, population, first = begin(tmp_path, {})
    for ticket, values in zip(population, toolbox.map(toolbox.evaluate, population), strict=True):
        ticket.fitness.values = values
    first.compile(population)
    before = (tmp_path / "log.jsonl").read_bytes()
    run = nets.resume(tmp_path, task=first.task, progress="none")
    with pytest.raises(FolderInUseError, match="another one has taken it over"):
        first.compile(population)
    assert (tmp_path / "log.jsonl").read_bytes() == before
    first.close()
    assert is_held(tmp_path)
    run.recorder.close()
    assert not is_held(tmp_path)


def left_behind(path, age, host="elsewhere"):
    file = path / lock.LOCK
    file.write_text(json.dumps({"host": host, "pid": 1}))
    then = time.time() - age
    os.utime(file, (then, then))


def test_another_machine_is_believed_for_ten_minutes(tmp_path):
    left_behind(tmp_path, 30)
    assert is_held(tmp_path)
    with pytest.raises(FolderInUseError, match=r"process 1 on elsewhere .* is 30 s old.*--force"):
        Lock(tmp_path)
    Lock(tmp_path, force=True).release()
    left_behind(tmp_path, lock.STALE_SECONDS + 1)
    assert not is_held(tmp_path)
    Lock(tmp_path).release()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 1}', "\0" * 2000, "[" * 1000])
def test_a_damaged_lock_that_nobody_holds_is_taken(tmp_path, text):
    (tmp_path / lock.LOCK).write_text(text)
    held = Lock(tmp_path)
    assert holder(tmp_path)["pid"] == os.getpid()
    held.release()


def test_the_heartbeat_goes_on(tmp_path, monkeypatch):
    held = Lock(tmp_path)
    os.utime(held.file, (0, 0))
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0)
    held.check()
    assert time.time() - held.file.stat().st_mtime < 60
    held.file.unlink()
    with pytest.raises(FolderInUseError, match="taken it over"):
        held.check()


def test_one_that_was_taken_over_from_elsewhere_notices(tmp_path):
    held = Lock(tmp_path)
    held.check()
    left_behind(tmp_path, 0)  # in place, as another machine does where locks do not reach
    with pytest.raises(FolderInUseError, match="another one has taken it over"):
        held.check()


def test_a_folder_that_is_gone_is_told(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    held = Lock(path)
    shutil.rmtree(path)
    with pytest.raises(FileAccessError, match="it is gone"):
        held.check()


def test_a_look_at_the_moment_of_locking_does_no_harm(tmp_path):
    (tmp_path / lock.LOCK).touch()
    handle = os.open(tmp_path / lock.LOCK, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)
    timer = threading.Timer(0.03, os.close, [handle])
    timer.start()
    Lock(tmp_path).release()
    timer.join()


def test_a_sign_of_life_from_the_future_is_not_a_reason_to_wait_for_it(tmp_path):
    left_behind(tmp_path, -(10**6))
    with pytest.raises(FolderInUseError, match=r"is 0 s old: if it has ended, wait 600 s"):
        Lock(tmp_path)


def train():
    task = new_task()
    task.train(nets.make_toolbox(task, inherit="none").individual(), steps=2)


def test_training_that_goes_on_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0)
    held = lock.Lock(tmp_path)
    os.utime(held.file, (0, 0))
    train()
    assert held.file.stat().st_mtime > 1e9
    held.release()
    left = tmp_path / "left"
    left.touch()
    os.utime(left, (0, 0))
    handle = os.open(left, os.O_RDONLY)  # may be the number that the lock's file had
    train()
    assert left.stat().st_mtime == 0
    os.close(handle)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_child_process_that_ends_leaves_the_folder_to_its_parent(tmp_path):
    lock = Lock(tmp_path)
    child = os.fork()
    if not child:
        lock.release()  # as at the end of a program
        os._exit(0)
    os.waitpid(child, 0)
    lock.check()
    assert is_held(tmp_path)
    lock.release()

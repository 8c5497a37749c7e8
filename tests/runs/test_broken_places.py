"""A folder that breaks in the midst of a run: the run ends with an error of ours and goes on."""

import errno
import io
import json
import shutil
import signal
import time

import pytest
from support.running import TINY, begin, go, left_by, new_task, new_toolbox, start

import nets_deap as nets
from nets_deap.errors import FileAccessError, NetsError
from nets_deap.runs.checkpoint import checkpoints
from nets_deap.runs.recorder import Recorder
from nets_deap.runs.storage import npz


@pytest.fixture(autouse=True)
def _each_generation(monkeypatch):
    monkeypatch.setattr(checkpoints, "SHARE", float("inf"))


def goes_on(path, whole):
    task = new_task()
    run = nets.resume(path, task=task, progress="none")
    go("plus", new_toolbox(task, {}), run.population, run.recorder, run.remaining)
    go("plus", *begin(whole, {}))
    assert left_by(path) == left_by(whole)
    return run


class Breaking:
    """A file that takes half of what is written, once it is to break."""

    def __init__(self, file, code):
        self.file, self.code = file, code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, text):
        self.file.write(text[: len(text) // 2])
        self.file.flush()
        raise OSError(self.code, "broken")


@pytest.mark.parametrize("name", ["log.jsonl", "log.csv", "history.jsonl"])
def test_a_disk_that_is_full_in_the_midst_of_a_line(tmp_path, monkeypatch, name):
    path, real = tmp_path / "run", io.open
    toolbox, population, recorder = begin(path, {})

    def opened(file, mode="r", *arguments, **options):
        found = real(file, mode, *arguments, **options)
        full = str(file).endswith(name) and mode == "a" and recorder.generation == 3
        return Breaking(found, errno.ENOSPC) if full else found

    monkeypatch.setattr(io, "open", opened)
    with pytest.raises(FileAccessError, match="make room, and go on"):
        go("plus", toolbox, population, recorder)
    monkeypatch.setattr(io, "open", real)
    assert not (path / name).read_text().endswith("\n")
    assert goes_on(path, tmp_path / "whole").generation == 2


def test_a_folder_that_becomes_read_only(tmp_path, monkeypatch):
    path, real = tmp_path / "run", checkpoints.npz.write
    toolbox, population, recorder = begin(path, {})

    def refused(file, *arguments):
        if int(file.stem) == 3:
            raise OSError(errno.EROFS, "Read-only file system")
        real(file, *arguments)

    monkeypatch.setattr(checkpoints.npz, "write", refused)
    with pytest.raises(FileAccessError, match="Read-only file system"):
        go("plus", toolbox, population, recorder)
    monkeypatch.setattr(checkpoints.npz, "write", real)
    # Closing tries once more, and by then it may have gone well.
    assert goes_on(path, tmp_path / "whole").generation == 2


def test_a_folder_that_is_removed(tmp_path, monkeypatch):
    path, compile_ = tmp_path / "run", Recorder.compile
    toolbox, population, recorder = begin(path, {})

    def remove(self, tickets):
        if self.generation == 2:
            shutil.rmtree(path)
        return compile_(self, tickets)

    monkeypatch.setattr(Recorder, "compile", remove)
    with pytest.raises(NetsError, match="it is gone"):
        go("plus", toolbox, population, recorder)
    assert not path.exists()
    assert len(recorder.front) > 0


@pytest.mark.slow
def test_two_signals_end_the_command_line_at_once_and_damage_nothing(tmp_path):
    path = tmp_path / "run"
    process = start("run", "xor-mlp10", "--out", path, "--generations", 10**5, *TINY[2:])
    for _ in range(1200):
        if list(path.glob("checkpoints/0*.npz")):
            break
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    files = sorted(path.glob("checkpoints/0*.npz"))
    assert [npz.read(file)[0]["generation"] for file in files] == [int(file.stem) for file in files]
    facts = json.loads((path / "config.json").read_text())
    from nets_deap.experiments.resume import config_of
    from nets_deap.experiments.run import build_task

    run = nets.resume(path, task=build_task(config_of(facts)), progress="none")
    assert run.generation == int(files[-1].stem)
    run.recorder.close()

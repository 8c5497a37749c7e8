"""Writing that is cut off anywhere: the file is the old one or the new one, never another."""

import ast
import contextlib
import errno
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.running import begin, go, new_task, new_toolbox

import nets_deap as nets
from nets_deap._atomic import AtomicFile, sweep
from nets_deap.errors import FileAccessError
from nets_deap.runs.storage import npz
from nets_deap.runs.storage.plain import Packer

CALLS = ("open", "write", "pwrite", "fsync", "close", "replace")


def save(path, number):
    packer = Packer()
    value = packer.pack(np.full(3 * 2**20, number, np.uint8))  # more than the buffer
    npz.write(path, {"value": value, "number": number}, packer)


def number_in(path):
    content, flat = npz.read(path)
    assert set(flat["|u1"].tolist()) == {content["number"]}
    return content["number"]


def crash_at(path, place, after):
    """Save in a child that dies at its system call ``place``; return how many it made."""
    counted, done = os.pipe()
    child = os.fork()
    if child == 0:
        made = 0

        def dying(call):
            def wrapped(*arguments):
                nonlocal made
                made += 1
                if made == place and not after:
                    if call is real["write"]:  # part of it has gone through
                        call(arguments[0], arguments[1][: len(arguments[1]) // 2])
                    os._exit(9)
                found = call(*arguments)
                if made == place:
                    os._exit(9)
                return found

            return wrapped

        real = {name: getattr(os, name) for name in CALLS}
        for name, call in real.items():
            setattr(os, name, dying(call))
        save(path, 2)
        real["write"](done, bytes([made]))
        os._exit(0)
    os.close(done)
    os.waitpid(child, 0)
    made = os.read(counted, 1)
    os.close(counted)
    return made[0] if made else None


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_system_call_leaves_the_old_or_the_new_file(tmp_path, after):
    path = tmp_path / "x.npz"
    place, seen = 0, []
    while True:
        place += 1
        save(path, 1)
        made = crash_at(path, place, after)
        seen.append(number_in(path))
        sweep(tmp_path)
        assert [entry.name for entry in tmp_path.iterdir()] == ["x.npz"]
        if made is not None:
            break
    assert place > 8  # open, writes, sync, close, replace, sync of the folder
    assert seen == sorted(seen)
    assert {1, 2} == set(seen)


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_failing_call_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
    path = tmp_path / "x.npz"
    save(path, 1)

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        save(path, 2)
    monkeypatch.undo()
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.npz"]
    assert number_in(path) == 1


def test_an_exception_inside_leaves_nothing(tmp_path):
    def cut():
        with AtomicFile(tmp_path / "x") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def mounted(tmp_path):
    """A folder to mount on, and what mounts there; skips where that is not allowed."""
    place = tmp_path / "mounted"
    place.mkdir()

    def mount(*options):
        done = subprocess.run(["mount", *options, str(place)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
        return place

    yield mount
    subprocess.run(["umount", "-l", str(place)], capture_output=True)


def test_a_full_disk_ends_the_run_with_what_was_saved(mounted, monkeypatch):
    from nets_deap.runs.checkpoint import checkpoints

    monkeypatch.setattr(checkpoints, "SHARE", float("inf"))
    place = mounted("-t", "tmpfs", "-o", "size=300k", "tmpfs")
    toolbox, population, recorder = begin(place / "run", {})
    go("plus", toolbox, population, recorder, until=1)
    filler = place / "filler"
    with contextlib.suppress(OSError):
        filler.write_bytes(b"x" * 400_000)

    def go_on():
        run = nets.resume(place / "run", task=recorder.task, progress="none")
        go("plus", new_toolbox(run.task, {}), run.population, run.recorder, run.remaining)

    with pytest.raises(FileAccessError, match="No space left"):
        go_on()
    filler.unlink()
    task = new_task()
    run = nets.resume(place / "run", task=task, progress="none")
    assert run.generation >= 1
    go("plus", new_toolbox(task, {}), run.population, run.recorder, 1)
    assert run.recorder.generation == run.generation + 1


def test_a_read_only_folder_is_told_at_once(mounted, tmp_path):
    source = tmp_path / "source"
    toolbox, population, recorder = begin(source / "run", {})
    go("plus", toolbox, population, recorder, until=0)
    place = mounted("--bind", str(source))
    if subprocess.run(["mount", "-o", "remount,ro,bind", str(place)]).returncode:
        pytest.skip("mounting read-only is not allowed here")

    with pytest.raises(FileAccessError, match="Read-only file system"):
        nets.resume(place / "run", task=recorder.task, progress="none")
    with pytest.raises(FileAccessError, match="Read-only file system"):
        begin(place / "other", {})
    assert Path(source / "run" / "config.json").exists()


def test_every_file_is_written_in_one_place():
    """Nothing else opens a file to write it, whoever does it for it: a kill would tear it.

    Logs grow by a line, of which the last may be torn, and are cut off; locks hold nothing;
    TensorBoard appends to event files of its own.
    """
    root = Path(nets.__file__).parent
    grow = {"folder.py": {"a"}, "snapshot.py": {"ab"}, "history.py": {"rb+"}}
    for path in root.rglob("*.py"):
        if path.name in {"_atomic.py", "lock.py", "ray_session.py"}:
            continue
        calls = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
        ]
        for node in calls:
            name = ast.unparse(node.func)
            last, where = name.rpartition(".")[2], f"{path}:{node.lineno} writes with {name}"
            first = ast.unparse(node.args[0]) if node.args else ""
            if not re.match(r"(self|folder|RunFolder)\b", name):  # whose methods are the one way
                assert last not in {"write_text", "write_bytes", "save_file"}, where
            assert name not in {"os.replace", "os.rename"}, where
            if name == "torch.save":  # into memory
                assert [ast.unparse(argument) for argument in node.args[1:]] == ["buffer"], where
            if last in {"savefig", "savez", "savez_compressed"}:  # into memory
                assert first in {"content", "buffer"}, where
            if last == "open" and name not in {"archive.open", "crate.open"}:
                modes = {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
                writes = {
                    mode for mode in modes if re.fullmatch(r"[rwaxb+]*[wax+][b+]*", str(mode))
                }
                assert writes <= grow.get(path.name, set()), where

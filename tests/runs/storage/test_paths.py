"""What lies under a run's names and is not the run's own: links, pipes, other files."""

import hashlib
import os
import shutil

import pytest
from support.running import begin, go, left_by, new_task, new_toolbox

import nets_deap as nets
from nets_deap.errors import NetsError, RunFileError
from nets_deap.runs.checkpoint import checkpoints
from nets_deap.runs.status import status
from nets_deap.runs.storage import npz, paths
from nets_deap.runs.storage.folder import RunFolder
from nets_deap.runs.storage.plain import Packer

LOGS = ("log.jsonl", "log.csv")


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SHARE", float("inf"))
    go("plus", *begin(tmp_path / "run", {}), until=2)
    return tmp_path / "run"


def resume(path):
    run = nets.resume(path, task=new_task(), progress="none")
    go("plus", new_toolbox(run.task, {}), run.population, run.recorder, run.remaining)


def say_empty(path, name):
    """Make the newest checkpoint say that a log was empty, so that it would be cut off."""
    file = path / "checkpoints" / "00000002.npz"
    content, flat = npz.read(file)
    content["logs"][name] = [0, hashlib.sha256(b"").hexdigest()]
    packer = Packer()
    packer.parts = {dtype: [array] for dtype, array in flat.items()}
    npz.write(file, content, packer)


@pytest.mark.parametrize("name", [*paths.FILES, ".lock"])
def test_nothing_is_written_or_cut_off_through_a_link(path, tmp_path, name):
    precious = tmp_path / "precious"
    precious.write_text("mine\n")
    (path / name).unlink(missing_ok=True)
    (path / name).symlink_to(precious)
    if name in LOGS:
        say_empty(path, name)
    for attempt in (resume, status, lambda path: RunFolder(path, overwrite=True)):
        with pytest.raises(NetsError, match=f"{name} must be a file of the run itself"):
            attempt(path)
    assert precious.read_text() == "mine\n"


@pytest.mark.parametrize("name", ["checkpoints", "tickets"])
def test_nothing_is_removed_through_a_link(path, tmp_path, name):
    other = tmp_path / "other"
    shutil.move(path / name, other)
    for file in ("00009999.npz", "0123456789abcdef.safetensors", ".x.part"):
        (other / file).write_text("mine")
    (path / name).symlink_to(other)
    before = sorted(other.iterdir())
    for attempt in (resume, lambda path: RunFolder(path, overwrite=True)):
        with pytest.raises(RunFileError, match=f"{name} must be a folder of the run itself"):
            attempt(path)
    assert sorted(other.iterdir()) == before


@pytest.mark.parametrize(
    "name", ["config.json", "log.jsonl", "checkpoints/00000009.npz", "checkpoints/unfinished.npz"]
)
def test_nobody_waits_for_a_pipe(path, name):
    (path / name).unlink(missing_ok=True)
    os.mkfifo(path / name)
    for attempt in (resume, status):
        with pytest.raises(RunFileError, match="must be a file of the run itself"):
            attempt(path)


def test_a_configuration_too_large_to_be_one_is_not_read(path):
    with (path / "config.json").open("ab") as file:
        file.truncate(2**40)
    with pytest.raises(RunFileError, match="too large"):
        resume(path)


@pytest.mark.parametrize("name", ["00000002 copy.npz", "0abc.npz", "9.npz", "9" * 30 + ".npz"])
def test_other_files_beside_checkpoints_are_left_alone(path, tmp_path, name):
    folder = path / "checkpoints"
    shutil.copy(folder / "00000002.npz", folder / name)
    resume(path)
    assert (folder / name).exists()
    assert len(paths.checkpoints_in(folder)) == checkpoints.KEPT
    go("plus", *begin(tmp_path / "whole", {}))
    assert left_by(path) == left_by(tmp_path / "whole")

import contextlib
import json

import pytest
from support.running import NGEN, begin, go, new_task

import nets_deap as nets
from nets_deap.cli.main import main
from nets_deap.errors import FileAccessError, RunFileError
from nets_deap.runs.checkpoint import checkpoints
from nets_deap.runs.status import status


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SHARE", float("inf"))
    go("plus", *begin(tmp_path / "run", {}), until=2)
    return tmp_path / "run"


def test_an_interrupted_run(path):
    found = status(path)
    assert (found.state, found.generation, found.generations) == ("interrupted", 2, NGEN)
    assert found.checkpoint == 2
    assert found.left == pytest.approx(found.seconds)  # 3 of 6 generations
    assert 0 <= found.age < 60
    assert found.health == []
    text = found.text()
    assert f"generation  2 of {NGEN}" in text
    assert found.advice in text


def test_damage_is_told_and_nothing_changed(path):
    newest = path / "checkpoints" / "00000002.npz"
    newest.write_bytes(newest.read_bytes()[:-1])
    with (path / "log.jsonl").open("a") as file:
        file.write('{"generation"')
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    found = status(path)
    assert found.checkpoint == 1
    assert len(found.health) == 3
    assert "generation 2: not saved" in found.health[2]
    assert "damaged" in found.health[0]
    assert "torn line" in found.health[1]
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_a_finished_and_a_stopped_run(path, tmp_path):
    run = nets.resume(path, task=new_task(), progress="none")
    go(
        "plus",
        nets.make_toolbox(run.task, inherit="none"),
        run.population,
        run.recorder,
        run.remaining,
    )
    found = status(path)
    assert (found.state, found.left, found.advice) == ("finished", 0.0, "")
    options = {"population": 6, "generations": 3, "max_steps": 1, "progress": "none"}
    nets.search(new_task(), path=tmp_path / "short", **options, inherit="none")
    found = status(tmp_path / "short")
    assert found.state == "stopped"
    assert "steps x networks are spent" in found.health[0]


def test_no_checkpoint_yet(path):
    for file in (path / "checkpoints").iterdir():
        file.unlink()
    assert "checkpoint  none" in status(path).text()


def test_no_run(tmp_path):
    with pytest.raises(FileAccessError, match="must be a run folder"):
        status(tmp_path)


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (600, "10 min"), (3600 * 25, "25 h 00 min")]
)
def test_durations(seconds, text):
    from nets_deap.runs.status import _duration

    assert _duration(seconds) == text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.jsonl", "[" * 100_000 + "\n"),
        ("log.jsonl", '{"generation": "x"}\n'),
        ("log.jsonl", '{"generation": null}\n'),
        ("log.jsonl", '{"generation": 1e999, "seconds": NaN}\n'),
        ("front.csv", b"\xff\xfe"),
    ],
)
def test_whatever_files_hold_it_is_an_answer_or_an_error_of_ours(path, name, content):
    (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with contextlib.suppress(RunFileError):
        assert status(path).text()


def test_the_advice_is_what_goes_on(path, tmp_path):
    options = {"population": 6, "generations": 1, "progress": "none"}
    assert f"nets.resume({str(path)!r}, task=task) in Python" in status(path).advice
    nets.search(new_task(), path=tmp_path / "search", **options, inherit="none")
    facts = json.loads((tmp_path / "search" / "config.json").read_text())
    for file in (tmp_path / "search" / "checkpoints").iterdir():
        file.unlink()
    assert "resume=True" in status(tmp_path / "search").advice
    (tmp_path / "search" / "config.json").write_text(json.dumps({**facts, "config": {}}))
    assert f"nets-deap resume {tmp_path / 'search'}" in status(tmp_path / "search").advice


def test_a_run_before_its_first_generation(tmp_path):
    nets.Recorder(tmp_path / "run", task=new_task(), generations=4, progress="none").close()
    found = status(tmp_path / "run")
    assert found.generation == -1
    assert "generation  none yet" in found.text()
    assert "-1" not in found.text().replace(str(tmp_path), "")


def test_several_runs_are_told_one_after_the_other(path, tmp_path, capsys):
    assert main(["status", str(path), str(path)]) == 0
    text = capsys.readouterr().out
    one = f"{path}\n{status(path).text()}\n"
    assert text == f"{one}\n{one}"

import json

import pytest

from nets_deap.errors import FileAccessError, InvalidValueError
from nets_deap.runs.storage.folder import RunFolder, csv_text


def test_makes_the_folder_with_parents_and_leaves_nothing_else(tmp_path):
    folder = RunFolder(tmp_path / "a" / "b")
    folder.close()
    assert list(folder.path.iterdir()) == []


def test_refuses_a_folder_that_holds_something(tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(InvalidValueError, match=r"new or empty folder.*precious.txt.*overwrite"):
        RunFolder(tmp_path)
    assert (tmp_path / "precious.txt").read_text() == "x"


def test_overwrite_replaces_only_a_runs_own_files(tmp_path):
    first = RunFolder(tmp_path)
    first.write_json("config.json", {"versions": {"nets_deap": "0"}})
    first.append_row({"generation": 0})
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "tickets").mkdir()
    (tmp_path / "tickets" / "0123456789abcdef.safetensors").write_text("")
    (tmp_path / "tickets" / "concert.safetensors").write_text("mine")
    RunFolder(tmp_path, overwrite=True)
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert left == ["notes.txt", "tickets/concert.safetensors"]


@pytest.mark.parametrize("content", ["{}", "not json", "[]"])
def test_overwrite_refuses_a_folder_that_no_run_wrote(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InvalidValueError, match=r"earlier run to overwrite.*nothing was removed"):
        RunFolder(tmp_path, overwrite=True)
    assert (tmp_path / "config.json").read_text() == content


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_unwritable_place_is_one_clear_error(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileAccessError, match="must be a writable folder"):
        RunFolder(tmp_path / place)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_rows_are_the_same_in_both_logs(tmp_path):
    folder = RunFolder(tmp_path)
    rows = [{"generation": 0, "loss": 0.5}, {"generation": 1, "loss": 0.25}]
    for row in rows:
        folder.append_row(row)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert (tmp_path / "log.csv").read_text() == "generation,loss\n0,0.5\n1,0.25\n"


def test_csv_takes_the_columns_of_all_rows():
    assert csv_text([{"a": 1}, {"a": 2, "b": 3}]) == "a,b\n1,\n2,3\n"


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.write_text("front.csv", "old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(FileAccessError, match="No space left"):
        folder.write_text("front.csv", "new")
    assert (tmp_path / "front.csv").read_text() == "old"
    folder.close()
    assert [p.name for p in tmp_path.iterdir()] == ["front.csv"]

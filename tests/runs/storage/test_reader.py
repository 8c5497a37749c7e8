"""``RunReader``: every file of a run, whole, cut off, damaged and missing."""

import ast
import contextlib
from pathlib import Path

import pytest

import nets_deap as nets
from nets_deap.errors import FileAccessError, RunFileError, TicketFileError
from nets_deap.runs.storage import paths
from nets_deap.runs.storage.reader import RunReader, read_json, reading

ROOT = Path(nets.__file__).parent


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path = tmp_path_factory.mktemp("reader") / "run"
    task = nets.tasks.xor(hidden=3)
    return nets.search(
        task, population=4, generations=2, path=path, progress="none", inherit="none"
    )


@pytest.fixture
def reader(found, tmp_path):
    """A reader of a copy of the run."""
    from shutil import copytree

    return RunReader(copytree(found.path, tmp_path / "run"))


def test_it_gives_what_the_run_wrote(found, reader):
    assert reader.config()["search"]["population"] == 4
    assert reader.facts() == reader.config()
    rows = [{"gen" if n == "generation" else n: v for n, v in r.items()} for r in reader.log()]
    assert rows == [dict(row) for row in found.logbook]
    assert reader.sound_log() == (reader.log(), True)
    assert [one.number for one in reader.history()] == [0, 1, 2]
    tickets = sorted(reader.tickets(), key=lambda ticket: (-ticket.kept, ticket.digest))
    assert {ticket.digest for ticket in tickets} == {ticket.digest for ticket in found.front}
    assert [row["ticket"] for row in reader.front()] == [
        ticket.digest[:16]
        for ticket in sorted(found.front, key=lambda t: (-t.kept, t.fitness.values, t.digest))
    ]
    assert reader.is_run()
    assert not reader.has_final_training()


def test_a_folder_without_files(tmp_path):
    reader = RunReader(tmp_path)
    assert not reader.is_run()
    assert not reader.has_final_training()
    assert (reader.tickets(), reader.history(), reader.sound_log()) == ([], [], ([], True))
    for read in (reader.config, reader.facts, reader.log, reader.front):
        with pytest.raises(FileAccessError, match="run must be a run folder: cannot read"):
            read()
    with pytest.raises(FileAccessError, match=r"curves\.json must be a readable file"):
        reader.curves()


@pytest.mark.parametrize("name", [paths.LOG, paths.HISTORY])
def test_a_last_line_that_was_cut_off_is_left_out_and_another_is_not(reader, name):
    read = reader.log if name == paths.LOG else reader.history
    file = reader.path / name
    first, second, third = file.read_text().splitlines(keepends=True)
    file.write_text(first + second + third[:-9])
    assert len(read()) == 2
    for text in (first + second[:-9] + "\n" + third, first + second + third[:-9] + "\n"):
        file.write_text(text)
        with pytest.raises(FileAccessError, match="must hold a generation a line: line"):
            read()
    if name == paths.LOG:
        rows, sound = reader.sound_log()
        assert ([row["generation"] for row in rows], sound) == ([0, 1], False)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[]", b"3", b"[" * 100_000, b"{"])
def test_whatever_a_file_holds_it_is_an_answer_or_an_error_of_ours(reader, content):
    for name in paths.FILES:
        (reader.path / name).write_bytes(content + b"\n")
    for read in (reader.config, reader.facts, reader.log, reader.history):
        with pytest.raises((FileAccessError, RunFileError)):
            read()
    assert not reader.is_run()
    for read in (reader.front, reader.curves, reader.sound_log, reader.has_final_training):
        with contextlib.suppress(FileAccessError):
            read()


def test_a_damaged_ticket_is_named(reader):
    file = next((reader.path / paths.TICKETS).iterdir())
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(TicketFileError, match=file.name):
        reader.tickets()


def test_what_is_taken_apart_within_reading_fails_in_words(tmp_path):
    file = tmp_path / "x.json"
    file.write_text('{"a": "b"}')
    assert read_json(file) == {"a": "b"}
    with (
        pytest.raises(FileAccessError, match=r"x\.json does not hold what a run writes"),
        reading(file),
    ):
        float(read_json(file)["a"])


def test_one_file_names_what_lies_in_a_run_folder():
    """All others ask ``paths`` for the names, and ``reader`` for what the files hold."""
    known = {*paths.FILES, paths.PARTIAL, paths.LOCK}
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and node.value in known:
                assert path.name == "paths.py", f"{path}:{node.lineno} names {node.value}"

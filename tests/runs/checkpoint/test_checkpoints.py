"""Checkpoints in a folder: the newest whole one counts."""

import json
import shutil
from pathlib import Path

import pytest
from support.running import NGEN, begin, go, left_by, new_task, new_toolbox

import nets_deap as nets
from nets_deap.errors import RunFileError
from nets_deap.runs.checkpoint import checkpoints
from nets_deap.runs.checkpoint.checkpoints import Checkpoints
from nets_deap.runs.storage import npz, schema
from nets_deap.runs.storage.plain import Packer
from nets_deap.runs.storage.schema import MIGRATIONS, SCHEMA

SAMPLES = Path(__file__).parent.parent.parent / "samples"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that has saved every generation."""
    path = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "SHARE", float("inf"))
        go("plus", *begin(path, {}))
    return path


@pytest.fixture
def path(finished, tmp_path):
    """A copy of it."""
    return shutil.copytree(finished, tmp_path / "run")


def names(path):
    return sorted(file.name for file in (path / "checkpoints").iterdir())


def resume(path):
    run = nets.resume(path, task=new_task(), progress="none")
    run.recorder.close()
    return run.generation


def test_the_last_three_are_kept(path):
    assert names(path) == [f"{g:08d}.npz" for g in range(NGEN - 2, NGEN + 1)]


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "swapped", "other", "gone"])
def test_a_damaged_newest_one_falls_back_with_a_warning(path, damage, caplog, finished):
    newest, before = (path / "checkpoints" / f"{g:08d}.npz" for g in (NGEN, NGEN - 1))
    content = newest.read_bytes()
    changed = {
        "empty": b"",
        "truncated": content[: len(content) // 2],
        "flipped": content[:2000] + bytes([content[2000] ^ 4]) + content[2001:],
        "swapped": before.read_bytes(),
        "other": (path / "config.json").read_bytes(),
    }
    if damage == "gone":
        newest.unlink()
    else:
        newest.write_bytes(changed[damage])
    assert resume(path) == NGEN - 1
    assert ("The one before it is used" in caplog.text) == (damage != "gone")
    task = new_task()
    run = nets.resume(path, task=task, progress="none")
    go("plus", new_toolbox(task, {}), run.population, run.recorder, run.remaining)
    assert left_by(path) == left_by(finished)


def test_all_damaged_is_an_error_that_changes_nothing(path, capsys):
    for file in (path / "checkpoints").iterdir():
        file.write_bytes(file.read_bytes()[:-1])
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(RunFileError, match=r"no checkpoint .* can be read.* Nothing was changed"):
        resume(path)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    options = {"population": 8, "generations": NGEN, "progress": "none"}
    with pytest.raises(RunFileError, match="no checkpoint"):
        nets.search(new_task(), path=path, resume=True, **options, inherit="none")


def rewrite(file, change):
    """Write a checkpoint again with other JSON."""
    content, flat = npz.read(file)
    change(content)
    packer = Packer()
    packer.parts = {name: [array] for name, array in flat.items()}
    npz.write(file, content, packer)


def test_a_newer_schema_is_refused_and_an_older_one_migrates(path, monkeypatch):
    newest = path / "checkpoints" / f"{NGEN:08d}.npz"
    rewrite(newest, lambda content: content.update(schema=SCHEMA + 1))
    with pytest.raises(RunFileError, match=f"of schema {SCHEMA} or older: got {SCHEMA + 1}"):
        resume(path)
    rewrite(newest, lambda content: content.update(schema=SCHEMA, old=content.pop("population")))
    with pytest.raises(RunFileError, match="cannot be used"):
        resume(path)
    monkeypatch.setattr(schema, "SCHEMA", SCHEMA + 1)
    monkeypatch.setitem(MIGRATIONS, SCHEMA, lambda c: {**c, "population": c["old"]})
    assert resume(path) == NGEN


@pytest.mark.parametrize("number", [None, "1", 0, True, 1.0])
def test_a_schema_is_a_number(path, number):
    for file in (path / "checkpoints").iterdir():
        rewrite(file, lambda content: content.update(schema=number))
    with pytest.raises(RunFileError, match="no schema"):
        resume(path)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("steps", "x"),
        ("digest", 1),
        ("metrics", {"dict": {"val_loss": "x"}}),
        ("metrics", {"tuple": []}),
        ("others", {"dict": {"bias": 0.5}}),
        ("values", [0.5]),
        ("values", None),
        ("slopes", {"tuple": [0.5]}),
    ],
)
def test_a_trained_state_of_something_else_is_refused(tmp_path, name, other):
    options = {"inherit": "weights", "gradient": True}
    go("plus", *begin(tmp_path / "run", options), until=0)
    (file,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert resume(tmp_path / "run") == 0

    def change(content):
        content["learnt"][0]["dict"][name] = other

    rewrite(file, change)
    with pytest.raises(RunFileError, match="cannot be used"):
        resume(tmp_path / "run")


@pytest.mark.parametrize("number", range(1, SCHEMA + 1))
def test_the_sample_of_every_schema_is_read(number, tmp_path, caplog):
    """Files that an earlier version wrote; never written anew."""
    shutil.copytree(SAMPLES / f"run-schema{number}", tmp_path / "run")
    known = json.loads((SAMPLES / f"run-schema{number}.json").read_text())
    task = new_task()
    run = nets.resume(tmp_path / "run", task=task, progress="none", force=True)
    found = [[t.digest, list(t.fitness.values)] for t in run.population]
    assert found == known["population"]
    go("plus", new_toolbox(task, {}), run.population, run.recorder, run.remaining)
    assert run.recorder.generation == NGEN


def test_what_earlier_versions_noted_of_tickets_is_found_under_its_present_name(tmp_path):
    found = {}
    for number in (1, 2):
        shutil.copytree(SAMPLES / f"run-schema{number}", tmp_path / str(number))
        run = nets.resume(tmp_path / str(number), task=new_task(), progress="none", force=True)
        run.recorder.close()
        found[number] = [*run.population, *run.front]
        assert all(set(vars(ticket)) <= {"fitness"} for ticket in found[number])
    (adaptation,) = {tuple(t.adaptation.items()) for t in found[1] if t.adaptation}
    assert dict(adaptation)["layers.0.weight"] == -0.04269442789048197
    parents = {parent for ticket in found[2] for parent in ticket.parent_digests}
    assert "2773450b369feeb49595edf2f1979ec1" in parents
    assert any(ticket.origin["generation"] for ticket in found[2] if ticket.origin)


@pytest.mark.parametrize("own", [None, [1.0, 2.0], {"tuple": [1.0]}])
def test_a_strategy_of_the_programs_own_stays_its_own(tmp_path, own):
    shutil.copytree(SAMPLES / "run-schema2", tmp_path / "run")
    for file in (tmp_path / "run" / "checkpoints").iterdir():
        rewrite(file, lambda c: [t["attributes"].update(strategy=own) for t in c["tickets"]])
    run = nets.resume(tmp_path / "run", task=new_task(), progress="none", force=True)
    run.recorder.close()
    for ticket in run.population:
        assert ticket.strategy == (tuple(own["tuple"]) if isinstance(own, dict) else own)
        assert ticket.adaptation == {}


def test_saving_is_spaced_out_where_it_costs_much(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    kept = Checkpoints(tmp_path)
    assert kept.is_due()
    began, now[0] = now[0], 1.0
    kept.save(0, {"generation": 0}, Packer(), began=began)
    assert not kept.is_due()
    now[0] += 1 / checkpoints.SHARE
    assert kept.is_due()


@pytest.mark.parametrize("change", [
    lambda c: c["tickets"][0].update({"class": "builtins.object"}),
    lambda c: c["tickets"][0].update({"class": "os.system"}),
    lambda c: c["tickets"][0]["attributes"].update({"save": 1}),
    lambda c: c["tickets"][0]["attributes"].update({"__class__": 1}),
    lambda c: c["tickets"][0]["attributes"].update({"_size": 10**12}),
    lambda c: c["tickets"][0]["attributes"].update({"_layout_key": "other"}),
    lambda c: c["tickets"][0]["attributes"].update({"x": {"ticket": 10**6}}),
    lambda c: c["tickets"][0]["attributes"].update({"x": {"made": ["system", ["ls"]]}}),
    lambda c: c["tickets"][0]["attributes"].update({"x": {"made": ["bytes", [10**12]]}}),
    lambda c: c["tickets"][0]["attributes"].update({"x": {"created": ["type", "type", [], {}]}}),
    lambda c: c["tickets"][0]["attributes"].update(
        {"x": {"created": ["dict", "collections.OrderedDict", {"dict": {}}, {}]}}
    ),
    lambda c: c["tickets"][0]["attributes"].update({"x": {"raw": ["|O", [1], {}]}}),
    lambda c: c["tickets"][0]["own"].update({"size": 10**12}),
    lambda c: c["tickets"][0]["own"].update({"layout_key": "other"}),
    lambda c: c["tickets"][0]["own"].update({"evaluations": -1}),
    lambda c: c["tickets"][0]["own"].update({"adaptation": {"dict": {"a": "x"}}}),
    lambda c: c["tickets"][0]["own"].update({"save": 1}),
    lambda c: c["tickets"][0]["own"].pop("unit"),
    lambda c: c["tickets"][0]["fitness"]["attributes"].update({"dominates": 1}),
    lambda c: c["tickets"][0]["fitness"].update({"weights": []}),
    lambda c: c["population"].append(10**6),
    lambda c: c["archive"].update({"class": "builtins.list"}),
    lambda c: c["logs"].update({"../../x": [0, "0" * 64]}),
    lambda c: c["random"]["dict"].update({"torch": 1}),
    lambda c: c.pop("recorder"),
    lambda c: c["recorder"].pop("generations"),
    lambda c: c["recorder"].update({"reference": "x"}),
    lambda c: c["recorder"].update({"reference": {}}),
    lambda c: c["recorder"].update({"reference": [1.0] * 5}),
    lambda c: c["recorder"].update({"stopped": []}),
    lambda c: c.update({"evaluator": "x"}),
    lambda c: c.update({"evaluator": {"generation": float("nan"), "spent": 0}}),
    lambda c: c.update({"evaluator": {"generation": -5, "spent": None}}),
    lambda c: c.update({"evaluator": {"generation": 10**30, "spent": None}}),
    lambda c: c["recorder"].update({"spent": "x"}),
    lambda c: c.update({"tickets": 3}),
])  # fmt: skip
def test_a_checkpoint_that_was_made_up_is_refused(path, change):
    for file in (path / "checkpoints").iterdir():
        rewrite(file, change)
    outside = path.parent.parent / "x"
    with pytest.raises(nets.NetsError):
        resume(path)
    assert not outside.exists()

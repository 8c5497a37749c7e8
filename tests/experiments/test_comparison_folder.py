"""The folder of a comparison: whose results it takes, and what it gives back."""

import json
import re

import numpy as np
import pytest

from nets_deap.errors import FileAccessError, InvalidValueError
from nets_deap.experiments.folder import HEAD, ComparisonFolder

IDENTITY = {
    "config": {"recipe": {"lr": 0.05, "betas": (0.9, 0.999)}, "search": {"population": 4}},
    "budget": 60,
    "densities": [0.3, 0.1],
}


def changed(**parts):
    return {**IDENTITY, **parts}


def test_a_new_folder_is_made_with_its_parents_and_opens_again(tmp_path):
    path = tmp_path / "a" / "b"
    ComparisonFolder(path, IDENTITY)
    assert sorted(p.name for p in path.iterdir()) == [HEAD, "results", "tickets"]
    held = (path / HEAD).read_bytes()
    assert json.loads(held)["budget"] == 60
    # Tuples are lists in JSON, and that is not a difference.
    ComparisonFolder(path, IDENTITY)
    assert (path / HEAD).read_bytes() == held


@pytest.mark.parametrize(
    ("identity", "text"),
    [
        (changed(budget=30), r"budget = 30 \(there: 60\)"),
        (changed(densities=[0.3]), r"densities = \[0.3\] \(there: \[0.3, 0.1\]\)"),
        (
            changed(config={**IDENTITY["config"], "search": {"population": 8}}),
            r"config = search.population 8 \(there: 4\),",
        ),
    ],
)
def test_another_comparison_is_refused_and_what_differs_is_named(tmp_path, identity, text):
    ComparisonFolder(tmp_path / "c", IDENTITY).put(0, "erk", [{"seed": 0}])
    with pytest.raises(InvalidValueError, match="must hold the same comparison or nothing") as got:
        ComparisonFolder(tmp_path / "c", identity)
    assert re.search(text, str(got.value))
    assert "Choose another folder" in str(got.value)
    assert ComparisonFolder(tmp_path / "c", IDENTITY).get(0, "erk") == [{"seed": 0}]


def test_all_differences_are_named_and_nothing_else(tmp_path):
    ComparisonFolder(tmp_path, IDENTITY)
    other = changed(budget=30, config={"recipe": {"lr": 0.1, "betas": (0.9, 0.9)}, "search": {}})
    with pytest.raises(InvalidValueError) as got:
        ComparisonFolder(tmp_path, other)
    for text in ("budget = 30", "recipe.lr 0.1 (there: 0.05)", "recipe.betas [0.9, 0.9] (there"):
        assert text in str(got.value)
    assert "densities" not in str(got.value)


def test_a_folder_with_something_else_is_refused_and_kept(tmp_path):
    (tmp_path / "precious").write_text("x")
    with pytest.raises(InvalidValueError, match=r"new or empty folder.*precious"):
        ComparisonFolder(tmp_path, IDENTITY)
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]


def test_a_head_that_is_not_an_identity_is_refused(tmp_path):
    (tmp_path / HEAD).write_text("[]")
    with pytest.raises(InvalidValueError, match=r"budget = 60 \(there: None\)"):
        ComparisonFolder(tmp_path, IDENTITY)


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_unwritable_place_is_one_clear_error(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileAccessError, match="must be a writable folder"):
        ComparisonFolder(tmp_path / place, IDENTITY)


def test_a_file_in_the_way_of_the_results_is_one_clear_error(tmp_path):
    ComparisonFolder(tmp_path, IDENTITY)
    (tmp_path / "results").rmdir()
    (tmp_path / "results").write_text("")
    with pytest.raises(FileAccessError, match="must be a writable folder"):
        ComparisonFolder(tmp_path, IDENTITY)


def test_results_come_back_by_seed_and_method(tmp_path):
    folder = ComparisonFolder(tmp_path, IDENTITY)
    rows = [{"seed": 1, "density": 0.1, "multiply_adds": None, "test_loss": float("inf")}]
    assert not folder.has(1, "erk")
    folder.put(1, "erk", rows)
    again = ComparisonFolder(tmp_path, IDENTITY)
    assert again.has(1, "erk")
    assert again.get(1, "erk") == rows
    # Seed 11 and another method are other files.
    assert not again.has(11, "erk")
    assert not again.has(1, "random")


def test_a_result_is_there_only_when_it_is_whole(tmp_path, monkeypatch):
    folder = ComparisonFolder(tmp_path, IDENTITY)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(FileAccessError, match="No space left"):
        folder.put(0, "erk", [{"seed": 0}])
    assert not folder.has(0, "erk")
    assert list((tmp_path / "results").iterdir()) == []


@pytest.mark.parametrize("damage", ["{", None])
def test_a_damaged_or_missing_result_names_its_file(tmp_path, damage):
    folder = ComparisonFolder(tmp_path, IDENTITY)
    if damage is not None:
        (tmp_path / "results" / "seed0-erk.json").write_text(damage)
    with pytest.raises(FileAccessError, match=r"seed0-erk.json must be readable JSON.*Remove"):
        folder.get(0, "erk")


def test_tickets_come_back_in_order_with_the_layout_and_old_ones_go(tmp_path, xor_task):
    size = xor_task.layout.size

    def tickets(*kept):
        return [xor_task.ticket(np.arange(size) < k) for k in kept]

    folder = ComparisonFolder(tmp_path, IDENTITY)
    assert folder.tickets(0, xor_task.layout) == []
    folder.put_tickets(0, tickets(*range(size, 0, -1)))
    folder.put_tickets(1, tickets(3))
    assert folder.tickets(0, xor_task.layout) == tickets(*range(size, 0, -1))
    folder.put_tickets(0, tickets(5, 2))
    back = folder.tickets(0, xor_task.layout)
    assert back == tickets(5, 2)
    assert back[0].layout is xor_task.layout
    assert folder.tickets(1, xor_task.layout) == tickets(3)


def test_results_under_a_methods_older_name_count(tmp_path):
    """``finetune`` was ``chain``, and the engine ``vmap`` was ``stacked``."""
    identity = changed(config={**IDENTITY["config"], "task": {"engine": "vmap"}})
    folder = ComparisonFolder(tmp_path, identity)
    head = tmp_path / HEAD
    head.write_text(head.read_text().replace('"vmap"', '"stacked"'))
    folder.put(0, "chain", [{"seed": 0, "method": "chain"}])
    folder.put(0, "erk", [{"seed": 0, "method": "erk"}])
    again = ComparisonFolder(tmp_path, identity)
    assert again.has(0, "finetune")
    assert not again.has(1, "finetune")
    assert again.get(0, "finetune") == [{"seed": 0, "method": "finetune"}]
    assert again.get(0, "erk") == [{"seed": 0, "method": "erk"}]

"""Callbacks of a recorder: once a generation, with its row, and without a trace in the run."""

import random

import numpy as np
import pytest
import torch
from support.running import begin, go, left_by, new_task

import nets_deap as nets
from nets_deap.errors import InvalidTypeError


def test_a_callback_gets_each_generation_once_it_is_written(tmp_path):
    seen = []

    def note(recorder, row):
        rows = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
        assert len(rows) == recorder.generation + 1
        seen.append((recorder.generation, row))
        row["hypervolume"] = None  # its own copy

    toolbox, population, recorder = begin(tmp_path / "run", {})
    recorder.callbacks.append(note)
    go("plus", toolbox, population, recorder)
    assert [number for number, _ in seen] == [0, 1, 2, 3, 4, 5]
    for (number, row), logged in zip(seen, recorder.logbook, strict=True):
        assert row["gen"] == number
        assert {**row, "hypervolume": logged["hypervolume"]} == dict(logged)
    assert all(row["hypervolume"] is not None for row in recorder.logbook)


def test_what_a_callback_draws_changes_nothing(tmp_path):
    def draw(recorder, row):
        random.random()
        np.random.rand()  # noqa: NPY002
        torch.rand(1)

    for name, callbacks in (("plain", []), ("drawn", [draw])):
        toolbox, population, recorder = begin(tmp_path / name, {})
        recorder.callbacks = callbacks
        go("plus", toolbox, population, recorder)
    assert left_by(tmp_path / "plain") == left_by(tmp_path / "drawn")


def test_a_run_that_goes_on_calls_for_later_generations_only(tmp_path):
    options = {"population": 6, "path": tmp_path / "run", "progress": "none"}
    seen = []

    def note(recorder, row):
        seen.append(recorder.generation)
        if recorder.generation == 1:
            raise OSError("the server is away")

    with pytest.raises(OSError, match="the server is away"):
        nets.search(new_task(), generations=3, callbacks=[note], **options, inherit="none")
    found = nets.search(
        new_task(), generations=3, callbacks=[note], resume=True, **options, inherit="none"
    )
    assert seen == [0, 1, 2, 3]
    whole = nets.search(
        new_task(), generations=3, **{**options, "path": tmp_path / "whole"}, inherit="none"
    )
    assert [t.digest for t in found.front] == [t.digest for t in whole.front]


def test_the_last_generation_is_called_for_when_a_limit_stops(xor_task):
    seen = []
    found = nets.search(
        xor_task, population=4, generations=9, max_steps=1, progress="none",
        callbacks=[lambda recorder, row: seen.append(row["network_steps"])], inherit="none"
    )  # fmt: skip
    assert found.stopped
    assert len(seen) == 1


@pytest.mark.parametrize("callbacks", [print, ["print"]])
def test_what_cannot_be_called_is_refused(xor_task, callbacks):
    with pytest.raises(InvalidTypeError, match=r"callbacks must be (a list|functions)"):
        nets.Recorder(task=xor_task, callbacks=callbacks)

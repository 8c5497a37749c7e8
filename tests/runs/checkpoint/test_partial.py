"""Outcomes that are kept of a generation: what a file says of them is looked at."""

import numpy as np
import pytest
import torch
from support.running import new_task

from nets_deap.runs.checkpoint.partial import Partial
from nets_deap.runs.storage import npz
from nets_deap.runs.storage.folder import RunFolder
from nets_deap.runs.storage.paths import CHECKPOINTS, PARTIAL
from nets_deap.runs.storage.plain import Packer
from nets_deap.training.engines import dispatch
from nets_deap.training.executor import set_journal
from nets_deap.training.problem import Plan

PLAN = Plan(steps=10, seed=1)


@pytest.fixture
def kept(tmp_path):
    """A task, masks, and the file with their outcomes."""
    task = new_task()
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    masks = [task.ticket(rng.random(task.layout.size) < 0.5).packed_mask for _ in range(4)]
    folder = RunFolder(tmp_path)
    journal = Partial(folder, 1)
    set_journal(task.problem, journal)
    dispatch.train(task.problem, masks, PLAN)
    journal.cut_short()
    set_journal(task.problem, None)
    return task, masks, folder


def known(kept):
    """Return how many outcomes are taken from the file."""
    _, masks, folder = kept
    return len(Partial(folder, 1).begin(masks, PLAN, [None] * len(masks)))


def test_what_was_kept_is_known(kept):
    assert known(kept) == 4


@pytest.mark.parametrize(
    "change",
    [
        lambda part: part.update(curve={"array": ["<f8", 0, [1]]}),
        lambda part: part.update(metrics={"dict": {}}),
        lambda part: part["metrics"].update(dict=dict.fromkeys(part["metrics"]["dict"], "1234")),
        lambda part: part.update(values=part["values"][::-1]),
        lambda part: part.update(values=["x"] * len(part["values"])),
        lambda part: part.update(states=[[]]),
        lambda part: part.update(states=[{"dict": {}}]),
        lambda part: part.update(curve_steps=5),
        lambda part: part.update(others=3),
        lambda part: part.update(keys=part["keys"][:1]),
        lambda part: part.update(keys=[[]] * len(part["keys"])),
        lambda part: part.update(keys={"array": ["<f8", 0, [0, 10**30]]}),
        lambda part: part.clear(),
    ],
)
def test_outcomes_that_were_made_up_are_not_taken(kept, change):
    file = kept[2].path / CHECKPOINTS / PARTIAL
    content, flat = npz.read(file)
    for part in content["parts"]:
        change(part["dict"])
    packer = Packer()
    packer.parts = {dtype: [array] for dtype, array in flat.items()}
    npz.write(file, content, packer)
    assert known(kept) < 4

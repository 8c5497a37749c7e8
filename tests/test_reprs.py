"""What objects say of themselves in a line, and what of it DEAP's own classes leave alone."""

import re
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from deap import tools

import nets_deap as nets
from nets_deap._table import Brief
from nets_deap.experiments.final import train_front
from nets_deap.training.problem import Plan


def test_lines_tell_what_is_held(xor_task, tmp_path):
    found = nets.search(
        xor_task,
        population=6,
        generations=2,
        path=tmp_path / "run",
        progress="none",
        inherit="none",
    )
    low, high = (f(t.density for t in found.front) for f in (min, max))
    line = repr(found.front)
    assert line.startswith(f"ParetoFront({len(found.front)} member")
    assert line.endswith(f"density {low:.4g} to {high:.4g})")
    assert str(found.front) == str(found.front.items), "DEAP's own, for drop-in use"
    steps = found.logbook[-1]["network_steps"]
    dense = round(found.logbook[-1]["dense_steps"])
    assert repr(found) == (
        f"SearchResult({line.removeprefix('ParetoFront(').removesuffix(')')}; generation 2, "
        f"{steps} steps x networks, {dense} dense steps, "
        f"path={str(tmp_path / 'run')!r}, stopped=None)"
    )
    assert (
        repr(xor_task)
        == f"Task('{xor_task.name}', 12 bits over 12 maskable weights, 30 steps, cpu)"
    )


def test_empty_and_foreign_fronts_have_lines_too(xor_task):
    assert repr(nets.ParetoFront()) == "ParetoFront(0 members)"
    archive = nets.NicheArchive()
    assert repr(archive) == "NicheArchive(0 members)"
    ticket = xor_task.dense_ticket()
    ticket.fitness = nets.make_toolbox(xor_task, inherit="none").individual().fitness
    ticket.fitness.values = (0.25, 1.0)
    archive.update([ticket])
    assert repr(archive) == "NicheArchive(1 member, val_loss 0.25 to 0.25, density 1 to 1)"
    assert isinstance(archive, tools.HallOfFame)


@pytest.fixture(scope="module")
def shown(xor_task, tmp_path_factory):
    """Return what a user may print, by name."""
    path = tmp_path_factory.mktemp("reprs") / "run"
    found = nets.search(
        xor_task, population=6, generations=2, path=path, progress="none", inherit="none"
    )
    imp = nets.baselines.imp(xor_task, rounds=3, steps=20, rewind_to=3)
    ticket = found.front[0]
    plan = Plan(3, 1, keep_states=True)
    resumed = nets.resume(path, task=xor_task, generations=9, progress="none")
    resumed.recorder.close()
    return {
        "found": found,
        "front": found.front,
        "generation": found.history[0],
        "member": found.history[0].front[0],
        "imp": imp,
        "level": imp.levels[1],
        "start": imp.levels[1].start,
        "rigl": nets.baselines.rigl(xor_task, 0.5, steps=200, delta=10).levels[0],
        "ticket": ticket,
        "trained": ticket.trained,
        "result": xor_task.train(ticket),
        "outcome": xor_task.run([ticket], plan),
        "task": xor_task,
        "problem": xor_task.problem,
        "layout": xor_task.layout,
        "description": nets.describe(xor_task),
        "data": nets.data.load_xor(),
        "recorder": resumed.recorder,
        "resumed": resumed,
        "evaluator": nets.make_toolbox(xor_task, inherit="none").evaluate.func,
        "final": train_front(xor_task, found.front, steps=3, members=2),
        "sanity": nets.sanity.check(found.front[-1], xor_task, seeds=2, steps=3),
    }


def test_nothing_is_printed_by_the_page(shown):
    for name, one in shown.items():
        line = repr(one)
        assert "\n" not in line, name
        assert not {"array(", "tensor("} & set(re.findall(r"\w+\(", line)), name
        assert len(line) < 750, (name, line)
        assert " object at 0x" not in line, name


def test_baselines_and_what_they_hold_say_how_much(shown):
    imp, level = shown["imp"], shown["level"]
    assert repr(imp) == (
        f"Baseline('imp', 3 levels, density {imp.tickets[0].density:.4g} to "
        f"{imp.tickets[-1].density:.4g}; 63 steps x networks, "
        f"{imp.search_dense_steps:.0f} dense steps, nested=True)"
    )
    assert repr(level).startswith(f"Level(ticket={level.ticket!r}, search_steps=43, start=")
    kept = level.ticket.kept
    assert f"values=float32 ({kept},)" in repr(shown["start"])
    assert repr(shown["recorder"]).startswith("Recorder(3 generations, ParetoFront(")
    assert repr(shown["evaluator"]) == (
        "Evaluator(('val_loss', 'density'), inherit='none', generation 0)"
    )


def test_what_is_brief_is_as_brief_whatever_it_holds():
    @dataclass(repr=False)
    class Held(Brief):
        value: object
        hidden: int = field(default=1, repr=False)

    cases = {
        "None": None,
        "'abc'": "abc",
        "(1, 2.5)": (1, 2.5),
        "[]": [],
        "float64 (3, 2)": np.zeros((3, 2)),
        "int64 (4,)": torch.arange(4),
        "<1000 float>": [0.5] * 1000,
        "<7 objects>": [1, "a", *range(5)],
        "{'a': float64 (3,)}": {"a": np.zeros(3)},
        "<Linear>": torch.nn.Sequential(torch.nn.Linear(2, 2)),
        "(float64 (3,), None)": (np.zeros(3), None),
        "<9 str>": dict.fromkeys("abcdefghi", 1),
    }
    cases["<Sequential>"] = cases.pop("<Linear>")
    for text, value in cases.items():
        assert repr(Held(value)) == f"Held(value={text})"
    assert len(repr(Held("x" * 500))) < 120

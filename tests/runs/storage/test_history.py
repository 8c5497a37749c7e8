"""What a run notes of each generation, and whose children its tickets are."""

import json
import random
import re

import pytest
from deap import algorithms

import nets_deap as nets
from nets_deap import operators
from nets_deap.errors import FileAccessError
from nets_deap.runs.storage.history import Member, cut_off, generation_of, line_of
from nets_deap.runs.storage.paths import HISTORY
from nets_deap.runs.storage.reader import RunReader


@pytest.fixture
def run(xor_task, tmp_path):
    return nets.search(
        xor_task,
        population=6,
        generations=3,
        cxpb=0.9,
        mutpb=0.1,
        progress="none",
        path=tmp_path,
        inherit="none",
    )


def parents_of(member):
    return member.parents if isinstance(member, Member) else member.parent_digests


def plain(members):
    return [
        (m.digest[:16], m.density, m.fitness.values, tuple(p[:16] for p in parents_of(m)))
        for m in members
    ]


def test_each_generation_is_noted_as_it_was(run, tmp_path):
    history = RunReader(tmp_path).history()
    assert [one.number for one in history] == [0, 1, 2, 3]
    assert plain(history[-1].population) == plain(run.population)
    assert plain(history[-1].front) == plain(run.front)
    assert history[-1].layers == run.population[0].layout.names
    for noted, ticket in zip(history[-1].front, run.front, strict=True):
        assert dict(zip(history[-1].layers, noted.layers, strict=True)) == ticket.layer_densities
        assert noted.fitness.names == ("val_loss", "density")
        assert noted.fitness.wvalues == ticket.fitness.wvalues


def test_a_folder_and_memory_hold_the_same(xor_task, tmp_path):
    found = []
    for path in (None, tmp_path / "run"):
        result = nets.search(
            xor_task, population=4, generations=2, progress="none", path=path, inherit="none"
        )
        found.append([line_of(one) for one in result.history])
    assert found[0] == found[1]
    assert len(found[0]) == 3


def test_parents_are_those_whose_training_was_started_out_from(xor_task):
    toolbox = nets.make_toolbox(xor_task, inherit="none")
    pop = toolbox.population(n=2)
    for ticket, values in zip(pop, toolbox.map(toolbox.evaluate, pop), strict=True):
        ticket.fitness.values = values
    assert [ticket.parent_digests for ticket in pop] == [(), ()]
    one, two = (toolbox.clone(ticket) for ticket in pop)
    operators.mut_prune(one, fraction=0.3)
    toolbox.evaluate(one)
    assert one.parent_digests == (pop[0].digest,)
    three, four = toolbox.clone(pop[0]), toolbox.clone(pop[1])
    operators.cx_average(three, four, fraction=(0.2, 0.2))
    operators.mut_flip(three, indpb=0.2)  # a child may go through both
    three.gates = [not bit for bit in three.gates]  # whatever its mask is by now
    toolbox.evaluate(three)
    assert three.parent_digests == (pop[0].digest, pop[1].digest)
    again = toolbox.clone(three)
    toolbox.evaluate(again)  # the same mask trained once more is not a child of itself
    assert again.parent_digests == three.parent_digests
    assert two.parent_digests == ()


def test_all_parents_of_a_run_have_lived_in_it(run):
    lived = {m.digest for one in run.history for m in (*one.population, *one.front)}
    parents = [p for one in run.history[1:] for m in one.population for p in m.parents]
    assert parents
    assert set(parents) <= lived
    assert any(len(m.parents) == 2 for one in run.history for m in one.population)


def test_stock_algorithms_are_noted_too(xor_task):
    random.seed(5)
    toolbox = nets.make_toolbox(xor_task, inherit="none")
    recorder = nets.Recorder(task=xor_task, progress="none")
    pop = toolbox.population(n=4)
    algorithms.eaSimple(pop, toolbox, 0.5, 0.5, 2, stats=recorder, verbose=False)
    assert [one.number for one in recorder.history] == [0, 1, 2]


def test_a_run_that_was_taken_up_may_have_written_twice_and_been_cut_off(run, tmp_path):
    file = tmp_path / HISTORY
    lines = file.read_text().splitlines()
    again = json.loads(lines[2])
    again["population"] = again["population"][:1]
    file.write_text("\n".join([*lines, json.dumps(again), lines[3][:40]]))
    history = RunReader(tmp_path).history()
    assert [one.number for one in history] == [0, 1, 2, 3]
    assert len(history[2].population) == 1


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{}",
        "no JSON",
        '{"generation":0,"objectives":{"a":0},"layers":[],"population":[],"front":[]}',
        '{"generation":0,"objectives":{"a":-1},"layers":[],"population":[],"front":[]}',
        '{"generation":0,"objectives":{"a":-1},"layers":[],"population":[{"ticket":"x",'
        '"density":1,"values":[1,2]}],"front":[]}',
    ],
)
def test_what_is_not_a_history_is_refused(tmp_path, line):
    (tmp_path / HISTORY).write_text(line + "\n")
    with pytest.raises(FileAccessError, match="line 1 is none"):
        RunReader(tmp_path).history()


def test_a_run_without_a_history_has_none(tmp_path):
    assert RunReader(tmp_path).history() == []


def test_tickets_without_a_layout_have_no_layers():
    ticket = nets.Ticket([1, 0, 1])
    from nets_deap.tickets.fitness import fitness_class

    ticket.fitness = fitness_class(("loss",), (-1.0,))((0.5,))
    noted = generation_of(0, [ticket], [ticket], ("loss",))
    assert noted.layers == noted.front[0].layers == ()
    assert json.loads(line_of(noted))["front"][0] == {
        "ticket": ticket.digest[:16],
        "density": 2 / 3,
        "values": [0.5],
    }


def test_a_history_is_cut_off_after_a_generation(run, tmp_path):
    file = tmp_path / HISTORY
    whole = file.read_bytes()
    first = b"".join(whole.splitlines(keepends=True)[:2])
    cut_off(tmp_path, 1)
    assert file.read_bytes() == first
    file.write_bytes(first + b'{"generation": 2, "popu\n{"generation": 1}')
    cut_off(tmp_path, 9)
    assert file.read_bytes() == first
    file.unlink()
    cut_off(tmp_path, 1)
    assert not file.exists()


@pytest.mark.parametrize(
    ("old", "new"), [(r'"values":\[[^,]*', '"values":[NaN'), (r'"density":[\d.e-]+', '"density":7')]
)
def test_numbers_that_no_run_writes_are_refused(tmp_path, old, new):
    nets.search(
        nets.tasks.xor(hidden=3),
        population=4,
        generations=1,
        path=tmp_path,
        progress="none",
        inherit="none",
    )
    path = tmp_path / HISTORY
    changed, count = re.subn(old, new, path.read_text())
    assert count
    path.write_text(changed)
    with pytest.raises(FileAccessError, match=r"line 1 is none .* not numbers, or densities"):
        RunReader(tmp_path).history()

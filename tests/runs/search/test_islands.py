"""Islands: populations in step, migration, and going on exactly."""

import copy
import dataclasses
import functools
import os
import pickle
import random
import signal

import numpy as np
import pytest
from deap import tools
from support.running import Cut, left_by, new_task

import nets_deap as nets
from nets_deap.errors import NetsError, RunFileError
from nets_deap.runs.checkpoint import checkpoints
from nets_deap.runs.search.islands import Islands

BANDS = [
    nets.Island(seed=5, options={"density": (0.5, 1.0)}, population=4),
    nets.Island(operators={"mutate": functools.partial(nets.operators.mut_flip, indpb=0.2)}),
    nets.Island(algorithm="comma", offspring=9, cxpb=0.0),
]


@pytest.fixture(autouse=True)
def every_generation(monkeypatch):
    monkeypatch.setattr(checkpoints, "SHARE", float("inf"))


def go(path=None, task=None, **options):
    settings = {
        "population": 6,
        "generations": 7,
        "islands": BANDS,
        "migration": nets.Migration(every=2),
        "progress": "none",
        "seed": 3,
    }
    return nets.search(task or new_task(), path=path, **(settings | options))


def seen_by(result):
    return (
        [(t.digest, t.fitness.values) for t in result.front],
        [[(t.digest, t.fitness.values) for t in island] for island in result.islands],
        [{k: v for k, v in row.items() if k != "seconds"} for row in result.logbook],
    )


def test_one_island_is_the_search_without_islands():
    same = {"islands": 1, "migration": None}
    assert seen_by(go(**same)) == seen_by(go(islands=None, migration=None))


def test_islands_have_their_own_sizes_operators_and_densities():
    result = go(migration=nets.Migration(every=100))
    assert list(map(len, result.islands)) == [4, 6, 6]
    assert result.population == [t for island in result.islands for t in island]
    assert min(t.density for t in result.islands[0]) >= 0.5
    assert len(result.logbook) == 8


def test_all_islands_are_evaluated_as_one_batch(monkeypatch):
    sizes = []
    batch = nets.Evaluator.batch

    def counted(self, tickets):
        sizes.append(len(tickets))
        return batch(self, tickets)

    monkeypatch.setattr(nets.Evaluator, "batch", counted)
    go(islands=3, generations=2)
    assert len(sizes) == 3
    assert sizes[0] == 18


def test_islands_evolve_as_they_would_alone_until_tickets_move():
    together = go(islands=[nets.Island(seed=s) for s in (3, 11)], migration=nets.Migration(every=9))
    for seed, island in zip((3, 11), together.islands, strict=True):
        alone = go(islands=None, migration=None, seed=seed)
        assert [t.digest for t in island] == [t.digest for t in alone.population]
        assert [t.fitness.values for t in island] == [t.fitness.values for t in alone.population]


def test_tickets_move_along_the_ring_when_they_should():
    moved = []

    def move(populations):
        before = [{id(t) for t in population} for population in populations]
        nets.Migration()(populations)
        moved.append([len(before[i - 1] & {id(t) for t in populations[i]}) for i in range(3)])

    go(migration=nets.Migration(every=3, move=move))
    assert len(moved) == 2, "after generations 3 and 6"
    assert all(all(number >= 1 for number in row) for row in moved)


def test_islands_share_a_budget_exactly():
    task = new_task()
    go(task=task, islands=3, inherit="none", budget=nets.Budget(3_000, unit="steps"))
    assert task.ledger.network_steps == 3_000


@pytest.mark.parametrize("inherit", ["none", "weights"])
def test_a_search_on_islands_goes_on_exactly(tmp_path, inherit):
    islands = 3 if inherit == "weights" else BANDS
    options = {"inherit": inherit, "islands": islands, "budget": 20_000}
    whole = go(tmp_path / "whole", **options)
    for until in (0, 2, 3, 6):
        path = tmp_path / f"cut{until}"
        compile_ = nets.Recorder.compile

        def cut(self, population, until=until, compile_=compile_):
            row = compile_(self, population)
            if self.generation == until:
                raise Cut
            return row

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nets.Recorder, "compile", cut)
            with pytest.raises(Cut):
                go(path, **options)
        random.random(), np.random.random()  # noqa: NPY002
        resumed = go(path, resume=True, **options)
        assert seen_by(resumed) == seen_by(whole)
        assert left_by(path) == left_by(tmp_path / "whole")


def test_an_error_in_one_island_ends_all(tmp_path):
    def broken(ticket):
        raise ZeroDivisionError("an operator of the user's own")

    with pytest.raises(ZeroDivisionError, match="of the user's own"):
        go(tmp_path / "run", islands=[nets.Island(), nets.Island(operators={"mutate": broken})])


def test_an_interrupt_while_an_island_runs_leaves_all_resumable(tmp_path):
    calls = []

    def flip(ticket, limit=None):
        calls.append(1)
        if len(calls) == limit:
            os.kill(os.getpid(), signal.SIGINT)
        return nets.operators.mut_flip(ticket, indpb=0.2)

    def islands(limit=None):
        own = functools.partial(flip, limit=limit)
        return [nets.Island(), nets.Island(operators={"mutate": own})]

    whole = go(tmp_path / "whole", islands=islands())
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "cut", islands=islands(20))
    resumed = go(tmp_path / "cut", islands=islands(), resume=True, force=True)
    assert seen_by(resumed) == seen_by(whole)


def test_random_states_are_the_same_afterwards():
    random.seed(1), np.random.seed(1)  # noqa: NPY002
    expected = random.random(), np.random.random()  # noqa: NPY002
    random.seed(1), np.random.seed(1)  # noqa: NPY002
    go(generations=2)
    assert (random.random(), np.random.random()) == expected  # noqa: NPY002


def test_islands_that_cannot_be_are_refused(tmp_path):
    cases = [
        ({"islands": []}, r"islands must be a number or a list"),
        ({"islands": 0}, r"islands must be a number or a list"),
        ({"islands": [3]}, r"islands must be a number or a list"),
        ({"islands": [nets.Island(options={"inherit": "weights"})]}, "islands.0..options must"),
        ({"islands": [nets.Island(), nets.Island(cxpb=2)]}, r"islands\[1\].*\n?.*cxpb must"),
        ({"islands": [nets.Island(), nets.Island(population=1)]}, r"islands\[1\].*population must"),
        ({"islands": 2, "reevaluate": True}, r"reevaluate must be left out on islands"),
        ({"migration": nets.Migration(every=1, move=lambda p: p[0].pop())}, "as many tickets"),
        ({"islands": None, "migration": nets.Migration()}, "migration must"),
    ]
    for options, message in cases:
        with pytest.raises(NetsError, match=message):
            go(**options)
    with pytest.raises(NetsError, match=r"migration\.every"):
        nets.Migration(every=0)


def test_other_islands_are_not_a_continuation(tmp_path):
    go(tmp_path / "run", generations=2)
    with pytest.raises(NetsError, match=r"islands.*must go on|must go on.*islands"):
        go(tmp_path / "run", generations=2, islands=2, resume=True)
    with pytest.raises(RunFileError, match="no such islands"):
        go(tmp_path / "run", generations=2, islands=2, resume=True, force=True)
    with pytest.raises(NetsError, match="islands"):
        nets.resume(tmp_path / "run", task=new_task())


def test_migration_can_be_deaps():
    ring = functools.partial(
        tools.migRing, k=1, selection=tools.selBest, replacement=tools.selWorst
    )
    assert len(go(migration=nets.Migration(every=1, move=ring)).front) >= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"islands": 2.5}, "islands must be a number or a list"),
        ({"islands": True}, "islands must be a number or a list"),
        ({"islands": nets.Island()}, "islands must be a number or a list"),
        ({"migration": 3}, "migration must be one"),
        ({"islands": [nets.Island(operators={"mutat": len})]}, "Did you mean 'mutate'"),
        ({"islands": [nets.Island(operators={"evaluate": len})]}, "operators must be a known"),
        ({"islands": [nets.Island(operators={"mutate": 3})]}, "mutate'. must be callable"),
        ({"islands": [nets.Island(operators=[len])]}, "operators must be a dictionary"),
        ({"islands": [nets.Island(options=[1])]}, "options must be a dictionary"),
    ],
)
def test_what_is_not_an_island_is_refused(options, message):
    with pytest.raises(NetsError, match=message):
        go(**options)


@pytest.mark.parametrize("new", [None, "unevaluated"])
def test_a_migration_that_brings_what_is_not_evaluated_is_named(new):
    def move(populations):
        populations[0][0] = new and new_task().dense_ticket()

    with pytest.raises(NetsError, match=r"migration\.move must move evaluated tickets"):
        go(migration=nets.Migration(every=1, move=move))
    with pytest.raises(NetsError, match=r"migration\.move must be callable"):
        nets.Migration(move="ring")


def test_a_migration_may_put_other_lists_in_place_of_populations():
    def by_lists(populations):
        populations[:] = populations[::-1]

    def by_content(populations):
        populations[0][:], populations[1][:] = list(populations[1]), list(populations[0])

    found = [
        seen_by(go(islands=2, migration=nets.Migration(every=2, move=move)))
        for move in (by_lists, by_content)
    ]
    assert found[0] == found[1]


def fewer(tickets, k):
    return tools.selNSGA2(tickets, k - 1)


def test_a_selection_that_returns_fewer_keeps_islands_apart(tmp_path):
    def search(path, generations, **options):
        islands = [nets.Island(operators={"select": fewer}), nets.Island(seed=9)]
        return go(path, islands=islands, generations=generations, **options)

    whole = search(tmp_path / "whole", 4)
    assert list(map(len, whole.islands)) == [5, 6]
    search(tmp_path / "cut", 2)
    assert seen_by(search(tmp_path / "cut", 4, resume=True)) == seen_by(whole)


def test_numbers_of_numpy_are_numbers(tmp_path):
    numbers = {"population": np.int64(4), "cxpb": np.float32(0.25), "mutpb": np.float32(0.5)}
    island = nets.Island(**numbers, seed=np.int64(2), options={"noise": np.float32(0.5)})
    go(tmp_path / "run", islands=[island], generations=np.int64(2), **numbers)
    assert (tmp_path / "run" / "config.json").exists()


def test_what_differs_of_an_island_is_named(tmp_path):
    go(tmp_path / "run", islands=[nets.Island(), nets.Island(seed=4)], generations=2)
    with pytest.raises(NetsError, match=r"but islands\.1\.seed was 4, is 5\. "):
        go(tmp_path / "run", islands=[nets.Island(), nets.Island(seed=5)], resume=True)


def test_an_interrupt_ends_an_operator_without_end(tmp_path):
    def endless(ticket):
        os.kill(os.getpid(), signal.SIGINT)
        while True:
            pass

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "run", islands=[nets.Island(), nets.Island(operators={"mutate": endless})])


HELD = [
    None,
    [],
    {},
    {"random": None},
    {"random": [1, 2]},
    {"random": [{}, {}]},
    {"random": [{"python": 3}, {"python": 3}]},
    {"sizes": [6]},
    {"sizes": [7, 5.0]},
    {"sizes": [13, -1]},
    {"sizes": "66"},
]


@pytest.mark.parametrize("held", HELD, ids=str)
def test_what_is_not_a_state_of_islands_is_refused_and_the_folder_is_free_then(
    held, tmp_path, monkeypatch
):
    go_on = Islands.go_on

    def other(self, beside, tickets):
        return go_on(self, {**beside, **held} if isinstance(held, dict) and held else held, tickets)

    go(tmp_path / "run", islands=2, generations=2)
    with monkeypatch.context() as patch:
        patch.setattr(Islands, "go_on", other)
        with pytest.raises(RunFileError):
            go(tmp_path / "run", islands=2, generations=3, resume=True)
    go(tmp_path / "run", islands=2, generations=3, resume=True)


def test_an_island_is_plain_data_to_copy_send_and_change():
    island = nets.Island(population=3, options={"density": (0.1, 0.5)})
    assert copy.deepcopy(island) == island == pickle.loads(pickle.dumps(island))
    assert (island.population, island.cxpb, island.operators) == (3, None, {})
    assert dataclasses.replace(island, seed=4).options == island.options
    assert dataclasses.asdict(island)["options"] == {"density": (0.1, 0.5)}
    with pytest.raises(TypeError, match="popsize"):
        nets.Island(popsize=3)

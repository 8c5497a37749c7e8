"""What programs set on individuals and fitnesses comes back when a run is resumed, as it was."""

import array
import copy
import random
from collections import deque

import numpy as np
import pytest
import torch
from deap import base, creator, tools
from support.running import new_task

import nets_deap as nets
from nets_deap.runs.checkpoint import checkpoints
from nets_deap.runs.checkpoint import tickets as of_tickets

NGEN = 4


@pytest.fixture(autouse=True)
def every_generation(monkeypatch):
    monkeypatch.setattr(checkpoints, "SHARE", float("inf"))
    monkeypatch.setattr(of_tickets, "_warned", set())
    yield
    forget()


def forget():
    """Take the classes' names away."""
    for name in [n for n in vars(creator) if n.startswith("Kept")]:
        delattr(creator, name)


def create(**more):
    """Make the classes of a program of DEAP's, as it does on every start."""
    forget()
    creator.create("KeptFitness", base.Fitness, weights=(-1.0, -1.0), wins=int, note="made here")
    creator.create("KeptStrategy", array.array, typecode="d")
    creator.create("KeptMemory", list, fitness=creator.KeptFitness, speed=list)
    creator.create("KeptField", np.ndarray, unit=None)
    creator.create(
        "Kept", nets.Ticket, fitness=creator.KeptFitness, age=int, speed=list, history=dict,
        strategy=None, best=None, parents=None, smin=None, count=int, index=int, **more,
    )  # fmt: skip


def live(population, step):
    """Do with individuals what programs do, one generation after the other."""
    for number, one in enumerate(population):
        one.age += 1
        one.count += number
        one.speed.append(random.random())
        one.history[one.age] = {"gates": set(one.tolist()), "at": (step, number)}
        one.rank, one.niche = np.int64(number), (step, 2)
        one.trace = np.arange(3, dtype=np.float32) * step if one.age == 1 else one.trace
        one.trace[0] += 1  # which needs an array that can be written to
        one.recent = deque([step], maxlen=2)
        one.strategy = one.strategy or creator.KeptStrategy([0.5, 1.5])
        one.strategy[0] *= 2
        one.embedding = torch.arange(2.0) + step
        one.memory = creator.KeptMemory([1.5, step])
        one.memory.speed.append("fast")
        one.memory.fitness.values = (1.0, 2.0)
        one.field = creator.KeptField([1.0, step])
        one.field.unit = "V"
        if one.best is None or one.best.fitness < one.fitness:
            one.best = copy.deepcopy(one)
            one.best.best = None
        one.best_fitness = copy.deepcopy(one.fitness)
        one.parents = [population[0], one]
        one.fitness.wins += 1
        one.fitness.crowding_dist = 0.1 * number


def seen(value):
    """Return a value with the types of all in it, to compare."""
    kind = type(value).__name__
    if isinstance(value, nets.Ticket):
        keep = {n: v for n, v in sorted(vars(value).items()) if n != "parents"}
        return kind, value.tolist(), seen(keep)
    if isinstance(value, base.Fitness):
        return kind, value.values, seen(dict(sorted(vars(value).items()))), value.note
    if isinstance(value, (np.ndarray, torch.Tensor)):
        flags = getattr(value, "flags", None)
        about = (
            flags is None or flags.writeable,
            str(value.dtype),
            seen(vars(value) if kind == "KeptField" else 0),
        )
        return kind, value.tolist(), about
    if isinstance(value, dict):
        return kind, [(seen(key), seen(each)) for key, each in value.items()]
    if isinstance(value, (list, tuple, set, deque, array.array)):
        return kind, [seen(each) for each in value], seen(getattr(value, "__dict__", 0))
    return kind, value


def run(path, *, until=NGEN, resume=False):
    """Run a search of one's own, with attributes; return its population."""
    task = new_task()
    toolbox = nets.make_toolbox(task, inherit="none")
    create()
    if resume:
        run = nets.resume(path, task=task, progress="none")
        population, recorder = run.population, run.recorder
        recorder.compile(population)
    else:
        random.seed(1)
        population = nets.operators.init_log_spaced(creator.Kept, task.layout, n=4)
        recorder = nets.Recorder(path, task=task, generations=NGEN, progress="none")
    while recorder.generation < until:
        children = [toolbox.clone(one) for one in population]
        for one, other in zip(children[::2], children[1::2], strict=True):
            tools.cxTwoPoint(one, other)
            tools.mutFlipBit(one, 0.1)
            del one.fitness.values, other.fitness.values
        for child, values in zip(children, toolbox.map(toolbox.evaluate, children), strict=True):
            child.fitness.values = values
        population = (
            tools.selNSGA2(children + population, 4) if recorder.generation >= 0 else children
        )
        live(population, recorder.generation + 1)
        recorder.compile(population)
    recorder.close()
    return population


def test_attributes_come_through_kill_and_resume(tmp_path):
    whole = run(tmp_path / "whole")
    run(tmp_path / "cut", until=2)
    resumed = run(tmp_path / "cut", resume=True)
    assert [seen(one) for one in resumed] == [seen(one) for one in whole]
    assert {type(one) for one in resumed} == {creator.Kept}
    assert max(one.age for one in resumed) > 1
    for one in resumed:
        assert one.parents[0] is resumed[0]
        assert one.parents[1] is one
        assert type(one.best) is creator.Kept
        assert one.field.unit == "V"


def checkpointed(tmp_path, change, **more):
    """Return an individual as it comes back from a checkpoint."""
    task = new_task()
    create(**more)
    (ticket,) = nets.operators.init_log_spaced(creator.Kept, task.layout, n=1)
    ticket.fitness.values = (0.5, 0.5)
    change(ticket)
    recorder = nets.Recorder(tmp_path / "run", task=task, progress="none")
    recorder.compile([ticket])
    recorder.close()
    run = nets.resume(tmp_path / "run", task=new_task(), progress="none")
    run.recorder.close()
    return run.population[0]


def test_what_cannot_be_kept_is_named_once_at_the_first_checkpoint(tmp_path, caplog):
    def change(ticket):
        ticket.decode, ticket.speed, ticket.age = len, [object()], 7
        ticket.fitness.cause = print
        ticket.history["me"] = ticket.history
        vars(ticket)["masks"] = 3

    back = checkpointed(tmp_path, change)
    lines = [record.getMessage() for record in caplog.records]
    for name in ("decode", "speed", "cause", "history", "masks"):
        assert sum(f"The attribute {name} of" in line for line in lines) == 1
    assert (back.age, back.speed, back.history) == (7, [], {})  # begun anew, as on a new one
    assert not hasattr(back, "decode")
    assert callable(back.masks)


def test_ancestors_without_end_are_kept(tmp_path):
    def change(ticket):
        for _ in range(100):
            older = creator.Kept([1, 0])
            ticket.elder, ticket = older, older

    found, length = checkpointed(tmp_path, change), 0
    while hasattr(found, "elder"):
        found, length = found.elder, length + 1
    assert length == 100


@pytest.mark.parametrize("number", [np.float32, np.float64, torch.tensor], ids=lambda n: n.__name__)
def test_fitness_values_that_are_not_pythons_are_kept(tmp_path, number):
    def change(ticket):
        ticket.fitness.wvalues = number(-0.5), number(-2.0)

    assert checkpointed(tmp_path, change).fitness.values == (0.5, 2.0)


def test_a_class_that_is_not_there_is_named(tmp_path):
    checkpointed(tmp_path, lambda ticket: None)
    del creator.Kept
    import gc

    gc.collect()
    with pytest.raises(
        nets.NetsError, match=r"class deap\.creator\.Kept, which this program has not"
    ):
        nets.resume(tmp_path / "run", task=new_task(), progress="none")

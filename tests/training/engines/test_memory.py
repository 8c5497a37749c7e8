"""Running out of memory: the same results from smaller chunks; what fits never is worst."""

import gc
import logging
import weakref

import numpy as np
import pytest
import torch
from support.networks import RECIPES, make_task, needs_cuda
from support.running import new_task, trained_by

import nets_deap as nets
from nets_deap import tasks
from nets_deap.tickets import bits
from nets_deap.training.engines import dispatch, memory
from nets_deap.training.engines.functional import Functional
from nets_deap.training.engines.memory import Capacity, Pieces, free
from nets_deap.training.problem import METRICS, Plan
from nets_deap.training.shortage import is_shortage

PLAN = Plan(steps=10, seed=1)
CPU = torch.device("cpu")
SHORTAGES = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    MemoryError(),
    np._core._exceptions._ArrayMemoryError((10**12,), np.dtype(float)),
)


def masks_of(task, n=10, seed=0):
    rng = np.random.default_rng(seed)
    return [bits.pack(rng.random(task.layout.size) < 0.7) for _ in range(n)]


def limited(monkeypatch, engine, limit, error=SHORTAGES[1], never=()):
    """Let an engine fail for more than ``limit`` networks at once; return what it was given."""
    plain, calls = dispatch.ENGINES[engine], []

    def train_within(problem, masks, plan, *, chunk=None, on_part=None, **more):
        size = len(masks) if chunk is None else min(chunk, len(masks))
        calls.append((len(masks), size))
        fits = size <= limit and not any(row.tobytes() in never for row in masks[:1])
        if not fits:
            raise error
        return plain.train(problem, masks, plan, chunk=chunk, on_part=on_part, **more)

    trained_by(monkeypatch, engine, train_within, at_once=lambda problem: 8)
    return calls


@pytest.mark.parametrize("error", SHORTAGES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("engine", ["compiled", "loop"])
def test_chunks_halve_and_the_results_are_the_same(monkeypatch, caplog, error, engine):
    task = new_task(engine=engine)
    masks = masks_of(task)
    wanted = dispatch.train(task.problem, masks, PLAN, engine=engine)
    fresh = new_task(engine=engine)
    calls = limited(monkeypatch, engine, 1 if engine == "loop" else 3, error)
    found = dispatch.train(fresh.problem, masks, PLAN, engine=engine)
    for name in METRICS:
        np.testing.assert_array_equal(found.metrics[name], wanted.metrics[name])
    for one, other in zip(found.trained, wanted.trained, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
    assert "Out of memory with 8 networks at once; going on with 4" in caplog.text
    assert calls[0] == (10, 10)


def test_the_next_generation_begins_with_what_fitted_and_grows_back(monkeypatch, caplog):
    task = new_task()
    calls = limited(monkeypatch, "compiled", 3)
    dispatch.train(task.problem, masks_of(task), PLAN)
    caplog.clear()
    calls.clear()
    dispatch.train(task.problem, masks_of(task, seed=1), PLAN)
    assert calls[0][1] <= 4
    monkeypatch.undo()
    calls = limited(monkeypatch, "compiled", 100)  # memory is there again
    for seed in range(2, 20):
        dispatch.train(task.problem, masks_of(task, seed=seed), PLAN)
    assert calls[-1] == (10, 10)
    assert "Out of memory" not in caplog.text.split("going on with 2")[-1]


def test_one_that_fits_never_is_worst_counted_and_told(monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    task = new_task()
    toolbox = nets.make_toolbox(task, inherit="none")
    population = toolbox.population(n=6)
    limited(monkeypatch, "compiled", 100, never={population[2].packed.tobytes()})
    # It is the first of its call only once it is alone.
    engine = dispatch.ENGINES["compiled"]

    def train_in_order(problem, masks, plan, **more):
        if len(masks) > 1 and any(row.tobytes() == population[2].packed.tobytes() for row in masks):
            raise MemoryError
        return engine.train(problem, masks, plan, **more)

    trained_by(monkeypatch, "compiled", train_in_order)
    values = toolbox.map(toolbox.evaluate, population)
    worst = tuple(o.worst for o in toolbox.evaluate.func.objectives)
    assert [v == worst for v in values] == [i == 2 for i in range(6)]
    assert task.ledger.diverged == 1
    assert population[2].diverged
    assert "does not fit in memory, even alone" in caplog.text
    result = task.train(population[2])
    assert np.isnan(result.val_loss)


def test_other_errors_come_through():
    assert not is_shortage(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_shortage(KeyboardInterrupt())
    task = new_task()
    with pytest.MonkeyPatch.context() as patch:
        limited(patch, "compiled", 0, RuntimeError("shapes cannot be multiplied"))
        with pytest.raises(RuntimeError, match="multiplied"):
            dispatch.train(task.problem, masks_of(task), PLAN)


def test_growth_waits_longer_each_time_it_fails():
    capacity = Capacity()
    capacity.shrink(16)
    waits = []
    for _ in range(3):
        trained = 0
        while capacity.size == 8:
            trained += capacity.portion(1000)
            capacity.fits(capacity.portion(1000))
        waits.append(trained)
        capacity.shrink(16)
    assert waits == sorted(waits)
    assert waits[0] < waits[-1]


# ---- what is in the way


def test_on_cuda_what_another_thread_still_holds_is_waited_for(monkeypatch):
    """torch goes backward in a thread of its own, which lets go of memory after the error."""
    held, seen = iter([9, 9, 9, 4, 1]), []
    monkeypatch.setattr(
        torch.cuda, "memory_allocated", lambda device: seen.append(next(held, 0)) or seen[-1]
    )
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: seen.append("emptied"))
    monkeypatch.setattr(memory, "LOOK_SECONDS", 0)
    free(torch.device("cuda"))
    assert seen == [9, 9, 9, 4, 1, *[0] * memory.LOOKS, "emptied"]
    busy = iter(range(10**6))  # others train meanwhile
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: next(busy))
    free(torch.device("cuda"))
    assert next(busy) == memory.MOST_LOOKS


def test_what_holds_itself_is_gone_before_less_is_tried(monkeypatch):
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(memory, "LOOK_SECONDS", 0)

    class Module:
        def __init__(self):
            self.me = self

    alive = []

    def work(some, rows):
        if alive:
            return alive[0]()
        alive.append(weakref.ref(Module()))
        raise SHORTAGES[0]

    gc.disable()
    try:
        assert Pieces(2, 2, torch.device("cuda")).of(work, 1) == [None]
    finally:
        gc.enable()


def test_others_give_way_before_the_least_piece_comes_through():
    other = make_task("mlp", RECIPES["sgd"]).problem.cache

    def keep():
        return other.get("kept", object, n_bytes=1, limit=100, device=CPU)

    def work(some, rows):
        tried.append((some, rows))
        if len(other) or stubborn:
            raise MemoryError
        return rows

    for stubborn in (False, True):
        keep()
        tried = []
        if stubborn:
            with pytest.raises(MemoryError):
                Pieces(1, 2, CPU).of(work, 2)
            assert tried == [(slice(0, 1), rows) for rows in (2, 1, 1)]
        else:
            assert Pieces(1, 2, CPU).of(work, 2) == [1, 1]
            assert tried == [(slice(0, 1), rows) for rows in (2, 1, 1)] + [(slice(1, 2), 1)]


def test_others_give_way_while_an_engine_is_picked(monkeypatch):
    task, other = new_task(), make_task("mlp", RECIPES["sgd"]).problem.cache
    other.get("kept", object, n_bytes=1, limit=100, device=CPU)
    plain, tried = dispatch.pick_engine, []

    def pick(engine, problem):
        tried.append(len(other))
        if len(other):
            raise SHORTAGES[0]
        return plain(engine, problem)

    monkeypatch.setattr(dispatch, "pick_engine", pick)
    found = dispatch.train(task.problem, masks_of(task, 2), PLAN)
    assert tried == [1, 0]
    assert np.isfinite(found.metrics["val_loss"]).all()


@pytest.mark.gpu
@needs_cuda
def test_on_cuda_a_real_shortage_halves_the_chunk(caplog):
    """Of LeNet-5, 256 take about 2 GB in training, and 13 GB if all are measured at once."""
    task, fresh = (tasks.lenet5(dataset="mnist5k", device="cuda", engine="vmap") for _ in range(2))
    masks = masks_of(task, 256)
    wanted = dispatch.train(task.problem, masks, PLAN, engine="vmap")
    free(task.device)
    total = torch.cuda.get_device_properties(task.device).total_memory
    limit = torch.cuda.memory_reserved(task.device) + 600 * 2**20
    torch.cuda.set_per_process_memory_fraction(limit / total)
    try:
        found = dispatch.train(fresh.problem, masks, PLAN, engine="vmap")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "Out of memory with 256 networks at once; going on with 128" in caplog.text
    np.testing.assert_allclose(
        found.metrics["val_loss"], wanted.metrics["val_loss"], rtol=1e-2, atol=1e-3
    )


def test_a_shortage_on_the_cpu_is_not_taken_for_a_module_that_cannot_be_batched():
    task = make_task("dropout", RECIPES["sgd"])
    functional = Functional(task.problem, {})
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"), functional.explained():
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

"""The batched engine: the same numbers as the slow reference, in memory that is used again."""

import copy

import numpy as np
import pytest
import torch
from support.networks import (
    FULLY_CONNECTED,
    RECIPES,
    assert_same,
    chunk_of,
    deep,
    make_task,
    masks_of,
    needs_cuda,
    noting,
    reference,
)
from torch import nn

from nets_deap import Recipe, Task, tasks
from nets_deap.tickets import bits
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.engines import batched
from nets_deap.training.engines.batched import BatchedChunk, default_chunk, suits, train_batched
from nets_deap.training.engines.cuda import schedule
from nets_deap.training.engines.cuda.graph import Graph
from nets_deap.training.engines.dispatch import pick_engine, train
from nets_deap.training.engines.probe import probe
from nets_deap.training.problem import Plan, Problem

PLAN = Plan(steps=50, seed=3, curve_points=3, test=True, keep_states=True)
each_optimizer = pytest.mark.parametrize("optimizer", RECIPES)


def waves():
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 7), nn.Sigmoid(), nn.Linear(7, 3))


@each_optimizer
@pytest.mark.parametrize("model", [*FULLY_CONNECTED, "waves"])
def test_it_equals_the_reference(model, optimizer):
    task = make_task("mlp", RECIPES[optimizer], model={**FULLY_CONNECTED, "waves": waves}[model]())
    masks = masks_of(task)
    assert suits(task.problem)
    batch = train_batched(task.problem, masks, PLAN)
    assert len(set(batch.metrics["val_loss"])) == 3, "the masks should make a difference"
    assert_same(batch, reference(task.problem, masks, PLAN), rtol=1e-9)


def test_it_equals_the_reference_in_float32_where_images_are_flattened():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 40)
    data = ((rng.normal(size=(40, 2, 3)) + y.reshape(-1, 1, 1)).astype(np.float32), y)
    recipe = Recipe(batch_size=8, lr=5e-3)
    task = Task(deep(flatten=True), train=data, val=data, test=data, recipe=recipe, device="cpu")
    masks = masks_of(task)
    batch = train_batched(task.problem, masks, PLAN)
    assert batch.trained[0].values.dtype == np.float32
    assert_same(batch, reference(task.problem, masks, PLAN), rtol=1e-4)


@pytest.mark.parametrize("maskable", ["2.weight", ["2.weight", "*.bias"], "*"])
def test_any_part_of_a_network_may_be_maskable(maskable):
    task = make_task("mlp", RECIPES["adamw"], model=deep(), maskable=maskable)
    masks = masks_of(task, (0.4, 0.8))
    batch = train_batched(task.problem, masks, PLAN)
    assert_same(batch, reference(task.problem, masks, PLAN), rtol=1e-9)
    masked = set(task.layout.names)
    assert set(batch.trained[0].unmasked) == {n for n in task.problem.initial if n not in masked}


def test_results_follow_their_masks_in_any_order_chunk_and_company():
    task = make_task("mlp", RECIPES["adam"], model=deep())
    one, two, three = masks_of(task)
    masks = [one, two, three, two]
    whole = train_batched(task.problem, masks, PLAN)
    order, done = [2, 0, 3, 1], []
    for chunk in (None, 1, 3):
        shuffled = [masks[i] for i in order]
        outcome = train_batched(task.problem, shuffled, PLAN, chunk=chunk, on_part=noting(done))
        assert_same(outcome, whole, rtol=1e-11, places=order)
    assert done == [4, 1, 1, 1, 1, 3, 1]
    assert default_chunk(task.problem) >= 1
    with pytest.raises(ValueError, match=r"chunk must be in range: expected an int >= 1, got 0"):
        train_batched(task.problem, masks, PLAN, chunk=0)


def test_a_chunk_is_used_again_and_keeps_nothing_of_what_it_did(monkeypatch):
    """Other masks, starts, numbers of steps and seeds, in windows of a few steps."""
    monkeypatch.setattr(schedule, "WINDOW", 7)
    task = make_task("mlp", RECIPES["adamw"], model=deep())
    masks = masks_of(task)
    first = train_batched(task.problem, masks, PLAN)
    chunk = chunk_of(task)
    starts = [None, first.trained[1], TrainedState(first.trained[2].values)]
    for some, plan, begin in (
        (masks[::-1], Plan(31, 9, curve_points=4, keep_states=True), None),
        (masks, Plan(7, 1, keep_states=True), starts),
        (masks, Plan(8, 1, test=True, keep_states=True), [*starts[1:2] * 2, None]),
        (masks, PLAN, None),
    ):
        if begin is not None and plan.steps == 8:
            some = [masks[1], masks[1], masks[0]]
        chunk.weights.trained["0.weight"].fill_(torch.nan)
        again = train_batched(task.problem, some, plan, starts=begin)
        assert_same(again, reference(task.problem, some, plan, starts=begin), rtol=1e-9)
    assert_same(again, first, rtol=0)
    assert chunk_of(task) is chunk


@pytest.mark.parametrize("steps", [2, 50])
def test_steps_that_warm_up_leave_no_trace(monkeypatch, steps):
    def prepare(self, step):
        for _ in range(4):
            step()
        return True

    monkeypatch.setattr(Graph, "prepare", prepare)
    task = make_task("mlp", RECIPES["adam"], model=deep(), precision="float32")
    masks, plan = masks_of(task), Plan(steps, 3, curve_points=2, test=True, keep_states=True)
    warmed = train_batched(task.problem, masks, plan)
    assert_same(warmed, reference(task.problem, masks, plan), rtol=1e-9)
    low = make_task("mlp", RECIPES["adam"], torch.float32, model=deep(), precision="bf16")
    warmed = train_batched(low.problem, masks, plan)
    monkeypatch.undo()
    assert_same(warmed, train_batched(low.problem, masks, plan), rtol=0)


def test_the_cache_holds_some_shapes_and_a_copied_task_starts_with_an_empty_one():
    task = make_task("mlp", RECIPES["adam"], model=deep())
    (mask,) = masks_of(task, (0.5,))
    for p in (1, 2, 3, 4, 5, 6):
        train_batched(task.problem, [mask] * p, Plan(1, 1))
    assert len(task.problem.cache) == 4
    twin = copy.deepcopy(task)
    assert len(twin.problem.cache) == 0
    outcome = train_batched(twin.problem, [mask], PLAN)
    assert_same(outcome, train_batched(task.problem, [mask], PLAN), rtol=0)


@each_optimizer
@pytest.mark.parametrize("width", [8, 11])
def test_columns_that_fill_the_width_change_nothing(monkeypatch, width, optimizer):
    monkeypatch.setattr(BatchedChunk, "width", staticmethod(lambda problem: width))
    task = make_task("mlp", RECIPES[optimizer], model=deep())
    batch = train_batched(task.problem, masks_of(task), PLAN)
    assert_same(batch, reference(task.problem, masks_of(task), PLAN), rtol=1e-9)


def test_splits_are_measured_in_parts_that_bound_memory(monkeypatch):
    task = make_task("mlp", RECIPES["adam"], model=deep())
    whole = train_batched(task.problem, masks_of(task), PLAN)
    monkeypatch.setattr(batched, "EVAL_BYTES", 4 * 3 * 19 * 8)
    assert_same(train_batched(task.problem, masks_of(task), PLAN), whole, rtol=1e-12)


@each_optimizer
def test_pruned_weights_and_their_moments_are_exactly_zero(optimizer):
    task = make_task("mlp", RECIPES[optimizer], torch.float32, model=deep())
    packed = masks_of(task, (0.7, 0.2))
    outcome = train_batched(task.problem, packed, PLAN)
    chunk = chunk_of(task)
    unpacked = np.stack([bits.unpack(mask, task.layout.size) for mask in packed])
    found = [chunk.weights.trained, *chunk.optimiser.moments()]
    assert len(found) == (3 if "adam" in optimizer else 2)
    for tensors in found:
        for name, gone in task.layout.split(~unpacked).items():
            assert torch.count_nonzero(tensors[name][torch.from_numpy(gone)]) == 0
            assert torch.count_nonzero(tensors[name][torch.from_numpy(~gone)]) > 0
    for mask, end in zip(unpacked, outcome.trained, strict=True):
        assert end.values.shape == (mask.sum(),)
        assert np.isfinite(end.values).all()


@pytest.mark.parametrize("huge", [1e200, np.inf, np.nan])
def test_a_diverging_network_does_not_disturb_its_neighbours(huge):
    task = make_task("mlp", RECIPES["nesterov"], model=deep().double())
    wrong = task.layout.initial.copy()
    wrong[0] = huge
    starts = [None, TrainedState(wrong), None]
    healthy = np.random.default_rng(1).random((2, task.layout.size)) < 0.7
    healthy[:, 0] = False
    one, two = (task.ticket(mask).packed for mask in healthy)
    masks = [one, task.dense_ticket().packed, two]
    outcome = train_batched(task.problem, masks, PLAN, starts=starts)
    assert not np.isfinite(outcome.metrics["val_loss"][1])
    alone = reference(task.problem, [one, two], PLAN)
    assert_same(alone, outcome, rtol=1e-9, places=[0, 2])


def test_a_certain_output_has_no_gradient_at_all():
    x = np.concatenate([np.full((30, 1), -1.0), np.ones((30, 1))]).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    model = nn.Sequential(nn.Linear(1, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[-500.0], [500.0]]))
    recipe = Recipe(lr=0.01, batch_size=60)
    task = Task(model, train=(x, y), val=(x, y), recipe=recipe, device="cpu")
    outcome = train_batched(task.problem, [task.dense_ticket().packed], Plan(50, 1))
    assert outcome.trained[0].values.tolist() == [-500.0, 500.0]


def test_what_it_cannot_train_goes_elsewhere():
    gelu = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3))
    assert not suits(make_task("mlp", Recipe(), model=gelu).problem)
    for name in ("conv2d", "frozen", "buffers", "dropout"):
        assert not suits(make_task(name, Recipe()).problem)
    mse = make_task("mlp", Recipe(loss="mse"), target=lambda x, y: x[:, :3])
    assert not suits(mse.problem)
    with pytest.raises(
        ValueError, match=r"engine must suit the task: .* got batched. Use engine='auto'"
    ):
        make_task("conv2d", Recipe(), engine="batched")


def test_it_trains_by_name():
    task = make_task("mlp", RECIPES["sgd"], model=deep(), engine="batched")
    assert pick_engine("batched", task.problem) == "batched"
    assert pick_engine("auto", task.problem) == "compiled"
    masks = masks_of(task)
    by_name = train(task.problem, masks, PLAN, engine="batched")
    assert_same(by_name, train_batched(task.problem, masks, PLAN), rtol=0)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_memory_is_counted_as_it_is_taken(optimizer, precision):
    task = make_task("mlp", RECIPES[optimizer], torch.float32, model=deep(), precision=precision)
    train_batched(task.problem, masks_of(task), Plan(2, 1))
    chunk = chunk_of(task)
    held = [chunk.weights.trained, chunk.gradients_held, *chunk.optimiser.moments()]
    if precision == "bf16":
        held.append(chunk.halves_held)
    tensors = [t for named in held for t in named.values()]
    tensors += [*chunk._h, *chunk._d, chunk.weights.packed]
    taken = sum(tensor.nbytes for tensor in tensors) / 3
    fleeting = task.layout.size * (3 + 4 + 4)
    assert BatchedChunk.bytes_of_one(task.problem) == taken + fleeting


def test_on_cuda_auto_is_batched_and_the_chunk_follows_from_all_memory(monkeypatch):
    """Without a GPU: which engine, and how many networks, are decided before any is needed."""
    dense, other = make_task("mlp", Recipe(), model=deep()), make_task("conv1d", Recipe())
    lenet = tasks.lenet(dataset="mnist5k", device="cpu").problem
    one, like = (
        BatchedChunk.bytes_of_one(lenet),
        type("Properties", (), {"total_memory": 141 * 10**9}),
    )
    probe(dense.problem)  # tries a step, where the problem really is
    monkeypatch.setattr(Problem, "device", property(lambda self: torch.device("cuda")))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: like)
    assert pick_engine("auto", dense.problem) == "batched"
    assert pick_engine("auto", other.problem) == "vmap"
    assert pick_engine("vmap", dense.problem) == "vmap"
    assert BatchedChunk.width(lenet) == 64
    assert 1024 <= default_chunk(lenet) <= 0.4 * 141e9 / one
    like.total_memory = 10**13
    assert default_chunk(lenet) * 784 * 300 < 2**31, "32-bit places reach every weight"
    like.total_memory = 1
    assert default_chunk(lenet) == 1


# ---- on a GPU


def cuda_task(name="mnist5k", **more):
    return tasks.lenet(dataset=name, device="cuda", **more)


@pytest.mark.gpu
@needs_cuda
@each_optimizer
@pytest.mark.parametrize("model", [*FULLY_CONNECTED, "waves"])
def test_on_cuda_it_equals_the_reference_on_the_cpu(model, optimizer):
    cpu = make_task("mlp", RECIPES[optimizer], model={**FULLY_CONNECTED, "waves": waves}[model]())
    cuda = make_task("mlp", RECIPES[optimizer], model=cpu.model, device="cuda")
    for masks in (masks_of(cpu), masks_of(cpu)[::-1]):
        batch = train_batched(cuda.problem, masks, PLAN)
        assert_same(batch, reference(cpu.problem, masks, PLAN), rtol=1e-7)
    assert chunk_of(cuda).graph.captured


@pytest.mark.gpu
@needs_cuda
def test_on_cuda_kept_and_dense_state_agree_and_the_graph_is_used_again():
    rng = np.random.default_rng(2)
    task, cpu = cuda_task(), tasks.lenet(dataset="mnist5k", device="cpu")
    plan = Plan(20, 5, test=True)
    for density in (0.9, 0.05, 0.052, 0.9):
        mask = rng.random((8, task.layout.size)) < density
        masks = [task.ticket(row).packed for row in mask]
        batch = train_batched(task.problem, masks, plan)
        assert_same(batch, train_batched(cpu.problem, masks, plan), rtol=1e-2)
    chunks = task.problem.cache.things()
    assert [bool(chunk.listed) for chunk in chunks] == [False, True]
    assert all(chunk.graph.captured for chunk in chunks)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_on_cuda_steps_never_wait_for_the_device():
    task = cuda_task()
    masks = [task.dense_ticket().packed] * 4
    train_batched(task.problem, masks, Plan(3, 1))
    chunk = chunk_of(task)
    chunk.schedule.begin(Plan(600, 2))
    try:
        torch.cuda.set_sync_debug_mode("error")
        for first in (0, 512):
            chunk.graph(chunk.step, range(chunk.schedule.fill(first)))
        chunk.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(chunk.tail).all()


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_on_cuda_a_lower_precision_is_close_and_leaves_no_setting_behind(precision):
    before = torch.get_float32_matmul_precision()
    exact, task = cuda_task(), cuda_task(precision=precision)
    ticket = exact.dense_ticket()
    close = task.train(ticket, steps=100)
    assert close.test_loss == pytest.approx(exact.train(ticket, steps=100).test_loss, rel=0.1)
    assert close.test_loss != exact.train(ticket, steps=100).test_loss
    assert torch.get_float32_matmul_precision() == before

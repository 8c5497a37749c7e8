"""Chunks: more room than networks, equal sizes, measured in pieces, memory that is shared."""

import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.networks import (
    RECIPES,
    assert_same,
    chunk_of,
    deep,
    make_task,
    masks_of,
    noting,
    reference,
)
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nets_deap.tickets.trained import TrainedState
from nets_deap.training.cache import Cache, drop_all
from nets_deap.training.engines import chunk as chunk_module
from nets_deap.training.engines import dispatch, vmap
from nets_deap.training.engines.batched import BatchedChunk, train_batched
from nets_deap.training.engines.cuda import weights as weights_module
from nets_deap.training.engines.memory import Pieces
from nets_deap.training.engines.vmap import VmapChunk, train_vmap
from nets_deap.training.problem import Plan

CPU = torch.device("cpu")
PLAN = Plan(12, 3, curve_points=2, test=True, keep_states=True)
SHORTAGE = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")


def smooth(output, target):
    """A function of all rows together."""
    return F.cross_entropy(output, target, label_smoothing=0.1) + output.var() / 10


def tasks(kind):
    if kind == "batched":
        return make_task("mlp", RECIPES["adamw"], model=deep()), train_batched
    if kind == "function":
        return make_task("conv2d", RECIPES["sgd"], loss=smooth), train_vmap
    return make_task(kind, RECIPES["adam"]), train_vmap


each_kind = pytest.mark.parametrize("kind", ["batched", "conv2d", "dropout", "function"])


@each_kind
def test_a_chunk_with_room_for_more_trains_the_same(monkeypatch, kind):
    """As on CUDA, where a chunk is captured: fewer networks find it, many more do not."""
    monkeypatch.setattr(chunk_module, "spare", lambda device: 2)
    task, train = tasks(kind)
    masks = masks_of(task, (1.0, 0.6, 0.3, 0.5))
    whole = train(task.problem, masks, PLAN)
    chunk = chunk_of(task)
    start = TrainedState(whole.trained[1].values)
    for places, starts in (((2, 0), [None, None]), ((3, 1, 2), [None, start, None])):
        some = [masks[place] for place in places]
        outcome = train(task.problem, some, PLAN, starts=starts)
        assert len(outcome.trained) == len(outcome.states) == len(places)
        assert_same(outcome, reference(task.problem, some, PLAN, starts=starts), rtol=1e-9)
    assert chunk_of(task) is chunk
    alone = train(task.problem, masks[:1], PLAN)
    assert_same(alone, whole, rtol=1e-9, places=[0])
    assert len(task.problem.cache) == 2, "one network does not pay for four"


def test_chunks_of_one_call_are_alike_where_they_are_captured(monkeypatch):
    monkeypatch.setattr(chunk_module, "spare", lambda device: 2)
    task, done = make_task("mlp", RECIPES["adam"], model=deep()), []
    masks = masks_of(task, (0.5, 0.6, 0.3, 0.4, 0.2, 0.7, 0.8, 0.9, 0.1))
    outcome = train_batched(task.problem, masks, PLAN, chunk=8, on_part=noting(done))
    assert done == [5, 4]
    assert chunk_of(task).p == 5
    assert_same(outcome, reference(task.problem, masks, PLAN), rtol=1e-9)


class Touched(TorchDispatchMode):
    """Which memory an operation reads or writes that was there before; all of it stays alive."""

    def __init__(self):
        super().__init__()
        self.before, self.made, self.kept = set(), set(), []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves([args, kwargs]):
            if isinstance(leaf, torch.Tensor) and (place := self._place(leaf)) not in self.made:
                self.before.add(place)
                self.kept.append(leaf)
        self.made |= {
            self._place(leaf) for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor)
        } - self.before
        return found

    @staticmethod
    def _place(tensor):
        return tensor.untyped_storage().data_ptr()


@pytest.mark.parametrize("limit", [{}, {"clip_norm": 0.1}, {"clip_value": 0.1}], ids=str)
@pytest.mark.parametrize("kind", ["bf16", "dropout", "frozen", "buffers", "streamed"])
def test_a_captured_step_finds_everything_where_it_was(kind, limit):
    """After other masks, starts, steps and a measuring between: a graph repeats addresses."""
    recipe = replace(RECIPES["nesterov" if kind == "bf16" else "adam"], **limit)
    if kind == "bf16":
        task = make_task("mlp", recipe, torch.float32, model=deep(), precision="bf16")
        train = train_batched
    else:
        more = {"augment": lambda x: x + 1} if kind == "streamed" else {}
        task, train = make_task("dropout" if more else kind, recipe, **more), train_vmap
    masks, touched = masks_of(task, (1.0, 0.6, 0.3)), []
    trained = train(task.problem, masks, PLAN).trained
    chunk = chunk_of(task)
    chunk.graph._graph = types.SimpleNamespace(replay=chunk.step)
    counts = np.stack([task.layout.counts(row) for row in masks])
    for some, plan in ((slice(None), PLAN), (slice(1, None), Plan(600, 8))):
        own = [None, trained[1], None][some]
        chunk.fill(np.stack(masks[some]), plan, own, counts[some])
        chunk.measure(task.problem.val)
        chunk.begin()
        if kind == "streamed":
            chunk.feed(1)
        with Touched() as touching:
            chunk.step()
        touched.append(touching)
    assert touched[0].before == touched[1].before
    assert len(touched[0].before) > 5


def test_kept_weights_are_found_block_by_block(monkeypatch):
    task = make_task("conv2d", RECIPES["adam"])
    masks = masks_of(task, (1.0, 0.6, 0.3, 0.5))
    whole = train_vmap(task.problem, masks, PLAN)
    monkeypatch.setattr(weights_module, "BLOCK_WEIGHTS", 300)  # two networks of the last layer
    assert_same(train_vmap(task.problem, masks, PLAN), whole, rtol=0)
    blocks = [own for own, _ in chunk_of(task).weights.kept_places("4.weight")]
    assert blocks == [slice(0, 2), slice(2, 4)]


# ---- measuring


@each_kind
def test_a_shortage_while_networks_are_measured_costs_no_training(monkeypatch, kind):
    task, train = tasks(kind)
    masks = masks_of(task)
    whole, steps, tried = train(task.problem, masks, PLAN), [], []
    task.problem.cache.clear()
    plain = chunk_module.Chunk.step
    monkeypatch.setattr(chunk_module.Chunk, "step", lambda self: steps.append(1) or plain(self))
    for chunk in (BatchedChunk, VmapChunk):
        measure = chunk.measure_some

        def short(self, some, split, rows, measure=measure):
            tried.append((some.stop - some.start, rows))
            if some.stop - some.start > 1 or rows > 10:
                raise SHORTAGE
            return measure(self, some, split, rows)

        monkeypatch.setattr(chunk, "measure_some", short)
    outcome = dispatch.ENGINES["batched" if kind == "batched" else "vmap"].train(
        task.problem, masks, PLAN
    )
    assert_same(outcome, whole, rtol=1e-12)
    assert len(steps) == PLAN.steps
    sizes = [(3, 1000), (1, 1000)] + [(1, rows) for rows in (500, 250, 125, 62, 31, 15, 7)]
    assert tried[: len(sizes)] == sizes
    assert set(tried[len(sizes) :]) == {(1, 7)}, "once it is known how much fits"


def test_what_fits_in_no_piece_comes_through():
    def never(some, rows):
        raise SHORTAGE

    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        Pieces(4, 10, CPU).of(never, 3)

    def wrong(some, rows):
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        Pieces(4, 10, CPU).of(wrong, 3)


# ---- what a network takes on CUDA


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of which nothing but its memory is asked for, counted from what tensors would take."""
    peaks, like = iter(()), types.SimpleNamespace(total_memory=10**9)
    found = types.SimpleNamespace(properties=like, peaks=peaks)
    for name, fake in {
        "device": lambda device: torch.no_grad(),
        "memory_allocated": lambda device: 100,
        "reset_peak_memory_stats": lambda device: None,
        "max_memory_allocated": lambda device: 100 + next(found.peaks),
        "get_device_properties": lambda device: like,
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return found


def test_what_a_network_takes_is_the_difference_of_four_and_two(gpu, monkeypatch):
    """Workspaces and what else does not grow with the networks counts nothing."""
    task = make_task("dropout", RECIPES["adam"])
    # In a step, measured by a minibatch of 8, handed over; for 2 and for 4 networks.
    gpu.peaks = iter([5000 + 2 * 300, 16, 2 * 40, 5000 + 4 * 300, 32, 4 * 40])
    assert vmap.needs_of(task.problem) == (340, 1000)
    assert next(gpu.peaks, None) is None, "once"
    assert vmap.needs_of(task.problem) == (340, 1000)
    fake = types.SimpleNamespace(device=torch.device("cuda"), cache=task.problem.cache)
    assert chunk_module.fitting(fake.device, 340) == 0.4 * 10**9 // 340
    chunk = VmapChunk(task.problem, 3, frozenset())
    assert chunk.measured_at_once() == 3, "on the CPU chunks are small"
    monkeypatch.setattr(chunk, "problem", fake)
    monkeypatch.setattr(vmap, "needs_of", lambda problem: vmap.Needs(340, 10**7))
    assert chunk.measured_at_once() == 6


def test_where_not_even_a_few_fit_one_at_a_time_is_tried(gpu, monkeypatch):
    task = make_task("dropout", RECIPES["adam"])

    def short(problem, networks):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(vmap, "_taken", short)
    needs = vmap.needs_of(task.problem)
    assert chunk_module.fitting(torch.device("cuda"), needs.training) == 1


def test_what_a_network_takes_is_measured_once_others_have_given_way(gpu, monkeypatch):
    task, other = make_task("dropout", RECIPES["adam"]), Cache()
    other.get("kept", object, n_bytes=1, limit=100, device=CPU)

    def taken(problem, networks):
        if len(other):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 300 * networks, 10 * networks

    monkeypatch.setattr(vmap, "_taken", taken)
    assert vmap.needs_of(task.problem) == (300, 10)


# ---- memory that all problems of a process share


def test_the_cache_frees_memory_before_it_builds():
    drop_all(CPU)
    cache, alive = Cache(), set()

    class Thing:
        def __init__(self, name):
            assert sum(size for _, size in alive) <= max(0, 100 - name[1])
            self.me = name
            alive.add(name)

        def __del__(self):
            alive.discard(self.me)

    def get(size, key):
        return cache.get(key, lambda: Thing((key, size)), n_bytes=size, limit=100, device=CPU).me

    assert get(30, "a") == ("a", 30)
    assert get(30, "b") == ("b", 30)
    assert get(30, "a") == ("a", 30), "from the cache"
    get(40, "c")
    assert alive == {("a", 30), ("b", 30), ("c", 40)}
    get(40, "d")
    assert alive == {("c", 40), ("d", 40)}, "the least recently used went first"
    get(1000, "e")
    assert alive == {("e", 1000)}, "what is larger than the limit stands alone"
    cache.clear()
    assert alive == set()


def test_the_least_recently_used_makes_room_whosever_it_is():
    one, other, elsewhere = Cache(), Cache(), Cache()

    def get(cache, key, size, device=CPU):
        return cache.get(key, object, n_bytes=size, limit=100, device=device)

    drop_all(CPU)
    get(elsewhere, "far", 90, torch.device("meta"))
    get(one, "a", 40)
    get(other, "b", 40)
    kept = get(one, "a", 40)
    get(other, "c", 30)
    assert (one.keys(), other.keys()) == (["a"], ["c"])
    assert get(one, "a", 40) is kept
    get(other, "d", 200)
    assert (one.keys(), other.keys()) == ([], ["d"])
    assert elsewhere.keys() == ["far"], "another device has memory of its own"
    assert drop_all(CPU) == 1
    assert drop_all(torch.device("meta")) == 1


def test_in_a_shortage_others_give_way_before_fewer_train_at_once(monkeypatch, caplog):
    idle, task = (make_task("mlp", RECIPES["adam"], model=deep()) for _ in range(2))
    train_batched(idle.problem, masks_of(idle), PLAN)
    sizes, plain = [], BatchedChunk.run

    def run(self, packed, *rest):
        sizes.append(len(packed))
        if len(idle.problem.cache) or len(packed) > limit:
            raise SHORTAGE
        return plain(self, packed, *rest)

    monkeypatch.setattr(BatchedChunk, "run", run)
    limit = 4
    masks = masks_of(task, (0.5, 0.6, 0.3, 0.4))
    found = dispatch.train(task.problem, masks, PLAN, engine="batched")
    assert sizes == [4, 4]
    assert "Out of memory" not in caplog.text
    sizes.clear()
    limit = 2
    again = dispatch.train(task.problem, masks, PLAN, engine="batched")
    assert sizes == [4, 4, 2, 2], "once more, as its own chunk may have been in the way"
    assert "Out of memory with 4 networks at once; going on with 2" in caplog.text
    for outcome in (found, again):
        np.testing.assert_allclose(
            outcome.metrics["val_loss"],
            reference(task.problem, masks, PLAN).metrics["val_loss"],
            rtol=1e-9,
        )

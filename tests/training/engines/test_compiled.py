"""The compiled engine and the start of training: the same numbers as the slow reference."""

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numba.core import caching, dispatcher
from support.networks import (
    FULLY_CONNECTED,
    RECIPES,
    assert_same,
    deep,
    make_task,
    masks_of,
    reference,
    trained_by_three_threads,
)
from torch import nn

from nets_deap import Recipe, Task, models
from nets_deap.errors import MissingExtraError
from nets_deap.tickets import bits
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.engines import dispatch
from nets_deap.training.engines.batched import train_batched
from nets_deap.training.engines.cpu import engine as compiled
from nets_deap.training.engines.cpu import network
from nets_deap.training.engines.cpu.engine import suits, train_compiled
from nets_deap.training.engines.vmap import train_vmap
from nets_deap.training.problem import Plan

PLAN = Plan(steps=300, seed=3, curve_points=3, test=True, keep_states=True)
each_engine = pytest.mark.parametrize("engine", [train_vmap, train_compiled, reference])


@pytest.mark.parametrize("optimizer", RECIPES)
@pytest.mark.parametrize("model", FULLY_CONNECTED)
def test_the_compiled_engine_equals_the_reference(model, optimizer):
    task = make_task("mlp", RECIPES[optimizer], model=FULLY_CONNECTED[model]())
    masks = masks_of(task, (1.0, 0.5, 0.2))
    assert suits(task.problem)
    sparse = train_compiled(task.problem, masks, PLAN)
    assert_same(sparse, reference(task.problem, masks, PLAN), rtol=1e-8)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
@pytest.mark.parametrize(
    ("loss", "target"),
    [
        ("cross_entropy", lambda x, y: y),
        ("mse", lambda x, y: x[:, :3] ** 2),
        ("binary_cross_entropy", lambda x, y: (x[:, :3] > 0).astype(float)),
        ("binary_cross_entropy", lambda x, y: (x[:, 0] > 0).astype(float)),
    ],
)
def test_every_activation_and_loss_equals_the_reference(activation, loss, target):
    outputs = 1 if target(np.zeros((2, 6)), np.zeros(2)).ndim == 1 and loss[0] == "b" else 3
    model = models.MLP((6, 20, 9, outputs), activation=activation, seed=2)
    recipe = Recipe(loss=loss, lr=0.01)
    task = make_task("mlp", recipe, model=model, target=target)
    masks = masks_of(task, (1.0, 0.5, 0.2))
    assert suits(task.problem)
    outcome = train_compiled(task.problem, masks, PLAN)
    assert_same(outcome, reference(task.problem, masks, PLAN), rtol=1e-8)
    assert np.isnan(outcome.metrics["val_accuracy"]).all() == (loss == "mse")


def test_a_partly_maskable_network_keeps_its_other_weights():
    task = make_task("mlp", RECIPES["adam"], model=deep(), maskable="2.weight")
    masks = masks_of(task, (0.3,))
    sparse = train_compiled(task.problem, masks, PLAN)
    assert set(sparse.trained[0].unmasked) == {"0.weight", "0.bias", "2.bias", "4.weight", "4.bias"}
    assert_same(sparse, reference(task.problem, masks, PLAN), rtol=1e-8)


def test_one_company_or_another_and_threads_change_nothing():
    task = make_task("mlp", RECIPES["adam"], torch.float32, model=deep())
    masks = masks_of(task, (0.9, 0.5, 0.2, 0.6))
    whole, shared = trained_by_three_threads(train_compiled, task, masks, PLAN)
    for i, mask in enumerate(masks):
        alone = train_compiled(task.problem, [mask], PLAN)
        np.testing.assert_array_equal(alone.trained[0].values, whole.trained[i].values)
        np.testing.assert_array_equal(alone.trained[0].values, shared.trained[i].values)


class Own(nn.Module):
    """Fully connected layers in a class of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 9), nn.Linear(9, 7), nn.Linear(7, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.second(torch.tanh(self.first(x.view(x.size(0), -1))))))


def test_a_forward_of_its_own_equals_the_reference():
    task = make_task("mlp", RECIPES["adam"], model=Own())
    masks = masks_of(task, (1.0, 0.5, 0.2))
    assert dispatch.pick_engine("auto", task.problem) == "compiled"
    sparse = train_compiled(task.problem, masks, PLAN)
    assert_same(sparse, reference(task.problem, masks, PLAN), rtol=1e-8)


def test_what_the_compiled_engine_cannot_train_goes_elsewhere():
    relu, gelu = deep(), nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3))
    assert not suits(make_task("mlp", RECIPES["adam"], model=gelu).problem)
    mixed = deep()
    mixed[1] = nn.Tanh()
    assert not suits(make_task("mlp", RECIPES["adam"], model=mixed).problem)
    assert suits(make_task("mlp", RECIPES["sgd"], model=relu).problem)
    assert not suits(make_task("conv1d", RECIPES["adam"]).problem)
    assert not suits(make_task("frozen", RECIPES["adam"]).problem)
    shared = deep()
    shared[4] = nn.Linear(7, 3)
    shared[4].bias = nn.Parameter(shared[4].bias)
    shared[2].weight.requires_grad_(False)
    assert not suits(make_task("mlp", RECIPES["adam"], model=shared).problem)
    with pytest.raises(ValueError, match=r"engine must suit .* got compiled. Here .* Use engine"):
        make_task("conv1d", RECIPES["adam"], engine="compiled")


def test_without_numba_auto_is_batched_and_compiled_says_what_to_install(monkeypatch):
    monkeypatch.setattr("nets_deap.training.engines.cpu.engine.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "numba", None)
    task = make_task("mlp", RECIPES["adam"], model=deep())
    masks = masks_of(task, (0.2,))
    assert_same(
        dispatch.train(task.problem, masks, PLAN), train_batched(task.problem, masks, PLAN), 0
    )
    with pytest.raises(MissingExtraError, match=r'pip install -e "\.\[fast\]"'):
        make_task("mlp", RECIPES["adam"], model=deep(), engine="compiled")


def big_task(sizes, batch_size, dtype=torch.float64):
    """Return a task of random examples for an MLP of any sizes."""
    rng = np.random.default_rng(4)
    y = rng.integers(0, sizes[-1], 330)
    x = rng.normal(size=(330, sizes[0])) + y[:, None] / 4
    recipe = Recipe(lr=3e-3, batch_size=batch_size, steps=20)
    parts = {"train": slice(200), "val": slice(200, 265), "test": slice(265, None)}
    data = {name: (x[part], y[part]) for name, part in parts.items()}
    return Task(models.MLP(sizes, seed=1).to(dtype), recipe=recipe, device="cpu", **data)


@pytest.mark.parametrize("batch_size", [1, 63, 64, 65, 150])
@pytest.mark.parametrize("sizes", [(40, 33, 18, 10), (16, 5, 2), (3, 70, 4, 65, 3)])
def test_any_sizes_and_minibatches_equal_the_reference(sizes, batch_size):
    """Sizes and minibatches that fill tiles and blocks exactly, by one more, or hardly."""
    task = big_task(sizes, batch_size)
    masks = masks_of(task, (1.0, 0.9, 0.5, 0.05))
    plan = Plan(20, 3, curve_points=2, test=True, keep_states=True)
    outcome = train_compiled(task.problem, masks, plan)
    assert_same(outcome, reference(task.problem, masks, plan), rtol=1e-8)


@pytest.mark.parametrize("dense_from", [0.0, 2.0])
def test_how_a_layer_is_held_changes_only_rounding(dense_from, monkeypatch):
    task = big_task((40, 33, 18, 10), 60)
    masks = masks_of(task, (1.0, 0.9, 0.5, 0.1))
    expected = reference(task.problem, masks, Plan(20, 3, keep_states=True))
    monkeypatch.setattr(network, "DENSE_FROM", dense_from)
    outcome = train_compiled(task.problem, masks, Plan(20, 3, keep_states=True))
    assert_same(outcome, expected, rtol=1e-8)


def test_steps_in_turn_and_smaller_chunks_change_nothing(monkeypatch):
    task = big_task((40, 33, 10), 60, torch.float32)
    masks = masks_of(task, (1.0, 0.9, 0.5, 0.1, 0.7))
    whole = train_compiled(task.problem, masks, PLAN)
    assert_same(train_compiled(task.problem, masks, PLAN, chunk=2), whole, rtol=0)
    monkeypatch.setattr(compiled, "CACHE_BYTES", 0)
    assert_same(train_compiled(task.problem, masks, PLAN), whole, rtol=0)


@pytest.mark.parametrize("optimizer", RECIPES)
@pytest.mark.parametrize("dense_from", [0.0, 2.0])
def test_pruned_weights_stay_exactly_zero_and_values_are_the_kept_ones(
    optimizer, dense_from, monkeypatch
):
    monkeypatch.setattr(network, "DENSE_FROM", dense_from)
    task = make_task("mlp", RECIPES[optimizer], torch.float32, model=deep())
    packed = masks_of(task, (0.8, 0.3))
    outcome = train_compiled(task.problem, packed, PLAN)
    for own, state, end in zip(packed, outcome.states, outcome.trained, strict=True):
        mask = bits.unpack(own, task.layout.size)
        flat = np.concatenate([state[name].reshape(-1) for name in task.layout.names])
        assert not flat[~mask].any()
        np.testing.assert_array_equal(flat[mask], end.values)


def test_auto_takes_the_compiled_engine_and_keeps_the_order():
    task = make_task("mlp", RECIPES["adam"], model=deep())
    masks = masks_of(task, (0.1, 1.0, 0.2, 0.8))
    done = []
    auto = dispatch.train(task.problem, masks, PLAN, on_chunk=done.append)
    assert sum(done) == 4
    assert_same(auto, train_compiled(task.problem, masks, PLAN), rtol=0)
    assert_same(auto, reference(task.problem, masks, PLAN), rtol=1e-8)


@pytest.mark.parametrize("dense_from", [0.0, 2.0])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_diverged_network_shows_in_its_numbers_and_disturbs_no_other(
    bad, dense_from, monkeypatch
):
    monkeypatch.setattr(network, "DENSE_FROM", dense_from)
    task = make_task("mlp", RECIPES["adam"], torch.float32, model=deep())
    (mask,) = masks_of(task, (0.5,))
    kept = int(np.unpackbits(mask).sum())
    starts = [None, TrainedState(np.full(kept, bad, np.float32)), None]
    outcome = train_compiled(task.problem, [mask] * 3, PLAN, starts=starts)
    assert not np.isfinite(outcome.metrics["val_loss"][1])
    alone = train_compiled(task.problem, [mask], PLAN)
    assert_same(alone, outcome, rtol=0, places=[0])
    assert_same(alone, outcome, rtol=0, places=[2])


# ---- starting elsewhere than at W0


@each_engine
def test_training_in_two_halves_of_one_network_starts_where_the_first_ended(engine):
    task = make_task("mlp", RECIPES["adam"], model=deep())
    masks = masks_of(task, (0.7, 0.4))
    first = engine(task.problem, masks, Plan(20, 1, keep_states=True))
    starts = [first.trained[0], None]
    nothing = engine(task.problem, masks, Plan(1, 2, keep_states=True), starts=starts)
    moved = nothing.trained[0].values - first.trained[0].values
    # Adam's first step moves each weight by at most the learning rate.
    assert 0 < np.abs(moved).max() <= RECIPES["adam"].lr * (1 + 1e-6)
    bias = nothing.trained[0].unmasked["4.bias"] - first.trained[0].unmasked["4.bias"]
    assert 0 < np.abs(bias).max() <= RECIPES["adam"].lr * (1 + 1e-6)
    fresh = engine(task.problem, masks[1:], Plan(1, 2, keep_states=True))
    np.testing.assert_allclose(nothing.trained[1].values, fresh.trained[0].values, rtol=1e-12)


@pytest.mark.parametrize(
    "module",
    ["conv2d", *(pytest.param(m, marks=pytest.mark.slow) for m in ("frozen", "tied", "buffers"))],
)
def test_starts_agree_between_the_engines_with_buffers_and_frozen_layers(module):
    task = make_task(module, RECIPES["adam"])
    masks = masks_of(task)
    first = train_vmap(task.problem, masks, PLAN)
    starts = list(first.trained)
    starts[1] = None
    again = train_vmap(task.problem, masks, PLAN, starts=starts, chunk=2)
    assert_same(again, reference(task.problem, masks, PLAN, starts=starts), rtol=1e-8)
    assert again.metrics["val_loss"][0] != first.metrics["val_loss"][0]
    assert again.metrics["val_loss"][1] == pytest.approx(first.metrics["val_loss"][1], rel=1e-9)


def test_a_certain_output_has_no_gradient_at_all():
    """Otherwise Adam would blow rounding up into steps of full size."""
    x = np.concatenate([np.full((30, 1), -1.0), np.ones((30, 1))]).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    model = nn.Sequential(nn.Linear(1, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[-500.0], [500.0]]))
    recipe = Recipe(lr=0.01, batch_size=60)
    task = Task(model, train=(x, y), val=(x, y), recipe=recipe, device="cpu")
    outcome = train_compiled(task.problem, [task.dense_ticket().packed], Plan(50, 1))
    assert outcome.trained[0].values.tolist() == [-500.0, 500.0]


@pytest.mark.parametrize("density", [0.9, 0.3])
def test_masked_biases_are_masked_in_every_form_of_a_layer(density):
    task = make_task("mlp", RECIPES["adam"], model=deep(), maskable="*")
    assert suits(task.problem)
    bits = np.random.default_rng(0).random((2, task.layout.size)) < density
    masks = [task.ticket(row).packed for row in bits]
    ours, theirs = (f(task.problem, masks, PLAN) for f in (train_compiled, reference))
    assert_same(ours, theirs, rtol=1e-8)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_weights_of_any_size_overflow_only_where_the_reference_does(activation):
    """Minibatches that leave lanes empty: nothing may overflow in those."""
    model = models.MLP((6, 20, 20, 20, 3), activation=activation).float()
    recipe = Recipe(lr=1e10, batch_size=20)
    task = make_task("mlp", recipe, torch.float32, model=model)
    mask = task.dense_ticket().packed
    plan = Plan(20, 1, keep_states=True)
    ours, theirs = (f(task.problem, [mask], plan) for f in (train_compiled, reference))
    for name in ("train_loss", "val_loss"):
        assert np.isfinite(ours.metrics[name]) == np.isfinite(theirs.metrics[name])
    assert np.isfinite(ours.trained[0].values).all() == np.isfinite(theirs.trained[0].values).all()


def test_code_on_disk_is_not_used_once_any_source_has_changed(monkeypatch):
    from nets_deap.training.engines.cpu import _compile, _loops

    files = _loops.train._cache._cache_file
    assert files._source_stamp == _compile._stamp()
    train_compiled(*_small())
    assert files._load_index(), "the compiled code was not kept"
    monkeypatch.setattr(files, "_source_stamp", "another")
    assert files._load_index() == {}


def test_compiling_is_told_where_there_is_no_code_yet(monkeypatch, caplog):
    from nets_deap.training.engines.cpu import _compile, _loops

    train_compiled(*_small())
    assert _compile.is_ready(_loops.train)  # of this process, whatever lies on disk
    assert not _compile.is_ready(_loops.train, (1, 2.0)), "each kind has code of its own"
    assert "Compiling" not in caplog.text
    files = _loops.train._cache._cache_file
    monkeypatch.setattr(dispatcher.Dispatcher, "signatures", [])
    assert _compile.is_ready(_loops.train)  # on disk
    monkeypatch.setattr(files, "_source_stamp", "another")
    assert not _compile.is_ready(_loops.train)
    train_compiled(*_small())
    assert "Compiling for this processor, once" in caplog.text
    monkeypatch.delattr(type(files), "_load_index")
    assert _compile.is_ready(_loops.train)  # not known: no word


def test_every_source_of_the_kernels_is_in_the_stamp(monkeypatch):
    from nets_deap.training.engines.cpu import _compile

    read = Path.read_bytes
    before = _compile._stamp()
    kernels = ("_vectors.py", "_layers.py", "_losses.py", "_loops.py", "blocks.py")
    for source in (*kernels, "_conv_vectors.py", "_conv_layers.py", "geometry.py"):
        changed = partial(_changed, read, source)
        monkeypatch.setattr(Path, "read_bytes", lambda path, changed=changed: changed(path))
        assert _compile._stamp.__wrapped__() != before, source
    monkeypatch.setattr(Path, "read_bytes", read)
    assert _compile._stamp.__wrapped__() == before


def _changed(read, source, path):
    return read(path) + b"#" * (path.name == source)


@pytest.mark.slow
def test_another_process_finds_the_compiled_code():
    """Named tuples, too, must be told by what they are, not by where they are in memory."""
    train_compiled(*_small())
    code = (
        "from training.engines.test_compiled import _small, train_compiled\n"
        "from nets_deap.training.engines.cpu import _loops\n"
        "train_compiled(*_small())\n"
        "for made in (_loops.train, _loops.measure):\n"
        "    assert made.stats.cache_hits and not made.stats.cache_misses, made.stats\n"
    )
    paths = [str(Path(__file__).parents[2]), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=300)


class _OtherName(caching.IndexDataCacheFile):
    """Index files of a numba that compares a stamp of another name."""

    def __init__(self, cache_path, filename_base, source_stamp):
        super().__init__(cache_path, filename_base, source_stamp)
        self._text_stamp = source_stamp

    def _load_index(self):
        self._source_stamp = self._text_stamp
        return super()._load_index()


class _NoStamp(caching.IndexDataCacheFile):
    """Index files of a numba that compares none."""

    def _load_index(self):
        try:
            with open(self._index_path, "rb") as file:
                pickle.load(file)
                self._source_stamp, found = pickle.loads(file.read())
                return found
        except FileNotFoundError:
            return {}


class _OtherArguments(caching.IndexDataCacheFile):
    """Index files of a numba that makes them in another way."""

    def __init__(self, **options):
        super().__init__(**options)


@pytest.mark.parametrize("kind", [_OtherName, _NoStamp, _OtherArguments])
def test_a_numba_with_other_index_files_keeps_no_code(kind, monkeypatch):
    monkeypatch.setattr(caching, "IndexDataCacheFile", kind)
    _assert_nothing_is_kept()


def test_a_numba_with_another_cache_keeps_no_code(monkeypatch):
    class Other(caching.FunctionCache):
        def __init__(self, function):
            super().__init__(function)
            self._files = self.__dict__.pop("_cache_file")

    monkeypatch.setattr(dispatcher, "FunctionCache", Other)
    _assert_nothing_is_kept()


def _assert_nothing_is_kept():
    from nets_deap.training.engines.cpu import _compile

    with pytest.warns(RuntimeWarning, match="keeps compiled code in a way that is not known"):
        made = _compile.compiled(_one_more)
    assert made(1) == 2
    assert made.stats.cache_path is None
    assert not made.stats.cache_hits


def _one_more(n):
    return n + 1


def _small():
    task = make_task("mlp", RECIPES["adam"], model=deep())
    return task.problem, masks_of(task, (0.5,)), PLAN


def test_a_start_of_another_dtype_is_converted():
    task = make_task("mlp", RECIPES["adam"], torch.float32, model=deep())
    (mask,) = masks_of(task, (0.5,))
    kept = int(np.unpackbits(mask).sum())
    starts = [TrainedState(np.zeros(kept), {"0.bias": np.zeros(9)})]
    outcome = train_compiled(task.problem, [mask], PLAN, starts=starts)
    assert outcome.trained[0].values.dtype == np.float32
    expected = reference(task.problem, [mask], PLAN, starts=starts)
    np.testing.assert_allclose(outcome.trained[0].values, expected.trained[0].values, 1e-3, 1e-4)


def test_no_networks_are_refused_in_words():
    task = make_task("mlp", RECIPES["adam"], model=deep())
    with pytest.raises(ValueError, match=r"masks must name networks to train: .*at least one"):
        dispatch.train(task.problem, [], PLAN)


@pytest.mark.parametrize(
    "engine", ["compiled", "batched", "loop", pytest.param("vmap", marks=pytest.mark.slow)]
)
def test_calls_from_several_threads_take_turns(engine):
    task = make_task("mlp", RECIPES["adam"], model=deep(), engine=engine)
    masks = masks_of(task, (0.9, 0.5, 0.2))
    alone = [dispatch.train(task.problem, [mask], PLAN, engine=engine) for mask in masks]
    with ThreadPoolExecutor(3) as pool:
        calls = [
            pool.submit(dispatch.train, task.problem, [mask], PLAN, engine=engine)
            for mask in [*masks, *masks]
        ]
        for call, expected in zip(calls, [*alone, *alone], strict=True):
            assert_same(call.result(), expected, rtol=1e-9)

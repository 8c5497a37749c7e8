"""The loop engine: each network alone, in threads the same numbers as the slow reference."""

import threading

import numpy as np
import pytest
import torch
from support.networks import (
    MODULES,
    PLAN,
    RECIPES,
    Custom,
    assert_same,
    each_pair,
    make_task,
    masks_of,
    noting,
    reference,
)
from torch import nn

from nets_deap import Recipe
from nets_deap.tickets import bits
from nets_deap.training.engines.dispatch import pick_engine, train
from nets_deap.training.engines.loop import takes_threads, train_loop
from nets_deap.training.engines.probe import probe


class Noisy(nn.Module):
    """Adds noise of its own."""

    def forward(self, x):
        return x + 0.1 * torch.rand(x.shape, dtype=x.dtype) if self.training else x


@pytest.mark.usefixtures("_three_threads")
@each_pair
def test_threads_give_single_trainings(module, optimizer):
    task = make_task(module, RECIPES[optimizer])
    masks = masks_of(task)
    done = []
    outcome = train_loop(task.problem, masks, PLAN, on_part=noting(done))
    assert done == [1, 1, 1]
    assert torch.get_num_threads() == 3
    assert_same(outcome, reference(task.problem, masks, PLAN), rtol=1e-9)


@pytest.mark.usefixtures("_three_threads")
@pytest.mark.parametrize(
    ("model", "threads", "trained_in"),
    [
        (MODULES["dropout"][0](), None, {"other"}),
        (MODULES["dropout"][0](), 2, {"other"}),
        (MODULES["dropout"][0](), 1, {"this"}),
        (nn.Sequential(Noisy(), nn.Linear(6, 3)), None, {"this"}),
        (nn.Sequential(Noisy(), nn.Linear(6, 3)), 2, {"this"}),
    ],
)
def test_networks_train_in_threads_unless_one_is_asked_for_or_they_draw(
    monkeypatch, model, threads, trained_in
):
    """One thread for whatever draws more than dropout, even if several are asked for."""
    task, seen = make_task("mlp", RECIPES["sgd"], model=model), set()
    takes_threads(task.problem)  # what probes the module runs in this thread
    main, forward = threading.current_thread(), type(model).forward

    def noted(self, x):
        seen.add("this" if threading.current_thread() is main else "other")
        return forward(self, x)

    monkeypatch.setattr(type(model), "forward", noted)
    outcome = train_loop(task.problem, masks_of(task), PLAN, threads=threads)
    assert seen == trained_in
    assert_same(outcome, reference(task.problem, masks_of(task), PLAN), rtol=1e-9)


@pytest.mark.usefixtures("_three_threads")
@pytest.mark.parametrize("module", ["conv2d", "frozen", "tied", "buffers"])
def test_starts_chunks_and_order_change_nothing(module):
    task = make_task(module, RECIPES["adam"])
    masks = masks_of(task)
    first = train_loop(task.problem, masks, PLAN)
    starts = list(first.trained)
    starts[1] = None
    again = train_loop(task.problem, masks, PLAN, starts=starts, chunk=1)
    assert_same(again, reference(task.problem, masks, PLAN, starts=starts), rtol=1e-8)
    turned = train_loop(task.problem, masks[::-1], PLAN, starts=starts[::-1], chunk=2)
    assert_same(turned, again, rtol=1e-12, places=[2, 1, 0])


@pytest.mark.parametrize("module", ["conv2d", "tied", "trap"])
def test_pruned_weights_stay_exactly_zero(module):
    task = make_task(module, RECIPES["adamw"], torch.float32)
    packed = masks_of(task, (0.7, 0.2))
    outcome = train_loop(task.problem, packed, PLAN)
    for own, state, end in zip(packed, outcome.states, outcome.trained, strict=True):
        mask = bits.unpack(own, task.layout.size)
        flat = np.concatenate([state[name].reshape(-1) for name in task.layout.names])
        assert not flat[~mask].any()
        np.testing.assert_array_equal(flat[mask], end.values)
        assert np.isfinite(end.values).all()


def test_random_modules_take_no_threads_and_large_ones_are_taken_by_auto():
    assert takes_threads(make_task("dropout", Recipe()).problem)
    model = nn.Sequential(Noisy(), nn.Linear(6, 3))
    with pytest.raises(ValueError, match=r"engine must suit the task: .*but dropout's"):
        make_task("mlp", Recipe(), model=model, engine="vmap")
    assert not takes_threads(make_task("mlp", Recipe(), model=model, engine="loop").problem)
    small = make_task("conv1d", Recipe())
    assert pick_engine("auto", small.problem) == "vmap"
    layers = (nn.Conv2d(1, 256, 3, padding=1), nn.Conv2d(256, 64, 3, padding=1))
    wide = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 36, 3))
    large = make_task("conv2d", Recipe(), torch.float32, model=wide)
    assert pick_engine("auto", large.problem) == "loop"
    by_name = train(small.problem, masks_of(small), PLAN, engine="loop")
    assert_same(by_name, train_loop(small.problem, masks_of(small), PLAN), rtol=0)


def recurrent(kind, **more):
    layers = {"unit": kind(3, 5, batch_first=True, **more), "linear": nn.Linear(5, 3)}
    return Custom(lambda m, x: m.linear(m.unit(x)[0][:, -1]), **layers)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_what_cannot_be_batched_trains_alone_after_one_warning(kind, caplog, monkeypatch):
    monkeypatch.setitem(MODULES, "recurrent", (lambda: recurrent(kind), (4, 3)))
    task = make_task("recurrent", RECIPES["adam"], maskable=["unit.weight_*", "linear.weight"])
    masks = masks_of(task)
    outcome = train(task.problem, masks, PLAN)
    assert_same(outcome, reference(task.problem, masks, PLAN), rtol=1e-9)
    train(task.problem, masks, PLAN)
    (record,) = caplog.records
    assert f"cannot batch the layer 'unit' ({kind.__name__})" in record.message
    assert "(engine 'loop')" in record.message
    assert takes_threads(task.problem)


def test_recurrent_dropout_and_other_noise_train_one_by_one_each_network_with_its_own(
    caplog, monkeypatch
):
    build = lambda: recurrent(nn.GRU, num_layers=2, dropout=0.4)  # noqa: E731
    monkeypatch.setitem(MODULES, "recurrent", (build, (4, 3)))
    task = make_task("recurrent", RECIPES["adam"])
    assert pick_engine("auto", task.problem) == "loop"
    assert "(engine 'loop')" in caplog.text
    assert "'unit' (GRU), or what follows it, draws random numbers of its own" in caplog.text
    masks = masks_of(task)
    outcome = train(task.problem, masks, PLAN)
    assert_same(train(task.problem, masks[::-1], PLAN), outcome, rtol=1e-12, places=[2, 1, 0])
    drawn = []
    model = Custom(
        lambda m, x: (drawn.append(torch.rand(())), m.linear(x))[1], linear=nn.Linear(6, 3)
    )
    noisy = make_task("mlp", RECIPES["adam"], model=model)
    drawn.clear()
    train(noisy.problem, masks_of(noisy, (0.5, 0.5)), PLAN)
    assert len({float(number) for number in drawn}) == len(drawn) > 100


def test_dropout_around_what_cannot_be_batched_trains_in_threads(caplog, monkeypatch):
    build = lambda: nn.Sequential(nn.Dropout(0.2), recurrent(nn.GRU))  # noqa: E731
    monkeypatch.setitem(MODULES, "recurrent", (build, (4, 3)))
    task = make_task("recurrent", RECIPES["adam"])
    assert pick_engine("auto", task.problem) == "loop"
    assert takes_threads(task.problem)
    assert "'1.unit' (GRU)" in caplog.text
    assert not any(module._forward_pre_hooks for module in task.problem.model.modules())


def test_an_error_of_the_module_comes_through_and_threads_are_put_back():
    before = torch.get_num_threads()
    task = make_task("mlp", Recipe())
    probe(task.problem)
    task.problem.train[0].resize_(25, 5)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train_loop(task.problem, masks_of(task), PLAN)
    assert torch.get_num_threads() == before

"""A step that can be replayed: a schedule at a counter, chunks of any module, capture or calls."""

import logging
import types
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.networks import (
    MODULES,
    RECIPES,
    Custom,
    assert_same,
    chunk_of,
    make_task,
    masks_of,
    needs_cuda,
    reference,
)
from torch import nn

from nets_deap import Recipe
from nets_deap.tickets import bits
from nets_deap.tickets.trained import TrainedState
from nets_deap.training import interrupt
from nets_deap.training.engines.cuda import graph as graph_module
from nets_deap.training.engines.cuda import schedule as schedule_module
from nets_deap.training.engines.cuda.graph import Graph, Waits
from nets_deap.training.engines.cuda.schedule import Schedule
from nets_deap.training.engines.cuda.weights import Weights
from nets_deap.training.engines.functional import Functional
from nets_deap.training.engines.vmap import VmapChunk, train_vmap
from nets_deap.training.problem import Plan

PLAN = Plan(20, 3, curve_points=3, test=True, keep_states=True)


# ---- chunks of any module


@pytest.mark.parametrize("module", MODULES)
def test_any_module_in_a_chunk_equals_single_trainings(monkeypatch, module):
    """Twice on one chunk, with other masks, starts and steps; windows end between steps."""
    monkeypatch.setattr(schedule_module, "WINDOW", 6)
    optimizer = list(RECIPES)[list(MODULES).index(module) % len(RECIPES)]
    task = make_task(module, RECIPES[optimizer])
    masks = masks_of(task)
    first = train_vmap(task.problem, masks, PLAN)
    assert_same(first, reference(task.problem, masks, PLAN), rtol=1e-9)
    chunk = chunk_of(task)
    starts = [first.trained[2], None, TrainedState(first.trained[0].values)]
    plan, turned = Plan(13, 8, keep_states=True), masks[::-1]
    again = train_vmap(task.problem, turned, plan, starts=starts)
    rest = reference(task.problem, turned, plan, starts=starts)
    assert_same(again, rest, rtol=1e-8)
    assert chunk_of(task) is chunk
    with Waits() as waits:
        chunk.step()
    assert not waits.seen, "what waits for the device cannot be captured"


def test_what_a_module_cannot_do_as_a_batch_is_explained():
    def function(model, x):
        return model.linear(x) * float(model.linear.weight.detach().sum())

    model = Custom(function, linear=nn.Linear(6, 3))
    task = make_task("mlp", Recipe(), model=model)
    with pytest.raises(ValueError, match=r"model must train as a batch: .* engine='loop'"):
        train_vmap(task.problem, masks_of(task), PLAN)


# ---- weights


@pytest.mark.parametrize("module", ["conv2d", "frozen", "tied"])
def test_masks_are_unpacked_where_they_are_needed(module):
    task = make_task(module, Recipe())
    packed = masks_of(task, (0.5, 0.1))
    weights = Weights(task.problem, 2)
    weights.refill(np.stack(packed), [None, None])
    unpacked = np.stack([bits.unpack(row, task.layout.size) for row in packed])
    for layer in task.layout.layers:
        expected = task.layout.split(unpacked)[layer.name]
        np.testing.assert_array_equal(weights.keep(layer), expected)
        assert weights.counts(layer.name).tolist() == expected.reshape(2, -1).sum(1).tolist()
    w0 = task.layout.require_initial()
    for mask, trained in zip(unpacked, weights.trained_states(), strict=True):
        np.testing.assert_array_equal(trained.values, w0[mask])


# ---- schedule


@pytest.mark.parametrize("name", RECIPES)
def test_a_schedule_holds_what_a_step_needs_wherever_the_window_ends(name):
    recipe, plan = RECIPES[name], Plan(11, 4)
    task = make_task("mlp", recipe)
    problem = task.problem
    schedule, rows = Schedule(problem, 10, window=4), plan.batches(25, 8)
    schedule.begin(plan)
    tail, sizes, step = torch.zeros(1, dtype=torch.float64), [], 0
    for first in (0, 4, 8):
        sizes.append(schedule.fill(first))
        for _ in range(sizes[-1]):
            assert torch.equal(schedule.rows()[:8], rows[step])
            assert torch.equal(schedule.rows()[8:], rows[step, :1].expand(2))
            lr, stepped, root = schedule.rates[schedule.counter].view(-1).tolist()
            assert lr == float(schedule.rate()) == problem.recipe.lr_at(step, plan.steps)
            one, two = recipe.betas if recipe.optimizer != "sgd" else (0, 0)
            assert stepped == pytest.approx(lr / (1 - one ** (step + 1)), rel=1e-14)
            assert root**2 == pytest.approx(1 - two ** (step + 1), rel=1e-12)
            early = step < plan.steps - plan.tail
            schedule.advance(tail, torch.tensor([torch.inf if early else 2.5]))
            step += 1
    assert sizes == [4, 4, 3]
    assert tail.item() == 2.5 * plan.tail


# ---- replaying


def test_on_the_cpu_a_replay_is_a_call():
    calls = []
    graph = Graph(torch.device("cpu"))
    assert not graph.prepare(lambda: calls.append("warm-up"))
    graph(lambda: calls.append("step"), range(3), calls.append)
    assert calls == [0, "step", 1, "step", 2, "step"]
    assert not graph.captured


def test_an_interrupt_comes_between_steps_that_are_called():
    calls = []

    def step():
        calls.append(1)
        if len(calls) == 2:
            interrupt.ask(15)

    try:
        with pytest.raises(interrupt.Interrupted):
            Graph(torch.device("cpu"))(step, range(5))
    finally:
        interrupt.forget()
    assert len(calls) == 2


WAITING = {
    "item": lambda x: x.sum().item(),
    "truth": lambda x: bool(x.any()),
    "nonzero": torch.nonzero,
    "mask": lambda x: x[x > 0],
    "masked_write": lambda x: x.index_put_((x > 0,), torch.zeros(())),
    "to_the_host": lambda x: x.to("meta"),  # what is elsewhere; there is one device here
}
GOING_ON = {
    "places": lambda x: x[torch.tensor([0, 1])],
    "written_places": lambda x: x.index_put_((torch.tensor([0]),), torch.zeros(())),
    "chosen": lambda x: torch.where(x > 0, x, 0),
    "scattered": lambda x: x.masked_fill_(x > 0, 0),
    "a_number": lambda x: x * torch.tensor(2.0),
}


@pytest.mark.parametrize("name", [*WAITING, *GOING_ON])
def test_operations_that_the_host_waits_for_are_told_from_others(name):
    x = torch.randn(4)
    with Waits() as waits:
        (WAITING | GOING_ON)[name](x)
    assert bool(waits.seen) == (name in WAITING)


class FakeCuda:
    """What a graph uses of ``torch.cuda``, noting what happens in which order.

    Args:
        monkeypatch: Puts it in the place of torch's own.
        refuses: Whether a capture fails, as one does in which something waited for the device.
    """

    def __init__(self, monkeypatch, *, refuses=False):
        self.events, self.stream, self._refuses = [], "the program's", refuses
        fakes = {
            "device": nothing,
            "stream": self._streaming,
            "graph": self._capturing,
            "Stream": lambda: FakeStream("the graph's"),
            "CUDAGraph": lambda: self,
            "current_stream": lambda: FakeStream(self.stream),
            "synchronize": lambda: None,
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        monkeypatch.setattr(graph_module, "seeded", nothing)
        workspaces = lambda: self.events.append("workspaces dropped")  # noqa: E731
        monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", workspaces, raising=False)

    def replay(self):
        self.events.append("replay")

    @contextmanager
    def _streaming(self, stream):
        before, self.stream = self.stream, stream.name
        try:
            yield
        finally:
            self.stream = before

    @contextmanager
    def _capturing(self, graph, stream, capture_error_mode):
        self.events.append("capture")
        self.stream = stream.name
        yield
        if self._refuses:  # torch leaves its stream the current one then
            raise RuntimeError("operation not permitted when stream is capturing")
        self.stream = "the program's"


class FakeStream:
    def __init__(self, name):
        self.name = name

    def wait_stream(self, other):
        pass


@contextmanager
def nothing(*args, **more):
    yield


@pytest.mark.parametrize("refuses", [False, True])
def test_a_step_is_captured_once_after_warming_up_or_called(monkeypatch, caplog, refuses):
    """What is torch's own of it is replaced: the order of things, and what follows a failure.

    A graph keeps no workspace of cuBLAS that another one may free, and leaves none to others.
    """
    cuda = FakeCuda(monkeypatch, refuses=refuses)

    def step():
        cuda.events.append(f"step on {cuda.stream}")

    graph = Graph(torch.device("cuda"))
    warm_up = ["step on the graph's"] * graph_module.WARM_UP_STEPS
    captured = ["workspaces dropped", "capture", warm_up[0], "workspaces dropped"]
    with caplog.at_level(logging.WARNING, "nets_deap"):
        assert graph.prepare(step)
        assert cuda.events == [*warm_up, *captured]
        assert cuda.stream == "the program's"
        cuda.events.clear()
        assert not graph.prepare(step)
        graph(step, range(2), lambda number: cuda.events.append(f"fed {number}"))
        graph(step, range(3))
    taken = "step on the program's" if refuses else "replay"
    assert cuda.events == ["fed 0", taken, "fed 1", taken, *[taken] * 3]
    assert graph.captured != refuses
    assert len(caplog.records) == refuses
    assert ("cannot be replayed" in caplog.text) == refuses


def test_a_step_that_waits_for_the_device_is_not_captured(monkeypatch, caplog):
    cuda = FakeCuda(monkeypatch)
    graph, x = Graph(torch.device("cuda")), torch.ones(3)
    with caplog.at_level(logging.WARNING, "nets_deap"):
        assert graph.prepare(lambda: x.sum().item())
    assert not graph.captured
    assert not cuda.events, "nothing was begun that would have to be undone"
    assert "waits for the device in aten::_local_scalar_dense" in caplog.text


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("no"), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when")]
)
def test_a_shortage_while_a_step_is_captured_is_no_reason_to_go_on_without(monkeypatch, error):
    cuda = FakeCuda(monkeypatch)

    def step():
        if "capture" in cuda.events:
            raise error

    with pytest.raises(type(error)):
        Graph(torch.device("cuda")).prepare(step)
    assert cuda.stream == "the program's"


class OtherSizes(torch.utils.data.Dataset):
    """Examples that are read again each time."""

    def __init__(self, n):
        self.x, self.y = torch.randn(n, 6, dtype=torch.float64), torch.arange(n) % 3

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


@pytest.mark.parametrize("streamed", [False, True])
def test_minibatches_of_the_host_are_fed_to_a_captured_step(monkeypatch, streamed):
    """Captured here means: called with the tensors that were there when it was."""
    more = {"augment": lambda x: x + torch.rand_like(x)}
    if streamed:
        more |= {"train": OtherSizes(25), "in_memory": False}
    torch.manual_seed(2)
    task = make_task("mlp", RECIPES["adam"], **more)
    masks = masks_of(task)
    wanted = reference(task.problem, masks, PLAN)

    def prepare(graph, step):
        """Let steps be called, and look as if they were replayed."""
        if not graph.untried:
            return False
        graph.untried = False
        step()
        graph._graph = types.SimpleNamespace(replay=step)
        return True

    plain = Graph.__init__
    monkeypatch.setattr(Graph, "prepare", prepare)
    monkeypatch.setattr(
        Graph,
        "__init__",
        lambda self, device, **how: plain(self, device, **how) or setattr(self, "untried", True),
    )
    assert_same(train_vmap(task.problem, masks, PLAN), wanted, rtol=1e-9)
    chunk = chunk_of(task)
    held = chunk._fed
    assert chunk.graph.captured
    assert_same(train_vmap(task.problem, masks, PLAN), wanted, rtol=1e-9)
    assert chunk_of(task)._fed is held


def test_minibatches_that_change_their_shape_are_taken_as_they_come(monkeypatch, caplog):
    def function(model, x):
        return model.linear(x.mean(2))

    def cropped(x):
        return x[..., : int(torch.randint(2, 5, ()))]

    model = Custom(function, linear=nn.Linear(3, 3))
    x, y = torch.randn(40, 3, 5, dtype=torch.float64), torch.arange(40) % 3
    task = make_task(
        "mlp", RECIPES["adam"], model=model, train=(x, y), val=(x, y), test=None, augment=cropped
    )
    chunk = VmapChunk(task.problem, 3, frozenset())
    masks = masks_of(task)
    plan = replace(PLAN, test=False)
    packed = np.stack(masks)
    counts = np.stack([task.problem.layout.counts(row) for row in packed])
    chunk.graph._graph = types.SimpleNamespace(replay=chunk.step)
    chunk._functional = Functional(task.problem, {})
    chunk._keys = torch.zeros((3, 2), dtype=torch.int32)
    chunk._fed = (x[:8], y[:8])
    outcome = chunk.run(packed, plan, [None] * 3, counts)
    assert_same(outcome, reference(task.problem, masks, plan), rtol=1e-9)
    assert caplog.text.count("change their shape") == 1
    assert not chunk.graph.captured


# ---- on a GPU


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("module", MODULES)
def test_chunks_of_networks_are_captured_and_agree_with_the_cpu(module):
    cpu = make_task(module, RECIPES["adamw"])
    cuda = make_task(module, RECIPES["adamw"], model=cpu.model, device="cuda")
    for masks in (masks_of(cpu), masks_of(cpu)[::-1]):
        batch = train_vmap(cuda.problem, masks, PLAN)
        assert_same(batch, train_vmap(cpu.problem, masks, PLAN), rtol=1e-7)
    assert chunk_of(cuda).graph.captured


@pytest.mark.gpu
@needs_cuda
def test_dropout_draws_anew_with_each_replay_and_the_same_from_the_same_seed():
    task = make_task("dropout", RECIPES["adam"], device="cuda")
    masks = masks_of(task)
    first, same = (train_vmap(task.problem, masks, PLAN) for _ in range(2))
    other = train_vmap(task.problem, masks, replace(PLAN, seed=4))
    assert chunk_of(task).graph.captured
    assert_same(first, same, rtol=1e-12)
    assert first.metrics["train_loss"][0] != other.metrics["train_loss"][0]


@pytest.mark.gpu
@needs_cuda
def test_what_cannot_be_captured_trains_all_the_same(caplog):
    def function(model, x):
        torch.cuda.synchronize()  # forbidden while a stream is captured
        return model.linear(x)

    model = Custom(function, linear=nn.Linear(6, 3))
    cpu = make_task("mlp", RECIPES["sgd"])
    cuda = make_task("mlp", RECIPES["sgd"], model=model, device="cuda")
    plain = make_task("mlp", RECIPES["sgd"], model=nn.Sequential(model.linear), device="cpu")
    with caplog.at_level(logging.WARNING, "nets_deap"):
        batch = train_vmap(cuda.problem, masks_of(cuda), replace(PLAN, keep_states=False))
    assert not chunk_of(cuda).graph.captured
    assert len(caplog.records) == 1
    expected = train_vmap(plain.problem, masks_of(plain), replace(PLAN, keep_states=False))
    assert_same(batch, expected, rtol=1e-7)
    after = make_task("dropout", RECIPES["sgd"], model=cpu.model, device="cuda")
    train_vmap(after.problem, masks_of(after), PLAN)
    assert chunk_of(after).graph.captured, "a failure leaves the device usable"

"""The modes of torch and NumPy that a caller is in change nothing of what is computed."""

import contextlib
import functools
import itertools
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import nets_deap as nets
from nets_deap import baselines
from nets_deap.evolution.evaluator import Evaluator
from nets_deap.models import modes
from nets_deap.training import problem
from nets_deap.training.engines.dispatch import ENGINES
from nets_deap.training.gradients import dense_gradient
from nets_deap.training.problem import Fold, Plan

RECIPE = nets.Recipe(lr=1e-2, batch_size=20, steps=4)
MEASURES = ("val_loss", "int8_accuracy", "noise_accuracy:0.3", "multiply_adds")


class Making(nn.Module):
    """Makes tensors that name neither device nor dtype while it computes."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x):
        hidden = torch.zeros(16) + torch.full((16,), 0.1)
        return self.last(torch.relu(self.first(x)) + hidden)


@contextlib.contextmanager
def set_and_put_back(change, back):
    change()
    try:
        yield
    finally:
        back()


@contextlib.contextmanager
def differentiated():
    """Inside of a transform of ``torch.func``."""
    from torch._C._functorch import _grad_decrement_nesting, _grad_increment_nesting

    _grad_increment_nesting()
    try:
        yield
    finally:
        _grad_decrement_nesting()


def anomalies():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is slow
        return torch.autograd.set_detect_anomaly(True)


MODES = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "set_grad_enabled": lambda: torch.set_grad_enabled(False),
    "default_dtype": lambda: set_and_put_back(
        lambda: torch.set_default_dtype(torch.float64),
        lambda: torch.set_default_dtype(torch.float32),
    ),
    "default_device": lambda: set_and_put_back(
        lambda: torch.set_default_device("meta"), lambda: torch.set_default_device(None)
    ),
    "device": lambda: torch.device("meta"),
    "deterministic": lambda: set_and_put_back(
        lambda: torch.use_deterministic_algorithms(True),
        lambda: torch.use_deterministic_algorithms(False),
    ),
    "anomaly": anomalies,
    "func": differentiated,
    "seterr": lambda: np.errstate(all="raise"),
}
each_mode = pytest.mark.parametrize("mode", MODES)
each_engine = pytest.mark.parametrize("engine", ENGINES)


def network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 120)
    return rng.normal(size=(120, 8)) + y[:, None] / 2, y


def build(engine, model=None):
    model = network() if model is None else model
    return nets.Task(model, train=data(), recipe=RECIPE, device="cpu", engine=engine)


def ticket_of(task):
    return task.ticket(np.random.default_rng(1).random(task.layout.size) < 0.5)


def plain(tensor):
    assert not tensor.is_inference()
    return tensor.detach()


def trained(task):
    result = task.train(ticket_of(task))
    module = result.module()
    state = [plain(tensor) for tensor in module.state_dict().values()]
    return [result.train_loss, result.val_loss, result.val_accuracy, *state]


def measured(task):
    first, second = ticket_of(task), task.dense_ticket()
    return Evaluator(task, MEASURES, gradients=True).batch([first, second])


def ranked(task):
    found = [baselines.snip, baselines.grasp, baselines.synflow]
    masks = [method(task, 0.3).levels[0].ticket.mask for method in found]
    rigl = baselines.rigl(task, 0.3, steps=2, delta=1).levels[0]
    imp = baselines.imp(task, rounds=1, steps=2).levels[-1].ticket.mask
    return [*masks, rigl.ticket.mask, rigl.trained.val_loss, imp]


def gradient(task):
    return [dense_gradient(task.problem, ticket_of(task).mask, torch.arange(20, device="cpu"))]


def judged(task):
    report = nets.sanity.check(ticket_of(task), task, steps=1, seeds=2)
    return [one.values for one in report.variants.values()]


def smaller(task):
    ticket = ticket_of(task)
    module = task.train(ticket).module()
    small, rows = ticket.compact(module), ticket.to_csr(module)
    masked = ticket.apply(task.model, how="parametrize")
    tensors = [*small.state_dict().values(), *rows.state_dict().values()]
    return [plain(tensor) for tensor in (*tensors, *masked.state_dict().values())]


def described(task):
    return [str(nets.describe(task)), task.fingerprint]


def searched(task):
    result = nets.search(task, population=4, generations=1, seed=5, progress="none", inherit="none")
    return [ticket.fitness.values for ticket in result.population]


ENTRIES = (trained, measured, ranked, gradient, judged, smaller, described, searched)


def everything(task):
    return {entry.__name__: entry(task) for entry in ENTRIES}


def assert_equal(found, expected):
    for name, parts in expected.items():
        for one, other in zip(found[name], parts, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)


@functools.cache
def expected(engine):
    return everything(build(engine))


@functools.cache
def alone(engine):
    return {"trained": trained(build(engine))}


QUICK = {("autocast", "batched"), ("inference", "batched"), ("default_device", "batched")}
QUICK |= {("default_dtype", "batched"), ("anomaly", "batched"), ("seterr", "batched")}


@pytest.mark.parametrize(
    ("mode", "engine"),
    [
        pytest.param(*pair, marks=[] if pair in QUICK else pytest.mark.slow)
        for pair in itertools.product(MODES, ENGINES)
    ],
)
def test_all_that_is_done_with_a_task_is_the_same_inside(mode, engine):
    task = build(engine)
    with MODES[mode]():
        found = everything(task)
    assert_equal(found, expected(engine))


@each_mode
@each_engine
def test_a_task_built_inside_trains_the_same_inside_and_outside(mode, engine):
    right, model = alone(engine), network()
    with MODES[mode]():
        task = build(engine, model)
        inside = trained(task)
    tensors = [*task.problem.initial.values(), *task.problem.train, *task.problem.val]
    assert not any(tensor.is_inference() or tensor.is_meta for tensor in tensors)
    assert_equal({"trained": inside}, right)
    assert_equal({"trained": trained(task)}, right)


class Read(torch.utils.data.Dataset):
    """Examples that are read again each time."""

    def __init__(self):
        self.x, self.y = (torch.from_numpy(part) for part in data())

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


def dropping(engine):
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Linear(16, 3))
    more = {"augment": torch.clone, "guard": 0.3, "loss": lambda output, y: -output[:, 0].mean()}
    return nets.Task(model, train=data(), recipe=RECIPE, device="cpu", engine=engine, **more)


def reading(engine):
    more = {"in_memory": False, "recipe": RECIPE, "device": "cpu", "engine": engine}
    return nets.Task(network(), train=Read(), **more)


KINDS = {"plain": build, "dropping": dropping, "reading": reading}


@pytest.mark.parametrize(
    ("kind", "engine"), [(kind, engine) for kind in KINDS for engine in ENGINES]
)
def test_tensors_of_our_own_say_where_they_are(monkeypatch, kind, engine):
    """Under ``torch.set_default_device("cuda")`` others would go there, also what is of the CPU."""
    if kind != "plain" and engine not in ("vmap", "loop"):
        pytest.skip("trains other networks")
    task = KINDS[kind](engine)

    @contextlib.contextmanager
    def elsewhere(*args, **more):
        with modes.neutral(*args, **more), torch.device("meta"):
            yield

    monkeypatch.setattr(problem, "neutral", elsewhere)
    trained(task)
    measured(task)
    gradient(task)
    task.run([ticket_of(task)] * 3, Plan(4, 1, curve_points=2, keep_states=True, fold=Fold(1, 2)))


@pytest.mark.parametrize("engine", ["vmap", "loop"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mode", ["default_dtype", "device"])
def test_what_a_module_makes_while_it_computes_is_of_its_own_kind(mode, dtype, engine):
    torch.manual_seed(3)
    model = Making().to(dtype)
    right = trained(build(engine, model))
    with MODES[mode]():
        found = trained(build(engine, model))
    assert_equal({"trained": found}, {"trained": right})


def test_a_model_and_data_made_inside_of_inference_mode_are_trained():
    right = trained(build("vmap"))
    with torch.inference_mode():
        model, (x, y) = network(), data()
        given = torch.from_numpy(x), torch.from_numpy(y)
    for task in (
        nets.Task(model, train=given, recipe=RECIPE, device="cpu", engine=engine)
        for engine in ("vmap", "loop")
    ):
        found = trained(task)
        np.testing.assert_allclose(found[0], right[0], rtol=1e-5)


@each_mode
def test_ready_tasks_have_the_same_weights_inside(mode):
    right = nets.tasks.xor(hidden=3, seed=4)
    with MODES[mode]():
        task = nets.tasks.xor(hidden=3, seed=4)
    assert task.fingerprint == right.fingerprint


@each_mode
def test_a_mode_is_still_there_afterwards(mode):
    def modes():
        return (
            torch.is_autocast_enabled("cpu"),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.get_default_dtype(),
            torch.get_default_device(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_anomaly_enabled(),
            np.geterr(),
        )

    task, outside = build("batched"), modes()
    with MODES[mode]():
        before = modes()
        task.train(ticket_of(task))
        assert modes() == before
    assert modes() == outside

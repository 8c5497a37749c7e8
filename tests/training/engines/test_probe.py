"""What draws, what keeps state, what writes where it should not: found, and held apart."""

import random
import threading
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from support.networks import PLAN, RECIPES, Custom, assert_same, make_task, masks_of, reference
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Dataset

from nets_deap import Recipe, Task
from nets_deap.training.device import python_states
from nets_deap.training.engines.dispatch import pick_engine, train
from nets_deap.training.engines.loop import train_loop
from nets_deap.training.engines.probe import probe
from nets_deap.training.engines.vmap import train_vmap
from nets_deap.training.recipe import name_of

SHORT = replace(PLAN, steps=8, curve_points=1)
ENGINES = {"vmap": train_vmap, "threads": train_loop, "one": reference}
each_engine = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)


def task_of(function, layers=None, **more):
    layers = {"a": nn.Linear(6, 8), "b": nn.Linear(8, 3)} if layers is None else layers
    return make_task("mlp", RECIPES["sgd"], model=Custom(function, **layers), **more)


def plain(model, x):
    return model.b(torch.relu(model.a(x)))


def noisy_loss(output, target):
    return F.cross_entropy(output + 0.1 * torch.randn_like(output), target)


def with_python(model, x):
    return plain(model, x * random.choice([0.5, 1.0]) if model.training else x)


def with_numpy(model, x):
    return plain(model, x * float(np.random.rand()))  # noqa: NPY002


def in_evaluation(model, x):
    return plain(model, x if model.training else x + torch.randn_like(x))


DRAWING = {
    "python": {"function": with_python},
    "numpy": {"function": with_numpy},
    "evaluation": {"function": in_evaluation},
    "loss": {"function": plain, "loss": noisy_loss},
}


def states():
    return torch.get_rng_state().tolist(), python_states()


@pytest.mark.parametrize("kind", DRAWING)
def test_whatever_draws_trains_alone_and_the_same_in_any_company(kind, caplog):
    before = states()
    task = task_of(**DRAWING[kind])
    assert pick_engine("auto", task.problem) == "loop"
    assert "random numbers of its own" in caplog.text
    masks = masks_of(task)
    whole = train(task.problem, masks, SHORT)
    assert_same(train(task.problem, masks[::-1], SHORT), whole, rtol=1e-12, places=[2, 1, 0])
    task_of(**DRAWING[kind])
    random.setstate(random.getstate())
    with pytest.raises(ValueError, match=r"engine must suit the task: .*but dropout's"):
        task_of(**DRAWING[kind], engine="vmap")
    assert states()[1] == before[1]


def test_building_and_training_leave_all_random_states_alone():
    task_of(plain)
    layers = {"a": nn.Linear(6, 8), "b": nn.Linear(8, 3)}
    before = states()
    for kind in DRAWING.values():
        task = task_of(**kind, layers=layers)
        train(task.problem, masks_of(task), SHORT)
    assert states() == before


def test_dropout_that_is_computed_again_in_the_backward_pass():
    def body(model, x):
        return F.dropout(torch.relu(model.a(x)), 0.5, model.training)

    def function(model, x):
        if not model.training:
            return model.b(body(model, x))
        return model.b(checkpoint(body, model, x, use_reentrant=False))

    layers = {"a": nn.Linear(6, 16), "b": nn.Linear(16, 3)}
    task = task_of(function, layers)
    assert pick_engine("auto", task.problem) == "loop"
    torch.manual_seed(5)
    model = task.model.train()
    x, y = (part[:8] for part in task.problem.train)
    gradients = []
    for forward in (function, lambda m, x: m.b(body(m, x))):
        torch.manual_seed(7)
        model.zero_grad()
        F.cross_entropy(forward(model, x), y).backward()
        gradients.append(model.a.weight.grad.clone())
    torch.testing.assert_close(*gradients)
    first, again = (train(task.problem, masks_of(task), SHORT) for _ in range(2))
    assert_same(first, again, rtol=1e-12)


@each_engine
def test_what_writes_in_its_inputs_changes_nobodys_data(engine):
    def function(model, x):
        x -= 1.0
        return plain(model, x)

    def loss(output, target):
        target *= 1
        target += 0
        output = output.clone()
        return F.cross_entropy(output, target)

    task = task_of(function, loss=loss)
    data = [part.clone() for split in (task.problem.train, task.problem.val) for part in split]
    masks = masks_of(task)
    first = engine(task.problem, masks, SHORT)
    after = [part for split in (task.problem.train, task.problem.val) for part in split]
    assert all(torch.equal(a, b) for a, b in zip(data, after, strict=True))
    assert_same(first, engine(task.problem, masks, SHORT), rtol=1e-12)
    honest = task_of(lambda m, x: plain(m, x - 1.0), {"a": task.model.a, "b": task.model.b})
    assert_same(first, reference(honest.problem, masks, SHORT), rtol=1e-9)


@each_engine
def test_what_modules_keep_lasts_for_one_training(engine):
    def function(model, x):
        if model.training:
            model.calls = getattr(model, "calls", 0) + 1
        model.hidden = torch.relu(model.a(x))  # and an activation, which cannot be copied
        return model.b(model.hidden) * min(1.0, getattr(model, "calls", 0) / 10)

    task = task_of(function)
    masks = masks_of(task)
    first = engine(task.problem, masks, SHORT)
    assert_same(first, engine(task.problem, masks, SHORT, chunk=1), rtol=1e-11)
    assert_same(first, reference(task.problem, masks, SHORT), rtol=1e-9)
    assert not hasattr(task.model, "hidden")


def test_a_module_under_two_names_is_one():
    shared = nn.Linear(6, 6)
    model = nn.Sequential(shared, nn.Tanh(), shared, nn.Dropout(0.2), nn.Linear(6, 3))
    task = make_task("mlp", RECIPES["adam"], model=model)
    masks = masks_of(task)
    outcome = train_vmap(task.problem, masks, SHORT)
    assert_same(outcome, reference(task.problem, masks, SHORT), rtol=1e-9)
    assert pick_engine("auto", task.problem) == "vmap"
    module = task.train(task.ticket(np.ones(task.layout.size))).module()
    assert module[0] is module[2]


@each_engine
def test_normalisation_that_rests_stays_at_rest(engine):
    model = nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8),
        nn.Linear(8, 3),
    ).train()  # fmt: skip
    model[1].eval()
    task = make_task("mlp", RECIPES["sgd"], model=model)
    outcome = engine(task.problem, masks_of(task), SHORT)
    for state in outcome.states:
        assert (int(state["1.num_batches_tracked"]), int(state["4.num_batches_tracked"])) == (0, 8)
    assert [m.training for m in task.model.modules()] == [m.training for m in model.modules()]
    assert_same(outcome, reference(task.problem, masks_of(task), SHORT), rtol=1e-9)


def test_the_users_loss_module_stays_as_it_is_and_keeps_nothing_for_the_next_network():
    class Running(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.ones((), dtype=torch.float64))

        def forward(self, output, target):
            value = F.cross_entropy(output, target)
            self.mean = 0.5 * self.mean + 0.5 * value.detach()
            return value / self.mean

    loss = Running()
    tasks = [task_of(plain, loss=loss) for _ in range(2)]
    assert float(loss.mean) == 1.0
    assert len({name_of(task.recipe.loss) for task in tasks}) == 1
    task = tasks[0]
    mask = masks_of(task)[0]
    outcome = reference(task.problem, [mask, mask], SHORT)
    assert outcome.metrics["val_loss"][0] == outcome.metrics["val_loss"][1]


def test_other_threads_that_draw_are_not_taken_for_the_module():
    stop = threading.Event()

    def draw():
        while not stop.is_set():
            torch.rand(10)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        found = [probe(make_task("dropout", Recipe()).problem) for _ in range(5)]
    finally:
        stop.set()
        thread.join()
    assert [one.draws for one in found] == [""] * 5
    assert all(one.drops for one in found)


class Focus:
    def __init__(self, gamma):
        self.gamma = (gamma,)

    def loss(self, output, target):
        return F.cross_entropy(self.gamma[0] * output, target)

    def __call__(self, output, target):
        return self.loss(output, target)


def scaled(gamma):
    return lambda output, target: F.cross_entropy(gamma * output, target)


class Holder(nn.Module):
    def __init__(self, smoothing):
        super().__init__()
        self.inner = nn.CrossEntropyLoss(label_smoothing=smoothing)

    def forward(self, output, target):
        return self.inner(output, target)


@pytest.mark.parametrize(
    "make",
    [
        lambda s: partial(F.cross_entropy, label_smoothing=s),
        lambda s: Holder(s),
        lambda s: Focus(s).loss,
        lambda s: Focus(s),
        lambda s: scaled(s),
        lambda s: lambda output, target, s=s: F.cross_entropy(s * output, target),
        lambda s: nn.CrossEntropyLoss(weight=torch.tensor([s, 1.0, 1.0])),
    ],
)
def test_losses_are_told_apart_by_all_that_they_hold(make):
    assert name_of(make(0.1)) == name_of(make(0.1))
    assert name_of(make(0.1)) != name_of(make(0.2))
    assert "0x" not in name_of(make(0.1))


def test_targets_are_told_apart_by_their_names_and_places():
    x, a, b = torch.randn(20, 6), torch.randn(20), torch.randn(20)
    loss = lambda output, target: output.mean()  # noqa: E731
    both = [(x, {"a": a, "b": b}), (x, {"b": a, "a": b}), (x, (a, b)), (x, (a, (b,)))]
    both += [(x, a, b.abs())]
    digests = set()
    for data in both:
        each = (lambda o, t: o.mean(1)) if len(data) == 3 else loss
        task = Task(nn.Linear(6, 3), train=data, loss=each, recipe=Recipe(batch_size=4, steps=2))
        digests.add(task.data_digest)
    assert len(digests) == len(both)


class Random(Dataset):
    """Draws in each reading."""

    def __len__(self):
        return 30

    def __getitem__(self, i):
        return torch.full((6,), i / 30.0) + 0.1 * torch.randn(6), i % 3


def test_a_stream_that_draws_gives_all_networks_the_same_minibatches():
    before = states()
    task = Task(
        nn.Sequential(nn.Linear(6, 3)).double(), train=Random(), in_memory=False,
        val=(torch.zeros(3, 6), torch.arange(3)), recipe=Recipe(batch_size=8, steps=8),
    )  # fmt: skip
    assert states()[1] == before[1]
    masks = masks_of(task)
    outcome = train_vmap(task.problem, masks, SHORT)
    assert_same(outcome, reference(task.problem, masks, SHORT), rtol=1e-9)


def test_weights_of_which_the_holdout_leaves_none_are_refused():
    x, y, w = torch.randn(40, 6), torch.arange(40) % 3, torch.zeros(40)
    w[0] = 1.0
    with pytest.raises(ValueError, match=r"(val|train) weights must weigh examples: .*all 0"):
        Task(nn.Linear(6, 3), train=(x, y, w), val=0.2, recipe=Recipe(batch_size=4))
    huge = Task(nn.Linear(6, 3), train=(x, y, w + 1e38), recipe=Recipe(batch_size=4))
    assert float(huge.problem.train[1].weight.mean()) == pytest.approx(1.0)


def test_a_step_that_the_module_cannot_take_is_explained():
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    data = (torch.randn(20, 6), torch.arange(20) % 3)
    with pytest.raises(ValueError, match=r"model must take a training step: .*more than 1 value"):
        Task(model, train=data, recipe=Recipe(batch_size=1))
    tried = []

    def short(x):
        tried.append(len(x))
        return x[:4] if len(tried) > 1 else x

    task = Task(model, train=data, augment=short, recipe=Recipe(batch_size=8, steps=2))
    with pytest.raises(ValueError, match=r"inputs from augment must have the right length: .*8"):
        task.train(task.dense_ticket())

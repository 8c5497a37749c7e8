"""Networks of every kind, tasks of them, and how outcomes are compared, for tests of engines."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nets_deap import Recipe, Task, models
from nets_deap.training.engines.loop import train_loop
from nets_deap.training.problem import METRICS, Plan

STEPS = 50
PLAN = Plan(steps=STEPS, seed=3, curve_points=3, test=True, keep_states=True)
RECIPES = {
    "sgd": Recipe(optimizer="sgd", lr=0.05, momentum=0.9, weight_decay=0.01),
    "nesterov": Recipe(
        optimizer="sgd", lr=0.03, momentum=0.9, nesterov=True, schedule="cosine", warmup_steps=5
    ),
    "adam": Recipe(optimizer="adam", lr=5e-3, weight_decay=1e-3, schedule="step"),
    "adamw": Recipe(optimizer="adamw", lr=5e-3, weight_decay=0.1, schedule="linear"),
}
# What all engines agree with: each network alone, by plain loops.
reference = partial(train_loop, threads=1)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Custom(nn.Module):
    """Some layers, and a function of them and the inputs."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.function(self, x)


class Buffers(nn.Module):
    """Buffers changed in place and by assignment, one of them in no state dict."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(3), persistent=False)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x):
        y = self.linear(x)
        if self.training:
            self.calls.add_(1)
            self.mean.mul_(0.9).add_(0.1 * y.detach().mean(0))
            self.scale = 0.99 * self.scale + 0.02
        return (y - self.mean) * self.scale


def mlp():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def conv2d():
    # No bias before the normalisation: its gradient is pure rounding, which Adam blows up.
    first = nn.Conv2d(1, 3, 3, bias=False)
    return nn.Sequential(first, nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3))


def conv1d():
    first, second = nn.ConvTranspose1d(2, 4, 2), nn.Conv1d(4, 3, 3)
    return nn.Sequential(first, second, nn.Tanh(), nn.Flatten(), nn.Linear(15, 3))


def dropout():
    return nn.Sequential(nn.Dropout(0.2), *mlp()[:2], nn.Dropout(0.5), nn.Linear(8, 3))


def frozen():
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    model[0].weight.requires_grad_(False)  # maskable
    model[2].bias.requires_grad_(False)  # not maskable
    return model


def tied():
    """Two layers that share one weight, which is used transposed, too."""
    model = Custom(
        lambda m, x: m.c(F.linear(torch.tanh(m.b(torch.tanh(m.a(x)))), m.a.weight.t())),
        **{"a": nn.Linear(6, 6), "b": nn.Linear(6, 6), "c": nn.Linear(6, 3)},
    )
    model.b.weight = model.a.weight
    return model


def unused():
    return Custom(lambda m, x: m.used(x), used=nn.Linear(6, 3), unused=nn.Linear(6, 3))


def embedding():
    layers = {"embedding": nn.Embedding(5, 4), "linear": nn.Linear(4, 3)}
    return Custom(lambda m, x: m.linear(m.embedding(x).mean(1)), **layers)


def trap():
    """A weight whose gradient is NaN where it is zero, though its use is the identity."""

    def function(model, x):
        w = model.linear.weight
        return F.linear(x, torch.where(w == 0, w, w * w / w), model.linear.bias)

    return Custom(function, linear=nn.Linear(6, 3))


def resnet():
    return models.ResNet(1, channels=1, classes=3)


def norms():
    """Grouped and depthwise convolutions under group and layer normalisation."""
    first = (nn.Conv2d(1, 4, 3, bias=False), nn.GroupNorm(2, 4), nn.ReLU())
    grouped = (nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 6, 1, groups=2))
    return nn.Sequential(*first, *grouped, nn.Flatten(), nn.LayerNorm(24), nn.Linear(24, 3))


def upward():
    up, down = nn.ConvTranspose2d(1, 2, 2, stride=2), nn.Conv2d(2, 2, 3, stride=2)
    return nn.Sequential(up, down, nn.Flatten(), nn.Linear(18, 3))


def attention():
    """Attention over positions, with a residual link.

    No biases: that of the keys has no gradient but rounding, which Adam blows up.
    """

    def function(model, x):
        h = model.first(x)
        return model.last((h + model.attend(h, h, h, need_weights=False)[0]).mean(1))

    attend = nn.MultiheadAttention(8, 2, bias=False, batch_first=True)
    return Custom(function, first=nn.Linear(3, 8), attend=attend, last=nn.Linear(8, 3))


def transformer():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, bias=False, batch_first=True)
    layers = {"first": nn.Linear(3, 8), "layer": layer, "last": nn.Linear(8, 3)}
    return Custom(lambda m, x: m.last(m.layer(m.first(x)).mean(1)), **layers)


def dropped():
    """Attention, its weights and whole channels dropped."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, bias=False, batch_first=True)
    layers = {"first": nn.Linear(3, 8), "layer": layer, "last": nn.Linear(8, 3)}
    layers |= {"channels": nn.Dropout1d(0.3), "alpha": nn.AlphaDropout(0.2)}
    return Custom(lambda m, x: m.last(m.alpha(m.channels(m.layer(m.first(x)))).mean(1)), **layers)


SHAPES = {resnet: (1, 8, 8), norms: (1, 6, 6), upward: (1, 4, 4)}
SHAPES |= {attention: (4, 3), transformer: (4, 3), dropped: (4, 3)}
SHAPES |= {conv2d: (1, 6, 6), conv1d: (2, 6), embedding: (3,)}
BUILDERS = (mlp, conv2d, conv1d, dropout, frozen, tied, unused, Buffers, embedding, trap)
BUILDERS += (resnet, norms, upward, attention, transformer, dropped)
MODULES = {build.__name__.lower(): (build, SHAPES.get(build, (6,))) for build in BUILDERS}
# Large ones take long: quick enough with one optimiser, slow tests with the others.
LARGE = {"resnet", "dropped", "transformer", "norms"}
each_pair = pytest.mark.parametrize(
    ("module", "optimizer"),
    [
        pytest.param(
            *(module, optimizer),
            marks=[pytest.mark.slow] if module in LARGE and optimizer != "adam" else [],
            id=f"{module}-{optimizer}",
        )
        for module in MODULES
        for optimizer in RECIPES
    ],
)
each_module = pytest.mark.parametrize("module", MODULES)
each_optimizer = pytest.mark.parametrize("optimizer", RECIPES)


def make_task(name, recipe, dtype=torch.float64, *, model=None, target=lambda x, y: y, **more):
    """Return a small task of three classes, or of a function of its inputs and classes."""
    build, shape = MODULES[name]
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 40)
    x = rng.normal(size=(40, *shape)) + y.reshape(-1, *[1] * len(shape)) / 2
    if name == "embedding":
        x = rng.integers(0, 5, (40, *shape))
    parts = {"train": slice(25), "val": slice(25, None), "test": slice(20, None)}
    data = {split: (x[part], target(x, y)[part]) for split, part in parts.items()}
    recipe = replace(recipe, batch_size=8, steps=STEPS)
    model = build() if model is None else model
    return Task(model.to(dtype), recipe=recipe, **{"device": "cpu", **data, **more})


def noting(done):
    """Return an ``on_part`` that notes how many networks each part of an outcome holds."""
    return lambda places, outcome: done.append(len(places))


def trained_by_three_threads(train, task, masks, plan):
    """Return four networks trained as they are, and by three threads, which share them."""
    whole, done = train(task.problem, masks, plan), []
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        shared = train(task.problem, masks, plan, on_part=noting(done))
    finally:
        torch.set_num_threads(before)
    assert sorted(done) == [1, 1, 2]
    return whole, shared


def masks_of(task, densities=(1.0, 0.6, 0.3)):
    """Return packed random masks of about the given densities."""
    rng = np.random.default_rng(5)
    return [task.ticket(rng.random(task.layout.size) < d).packed for d in densities]


def assert_same(one, other, rtol, places=slice(None)):
    """Compare an outcome number by number with those at some places of another."""
    for name in METRICS:
        np.testing.assert_allclose(one.metrics[name], other.metrics[name][places], rtol)
    np.testing.assert_allclose(one.curve, other.curve[places], rtol)
    indices = np.arange(len(other.trained))[places]
    for ours, i in zip(one.trained, indices, strict=True):
        np.testing.assert_allclose(ours.values, other.trained[i].values, rtol, rtol)
    for state, i in zip(one.states, indices, strict=True):
        assert state.keys() == other.states[i].keys()
        for name, tensor in state.items():
            np.testing.assert_allclose(tensor, other.states[i][name], rtol, rtol, err_msg=name)


# ---- a batch of P networks is P single trainings


def deep(*, bias=True, flatten=False):
    layers = [nn.Linear(6, 9, bias=bias), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 3)]
    return nn.Sequential(*([nn.Flatten()] if flatten else []), *layers)


FULLY_CONNECTED = {
    "mlp": lambda: models.MLP((6, 9, 3)),
    "deep": deep,
    "no_bias": lambda: deep(bias=False),
    "flatten": lambda: deep(flatten=True),
    "one_layer": lambda: nn.Sequential(nn.Linear(6, 3)),
}


def chunk_of(task):
    """The one chunk that a task keeps."""
    (chunk,) = task.problem.cache.things()
    return chunk

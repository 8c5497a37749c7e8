"""Convolutional networks, tasks of them, and how outcomes are compared by the norm."""

import numpy as np
import torch
from torch import nn

from nets_deap import Task
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.engines import dispatch
from nets_deap.training.engines.cpu.engine import train_compiled
from nets_deap.training.engines.dispatch import pick_engine
from support import networks
from support.networks import assert_same

DENSITIES = (1.0, 0.5, 0.08)


def chain(*parts):
    """Convolutions and what follows them, with a classifier of three classes."""
    return nn.Sequential(*parts[:-1], nn.Flatten(), nn.Linear(parts[-1], 3))


def make(network, recipe, dtype=torch.float64, *, target=lambda y: y, **more):
    """Return a small task of three classes of images, or of a function of these.

    ``network`` is what builds it, and the shape of an image.
    """
    build, image = network
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 170)
    x = rng.normal(size=(170, *image)) + y[:, None, None, None] / 4
    parts = {"train": slice(90), "val": slice(90, 160), "test": slice(160, None)}
    data = {split: (x[part], target(y[part])) for split, part in parts.items()}
    return Task(build().to(dtype), recipe=recipe, **{"device": "cpu", **data, **more})


def masks_of(task, densities=DENSITIES):
    return networks.masks_of(task, densities)


def assert_near(ours, theirs, rtol):
    """Compare outcomes layer by layer by the norm: elements may be sums that cancel."""
    for name, numbers in ours.metrics.items():
        np.testing.assert_allclose(numbers, theirs.metrics[name], rtol)
    np.testing.assert_allclose(ours.curve, theirs.curve, rtol)
    for one, other in zip(ours.states, theirs.states, strict=True):
        assert one.keys() == other.keys()
        for name, tensor in one.items():
            assert distance(tensor, other[name]) <= rtol, name


def assert_auto_is_compiled(task, plan):
    assert pick_engine("auto", task.problem) == "compiled"
    masks = masks_of(task)
    auto = dispatch.train(task.problem, masks, plan)
    assert_same(auto, train_compiled(task.problem, masks, plan), rtol=0)


def assert_divergence_disturbs_no_other(task, bad, plan):
    """Train three equal networks, of which that in the middle begins with bad numbers."""
    (mask,) = masks_of(task, (0.5,))
    values = np.full(int(np.unpackbits(mask).sum()), bad, task.layout.initial.dtype)
    starts = [None, TrainedState(values), None]
    outcome = train_compiled(task.problem, [mask] * 3, plan, starts=starts)
    assert not np.isfinite(outcome.metrics["val_loss"][1])
    alone = train_compiled(task.problem, [mask], plan)
    assert_same(alone, outcome, rtol=0, places=[0])
    assert_same(alone, outcome, rtol=0, places=[2])


def distance(one, other):
    return float((one.double() - other.double()).norm() / other.double().norm().clamp(min=1e-30))

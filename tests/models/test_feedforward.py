"""Which models are fully connected layers in sequence, and nothing else."""

import pytest
from torch import nn

from nets_deap import models
from nets_deap.models.feedforward import feedforward_of


def plain(*more):
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3), *more)


def repeated_activation():
    relu = nn.ReLU()
    return nn.Sequential(nn.Linear(6, 8), relu, nn.Linear(8, 3), relu)


def repeated_layer():
    layer = nn.Linear(6, 6)
    return nn.Sequential(layer, nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), layer)


def hooked(register, place=0):
    model = plain()
    getattr(model if place is None else model[place], register)(lambda *args: None)
    return model


def patched():
    model = plain()
    model[1].forward = lambda x: x
    return model


OTHERS = {
    "repeated_activation": repeated_activation,
    "repeated_layer": repeated_layer,
    "forward_hook": lambda: hooked("register_forward_hook"),
    "pre_hook": lambda: hooked("register_forward_pre_hook", 2),
    "backward_hook": lambda: hooked("register_full_backward_hook", 1),
    "hook_of_the_whole": lambda: hooked("register_forward_hook", None),
    "patched": patched,
    "subclass": lambda: type("Mine", (models.MLP,), {})((6, 3)),
    "trailing": lambda: plain(nn.ReLU()),
    "convolution": lambda: nn.Sequential(nn.Conv1d(1, 1, 1), nn.Flatten(), nn.Linear(6, 3)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_whatever_computes_something_else_is_not_feedforward(name):
    assert feedforward_of(OTHERS[name]()) is None


def test_the_parts_of_a_feedforward_model():
    relu = nn.ReLU()
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 8, bias=False), relu, nn.Linear(8, 4), relu)
    model.append(nn.Linear(4, 3))
    parts = feedforward_of(model)
    assert parts.weights == ("1.weight", "3.weight", "5.weight")
    assert parts.biases == (None, "3.bias", "5.bias")
    assert parts.sizes.tolist() == [6, 8, 4, 3]
    assert (parts.flattens, parts.activation) == (True, nn.ReLU)
    model[2] = nn.Tanh()
    assert feedforward_of(model).activation is None
    assert feedforward_of(nn.Sequential(nn.Linear(2, 2))).activation is nn.ReLU

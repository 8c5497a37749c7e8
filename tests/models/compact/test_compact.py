"""Compacting: the same function from smaller dense matrices."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import nets_deap as nets
from nets_deap.models import MLP
from nets_deap.models.compact.compact import compact
from nets_deap.models.compact.footprint import measure_latency
from nets_deap.models.compact.select_inputs import SelectInputs
from nets_deap.tickets.live import live_inputs, multiply_adds

quick = settings(deadline=None, max_examples=80)
ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.Softplus)


def feedforward(sizes, activation, seed, *, bias=True, flatten=True):
    """Return a float64 feedforward network with random weights and biases."""
    torch.manual_seed(seed)
    parts = [nn.Flatten()] if flatten else []
    for n_in, n_out in itertools.pairwise(sizes):
        parts += [nn.Linear(n_in, n_out, bias=bias), activation()]
    return nn.Sequential(*parts[:-1]).double()


def masked(model, density, seed):
    """Prune a model at random, in place; return its layout, made before, and the ticket."""
    layout = nets.MaskLayout.of(model)
    ticket = nets.Ticket(np.random.default_rng(seed).random(layout.size) < density, layout)
    ticket.apply(model)
    return layout, ticket


def multiply_adds_of(model):
    return sum(part.weight.numel() for part in model if isinstance(part, nn.Linear))


@quick
@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    activation=st.sampled_from(ACTIVATIONS),
    density=st.sampled_from([0.05, 0.2, 0.4, 0.8, 1.0]),
    bias=st.booleans(),
    flatten=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_the_function_stays_and_the_rest_goes(sizes, activation, density, bias, flatten, seed):
    model = feedforward(sizes, activation, seed, bias=bias, flatten=flatten)
    layout, ticket = masked(model, density, seed)
    x = torch.randn(7, sizes[0], dtype=torch.float64)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for masks in (ticket.masks(), None):
        small = compact(model.eval(), masks)
        torch.testing.assert_close(small(x), model(x), rtol=1e-10, atol=1e-10)
        assert multiply_adds_of(small) == multiply_adds(layout, ticket.mask)
        assert not small.training
        with torch.no_grad():
            for parameter in small.parameters():
                parameter.fill_(9.0)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_float32_and_images(activation):
    model = MLP((64, 30, 20, 5), activation=activation, seed=1)
    with torch.no_grad():
        for layer in model.layers:
            layer.bias.normal_()
    layout, ticket = masked(model, 0.04, 3)
    small, x = compact(model, ticket.masks()), torch.randn(50, 1, 8, 8)
    torch.testing.assert_close(small(x), model(x), rtol=1e-5, atol=1e-5)
    assert 0 < live_inputs(layout, ticket.mask) < 64
    assert small[0].extra_repr().startswith(f"{live_inputs(layout, ticket.mask)} of 64")
    assert small[1].weight.dtype == torch.float32
    with pytest.raises(ValueError, match=r"inputs must have the right length: .*= 64, got 63"):
        small(torch.randn(2, 63))


def test_a_trained_ticket(xor_task):
    mask = np.ones(xor_task.layout.size, dtype=bool)
    mask[[0, 1, 5, 9]] = False  # neuron 0 loses its inputs, neuron 1 its output
    result = xor_task.train(xor_task.ticket(mask))
    module, x = result.module(), xor_task.problem.val[0]
    small = compact(module, xor_task.ticket(mask).masks())
    torch.testing.assert_close(small(x), module(x), rtol=1e-5, atol=1e-5)
    assert [tuple(p.weight.shape) for p in small if isinstance(p, nn.Linear)] == [(2, 2), (1, 2)]


def test_constant_neurons_are_folded_with_and_without_biases():
    model = feedforward([2, 3, 2], nn.Sigmoid, 0, bias=False)
    with torch.no_grad():
        model[1].weight[0] = 0  # sends sigmoid(0) = 0.5
    small = compact(model)
    assert small[-1].bias.tolist() == pytest.approx((0.5 * model[3].weight[:, 0]).tolist())
    assert small[1].bias is None


def test_nothing_connected_leaves_a_constant():
    model = feedforward([3, 4, 4, 2], nn.Tanh, 0)
    with torch.no_grad():
        model[3].weight.zero_()
    small, x = compact(model), torch.randn(5, 3).double()
    torch.testing.assert_close(small(x), model(x), rtol=1e-12, atol=1e-12)
    assert multiply_adds_of(small) == 0


def test_selection_is_left_out_where_all_inputs_live():
    for flatten in (True, False):
        model = feedforward([3, 4, 2], nn.ReLU, 0, flatten=flatten)
        small = compact(model)
        assert not any(isinstance(part, SelectInputs) for part in small)
        assert torch.equal(small(torch.eye(3).double()), model(torch.eye(3).double()))


def test_what_does_not_belong_together_is_refused():
    model = feedforward([3, 4, 2], nn.ReLU, 0)
    layout = nets.MaskLayout.of(model)
    ticket = nets.Ticket(np.arange(layout.size) % 2, layout)
    with pytest.raises(ValueError, match=r"module must hold the ticket's network: .*got 6 other"):
        compact(model, ticket.masks())
    with pytest.raises(
        TypeError, match=r"masks must be by name: expected a mapping .*, got ndarray"
    ):
        compact(model, ticket.mask)
    with pytest.raises(ValueError, match=r"module's parameters must be a known name: .*'9.weight'"):
        compact(model, {"9.weight": np.ones((4, 3))})
    with pytest.raises(ValueError, match=r"module's '1.weight' must have the right shape"):
        compact(model, {"1.weight": np.ones((3, 4))})


def test_latency_takes_turns_and_times_every_size():
    calls = []

    class Spy(nn.Module):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def forward(self, x):
            assert not torch.is_grad_enabled()
            calls.append((self.name, len(x)))
            return x

    found = measure_latency(
        {"a": Spy("a"), "b": Spy("b")}, torch.ones(3, 2), batch_sizes=(1, 5), repeats=4
    )
    assert {name: list(times) for name, times in found.items()} == {"a": [1, 5], "b": [1, 5]}
    assert all(seconds > 0 for times in found.values() for seconds in times.values())
    assert calls == 7 * [("a", 1), ("b", 1)] + 7 * [("a", 5), ("b", 5)]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"modules": {}}, "modules must hold modules: expected at least one, got 0"),
        ({"repeats": 0}, "repeats must be in range: expected an int >= 1, got 0"),
        ({"batch_sizes": (1, 0)}, r"batch_sizes\[1\] must be in range: .* got 0"),
        ({"inputs": torch.ones(0, 2)}, "inputs must hold examples: expected N >= 1, got 0"),
    ],
)
def test_latency_arguments(options, text):
    usual = {"modules": {"a": nn.Identity()}, "inputs": torch.ones(3, 2), "repeats": 1}
    with pytest.raises(ValueError, match=text):
        measure_latency(**{**usual, **options})

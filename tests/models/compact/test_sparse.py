"""Compact modules and compressed sparse rows: the same function from what is kept."""

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

import nets_deap as nets
from nets_deap.errors import InvalidValueError
from nets_deap.models import lenet5, lenet_300_100
from nets_deap.models.compact.sparse import CsrLinear


def trained_lenet(density, how="inplace", seed=0):
    """Return LeNet-300-100 with a ticket whose weights and biases have moved, and the ticket."""
    model = lenet_300_100(seed=seed)
    layout = nets.MaskLayout.of(model)
    ticket = nets.Ticket(np.random.default_rng(seed).random(layout.size) < density, layout)
    ticket.apply(model, how)
    masks = ticket.masks()
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mask = masks.get(name, torch.ones_like(parameter))
            parameter += 0.05 * torch.randn_like(parameter) * mask
    return model.eval(), ticket


@pytest.mark.parametrize("how", ["inplace", "prune", "parametrize"])
def test_compact_and_csr_agree_on_ten_thousand_inputs(how):
    model, ticket = trained_lenet(0.02, how)
    x = torch.rand(10_000, 1, 28, 28)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        expected = model(x)
        for small in (ticket.compact(model), ticket.to_csr(model)):
            torch.testing.assert_close(small(x), expected, rtol=0, atol=1e-5)
            assert not small.training
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert sum(p.numel() for p in ticket.compact(model).parameters()) < 266_610


def test_csr_holds_the_kept_weights_and_nothing_else():
    model, ticket = trained_lenet(0.02)
    small = ticket.to_csr(model)
    layers = [m for m in small.modules() if isinstance(m, CsrLinear)]
    assert sum(len(layer.values) for layer in layers) == ticket.kept
    assert not list(small.parameters())
    for layer, mask in zip(layers, ticket.masks().values(), strict=True):
        rows = torch.sparse_csr_tensor(
            layer.rows, layer.columns, layer.values, mask.shape, check_invariants=True
        )
        assert rows.to_dense()[~mask].count_nonzero() == 0
    assert f"kept={len(layers[0].values)}" in repr(small)
    held = {n: t.clone() for n, t in small.state_dict().items()}
    other = ticket.to_csr(trained_lenet(0.02, seed=0)[0])
    other.load_state_dict(load(save(held)))
    x = torch.rand(3, 784)
    assert torch.equal(other(x), small(x))


@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4), (0, 4)])
def test_a_csr_layer_takes_any_leading_axes(shape):
    layer = nn.Linear(4, 5, bias=len(shape) < 3)
    ticket = nets.Ticket(np.arange(20) % 3 == 0, nets.MaskLayout.of(layer))
    ticket.apply(layer)
    small, x = ticket.to_csr(layer), torch.randn(shape)
    torch.testing.assert_close(small(x), layer(x))


def test_convolutions_stay_dense():
    model = lenet5(seed=1)
    layout = nets.MaskLayout.of(model)
    ticket = nets.Ticket(np.random.default_rng(0).random(layout.size) < 0.1, layout)
    ticket.apply(model)
    small, x = ticket.to_csr(model), torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(small(x), model(x), rtol=0, atol=1e-5)
    assert sum(isinstance(m, nn.Conv2d) for m in small.modules()) == 2
    assert sum(isinstance(m, CsrLinear) for m in small.modules()) == 3


def test_modules_that_are_not_the_tickets_are_refused():
    ticket = trained_lenet(0.5)[1]
    for use in (ticket.to_csr, ticket.compact):
        with pytest.raises(InvalidValueError, match="module must hold the ticket's network"):
            use(lenet_300_100(seed=1))
        with pytest.raises(InvalidValueError, match="module's parameters must be a known name"):
            use(nn.Sequential(nn.Linear(784, 10)))
    conv = nn.Conv2d(1, 2, 3)
    ticket = nets.Ticket(np.ones(18), nets.MaskLayout.of(conv))
    with pytest.raises(InvalidValueError, match="module must have linear layers that the ticket"):
        ticket.to_csr(conv)


def test_layers_with_hooks_stay_dense_and_keep_them():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    model[0].register_forward_hook(lambda module, inputs, output: 3 * output)
    layout = nets.MaskLayout.of(model)
    ticket = nets.Ticket(np.random.default_rng(0).random(layout.size) < 0.5, layout)
    ticket.apply(model)
    rows, x = ticket.to_csr(model), torch.randn(7, 6)
    assert type(rows[0]) is nn.Linear
    assert type(rows[2]) is CsrLinear
    torch.testing.assert_close(rows(x), model(x))


def test_numbers_without_a_sparse_product_are_refused():
    model, ticket = trained_lenet(0.05)
    try:
        rows = ticket.to_csr(model.half())
    except InvalidValueError as error:
        assert "torch multiplies on sparse rows" in str(error)  # noqa: PT017  # by torch's build
    else:
        assert rows(torch.rand(2, 1, 28, 28).half()).shape == (2, 10)

"""2 of 4 weights on sparse tensor cores: what is checked anywhere, and on a GPU the outputs."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import nets_deap as nets
from nets_deap.errors import InvalidValueError
from nets_deap.models.compact import semi_structured
from nets_deap.models.compact.semi_structured import SemiStructuredLinear
from nets_deap.tickets.layout_of import layout_of


def pruned(unit="2:4", inputs=20):
    """Return a network masked by a ticket of that unit, and the ticket."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(inputs, 12), nn.ReLU(), nn.Linear(12, 3, bias=False)).eval()
    layout = layout_of(model, unit=unit)
    ticket = nets.Ticket(np.ones(layout.size, dtype=bool), layout)
    return ticket.apply(copy.deepcopy(model)), ticket


@pytest.fixture
def _kernels(monkeypatch):
    """Let the CPU pass for a GPU whose packed weights are plain ones, and check their sizes."""

    def pack(weight):
        assert weight.shape[0] % 32 == weight.shape[1] % 64 == 0
        assert weight.is_contiguous()
        assert ((weight.reshape(-1, 4) != 0).sum(1) <= 2).all()
        return weight

    monkeypatch.setattr(semi_structured, "to_sparse_semi_structured", pack)
    monkeypatch.setattr(semi_structured, "obstacle", lambda device: "")


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("shape", [(5, 20), (20,), (2, 3, 20)])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_are_filled_up_to_what_kernels_take_and_outputs_stay(shape, dtype):
    model, ticket = pruned()
    before = copy.deepcopy(model.state_dict())
    small = ticket.to_semi_structured(model, device="cpu", dtype=dtype)
    assert [type(layer) for layer in small] == [SemiStructuredLinear, nn.ReLU, SemiStructuredLinear]
    assert small[0].weight.shape == (32, 64)
    x = torch.randn(shape)
    found = small(x.to(getattr(torch, dtype)))
    assert found.dtype is getattr(torch, dtype)
    torch.testing.assert_close(found.float(), model(x), rtol=0.05, atol=0.02)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items()), "untouched"
    assert "in_features=20, out_features=12, bias=True" in repr(small)


@pytest.mark.usefixtures("_kernels")
def test_a_lone_layer_is_returned_as_one():
    layer = nn.Linear(8, 4)
    ticket = nets.Ticket(np.ones(32, dtype=bool), layout_of(layer, unit="2:4"))
    assert (
        type(ticket.to_semi_structured(ticket.apply(layer), device="cpu")) is SemiStructuredLinear
    )


@pytest.mark.usefixtures("_kernels")
def test_more_than_two_of_four_and_no_linear_layer_are_refused():
    model, ticket = pruned("weight")
    rule = r"ticket must keep at most 2 of each 4 inputs: .* got 60 groups of '0.weight' .*to_csr"
    with pytest.raises(InvalidValueError, match=rule):
        ticket.to_semi_structured(model, device="cpu")
    conv = nn.Sequential(nn.Conv2d(4, 4, 3))
    other = nets.Ticket(np.ones(144, dtype=bool), layout_of(conv, unit="2:4"))
    with pytest.raises(InvalidValueError, match="module must have linear layers that the ticket"):
        other.to_semi_structured(other.apply(conv), device="cpu")
    with pytest.raises(
        InvalidValueError, match=r"dtype must be a known name: .* 'bfloat16', got 'float32'"
    ):
        ticket.to_semi_structured(model, device="cpu", dtype="float32")


def test_without_sparse_tensor_cores_it_is_refused_and_says_what_runs(monkeypatch):
    model, ticket = pruned()
    rule = r"device must have kernels for 2 of 4 weights: .*capability 8.0 or higher, got {}.*dense"
    with pytest.raises(InvalidValueError, match=rule.format("cpu, where torch has none")):
        ticket.to_semi_structured(model, device="cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidValueError, match=rule.format("cuda, and torch sees no GPU")):
        ticket.to_semi_structured(model)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(InvalidValueError, match=rule.format("Tesla T4 of compute capability 7.5")):
        ticket.to_semi_structured(model)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_on_a_gpu_outputs_are_those_of_the_dense_network(dtype):
    model, ticket = pruned(inputs=784)
    small, own = ticket.to_semi_structured(model, dtype=dtype), getattr(torch, dtype)
    assert isinstance(small[0].weight.data, torch.sparse.SparseSemiStructuredTensor)
    dense = copy.deepcopy(model).to("cuda", own)
    for rows in (1, 7, 64):
        x = torch.randn(rows, 784, device="cuda", dtype=own)
        with torch.no_grad():
            torch.testing.assert_close(small(x), dense(x), rtol=0.02, atol=0.02)

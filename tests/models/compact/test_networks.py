"""Networks as people write them: what is cut out of them leaves the same function."""

import copy
import io

import numpy as np
import pytest
import torch
from support.networks_cut import NETWORKS
from torch import nn

import nets_deap as nets
from nets_deap.errors import NetsError
from nets_deap.models.compact.compact import compact
from nets_deap.models.compact.footprint import CompactCost, count_multiply_adds
from nets_deap.models.compact.units import units_of
from nets_deap.tickets.layout_of import layout_of
from nets_deap.tickets.ticket import Ticket

TORCHVISION = {
    "resnet18": 64, "vgg11_bn": 32, "mobilenet_v2": 64, "mobilenet_v3_small": 64,
    "densenet121": 64, "efficientnet_b0": 64, "vit_b_16": 32, "resnext50_32x4d": 64,
    "shufflenet_v2_x0_5": 64, "swin_t": 64, "convnext_tiny": 64,
}  # fmt: skip


def shaken(model, seed=0):
    """Draw biases, normalisation and what is zero, in place, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point() and (tensor.ndim == 1 or not tensor.any()):
                drawn = 0.3 * torch.randn(tensor.shape, generator=generator)
                tensor.copy_(tensor + drawn)
            if name.endswith("running_var"):
                tensor.abs_().add_(0.2)
    return model.eval()


def pruned(model, example, density, seed, *, torn=0.0):
    """Prune whole units at random, and single weights; return the masks."""
    units, rng = units_of(model, example), np.random.default_rng(seed)
    known = sorted({int(unit) for rows in units.rows.values() for unit in rows if unit >= 0})
    gone = [unit for unit in known if rng.random() > density]
    masks = {}
    with torch.no_grad():
        for name, rows in units.rows.items():
            weight = model.get_parameter(name)
            mask = rng.random(tuple(weight.shape)) >= torn
            axis = 0 if len(weight) == len(rows) else 1
            np.moveaxis(mask, axis, 0)[np.isin(rows, gone)] = False
            weight.mul_(torch.from_numpy(mask))
            masks[name] = mask
    return masks


def check(model, small, shape, n=1000):
    x = torch.randn(n, *shape, dtype=next(model.parameters()).dtype)
    with torch.no_grad():
        expected, found = model(x), small(x)
    assert float((found - expected).abs().max() / expected.abs().max()) <= 1e-5


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("density", "torn"), [(0.1, 0.6), (0.6, 0.0)])
def test_the_function_stays_and_its_cost_is_known_before(name, density, torn):
    make, shape, own = NETWORKS[name]
    torch.manual_seed(0)
    model, example = shaken(make()), torch.zeros(1, *shape)
    cost = CompactCost(model, example)
    masks = pruned(model, example, density, 1, torn=torn)
    before = copy.deepcopy(model.state_dict())
    small = compact(model, masks, example)
    check(model, small, shape)
    assert cost.multiply_adds(masks) == count_multiply_adds(small, example)
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert count_multiply_adds(small, example) < count_multiply_adds(model, example)
    assert own in (None, type(small) is make)
    with torch.no_grad():
        for tensor in small.state_dict().values():
            tensor.fill_(9)
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", NETWORKS)
def test_units_go_with_their_biases_and_what_normalises_them(name):
    make, shape, _ = NETWORKS[name]
    torch.manual_seed(0)
    model, example = shaken(make()), torch.zeros(1, *shape)
    layout = layout_of(model, unit="filter", example=example)
    assert bool(layout.follows) == (name != "scaled")  # whose units parameters are added to
    rng, cost = np.random.default_rng(1), CompactCost(model, example)
    ticket = Ticket(rng.random(layout.size) < 0.5, layout)
    masks = layout.weights.split(ticket.mask)
    small = compact(ticket.apply(model), masks, example)
    check(model, small, shape, 100)
    assert cost.multiply_adds(masks) == count_multiply_adds(small, example)
    weights = {name: mask for name, mask in masks.items() if mask.ndim > 1}
    assert cost.multiply_adds(masks) <= cost.multiply_adds(weights)


@pytest.mark.parametrize(
    ("norm", "n"), [(lambda n: torch.nn.BatchNorm2d(n), 3), (lambda n: torch.nn.GroupNorm(4, n), 2)]
)
def test_beside_a_border_no_channel_stands_in_where_terms_go_too(norm, n):
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        *(torch.nn.Conv2d(1, 8, 3, padding=1), norm(8), torch.nn.ReLU()),
        *(torch.nn.Conv2d(8, 4, 3, padding=1), torch.nn.Flatten(), torch.nn.Linear(256, 2)),
    )
    shaken(model)
    layout = layout_of(model, unit="filter", example=torch.zeros(1, 1, 8, 8))
    gates = np.zeros(layout.size, bool)
    gates[[*range(n), -1, -2]] = True
    ticket = Ticket(gates, layout)
    small, kept = compact(ticket.apply(model), ticket.masks()), int(gates[:-4].sum())
    check(model, small, (1, 8, 8), 100)
    channels = kept * 8 // (layout.size - 4)
    assert (small[0].out_channels, small[3].in_channels, small[3].out_channels) == (
        *(channels, channels), 2
    )  # fmt: skip
    for name in ("0.bias", "1.bias"):  # what is not masked may be other than 0 one day
        masks = {key: mask for key, mask in ticket.masks().items() if key != name}
        left = compact(model, masks)
        check(model, left, (1, 8, 8), 100)
        assert left[0].out_channels == channels + (name == "1.bias") * (8 // (layout.size - 4))
    term = dict(ticket.masks())
    term["1.weight"] = np.ones(8, bool)
    factor = compact(model, term)
    check(model, factor, (1, 8, 8), 100)
    assert factor[0].out_channels == channels + 8 // (layout.size - 4)


@pytest.mark.parametrize("name", ["plain", "encoder", "transformer", "recurrent"])
def test_what_is_left_can_be_copied_trained_and_saved(name):
    make, shape, _ = NETWORKS[name]
    model, example = shaken(make()), torch.zeros(1, *shape)
    small = compact(model, pruned(model, example, 0.5, 0), example)
    twin = copy.deepcopy(small).train()
    buffer = io.BytesIO()
    torch.save(small.state_dict(), buffer)
    buffer.seek(0)
    twin.load_state_dict(torch.load(buffer))
    check(small, twin.eval(), shape, n=5)
    twin(torch.randn(3, *shape)).sum().backward()
    assert all(p.grad is not None for p in twin.parameters() if p.requires_grad)


def test_heads_of_both_kinds_go_whole():
    for name, attention in (
        ("encoder", "encoder.layers.0.self_attn"),
        ("transformer", "attention"),
    ):
        make, shape, _ = NETWORKS[name]
        units = units_of(make().eval(), torch.zeros(1, *shape))
        weight = f"{attention}.{'in_proj_weight' if name == 'encoder' else 'inner.weight'}"
        rows = units.rows[weight].reshape(3, 4, 2)
        assert (rows == rows[:1, :, :1]).all()
        assert set(rows.reshape(-1).tolist()) <= units.heads
    whole = units.whole["attention.outer.weight"]
    assert "LayerNorm" in whole or "Transformer" in whole


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_networks_of_torchvision(name):
    import torchvision

    size = TORCHVISION[name]
    options = {"image_size": size} if name == "vit_b_16" else {}
    torch.manual_seed(0)
    model = shaken(getattr(torchvision.models, name)(num_classes=10, **options))
    example = torch.zeros(1, 3, size, size)
    cost = CompactCost(model, example)
    masks = pruned(model, example, 0.5, 0)
    small = compact(model, masks, example)
    check(model, small, (3, size, size), n=8)
    counts = [count_multiply_adds(one, example) for one in (small, model)]
    # Of a shifted window hardly anything but heads can be cut.
    most = 0.9 if name == "swin_t" else 0.75
    assert cost.multiply_adds(masks) == counts[0] < most * counts[1]


class OfItsSize(nn.Module):
    """Its forward reads the size of its input, and names how many channels there are."""

    def __init__(self):
        super().__init__()
        self.first, self.out = nn.Conv2d(1, 8, 3), nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.first(x))
        return self.out(x.sum((2, 3)).view(-1, 8) / (x.shape[2] * x.shape[3]))


def test_what_holds_for_a_guessed_size_alone_is_refused():
    torch.manual_seed(0)
    model, example = OfItsSize().eval(), torch.randn(1, 1, 28, 28)
    mask = np.ones((8, 1, 3, 3), dtype=bool)
    mask[2:5] = False
    with torch.no_grad():
        model.first.weight[2:5] = 0
        model.first.bias[2:5] = 0
    masks = {"first.weight": mask}
    with pytest.raises(NetsError, match=r"gives something else on inputs .*pass example="):
        compact(model, masks)
    small = compact(model, masks, example)
    x = torch.randn(5, 1, 28, 28)
    torch.testing.assert_close(small(x), model(x))
    ticket_of = nets.Task(
        model.train(), train=(x, torch.arange(5) % 3), val=(x, torch.arange(5) % 3),
        unit="filter", recipe=nets.Recipe(batch_size=5, steps=2), engine="loop",
    )  # fmt: skip
    found = nets.search(
        ticket_of, objectives=("val_loss", "parameters"), population=2, generations=1,
        progress="none",
    )  # fmt: skip
    for one in found.networks:
        torch.testing.assert_close(one.compact()(x), one.module()(x))

"""Live kept weights of any network: those whose change changes an output."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nets_deap as nets
from nets_deap.models import ResNet
from nets_deap.models.compact.compact import compact
from nets_deap.models.compact.footprint import CompactCost, count_multiply_adds
from nets_deap.models.compact.kept import KeptCost
from nets_deap.tickets import live


class Block(nn.Module):
    """A projected shortcut that compacting does not know."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 4, 3, padding=1)
        self.shortcut = nn.Conv2d(2, 4, 1, stride=2)

    def forward(self, x):
        return F.relu(self.second(F.relu(self.norm(self.first(x)))) + self.shortcut(x))


def residual():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(Block(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 3), nn.Softmax(1)),
    )


class Grouped(nn.Module):
    """A depthwise convolution, a concatenation and a layer that is used twice."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.up, self.c = nn.ConvTranspose2d(8, 2, 2, stride=2), nn.Linear(2, 2)

    def forward(self, x):
        x = torch.sigmoid(self.a(x))
        x = self.up(torch.cat([x, torch.tanh(self.b(x))], 1)).mean((2, 3))
        return self.c(self.c(x))


PLACES = {  # of images of 8x8
    residual: {"0": 64, "3.first": 4, "3.second": 4, "3.shortcut": 4, "6": 1},
    Grouped: {"a": 64, "b": 64, "up": 64, "c": 2},
}


def by_brute_force(model, masks, shape):
    """Return the kept weights that change an output, one changed at a time, in generic networks."""
    found = {name: np.zeros(mask.shape, bool) for name, mask in masks.items()}
    generator = torch.Generator().manual_seed(5)
    network = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for name, p in network.named_parameters():
            p.uniform_(0.3, 1.0, generator=generator)
            if "bias" in name:
                p.zero_()
            if name in masks:
                p.mul_(torch.from_numpy(masks[name]))
                p.mul_(0.5)
        x = torch.rand(16, *shape, generator=generator, dtype=torch.float64) + 0.1
        before = network(x)
        for name, mask in masks.items():
            flat = network.get_parameter(name).view(-1)
            for i in np.flatnonzero(mask):
                old = flat[i].item()
                flat[i] = old * 1.5
                found[name].flat[i] = bool((network(x) != before).any())
                flat[i] = old
    return found


@pytest.mark.parametrize("density", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("make", PLACES)
def test_what_counts_is_what_changes_an_output(make, density):
    model, rng = make(), np.random.default_rng(round(10 * density))
    names = nets.MaskLayout.of(model).names
    masks = {n: rng.random(tuple(model.get_parameter(n).shape)) < density for n in names}
    live_ones = by_brute_force(model, masks, (1, 8, 8))
    places = {f"{name}.weight": n for name, n in PLACES[make].items()}
    expected = sum(places[name] * int(some.sum()) for name, some in live_ones.items())
    cost = KeptCost(model, torch.zeros(1, 1, 8, 8))
    assert cost.multiply_adds(masks) == expected
    kept = sum(places[name] * int(mask.sum()) for name, mask in masks.items())
    assert expected < kept or density > 0.1, "some are dead"
    assert expected > 0 or density < 0.7


@pytest.mark.parametrize("make", [*PLACES, lambda: ResNet(1, channels=1)])
def test_of_a_whole_network_everything_counts(make):
    model, x = make().eval(), torch.zeros(1, 1, 8, 8)
    assert KeptCost(model, x).multiply_adds({}) == count_multiply_adds(model, x)


@pytest.mark.parametrize("density", [0.02, 0.1, 0.5])
def test_of_layers_in_a_row_they_are_those_between_live_units(density):
    model, rng = nets.models.MLP((12, 9, 7, 3)), np.random.default_rng(3)
    layout = nets.MaskLayout.of(model)
    mask = rng.random(layout.size) < density
    cost = KeptCost(model, torch.zeros(1, 12))
    counted = cost.multiply_adds(layout.split(mask))
    assert counted == live.sparse_multiply_adds(layout, mask) <= mask.sum()
    assert counted <= live.multiply_adds(layout, mask)


def test_where_compacting_takes_whole_filters_dense_and_sparse_agree():
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.Flatten(), nn.Linear(64, 3)),
    )
    masks = {n: np.ones(tuple(p.shape), bool) for n, p in model.named_parameters() if p.ndim > 1}
    masks["0.weight"][[1, 3]] = False
    masks["2.weight"][:, [0, 1, 3]] = False
    masks["2.weight"][2] = False
    x = torch.zeros(1, 1, 8, 8)
    small = compact(copy.deepcopy(model).eval(), None)
    assert count_multiply_adds(small, x) == CompactCost(model, x).multiply_adds({})
    expected = 36 * 9 * 2 + 16 * 9 * 2 * 3 + 48 * 3
    assert CompactCost(model, x).multiply_adds(masks) == expected
    assert KeptCost(model, x).multiply_adds(masks) == expected


def test_what_autograd_does_not_reach_counts_all_it_keeps():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            with torch.no_grad():
                x = self.a(x)
            return self.b(x)

    mask = np.eye(4, dtype=bool)
    cost = KeptCost(Hidden(), torch.zeros(1, 4))
    assert cost.multiply_adds({"a.weight": mask}) == 4 + 8


def test_weights_that_are_computed_and_those_of_attention_count_what_they_keep():
    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 2, 3))
    model = nn.Sequential(normed, nn.Flatten(), nn.Linear(32, 2))
    mask = np.arange(18).reshape(2, 1, 3, 3) < 7
    counted = KeptCost(model, torch.zeros(1, 1, 6, 6)).multiply_adds(
        {"0.parametrizations.weight.original1": mask, "2.weight": np.zeros((2, 32), bool)}
    )
    assert counted == 7 * 16
    attention = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    mask = np.arange(48).reshape(12, 4) < 5
    whole = {n: np.zeros((4, 4), bool) for n in ("self_attn.out_proj.weight",)}
    cost = KeptCost(attention, torch.zeros(1, 3, 4))
    assert cost.multiply_adds({"self_attn.in_proj_weight": mask, **whole}) == 5 + 3 * 2 * 32


def test_the_network_stays_as_it_was():
    model = residual()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    KeptCost(model, torch.zeros(1, 1, 8, 8)).multiply_adds({})
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())

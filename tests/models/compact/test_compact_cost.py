"""What is counted without compacting: what compacting leaves, and what gradients show."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import nets_deap as nets
from nets_deap.evolution.measured import Measured
from nets_deap.evolution.objectives import OBJECTIVES
from nets_deap.models import resnet20
from nets_deap.models.compact.compact import compact
from nets_deap.models.compact.footprint import CompactCost, count_multiply_adds
from nets_deap.models.compact.kept import KeptCost

RECIPE = nets.Recipe(batch_size=4, steps=1)
IMAGE = (2, 9, 8)


def images(seed, *, padding, bias, pool, norm, width=3):
    torch.manual_seed(seed)
    parts = [nn.Conv2d(2, width, 3, padding=padding, bias=bias)]
    parts += [nn.BatchNorm2d(width)] if norm else []
    parts += [nn.ReLU(), pool, nn.Conv2d(width, 4, 3, padding=1, bias=bias), nn.Softplus()]
    parts += [nn.Conv2d(4, 2, 1, stride=2, bias=bias), nn.Flatten(), nn.Dropout()]
    return nn.Sequential(*parts, nn.LazyLinear(5), nn.Tanh(), nn.Linear(5, 3))


def rows(seed, *, before, norm, flatten, n_in=7):
    torch.manual_seed(seed)
    parts = [nn.Flatten()] if flatten else []
    parts += [before] if before is not None else []
    parts += [nn.Linear(n_in, 6), nn.BatchNorm1d(6) if norm else nn.GELU(), nn.Linear(6, 5)]
    return nn.Sequential(*parts, nn.Sigmoid(), nn.Linear(5, 3))


@st.composite
def networks(draw):
    """Draw a network in evaluation mode, the shape of an input, and masks of some of its layers."""
    seed, flag = draw(st.integers(0, 2**31)), st.booleans()
    if draw(flag):
        pool = draw(
            st.sampled_from(
                [
                    *(nn.Identity(), nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1, ceil_mode=True)),
                    *(nn.AvgPool2d(3, 2, 1), nn.AdaptiveMaxPool2d(4), nn.AdaptiveAvgPool2d(4)),
                ]
            )
        )
        shape = IMAGE
        model = images(seed, padding=draw(st.sampled_from([0, 1])), bias=draw(flag),
                       pool=pool, norm=draw(flag))  # fmt: skip
    else:
        before = draw(st.sampled_from([None, nn.Dropout(), nn.BatchNorm1d(7), nn.Identity()]))
        shape = (7,)
        model = rows(seed, before=before, norm=draw(flag), flatten=draw(flag))
    model.eval()(torch.zeros(1, *shape))
    rng = np.random.default_rng(seed)
    density = draw(st.sampled_from([0.05, 0.15, 0.4, 1.0]))
    weights = {n: p for n, p in model.named_parameters() if n in nets.MaskLayout.of(model).names}
    chosen = [name for name in weights if rng.random() < draw(st.sampled_from([0.5, 1.0]))]
    masks = {name: rng.random(tuple(weights[name].shape)) < density for name in chosen}
    return model, shape, masks


def masked(model, masks):
    model = copy.deepcopy(model)
    with torch.no_grad():
        for name, mask in masks.items():
            model.get_parameter(name).mul_(torch.from_numpy(mask))
    return model


def shaken(model, seed, scale):
    """Give the vectors of a network other numbers, as training does."""
    model, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.ndim == 1:
                tensor.normal_(generator=generator).mul_(scale)
            if name.endswith("running_var"):
                tensor.abs_().add_(0.1)
    return model


@settings(deadline=None, max_examples=30)
@given(networks(), st.integers(0, 99), st.sampled_from([0.0, 1.0]))
def test_the_count_is_that_of_the_compact_network_whatever_training_gives(drawn, seed, scale):
    model, shape, masks = drawn
    cost = CompactCost(model, torch.zeros(1, *shape))
    network = shaken(masked(model, masks), seed, scale)
    small, x = compact(network, masks), torch.randn(3, *shape)
    torch.testing.assert_close(small(x), network(x), rtol=1e-4, atol=1e-4)
    assert cost.multiply_adds(masks) == count_multiply_adds(small, x[:1])


def by_brute_force(model, masks, shape):
    """Count the numbers of an input that change an output, if weights are generic."""
    live = torch.zeros(1, *shape, dtype=torch.bool)
    for seed in range(12):  # of a window that is pooled one number at a time is the greatest
        generator = torch.Generator().manual_seed(seed)
        network = copy.deepcopy(model).double()
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.uniform_(0.1, 1, generator=generator)  # no ReLU ends a path
                if name in masks:
                    parameter.mul_(torch.from_numpy(masks[name]))
        for i, part in enumerate(network):
            if isinstance(part, (nn.Sigmoid, nn.Tanh)):  # which saturate
                network[i] = nn.Softplus()
        x = torch.rand(1, *shape, generator=generator, dtype=torch.float64, requires_grad=True)
        out = network(x)
        cotangent = torch.rand(out.shape, generator=generator, dtype=torch.float64)
        live |= torch.autograd.grad((out * cotangent).sum(), x)[0] != 0
    return int(live.sum())


@settings(deadline=None, max_examples=25)
@given(networks())
def test_live_inputs_are_those_that_outputs_depend_on(drawn):
    model, shape, masks = drawn
    pools = (nn.MaxPool2d, nn.AdaptiveMaxPool2d)
    model = nn.Sequential(*(nn.Identity() if isinstance(m, pools) else m for m in model))
    if isinstance(model[0], nn.Conv2d):  # sizes without pooling
        model[-3] = nn.LazyLinear(5).eval()
        masks.pop(f"{len(model) - 3}.weight", None)
        model(torch.zeros(1, *shape))
    counted = CompactCost(model, torch.zeros(1, *shape)).live_inputs(masks)
    assert counted == by_brute_force(model, masks, shape)


def test_whatever_a_window_reads_is_live():
    model = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(1, 1, 2), nn.Flatten(), nn.Linear(4, 2))
    mask = np.zeros((2, 4), dtype=bool)
    mask[0, 0] = True  # of 3x3 places 2x2 are read, of 2x2 numbers each
    cost = CompactCost(model, torch.zeros(1, 1, 7, 7))
    assert cost.live_inputs({"3.weight": mask}) == 16
    assert cost.live_inputs({}) == 36  # the last row and column is in no window
    assert cost.live_inputs({"3.weight": ~mask & mask}) == 0


def test_inputs_of_several_rows_count_each():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    masks = {"0.weight": np.array([[1, 1, 0, 0]] * 3, dtype=bool)}
    x = torch.zeros(1, 5, 4)
    cost = CompactCost(model, x)
    assert cost.live_inputs(masks) == 10
    assert cost.multiply_adds(masks) == 5 * (2 * 3 + 3 * 2)
    assert count_multiply_adds(compact(masked(model, masks), masks), x) == 60


@pytest.mark.parametrize("shape", [(4,), (6, 4)])
def test_rows_under_batch_normalisation_are_those_that_it_counts(shape):
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)).eval()
    masks = {"0.weight": np.ones((6, 4), bool)}
    masks["0.weight"][2] = False
    x, network = torch.randn(3, *shape), shaken(masked(model, masks), 0, 1.0)
    small = compact(network, masks, x[:1])
    torch.testing.assert_close(small(x), network(x), rtol=1e-4, atol=1e-4)
    counted = CompactCost(model, x[:1]).multiply_adds(masks)
    # Where it counts rows, each has numbers of all channels: these stay.
    assert counted == count_multiply_adds(small, x[:1]) == (36 * 6 if len(shape) > 1 else 30)


def test_images_may_be_normalised_before_they_are_flattened():
    model = nn.Sequential(
        nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)
    )
    model = shaken(model.eval(), 0, 1.0)
    masks = {"2.weight": np.arange(32).reshape(4, 8) % 5 == 0}
    x, network = torch.randn(3, 2, 2, 2), masked(model, masks)
    small = compact(network, masks)
    torch.testing.assert_close(small(x), network(x))
    assert CompactCost(model, x[:1]).multiply_adds(masks) == count_multiply_adds(small, x[:1])


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(self.layer(x))


def test_a_layer_that_is_used_twice_counts_twice():
    assert count_multiply_adds(Twice(), torch.zeros(1, 3)) == 18


def torchvision_resnet():
    from torchvision.models import resnet18

    return resnet18(num_classes=3)


@pytest.mark.parametrize(
    "make", [resnet20, pytest.param(torchvision_resnet, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("density", [0.3, 1.0])
def test_residual_networks_count_what_compacting_leaves(make, density):
    model = make().eval()
    rng, x = np.random.default_rng(0), torch.zeros(1, 3, 16, 16)
    masks = {}
    for name in nets.MaskLayout.of(model).names:  # whole filters
        weight = model.get_parameter(name)
        kept = rng.random(len(weight)) < density
        kept[0] = True  # without any output nothing would be live
        masks[name] = np.ones(weight.shape, dtype=bool)
        masks[name][~kept] = False
    cost = CompactCost(model, x)
    small = compact(masked(model, masks), masks)
    assert cost.multiply_adds(masks) == count_multiply_adds(small, x)
    whole = count_multiply_adds(model, x)
    assert cost.multiply_adds(masks) == whole if density == 1 else cost.multiply_adds(masks) < whole
    assert cost.live_inputs(masks) == x.numel()  # a shortcut reads all of them


# ---- as objectives of a task


def task_of(model, shape=(8,), **options):
    x, y = torch.randn(12, *shape), torch.arange(12) % 3
    options = {"train": (x, y), "val": (x, y), "device": "cpu", "recipe": RECIPE, **options}
    return nets.Task(model, **options)


def measure(objective, task, mask):
    return OBJECTIVES[objective].measure(Measured(task.ticket(mask), {}, 0, task=task))


def test_layers_that_are_not_masked_count_whole():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    task = task_of(model, maskable="2.weight")
    mask = np.zeros((3, 16), dtype=bool)
    mask[1, [0, 3, 4, 9]] = True
    assert measure("multiply_adds", task, mask.reshape(-1)) == 8 * 4 + 4 * 3
    assert measure("live_inputs", task, mask.reshape(-1)) == 8
    assert measure("live_inputs", task, np.zeros(48, dtype=bool) | (np.arange(48) == 1)) == 8


def test_frozen_zeros_are_pruned_and_others_are_not():
    counts = []
    for frozen in (True, False):
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        with torch.no_grad():
            model[0].weight[:, 5:] = 0
        model[0].weight.requires_grad_(not frozen)
        task = task_of(model, maskable="2.weight")
        mask = np.ones(48, dtype=bool)
        counts.append((measure("multiply_adds", task, mask), measure("live_inputs", task, mask)))
        network = task.train(task.ticket(mask)).module()
        small = task.ticket(mask).compact(network)
        assert count_multiply_adds(small, torch.zeros(1, 8)) == counts[-1][0]
    assert counts == [(5 * 16 + 16 * 3, 5), (8 * 16 + 16 * 3, 8)]


class Skip(nn.Module):
    """Its layers look like layers in a row."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.three(x + self.two(torch.relu(self.one(x))))


class Concatenated(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(16, 3)

    def forward(self, x):
        return self.two(torch.cat([x, torch.relu(self.one(x))], dim=1))


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.two(nn.functional.softmax(self.one(x), dim=1) - x.mean())


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.two(torch.relu(self.one(torch.relu(self.one(x)))))


class Deciding(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.one(x)
        return self.two(torch.relu(x) if x.sum() > -1e9 else x)


def test_inputs_that_cannot_be_followed_are_refused_before_anything_trains():
    text = "objectives must be those that the network has: .* live_inputs.*depends on numbers"
    task, wanted = task_of(Deciding(), engine="loop"), ("val_loss", "live_inputs")
    with pytest.raises(ValueError, match=text):
        nets.make_toolbox(task, objectives=wanted, inherit="none")
    with pytest.raises(ValueError, match=text):
        nets.search(task, objectives=wanted, generations=1, progress="none", inherit="none")
    assert task.ledger.networks == 0


def test_what_cannot_be_followed_counts_its_live_kept_weights():
    task = task_of(Deciding(), engine="loop")
    mask = np.random.default_rng(1).random(task.layout.size) < 0.3
    counted = measure("multiply_adds", task, mask)
    assert counted == measure("sparse_multiply_adds", task, mask)
    masks = task.layout.split(mask)
    assert 0 < counted == KeptCost(Deciding(), torch.zeros(1, 8)).multiply_adds(masks)


@pytest.mark.parametrize("make", [Skip, Concatenated, Functional, Shared])
@pytest.mark.parametrize("density", [0.03, 0.3])
def test_networks_of_their_own_forward_are_counted(make, density):
    torch.manual_seed(0)
    model, rng, x = make().eval(), np.random.default_rng(1), torch.randn(5, 8)
    masks = {n: rng.random(tuple(p.shape)) < density for n, p in model.named_parameters()
             if p.ndim > 1}  # fmt: skip
    small, cost = compact(masked(model, masks), masks, x[:1]), CompactCost(model, x[:1])
    torch.testing.assert_close(small(x), masked(model, masks)(x), rtol=1e-5, atol=1e-6)
    assert cost.multiply_adds(masks) == count_multiply_adds(small, x[:1])
    if make is not Functional:  # which takes the mean of all inputs
        assert cost.live_inputs(masks) == by_gradient(make(), masks, (8,))


def by_gradient(model, masks, shape):
    """Count the inputs that any output of a network with positive weights depends on."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.uniform_(0.1, 1)
            if name in masks:
                parameter.mul_(torch.from_numpy(masks[name]))
    x = torch.rand(1, *shape, requires_grad=True)
    return int(torch.autograd.grad(model(x).sum(), x)[0].count_nonzero())


@pytest.mark.parametrize("inherit", ["none", "weights"])
@pytest.mark.parametrize("maskable", [None, "0.weight"])
def test_networks_with_other_layers_are_searched_for_few_multiply_adds(inherit, maskable):
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1), nn.Flatten()),
        nn.Linear(48, 3),
    )
    task = task_of(model, (1, 4, 4), maskable=maskable)
    found = nets.search(
        task,
        objectives=("val_loss", "multiply_adds", "live_inputs"),
        **{"inherit": inherit, "population": 4, "offspring": 4, "generations": 4},
        **{"progress": "none", "density": (0.1, 1.0)},
    )
    for ticket in found.front:
        small = ticket.compact(task.train(ticket, steps=2).module())
        counted = count_multiply_adds(small, torch.zeros(1, 1, 4, 4))
        assert ticket.fitness.values[1] == counted

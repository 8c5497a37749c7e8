"""Compacting sequential networks: the same function, also at the borders of images."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import nets_deap as nets
from nets_deap.models import conv, lenet5, resnet20
from nets_deap.models.compact.compact import compact
from nets_deap.models.compact.following import followed
from nets_deap.models.compact.footprint import count_multiply_adds
from nets_deap.models.compact.select_inputs import SelectInputs
from nets_deap.tickets.layout_of import layout_of

ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.GELU)
POOLS = (
    *(None, nn.MaxPool2d(2), nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True)),
    *(nn.AvgPool2d(2), nn.AvgPool2d(3, stride=2, padding=1), nn.AvgPool2d(2, ceil_mode=True)),
    nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
    nn.AvgPool2d(2, divisor_override=3),
    *(nn.AdaptiveAvgPool2d(3), nn.AdaptiveMaxPool2d(3)),
)


def shaken(model, seed):
    """Draw biases and the statistics of batch normalisation, in place, in float64 and eval mode."""
    model = model.double().eval()
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.ndim == 1:
                tensor.normal_(generator=generator)
            if name.endswith("running_var"):
                tensor.abs_().add_(0.1)
    return model


@st.composite
def networks(draw):
    """Draw a network for images of 2x14x13, with a ticket of one kind of unit."""
    seed = draw(st.integers(0, 2**31))
    torch.manual_seed(seed)
    parts, channels, flag = [], 2, st.booleans()
    for _ in range(draw(st.integers(1, 3))):
        n = draw(st.integers(1, 5))
        block = [
            nn.Conv2d(
                channels,
                n,
                draw(st.sampled_from([1, 3])),
                padding=draw(st.sampled_from([0, 1, "same"])),
                padding_mode=draw(st.sampled_from(["zeros", "zeros", "circular", "replicate"])),
                bias=draw(flag),
            )
        ]
        block += [nn.BatchNorm2d(n, affine=draw(flag))] if draw(flag) else []
        block += [draw(st.sampled_from(ACTIVATIONS))()] if draw(flag) else []
        pool = draw(st.sampled_from(POOLS))
        block += [pool] if pool is not None else []
        parts += [nn.Sequential(*block)] if draw(flag) else block
        channels = n
    parts += [nn.AdaptiveAvgPool2d((2, 3)), nn.Flatten()]
    n_in = channels * 6
    for _ in range(draw(st.integers(0, 2))):
        n = draw(st.integers(1, 5))
        parts += [nn.BatchNorm1d(n_in)] if draw(flag) else []
        parts += [nn.Linear(n_in, n, bias=draw(flag)), draw(st.sampled_from(ACTIVATIONS))()]
        parts += [nn.Dropout(0.5)] if draw(flag) else []
        n_in = n
    model = shaken(nn.Sequential(*parts, nn.Linear(n_in, 3)), seed)
    try:
        model(torch.zeros(1, 2, 14, 13, dtype=torch.float64))
    except RuntimeError:  # a kernel does not fit into what pooling has left
        assume(False)
    layout = layout_of(model, unit=draw(st.sampled_from(["weight", "neuron", "2:4"])))
    rng = np.random.default_rng(seed)
    bits = rng.random(layout.size) < draw(st.sampled_from([0.1, 0.3, 0.6, 1.0]))
    ticket = nets.Ticket(bits, layout)
    return ticket.apply(model), ticket


@settings(deadline=None, max_examples=200)
@given(networks())
def test_the_function_stays(given_):
    model, ticket = given_
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = torch.randn(4, 2, 14, 13, dtype=torch.float64)
    for masks in (ticket.masks(), None):
        small = compact(model, masks)
        torch.testing.assert_close(small(x), model(x), rtol=1e-9, atol=1e-9)
        sizes = [sum(p.numel() for p in m.parameters() if p.ndim > 1) for m in (small, model)]
        assert sizes[0] <= sizes[1]
        with torch.no_grad():
            for tensor in small.state_dict().values():
                tensor.fill_(9)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def shapes(model):
    return [tuple(p.shape) for p in model.parameters() if p.ndim > 1]


@pytest.mark.parametrize(("make", "image"), [(lenet5, (1, 28, 28)), (conv, (1, 12, 12))])
def test_filters_and_the_inputs_behind_them_go(make, image):
    model = make(2, image=image) if make is conv else make()
    layout = layout_of(model, unit="filter")
    rng = np.random.default_rng(0)
    ticket = nets.Ticket(rng.random(layout.size) < 0.5, layout)
    kept = [int(part.sum()) for part in layout.split(ticket.gates).values()]
    small = compact(ticket.apply(model).eval(), ticket.masks())
    x = torch.randn(5, *image)
    torch.testing.assert_close(small(x), model(x), rtol=1e-5, atol=1e-5)
    found = shapes(small)
    each = 25 if make is lenet5 else 36
    # Their biases go with them: beside the borders of ``conv`` none stands for constants.
    assert [shape[0] for shape in found] == [*kept, 10]
    assert [shape[1] for shape in found] == [1, kept[0], kept[1] * each, *kept[2:]]


def bare(padding, **options):
    """Return two convolutions; the first filter of the first one sends a constant of 2."""
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3, padding=padding))
    model = shaken(model, 0)
    with torch.no_grad():
        model[0].weight[0] = 0
        model[0].bias[0] = 2.0
        model[2].weight.abs_()
    if options:
        model[2] = nn.Conv2d(3, 2, 3, padding=padding, **options).double()
    return model


@pytest.mark.parametrize(
    ("padding", "options", "left"),
    [
        (0, {}, 2),
        ("valid", {}, 2),
        (1, {}, 3),
        ("same", {}, 3),
        (1, {"padding_mode": "reflect"}, 2),
    ],
)
def test_a_constant_beside_a_border_of_zeros_stays(padding, options, left):
    model = bare(padding, **options)
    small = compact(model)
    assert small[0].out_channels == small[2].in_channels == left
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(small(x), model(x), rtol=1e-12, atol=1e-12)


def test_of_several_constants_beside_a_border_one_stands_in_for_all():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, 2, 3, padding=1), nn.AvgPool2d(2)
    )
    model = shaken(model, 0)
    with torch.no_grad():
        model[0].weight[1:] = 0
        model[0].bias.copy_(torch.tensor([1.0, 2.0, -3.0, 0.0, 0.5]))
        model[2].weight[:, 2] = 0  # the largest constant is asked for by nobody
    small = compact(model)
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(small(x), model(x), rtol=1e-12, atol=1e-12)
    assert small[0].out_channels == 2


@pytest.mark.parametrize(("bias", "left"), [(True, 3), (False, 2)])
def test_what_is_left_beside_a_border_is_not_a_matter_of_numbers(bias, left):
    model = bare(1)
    if bias:
        with torch.no_grad():
            model[0].bias[0] = -2.0  # zero after ReLU: another training may make it 2
    else:
        model[0].bias = None  # zero after any training
    small = compact(model)
    assert small[0].out_channels == left
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(small(x), model(x), rtol=1e-12, atol=1e-12)


def test_nothing_connected_leaves_a_constant():
    model = shaken(conv(2, image=(1, 8, 8)), 0)
    with torch.no_grad():
        model[2].weight.zero_()
    small = compact(model)
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(small(x), model(x), rtol=1e-12, atol=1e-12)
    assert shapes(small)[0][0] <= 64


def test_a_fully_connected_network_with_norms_loses_inputs_too():
    model = shaken(
        nn.Sequential(
            nn.Flatten(),
            nn.Linear(6, 4),
            nn.BatchNorm1d(4),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4, 2),
        ),
        0,
    )
    with torch.no_grad():
        model[1].weight[:, [0, 3]] = 0
        model[1].weight[2] = 0
    small, x = compact(model), torch.randn(5, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(small(x), model(x), rtol=1e-12, atol=1e-12)
    assert isinstance(small[0], SelectInputs)
    assert shapes(small) == [(3, 4), (2, 3)]
    assert small[2].num_features == 3


def test_one_dimension_and_three():
    for kind, pool, size in ((nn.Conv1d, nn.MaxPool1d, (9,)), (nn.Conv3d, nn.AvgPool3d, (6, 6, 6))):
        torch.manual_seed(0)
        flat = 4 if kind is nn.Conv1d else 8
        model = nn.Sequential(
            kind(2, 4, 2), nn.ReLU(), pool(2), nn.Flatten(), nn.Linear(4 * flat, 2)
        )
        model = shaken(model, 1)
        layout = layout_of(model, unit="filter")
        ticket = nets.Ticket([1, 0, 1, 0], layout)
        small = compact(ticket.apply(model), ticket.masks())
        x = torch.randn(3, 2, *size, dtype=torch.float64)
        torch.testing.assert_close(small(x), model(x), rtol=1e-12, atol=1e-12)
        assert small[0].out_channels == 2


def tied():
    linear = nn.Linear(3, 3)
    return nn.Sequential(linear, nn.ReLU(), linear)


def hooked():
    model = nn.Sequential(nn.Linear(3, 3))
    model.register_forward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (resnet20(), (3, 16, 16)),
        (tied(), (3,)),
        (hooked(), (3,)),
        (nn.Sequential(nn.Linear(3, 3), nn.Softmax(dim=1), nn.Linear(3, 3)), (3,)),
        (nn.Sequential(nn.Flatten(0, 1), nn.Linear(3, 3)), (4, 3)),
        (nn.Sequential(nn.Conv2d(2, 2, 3, groups=2), nn.Conv2d(2, 2, 1)), (2, 8, 8)),
        (nn.Sequential(nn.ConvTranspose2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)), (2, 8, 8)),
        (nn.Sequential(nn.Conv1d(2, 2, 3), nn.Linear(3, 3), nn.Linear(3, 2)), (2, 5)),
        (
            nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)),
            (2, 8, 8),
        ),
        (
            nn.Sequential(nn.Flatten(), nn.Unflatten(1, (1, 6)), nn.MaxPool1d(2), nn.Linear(3, 3)),
            (6,),
        ),
    ],
)
def test_other_layers_in_a_row_are_taken(model, shape):
    model = shaken(copy.deepcopy(model), 0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter[0] = 0
    x = torch.randn(4, *shape, dtype=torch.float64)
    torch.testing.assert_close(compact(model, None, x[:1])(x), model(x), rtol=1e-9, atol=1e-9)


class Deciding(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (nn.Sequential(), "Sequential, and its forward runs on no input .* Pass example="),
        (nn.Sequential(nn.ReLU()), "Sequential, and its forward runs on no input"),
        (Deciding(), r"what __bool__ in Deciding does next depends on numbers"),
    ],
)
def test_what_cannot_be_followed_is_refused(model, text):
    with pytest.raises(ValueError, match=f"module must be one that can be followed: .*{text}"):
        compact(model)


def test_an_example_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="its forward does not run on the example"):
        compact(nn.Sequential(nn.Linear(3, 3)), None, torch.zeros(1, 4))


@pytest.mark.parametrize("part", [nn.BatchNorm2d(2), nn.Dropout()])
def test_what_differs_in_training_needs_evaluation_mode(part):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), part, nn.Conv2d(2, 1, 3))
    with pytest.raises(
        ValueError, match=r"module must be in evaluation mode: .* Call module\.eval"
    ):
        compact(model)


def test_constants_are_told_apart_from_what_varies():
    found = followed(bare(0))
    state = found.graph.state(found.gates({}, zeros=True))
    last = found.graph.layers[-1]
    assert state.varies[last.src].tolist() == [False, True, True]
    assert found.tracing.numbers()[last.src][0] == 2.0
    live, _ = found.graph.live(state)
    assert live[last.src].tolist() == [False, True, True]


@settings(deadline=None, max_examples=60)
@given(
    unit=st.sampled_from(["weight", "neuron"]),
    density=st.sampled_from([0.05, 0.3, 0.7, 1.0]),
    seed=st.integers(0, 99),
    norm=st.booleans(),
)
def test_the_objective_counts_what_compacting_leaves(unit, density, seed, norm):
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3) if norm else nn.Identity()),
        *(nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(16, 5), nn.Tanh(), nn.Dropout(), nn.Linear(5, 2)),
    )
    x, y = torch.randn(12, 1, 8, 8), torch.arange(12) % 2
    recipe = nets.Recipe(batch_size=4, steps=1)
    task = nets.Task(model, train=(x, y), val=(x, y), unit=unit, device="cpu", recipe=recipe)
    ticket = task.ticket(np.random.default_rng(seed).random(task.layout.size) < density)
    counted = nets.objectives.OBJECTIVES["multiply_adds"].measure(
        nets.objectives.Measured(ticket, {}, 0, task=task)
    )
    network = ticket.apply(task.model).eval()
    small = compact(network, ticket.masks())
    assert counted == count_multiply_adds(small, x[:1])
    dense = nets.objectives.OBJECTIVES["multiply_adds"].reference_for(0, task.dense_ticket(), task)
    assert dense == count_multiply_adds(model, x[:1])


def test_a_network_with_convolutions_is_searched_for_few_multiply_adds():
    x, y = torch.randn(40, 1, 12, 12), torch.arange(40) % 2
    task = nets.Task(
        conv(2, image=(1, 12, 12), classes=2),
        **{"train": (x, y), "val": (x, y), "unit": "filter", "device": "cpu"},
        recipe=nets.Recipe(batch_size=10, steps=2),
    )
    found = nets.search(
        task,
        **{"population": 3, "offspring": 3, "generations": 3, "progress": "none"},
        objectives=("val_loss", "multiply_adds"),
        inherit="weights",
    )
    counts = [ticket.fitness.values[1] for ticket in found.front]
    assert min(counts) < count_multiply_adds(task.model, x[:1])
    for ticket, counted in zip(found.front, counts, strict=True):
        small = ticket.compact(task.train(ticket, steps=3).module())
        assert count_multiply_adds(small, x[:1]) == counted


# ---- residual networks


def torchvision_of(name):
    from torchvision.models import resnet

    return getattr(resnet, name)(num_classes=3)


@pytest.mark.parametrize(
    "make", [resnet20, "resnet18", pytest.param("resnet50", marks=pytest.mark.slow)]
)
def test_filters_inside_of_residual_blocks_go(make):
    model = resnet20() if make is resnet20 else torchvision_of(make)
    model = shaken(model, 0)
    layout = layout_of(model, unit="filter")
    ticket = nets.Ticket(np.random.default_rng(0).random(layout.size) < 0.4, layout)
    ticket.apply(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    small = compact(model, ticket.masks())
    assert type(small) is type(model)
    with torch.no_grad():
        found, expected = small(x), model(x)
    scale = float(expected.abs().max())
    torch.testing.assert_close(found / scale, expected / scale, rtol=1e-9, atol=1e-9)
    counts = [count_multiply_adds(network, x[:1]) for network in (small, model)]
    assert counts[0] < 0.5 * counts[1]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    name = "blocks.0" if make is resnet20 else "layer1.0"
    kept = int(layout.split(ticket.gates)[f"{name}.conv1.weight"].sum())
    assert kept <= small.get_submodule(name).conv1.out_channels <= kept + 1


def test_residual_blocks_need_evaluation_mode():
    model = resnet20()
    with pytest.raises(ValueError, match="module must be in evaluation mode"):
        compact(model)

"""The bias and the normalisation of a filter or neuron follow its bit, in every engine."""

import numpy as np
import pytest
import torch
from torch import nn

import nets_deap as nets
from nets_deap.tickets.files import read
from nets_deap.training.gradients import cheap_gradient, dense_gradient


class Own(nn.Module):
    """Convolutions with normalisation, in a forward of its own; drawn by a seed."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.one, self.norm1 = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
            self.two, self.norm2 = nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
            self.head = nn.Linear(8 * 4, 3)
            for norm in (self.norm1, self.norm2):  # so that what is dead is not so from the start
                nn.init.uniform_(norm.bias, 0.5, 1)
            nn.init.uniform_(self.one.bias, 0.5, 1)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.norm1(self.one(x))), 2)
        x = torch.max_pool2d(torch.relu(self.norm2(self.two(x))), 2)
        return self.head(x.flatten(1))


def task_of(model, engine="auto", **options):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 1, 8, 8)).astype(np.float32)
    y = rng.integers(0, 3, 64)
    recipe = nets.Recipe(optimizer="adam", lr=1e-2, batch_size=16, steps=12)
    split = (x, y)
    return nets.Task(
        model, train=split, val=split, recipe=recipe, unit="filter", engine=engine, device="cpu",
        **options,
    )  # fmt: skip


GATES = np.array([1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 0, 0, 1, 1], dtype=bool)  # 6 filters, then 8


@pytest.mark.parametrize("engine", ["compiled", "vmap", "loop"])
def test_what_follows_a_dead_filter_stays_zero(engine):
    if engine == "compiled":
        pytest.importorskip("numba")
    task = task_of(Own(), engine)
    assert task.layout.follows == {
        "one.bias": "one.weight", "norm1.weight": "one.weight", "norm1.bias": "one.weight",
        "norm2.weight": "two.weight", "norm2.bias": "two.weight",
    }  # fmt: skip
    ticket = task.ticket(GATES)
    state = task.train(ticket).module().state_dict()
    dead = {"one.weight": ~GATES[:6], "two.weight": ~GATES[6:]}
    for name, owner in {**task.layout.follows, "norm1.running_mean": "one.weight"}.items():
        assert (state[name][torch.from_numpy(dead[owner])] == 0).all(), name
        assert (state[name][torch.from_numpy(~dead[owner])] != 0).all(), name
    expected = task_of(Own(), "loop").train(ticket, steps=2)
    assert task.train(ticket, steps=2).val_loss == pytest.approx(expected.val_loss, rel=1e-4)


class Residual(Own):
    """What the second convolution gives is added to what it takes."""

    def __init__(self):
        super().__init__()
        self.three, self.norm3 = nn.Conv2d(8, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        # In front of a normalisation a bias has a gradient of rounding alone.
        self.one, self.head = nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.Linear(6 * 16, 3)

    def forward(self, x):
        x = torch.relu(self.norm1(self.one(x)))
        y = torch.relu(self.norm2(self.two(x)))
        x = torch.relu(self.norm3(self.three(y)) + x)
        return self.head(torch.max_pool2d(x, 2).flatten(1))


@pytest.mark.parametrize("engine", ["compiled", "vmap"])
def test_what_follows_coupled_filters_stays_zero(engine):
    if engine == "compiled":
        pytest.importorskip("numba")
    torch.manual_seed(0)
    model = Residual()
    task = task_of(model, engine)
    assert task.layout.follows["norm3.bias"] == "one.weight"
    ticket = task.ticket(GATES)
    found, expected = (one.train(ticket) for one in (task, task_of(model, "loop")))
    state = found.module().state_dict()
    for name, mask in ticket.masks().items():
        assert (state[name][~mask] == 0).all(), name
    assert (state["norm3.weight"] != 0).tolist() == GATES[:6].tolist()
    assert found.val_loss == pytest.approx(expected.val_loss, rel=1e-4)
    x = torch.randn(5, 1, 8, 8)
    small = ticket.compact(found.module().eval(), x[:1])
    assert (small.one.out_channels, small.three.out_channels) == (4, 4)
    torch.testing.assert_close(small(x), found.module().eval()(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("engine", ["compiled", "batched", "vmap", "loop"])
def test_the_bias_of_a_dead_neuron_stays_zero(engine):
    if engine == "compiled":
        pytest.importorskip("numba")
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Flatten(), nn.Linear(64, 9), nn.ReLU()), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 3)
    )
    nn.init.constant_(model[1].bias, 0.5)
    task = task_of(model, engine)
    for first in (0.9, 0.4):  # rows that are held whole, and by their kept weights alone
        gates = np.random.default_rng(1).random(16) < first
        ticket = task.ticket(gates)
        state = task.train(ticket).module().state_dict()
        assert np.array_equal(state["1.bias"].numpy() != 0, gates[:9])
        expected = task_of(model, "loop").train(ticket, steps=2)
        assert task.train(ticket, steps=2).val_loss == pytest.approx(expected.val_loss, rel=1e-4)


def test_the_quick_gradient_has_that_of_biases():
    pytest.importorskip("numba")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 3))
    nn.init.uniform_(model[1].bias, 0.5, 1)
    task = task_of(model, "compiled")
    mask = task.ticket(np.arange(9) % 3 != 0).mask
    found, expected = (
        gradient(task.problem, mask, torch.arange(16))
        for gradient in (cheap_gradient, dense_gradient)
    )
    assert np.count_nonzero(task.layout.weights.split(found)["1.bias"]) >= 6
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_is_normalised_after_other_functions_or_twice_follows_too():
    class Shared(Own):
        def forward(self, x):
            x = self.norm1(torch.relu(self.one(x)))  # not what the convolution gives
            y = self.two(x)
            y = self.norm2(y) + self.norm2(y)  # twice
            return self.head(torch.max_pool2d(y, 4).flatten(1))

    assert task_of(Shared()).layout.follows == task_of(Own()).layout.follows
    frozen = Own()
    frozen.norm1.bias.requires_grad_(False)
    assert "norm1.bias" not in task_of(frozen).layout.follows
    assert "head.bias" not in task_of(Own()).layout.weights.names  # of outputs, always kept


class Joined(nn.Module):
    """A sum of two layers, then a concatenation with a third, each normalised as a whole."""

    def __init__(self, fed=False):
        super().__init__()
        self.join = nn.BatchNorm2d(7)  # before the layers whose channels it normalises
        self.one, self.two, self.three = (nn.Conv2d(1, n, 3, padding=1) for n in (4, 4, 3))
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(7, 3)
        if fed:
            self.shift = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x):
        both = self.one(x) + self.two(x)
        both = both + self.shift if hasattr(self, "shift") else both
        both = torch.relu(self.norm(both))
        x = torch.relu(self.join(torch.cat([self.three(x), both], 1)))
        return self.head(x.mean((2, 3)))


def test_what_normalises_coupled_and_concatenated_filters_follows_each():
    layout = task_of(Joined()).layout
    assert layout.names == ("one.weight", "three.weight")
    assert layout.follows == {
        **dict.fromkeys(("one.bias", "two.bias", "norm.weight", "norm.bias"), "one.weight"),
        **dict.fromkeys(("join.weight", "join.bias"), "one.weight, three.weight"),
        "three.bias": "three.weight",
    }
    masks = layout.weights.split(layout.mask_of(np.array([1, 0, 1, 1, 1, 1, 0], bool)))
    assert masks["join.weight"].tolist() == [1, 1, 0, 1, 0, 1, 1]
    assert masks["two.bias"].tolist() == [1, 0, 1, 1]
    assert layout.unit_sizes.tolist() == [2 * 9 + 2 + 2 + 2] * 4 + [9 + 1 + 2] * 3


def test_where_a_unit_is_not_dead_with_its_bit_nothing_follows_it():
    # What is added to it, of a layer that is not masked or of a table, still comes through.
    owned = {
        "three.bias": "three.weight",
        **dict.fromkeys(("join.weight", "join.bias"), "three.weight"),
    }
    fed = task_of(Joined(fed=True)).layout
    assert (fed.size, fed.follows) == (4 + 3, owned)
    partly = task_of(Joined(), maskable=["one.weight", "three.weight"]).layout
    assert (partly.size, partly.follows) == (4 + 3, owned)


def test_followers_go_with_the_ticket(tmp_path):
    task = task_of(Own())
    ticket = task.ticket(GATES)
    masks = ticket.masks()
    np.testing.assert_array_equal(masks["norm1.bias"], GATES[:6])
    assert ticket.kept == 4 * (9 + 3) + 5 * (54 + 2) + 96
    assert task.layout.counts(ticket.packed).tolist() == [4 * 12, 5 * 56]
    ticket.save(tmp_path / "t.safetensors")
    layout = read(tmp_path / "t.safetensors").layout
    assert layout.follows == task.layout.follows
    assert layout.key == task.layout.key
    model = ticket.apply(task.model)
    assert (model.norm1.bias[1] == 0).all()
    # What is worth most does not depend on factors and biases, which have other sizes.
    values = np.abs(np.random.default_rng(2).normal(size=ticket.n_weights))
    layers = task.layout.weights.split(values)
    found = task.layout.root_mean_square(values)[:6]
    expected = np.sqrt((layers["one.weight"] ** 2).reshape(6, -1).mean(axis=1))
    np.testing.assert_allclose(found, expected)


def test_describe_says_what_follows():
    rows = {p.name: (p.maskable, p.why) for p in task_of(Own()).parameters}
    assert rows["norm1.weight"] == (True, "follows one.weight")
    assert rows["head.bias"] == (False, "bias")

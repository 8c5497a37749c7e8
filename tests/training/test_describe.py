"""The table of what a task is made of."""

import re

import numpy as np
import pytest
import torch
from torch import nn

import nets_deap as nets
from nets_deap.errors import InvalidValueError


def make_task(**options):
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 3)
    )
    x, y = torch.randn(30, 1, 5, 5), np.arange(30) % 3
    recipe = nets.Recipe(optimizer="sgd", lr=0.5, momentum=0.9, batch_size=10, epochs=2)
    return nets.Task(
        model, train=(x, y), val=(x[:9], y[:9]), recipe=recipe, device="cpu", **options
    )


def test_a_description_counts_and_gives_reasons():
    task = make_task()
    found = nets.describe(task)
    assert (found.maskable, found.total, found.layers) == (72, 72 + 2 + 3 + 4, 2)
    assert found.granularity == task.ticket(np.eye(1, 72, dtype=bool)[0]).density
    assert found.examples == {"train": 30, "val": 9}
    assert found.image == (1, 5, 5)
    rows = found.rows()
    assert [row["parameter"] for row in rows] == [n for n, _ in task.model.named_parameters()]
    assert sum(row["size"] for row in rows if row["maskable"] == "yes") == task.layout.size
    text = str(found)
    for part in (
        "0.weight   Conv2d       2x1x3x3    18  yes       weight of a convolution",
        "1.weight   BatchNorm2d  2           2  no        normalisation",
        "72 of 81 parameters in 2 layers; one weight is 1.4 % of density",
        "train 30, val 9; inputs 1x5x5",
        "sgd 0.5, constant schedule, momentum 0.9, minibatches of 10, 6 steps, cross_entropy",
        "engine    vmap on cpu, float32",
    ):
        assert part in text


def test_it_says_what_maskable_left_out_and_which_engine_was_asked_for():
    found = nets.describe(make_task(maskable=nn.Linear, engine="loop"))
    why = {row["parameter"]: row["why"] for row in found.rows()}
    assert why["0.weight"] == "not chosen by maskable="
    assert why["4.weight"] == "weight of a linear layer"
    assert (found.maskable, found.engine) == (54, "loop")


@pytest.mark.parametrize(
    ("options", "engine", "why"),
    [
        ({"engine": "loop"}, "loop", "asked for"),
        ({}, "compiled", "its cost falls with density"),
        (
            {"batch_size": 10},
            "vmap",
            "not 'compiled': minibatches of 10 would cost as much as of 16",
        ),
        ({"norm": nn.GroupNorm(1, 2)}, "vmap", "not 'compiled': '1' (GroupNorm) calls group_norm"),
        ({"maskable": "bias"}, "compiled", "its cost falls with density"),
    ],
)
def test_it_says_why_an_engine_trains_and_which_layer_another_could_not_take(options, engine, why):
    more = {"batch_size": 16, "norm": nn.BatchNorm2d(2)} | options
    batch_size, norm = more.pop("batch_size"), more.pop("norm")
    if more.get("maskable"):
        more["maskable"] = "*.bias"
    model = nn.Sequential(nn.Conv2d(1, 2, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(18, 3))
    x, y = torch.randn(30, 1, 5, 5), np.arange(30) % 3
    recipe = nets.Recipe(batch_size=batch_size, steps=3)
    task = nets.Task(model, train=(x, y), val=(x, y), recipe=recipe, device="cpu", **more)
    found = nets.describe(task)
    assert found.engine == engine
    assert why in found.why
    assert f"{engine} on cpu, float32 ({found.why})" in str(found)


def test_units_are_counted_beside_weights():
    found = nets.describe(make_task(unit="filter"))
    assert (found.maskable, found.unit, found.units) == (72 + 6, "neuron", 2)  # not the outputs
    assert "2 bits, each of which gates a neuron" in str(found)


@pytest.mark.parametrize(
    ("unit", "kernels"),
    [
        ("weight", ""),
        ("filter", ""),
        ("2:4", "ticket.to_semi_structured on a CUDA GPU of .*; on the CPU torch has none"),
        ("block(2x4)", "none of their own; ticket.to_csr is faster than dense below"),
    ],
)
def test_it_says_what_makes_networks_of_a_unit_faster(unit, kernels):
    found = nets.describe(make_task(unit=unit))
    assert bool(found.kernels) == ("kernels" in str(found)) == bool(kernels)
    assert re.match(kernels, found.kernels)


def test_only_tasks_are_described():
    with pytest.raises(TypeError, match=r"task must be a task: expected a nets\.Task, got Linear"):
        nets.describe(nn.Linear(2, 2))


def uneven():
    """A network whose maps the engine would count wrong, beyond what it cannot take."""
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 8, 2, padding="same"), nn.ReLU(), nn.MaxPool2d(3)),
        *(nn.Conv2d(8, 8, 2, padding="same"), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), nn.Linear(8, 3)),
    )


def twice():
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), nn.Linear(4, 3)),
    )


@pytest.mark.filterwarnings("ignore:Using padding=.same.")  # torch's own
@pytest.mark.parametrize(
    ("model", "why"),
    [(uneven, r"'3' \(Conv2d\) has padding 'same' that is uneven"),
     (twice, r"'3' pools twice what '0' gives")],
)  # fmt: skip
def test_what_the_compiled_engine_does_not_take_is_told_and_trained_by_another(model, why):
    x, y = torch.randn(40, 1, 8, 8), torch.randint(0, 3, (40,))
    data = {"train": (x, y), "val": (x, y), "recipe": nets.Recipe(batch_size=16, steps=2)}
    task = nets.Task(model(), **data, device="cpu")
    assert re.search(why, str(nets.describe(task)))
    assert np.isfinite(task.train(task.dense_ticket()).val_loss)
    with pytest.raises(InvalidValueError, match=f"engine must suit the task.*Here {why}"):
        nets.Task(model(), **data, device="cpu", engine="compiled")


def test_why_no_unit_can_be_cut_is_told():
    class Sorted(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 12), nn.Linear(12, 3)

        def forward(self, x):
            return self.b(self.a(x).cumsum(1))

    x, y = torch.randn(60, 8), torch.randint(0, 3, (60,))
    with pytest.raises(InvalidValueError, match=r"maskable must leave something.*cumsum"):
        nets.Task(Sorted(), train=(x, y), val=(x, y), unit="neuron", device="cpu")

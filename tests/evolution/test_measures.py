"""Objectives without a gradient: size once compact, accuracy under rounding and noise."""

import numpy as np
import pytest
import torch
from torch import nn

import nets_deap as nets
from nets_deap.evolution import measures as extra
from nets_deap.evolution.measured import Measured
from nets_deap.training.problem import Plan


def task_of(model, *, loss="cross_entropy", n=2300, features=6):
    """Return a task whose validation data span several batches."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(n, features))).float()
    y = (x[:, 0] > 0).long() if loss == "cross_entropy" else (x[:, :1] > 0).float()
    recipe = nets.Recipe(batch_size=20, steps=30, lr=0.05, loss=loss)
    return nets.Task(model, train=(x[:100], y[:100]), val=(x, y), recipe=recipe)


def mlp_task(loss="cross_entropy"):
    outputs = 2 if loss == "cross_entropy" else 1
    return task_of(nets.models.MLP((6, 8, outputs), seed=1), loss=loss)


def trained(task, mask=None):
    """Return what was measured of a ticket, with its trained network."""
    ticket = task.dense_ticket() if mask is None else task.ticket(mask)
    outcome = task.run([ticket], Plan(steps=30, seed=1, keep_states=True))
    metrics = {name: float(values[0]) for name, values in outcome.metrics.items()}
    return Measured(ticket, metrics, 30, task=task, state=lambda: outcome.states[0])


def test_counts_are_those_of_the_compact_network():
    task = mlp_task()
    mask = np.ones(task.layout.size, dtype=bool)
    parts = list(task.layout.split(mask).values())
    parts[0][:, :2] = False
    parts[1][:, 0] = False
    measured = Measured(task.ticket(mask), {}, 30)
    assert extra.multiply_adds(measured) == 4 * 7 + 7 * 2
    assert extra.live_inputs(measured) == 4
    assert type(extra.multiply_adds(measured)) is type(extra.live_inputs(measured)) is float


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_no_noise_and_no_rounding_give_the_engines_own_accuracy(loss, monkeypatch):
    task = mlp_task(loss=loss)
    measured = trained(task, np.arange(task.layout.size) % 5 > 0)
    accuracy = measured.metrics["val_accuracy"]
    assert 0.6 < accuracy < 1
    assert extra.noise_accuracy(0)(measured) == pytest.approx(accuracy, abs=1e-9)
    monkeypatch.setattr(extra, "INT8_LEVELS", 10**7)
    assert extra.int8_accuracy(measured) == pytest.approx(accuracy, abs=1e-9)


def test_noise_is_the_same_every_time_and_has_its_size():
    task = mlp_task()
    measured = trained(task)
    seen = []
    task.problem.model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    values = [extra.noise_accuracy(0.5)(measured) for _ in range(2)]
    assert values[0] == values[1]
    noise = torch.cat(seen[:3]) - task.problem.val[0]
    assert torch.equal(torch.cat(seen[:3]), torch.cat(seen[3:]))
    assert max(map(len, seen)) <= 1000
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.std().item() == pytest.approx(0.5, abs=0.02)
    assert extra.noise_accuracy(50.0)(measured) < measured.metrics["val_accuracy"] - 0.2


def test_int8_levels_by_hand():
    tensor = torch.tensor([[0.0, 12.7, -12.7], [0.04, 0.06, -6.349]])
    expected = torch.tensor([[0.0, 12.7, -12.7], [0.0, 0.1, -6.3]])
    torch.testing.assert_close(extra.rounded_to_int8(tensor), expected)
    assert torch.equal(extra.rounded_to_int8(torch.zeros(2, 2)), torch.zeros(2, 2))
    # At most 255 levels, symmetric about zero.
    drawn = extra.rounded_to_int8(torch.randn(100, 100))
    levels = drawn.unique()
    assert 100 < len(levels) <= 255


def test_int8_rounds_weights_and_spares_biases():
    task = mlp_task()
    measured = trained(task)
    state = dict(measured.state())
    seen = {}

    def look(module, args):
        seen[len(module.weight)] = (module.weight.clone(), module.bias.clone())

    for layer in task.problem.model.layers:
        layer.register_forward_pre_hook(look)
    extra.int8_accuracy(measured)
    weight, bias = seen[8]
    assert torch.equal(bias, state["layers.0.bias"])
    assert torch.equal(weight, extra.rounded_to_int8(state["layers.0.weight"]))
    assert not torch.equal(weight, state["layers.0.weight"])


def test_rounding_can_cost_accuracy():
    # One huge weight that its input never uses leaves only zeros of the others.
    task = task_of(nn.Sequential(nn.Linear(7, 2)), features=7)
    x, y = task.problem.val
    x[:, 6] = 0
    state = {"0.weight": torch.zeros(2, 7), "0.bias": torch.zeros(2)}
    state["0.weight"][1, 0] = 1.0
    state["0.weight"][0, 6] = 1e4
    measured = Measured(task.dense_ticket(), {}, 1, task=task, state=lambda: state)
    assert extra.noise_accuracy(0)(measured) == 1
    assert extra.int8_accuracy(measured) == pytest.approx((y == 0).float().mean().item())


def test_the_network_is_measured_in_evaluation_mode_with_its_own_buffers():
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    task = task_of(model)
    task.problem.model.train()
    measured = trained(task)
    task.problem.model.train()
    before = {name: b.clone() for name, b in task.problem.model.named_buffers()}
    value = extra.noise_accuracy(0)(measured)
    assert value == pytest.approx(measured.metrics["val_accuracy"], abs=1e-9)
    assert task.problem.model.training
    for name, buffer in task.problem.model.named_buffers():
        assert torch.equal(buffer, before[name])


@pytest.mark.parametrize("measure", [extra.int8_accuracy, extra.noise_accuracy(0.1)])
def test_what_is_missing_is_named(measure):
    task = mlp_task()
    for more in ({}, {"task": task}, {"state": dict}):
        with pytest.raises(
            ValueError, match=r"measured must hold the trained network for '(int8|noise)_acc"
        ):
            measure(Measured(task.dense_ticket(), {}, 30, **more))
    losses = mlp_task(loss="mse")
    with pytest.raises(ValueError, match=r"objectives must be defined for the loss: .* under mse"):
        measure(trained(losses))


def test_sigma_is_checked():
    with pytest.raises(ValueError, match=r"sigma must be in range: .* got -0.1"):
        extra.noise_accuracy(-0.1)


def test_counts_need_a_feedforward_layout():
    task = task_of(nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 2, 6), nn.Flatten()))
    for measure in (extra.multiply_adds, extra.live_inputs):
        with pytest.raises(
            ValueError, match=r"layout must be feedforward.*got '1.weight' of shape"
        ):
            measure(Measured(task.dense_ticket(), {}, 30))


def test_noise_on_whole_numbers_is_refused_and_on_bytes_is_that_of_the_inputs():
    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.integers(0, 2, 60))
    tokens = torch.from_numpy(rng.integers(0, 9, (60, 4)))
    model = nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(12, 2))
    recipe = nets.Recipe(batch_size=20, steps=3)
    task = nets.Task(model, train=(tokens, y), val=(tokens, y), recipe=recipe, maskable="2.weight")
    with pytest.raises(ValueError, match=r"suit the inputs: .*whole numbers\. Images of bytes"):
        extra.noise_accuracy(0.1)(trained(task))
    pixels = torch.from_numpy(rng.integers(0, 256, (60, 6), dtype=np.uint8))
    options = {"recipe": recipe, "device": "cpu"}
    found = []
    real = (pixels.float() / 255 - 0.5) / 0.25
    for x, more in ((pixels, {"normalize": (0.5, 0.25)}), (real, {})):
        body = nets.models.MLP((6, 8, 2), seed=1)
        task = nets.Task(body, train=(x, y), val=(x, y), **options, **more)
        found.append(extra.noise_accuracy(0.4)(trained(task)))
    assert found[0] == found[1]
